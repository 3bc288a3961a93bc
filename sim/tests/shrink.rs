//! A failing seed is cut down to the faults it needs, and still fails: with a planted bug,
//! through the program itself.
#![cfg(feature = "mutants")]

use std::io;
use std::process::{Command, Output};

/// A seed that fails with the bug, and not without.
const SEED: [&str; 4] = ["--seed", "1000", "--mutant", "M4"];

fn weir_sim(arguments: &[&str]) -> io::Result<Output> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_weir-sim"));
    program.args(arguments).output()
}

#[test]
fn a_shrunk_seed_is_smaller_and_fails_in_the_same_way() {
    let shrunk = weir_sim(&[&["shrink"], &SEED[..]].concat()).unwrap();
    let said = String::from_utf8_lossy(&shrunk.stdout).into_owned();
    assert!(shrunk.status.success(), "{said}{shrunk:?}");
    let mut lines = said.lines();
    let command = lines.next().unwrap().strip_prefix("weir-sim ").unwrap();
    let counts: Vec<usize> = lines
        .next()
        .unwrap()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [left, all] = counts[..] else {
        panic!("{said}");
    };
    assert!(0 < left && left * 2 <= all, "{said}");

    let arguments: Vec<&str> = command.split(' ').collect();
    let replayed = weir_sim(&arguments).unwrap();
    let why = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert_eq!(replayed.status.code(), Some(1), "{why}");
    let first = why.lines().next().unwrap();
    assert!(
        said.lines().any(|line| line == first),
        "{first} is not in {said}"
    );

    let is_mutant = |at: &usize| arguments[*at] == "--mutant";
    let at = (0..arguments.len()).find(is_mutant).unwrap();
    let without = [&arguments[..at], &arguments[at + 2..]].concat();
    let sound = weir_sim(&without).unwrap();
    assert!(
        sound.status.success(),
        "the bug alone makes it fail: {sound:?}"
    );
}
