//! Alarms watch what there is: each metric that a rule names is one that nodes expose, and no
//! subject that must be watched is without a rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What must not go unseen.
const WATCHED: [&str; 7] = [
    "weir_queue_halves_parked",
    "weir_queue_dead_lettered_total",
    "weir_partitions_leaderless",
    "weir_partitions_under_replicated",
    "weir_disk_free_bytes",
    "weir_queue_missing_total",
    "weir_acked_truncated_total",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of metrics in a text: `weir_` and what belongs to it.
fn names(text: &str) -> BTreeSet<&str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_name(c));
    let names = words.filter(|word| word.starts_with("weir_") && *word != "weir_");
    names.collect()
}

/// String literals of product code that are metrics' names.
fn exposed(source: &str, into: &mut BTreeSet<String>) {
    let product = source.split("#[cfg(test)]").next().unwrap_or_default();
    // Every second piece stands in quotes, which names never hold.
    for literal in product.split('"') {
        if names(literal).iter().eq([&literal]) {
            into.insert(literal.to_owned());
        }
    }
}

/// Rust files below a directory, but for tests.
fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "tests" && name != "target" {
            sources(&path, into);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            into.push(path);
        }
    }
}

#[test]
fn every_metric_of_a_rule_is_exposed() {
    let mut files = Vec::new();
    sources(&root().join("node"), &mut files);
    let mut known = BTreeSet::new();
    for file in files {
        exposed(&fs::read_to_string(file).expect("a source"), &mut known);
    }
    assert!(known.len() > 40, "only {known:?} were found");
    let rules = fs::read_to_string(root().join("deploy/monitoring/alarms.yml")).expect("rules");
    let mut unknown = Vec::new();
    for name in names(&rules) {
        let series = ["_bucket", "_sum", "_count"];
        let of_histogram = series.iter().find_map(|series| name.strip_suffix(series));
        if !known.contains(name) && of_histogram.is_none_or(|name| !known.contains(name)) {
            unknown.push(name);
        }
    }
    assert!(unknown.is_empty(), "nodes do not expose {unknown:?}");
    let watched: Vec<&str> = WATCHED
        .into_iter()
        .filter(|name| !names(&rules).contains(name))
        .collect();
    assert!(watched.is_empty(), "no rule watches {watched:?}");
    let alarms = rules.matches("- alert: ").count();
    for part in ["expr: ", "severity: ", "summary: ", "action: "] {
        let parts = rules.matches(part).count();
        assert_eq!(parts, alarms, "{part}of {alarms} alarms");
    }
}

#[test]
fn names_are_found_where_they_are() {
    let found: Vec<&str> = names("sum(weir_a_b{x=\"1\"}[5m]) / weir_c2 - weir")
        .into_iter()
        .collect();
    assert_eq!(found, ["weir_a_b", "weir_c2"]);
    let mut known = BTreeSet::new();
    let source = "gauge(\"weir_a\", \"Of weir_b.\") #[cfg(test)] \"weir_c\"";
    exposed(source, &mut known);
    assert_eq!(known.into_iter().collect::<Vec<_>>(), ["weir_a"]);
}
