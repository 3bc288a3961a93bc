//! `weir-sim`: runs seeds, repeats one, shrinks it, and proves that the simulator works.
//!
//! Every seed runs in a process of its own, this same program: a crash or a hang of one
//! is a result like any other, and nothing leaks from one into the next.

mod canary;
mod meta;
mod mutants;
mod one;
mod run;
mod saved;
mod shrink;
mod stopwatch;
mod worker;

use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Simulated clusters under faults, one for each seed. Exits with 1 when any of them
/// broke a promise.
#[derive(Debug, Parser)]
#[command(name = "weir-sim")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds, each in a process of its own
    Run(run::Run),
    /// Repeat one seed and write its full trace to standard output
    Replay(one::One),
    /// Write what a seed is going to do, without running it
    Plan(one::One),
    /// Run each seed in two processes and compare what they did, byte for byte
    Meta(meta::Meta),
    /// Reduce a failing seed to the fewest faults that still make it fail
    Shrink(shrink::Shrink),
    /// A run whose history is spoiled afterwards: it must be found bad (exit code 1)
    Canary,
    /// Plant bugs, one at a time, and count the seeds until each is found
    Mutants(mutants::Mutants),
    /// One seed in this process, for another process: a line of JSON
    #[command(hide = true)]
    One(one::One),
}

/// Reads the arguments and does as they say.
///
/// # Errors
/// What kept it from doing that. A broken promise is no error but the exit code 1.
pub fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run(run) => run.run(),
        Command::Replay(one) => one.replay(),
        Command::Plan(one) => one.describe(),
        Command::Meta(meta) => meta.run(),
        Command::Shrink(shrink) => shrink.run(),
        Command::Canary => canary::run(),
        Command::Mutants(mutants) => mutants.run(),
        Command::One(one) => one.report(),
    }
}

/// `A..B`, B excluded.
fn seeds(text: &str) -> Result<Range<u64>> {
    let (from, to) = text.split_once("..").context("write it as 0..100")?;
    Ok(from.parse()?..to.parse()?)
}
