//! The pauses that kills caused, as numbers and as a table.

use std::fmt;
use weir_checkers::availability::percentile;

/// Pauses of one observer, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gaps {
    /// Who saw them.
    pub name: String,
    sorted_ns: Vec<u64>,
}

impl Gaps {
    /// Sorts the samples.
    #[must_use]
    pub fn new(name: impl Into<String>, mut samples_ns: Vec<u64>) -> Self {
        samples_ns.sort_unstable();
        Self {
            name: name.into(),
            sorted_ns: samples_ns,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted_ns.len()
    }
}

impl fmt::Display for Gaps {
    /// `name   longest gap between acks, 21 samples: p50 310 ms, p99 550 ms, max 550 ms`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:16} longest gap between acks, {} samples:",
            self.name,
            self.count()
        )?;
        for (label, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
            match percentile(&self.sorted_ns, percent) {
                Some(ns) => write!(f, " {label} {} ms", ns / 1_000_000)?,
                None => write!(f, " {label} -")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_samples() {
        let gaps = Gaps::new("franz-go", vec![3_000_000, 1_000_000, 2_000_000]);
        assert_eq!(
            gaps.to_string(),
            "franz-go         longest gap between acks, 3 samples: p50 2 ms p99 3 ms max 3 ms"
        );
        assert_eq!(
            Gaps::new("x", vec![]).to_string(),
            "x                longest gap between acks, 0 samples: p50 - p99 - max -"
        );
    }
}
