//! Fewer faults, same failure.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use super::one::One;
use super::worker;
use crate::outcome::Outcome;

#[derive(Debug, Args)]
pub(super) struct Shrink {
    #[command(flatten)]
    one: One,
}

impl Shrink {
    pub(super) fn run(self) -> Result<ExitCode> {
        let whole = worker::outcome(&self.one)?;
        let seed = self.one.seed;
        ensure!(!whole.violations.is_empty(), "seed {seed} does not fail");
        let kind = kind(&whole);
        let fails = |events: &[usize]| -> Result<bool> {
            let outcome = worker::outcome(&self.one.with_events(events))?;
            let fails = !outcome.violations.is_empty() && self::kind(&outcome) == kind;
            let word = if fails { "fails" } else { "passes" };
            writeln!(io::stderr(), "{} events: {word}", events.len())?;
            Ok(fails)
        };
        let events = fewest(&whole.events, fails)?;
        let least = self.one.with_events(&events);
        let outcome = worker::outcome(&least)?;
        let (left, all) = (events.len(), whole.events.len());
        ensure!(
            self::kind(&outcome) == kind,
            "with {left} of {all} events it failed once and does not again"
        );
        let mut out = io::stdout().lock();
        writeln!(out, "weir-sim replay {}", least.arguments().join(" "))?;
        writeln!(out, "{left} of {all} events are left:")?;
        for (number, event) in &least.plan()?.events {
            writeln!(out, "  {number} {event}")?;
        }
        for violation in &outcome.violations {
            writeln!(out, "{violation}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What fails, without the numbers that differ from run to run.
fn kind(outcome: &Outcome) -> String {
    let first = outcome.violations.first();
    let head = first.and_then(|text| text.split(':').next());
    head.unwrap_or_default().to_owned()
}

/// Leaves out halves, quarters and so on to single events, as long as it still fails.
fn fewest(all: &[usize], fails: impl Fn(&[usize]) -> Result<bool>) -> Result<Vec<usize>> {
    let mut left = all.to_vec();
    let mut size = left.len().div_ceil(2);
    while size > 0 && !left.is_empty() {
        let mut from = 0;
        while from < left.len() {
            let to = (from + size).min(left.len());
            let without = [&left[..from], &left[to..]].concat();
            if fails(&without)? {
                left = without;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let all: Vec<usize> = (0..40).collect();
        let needs = |some: &[usize]| Ok([3, 17, 18].iter().all(|needed| some.contains(needed)));
        assert_eq!(fewest(&all, needs).unwrap(), [3, 17, 18]);
        assert_eq!(fewest(&all, |_| Ok(true)).unwrap(), Vec::<usize>::new());
    }
}
