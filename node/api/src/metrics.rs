//! Measurements as Prometheus reads them. Rooms keep their own counters and write them
//! here when they are asked; nothing is registered and nothing is global.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Who has something to measure. Asked at every scrape; must not block.
pub trait MetricsSource: Send + Sync {
    /// Writes its measurements.
    fn collect(&self, into: &mut Metrics);
}

/// One scrape.
#[derive(Debug, Default)]
pub struct Metrics {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    kind: &'static str,
    help: &'static str,
    samples: String,
}

impl Metrics {
    /// A number that only grows while the process lives. Its name ends in `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.sample("counter", name, help, labels, &value.to_string());
    }

    /// A number that goes up and down.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: u64,
    ) {
        self.sample("gauge", name, help, labels, &value.to_string());
    }

    /// A duration that goes up and down; its name ends in `_seconds`.
    pub fn seconds(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: std::time::Duration,
    ) {
        debug_assert!(name.ends_with("_seconds"), "{name}");
        self.sample(
            "gauge",
            name,
            help,
            labels,
            &value.as_secs_f64().to_string(),
        );
    }

    /// A distribution: for each upper bound, how many were at most that; their sum, and
    /// how many there were at all.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        at_most: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) {
        let family = self.family("histogram", name, help);
        for (bound, seen) in at_most {
            let mut labels = labels.to_vec();
            let bound = bound.to_string();
            labels.push(("le", &bound));
            family.line(name, "_bucket", &labels, &seen.to_string());
        }
        let mut all = labels.to_vec();
        all.push(("le", "+Inf"));
        family.line(name, "_bucket", &all, &count.to_string());
        family.line(name, "_sum", labels, &sum.to_string());
        family.line(name, "_count", labels, &count.to_string());
    }

    /// All measurements in Prometheus' text format, by name.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "# HELP {name} {}\n# TYPE {name} {}\n{}",
                family.help, family.kind, family.samples
            );
        }
        text
    }

    fn sample(
        &mut self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: &str,
    ) {
        self.family(kind, name, help).line(name, "", labels, value);
    }

    fn family(
        &mut self,
        kind: &'static str,
        name: &'static str,
        help: &'static str,
    ) -> &mut Family {
        self.families.entry(name).or_insert(Family {
            kind,
            help,
            samples: String::new(),
        })
    }
}

impl Family {
    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: &str) {
        let samples = &mut self.samples;
        samples.push_str(name);
        samples.push_str(suffix);
        for (nth, (label, text)) in labels.iter().enumerate() {
            samples.push(if nth == 0 { '{' } else { ',' });
            samples.push_str(label);
            samples.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => samples.push_str("\\\\"),
                    '"' => samples.push_str("\\\""),
                    '\n' => samples.push_str("\\n"),
                    other => samples.push(other),
                }
            }
            samples.push('"');
        }
        if !labels.is_empty() {
            samples.push('}');
        }
        samples.push(' ');
        samples.push_str(value);
        samples.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_grouped_by_family_and_escaped() {
        let mut metrics = Metrics::default();
        metrics.gauge("weir_b", "B.", &[("topic", "a\"\\\n")], 1);
        metrics.counter("weir_a_total", "A.", &[], 2);
        metrics.gauge("weir_b", "B.", &[("topic", "c"), ("x", "y")], 3);
        metrics.histogram(
            "weir_c",
            "C.",
            &[("x", "y")],
            &[(0.5, 1), (1.0, 2)],
            1.75,
            3,
        );
        assert_eq!(
            metrics.to_text(),
            "# HELP weir_a_total A.\n# TYPE weir_a_total counter\nweir_a_total 2\n\
             # HELP weir_b B.\n# TYPE weir_b gauge\nweir_b{topic=\"a\\\"\\\\\\n\"} 1\nweir_b{topic=\"c\",x=\"y\"} 3\n\
             # HELP weir_c C.\n# TYPE weir_c histogram\nweir_c_bucket{x=\"y\",le=\"0.5\"} 1\nweir_c_bucket{x=\"y\",le=\"1\"} 2\n\
             weir_c_bucket{x=\"y\",le=\"+Inf\"} 3\nweir_c_sum{x=\"y\"} 1.75\nweir_c_count{x=\"y\"} 3\n"
        );
    }
}
