//! A run that must be found bad: the oracle is asked whether it notices anything at all.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::one::One;
use super::worker;

/// A calm run from whose reads one acknowledged value is taken away. Exits with 1 if
/// that was found, and with 0 if it was not: whoever calls it expects the 1.
pub(super) fn run() -> Result<ExitCode> {
    let one = One {
        spoilt: true,
        ..One::new(1).with_events(&[])
    };
    let outcome = worker::outcome(&one)?;
    let found = outcome
        .violations
        .iter()
        .any(|violation| violation.starts_with('C'));
    let mut out = io::stdout().lock();
    for violation in &outcome.violations {
        writeln!(out, "{violation}")?;
    }
    if !found {
        writeln!(out, "a lost value was not found")?;
    }
    Ok(ExitCode::from(u8::from(found)))
}
