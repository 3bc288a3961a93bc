//! The ladder of the root README is law: a crate names only the Weir crates its row allows.
//!
//! Dev-dependencies may reach `weir-os` and the crate itself besides; nothing else is lent.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What one row allows.
#[derive(Debug, PartialEq)]
enum MayUse {
    Everything,
    Only(BTreeSet<String>),
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rows `| rung | path (crate) | what | may use |` below the heading `## The ladder`. A name without `weir-`
/// is meant with it.
fn ladder(readme: &str) -> BTreeMap<String, MayUse> {
    let section = readme
        .split("\n## ")
        .find(|section| section.starts_with("The ladder"))
        .expect("a heading `## The ladder`");
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, path, _, may_use] = cells.as_slice() else {
            panic!("not four cells: {line}")
        };
        let name = path
            .trim_end_matches(')')
            .split_once('(')
            .map(|(_, name)| name);
        let Some(name) = name.filter(|name| name.starts_with("weir")) else {
            continue; // the heading
        };
        let allowed = match *may_use {
            "everything" => MayUse::Everything,
            "-" => MayUse::Only(BTreeSet::new()),
            list => MayUse::Only(
                list.split(',')
                    .map(|name| format!("weir-{}", name.trim()))
                    .collect(),
            ),
        };
        rows.insert(name.to_owned(), allowed);
    }
    rows
}

/// Weir crates of the workspace: name, and for each Weir crate it names whether only its tests do.
fn workspace() -> BTreeMap<String, BTreeSet<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter();
            let used = dependencies
                .filter(|dependency| ours.contains(&name(dependency)))
                .map(|dependency| (name(dependency), dependency["kind"] == "dev"));
            (name(package), used.collect())
        })
        .collect()
}

fn violations(
    ladder: &BTreeMap<String, MayUse>,
    workspace: &BTreeMap<String, BTreeSet<(String, bool)>>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, used) in workspace {
        match ladder.get(name) {
            None => found.push(format!("{name} is not on the ladder")),
            Some(MayUse::Everything) => {}
            Some(MayUse::Only(allowed)) => {
                for (dependency, only_tests) in used {
                    let lent = *only_tests && (dependency == "weir-os" || dependency == name);
                    if !allowed.contains(dependency) && !lent {
                        found.push(format!("{name} may not use {dependency}"));
                    }
                }
            }
        }
    }
    found.extend(
        ladder
            .keys()
            .filter(|name| !workspace.contains_key(*name))
            .map(|name| format!("{name} is on the ladder only")),
    );
    found
}

#[test]
fn every_crate_keeps_to_its_rung() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let (ladder, workspace) = (ladder(&readme), workspace());
    assert!(workspace.len() > 10 && ladder.values().any(|row| *row == MayUse::Everything));
    assert_eq!(violations(&ladder, &workspace), Vec::<String>::new());
}

#[test]
fn a_step_up_the_ladder_is_found() {
    let readme = "# x\n\n## The ladder\n| rung | path (crate) | what | may use |\n|---|---|---|---|\n\
        | 0 | `a` (weir-a) | - | - |\n| 1 | `b` (weir-b) | - | a |\n| 2 | `c` (weir-c) | - | everything |\n\n## Next\n| 9 | `z` (weir-z) | - | - |\n";
    let ladder = ladder(readme);
    assert_eq!(ladder.len(), 3);
    let uses = |list: &[(&str, bool)]| {
        list.iter()
            .map(|(name, dev)| ((*name).to_owned(), *dev))
            .collect::<BTreeSet<_>>()
    };
    let mut workspace = BTreeMap::from([
        ("weir-a".to_owned(), uses(&[("weir-os", true)])),
        (
            "weir-b".to_owned(),
            uses(&[("weir-a", false), ("weir-b", true)]),
        ),
        ("weir-c".to_owned(), uses(&[("weir-b", false)])),
    ]);
    assert_eq!(violations(&ladder, &workspace), Vec::<String>::new());
    workspace.insert(
        "weir-a".to_owned(),
        uses(&[("weir-b", true), ("weir-os", false)]),
    );
    workspace.insert("weir-d".to_owned(), uses(&[]));
    workspace.remove("weir-c");
    assert_eq!(
        violations(&ladder, &workspace),
        [
            "weir-a may not use weir-b",
            "weir-a may not use weir-os",
            "weir-d is not on the ladder",
            "weir-c is on the ladder only"
        ]
    );
}
