//! Seeds in processes of their own, as many at once as there are cores.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};

use super::one::One;
use crate::outcome::Outcome;

/// Cores of this machine.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs one seed in a process of its own. A process that crashes or hangs breaks a promise.
pub(super) fn outcome(one: &One) -> Result<Outcome> {
    let program = std::env::current_exe().context("no path to this program")?;
    let ended = Command::new(program)
        .arg("one")
        .args(one.arguments())
        .env("RUST_BACKTRACE", "0")
        .output()
        .context("the process does not start")?;
    if ended.status.success() {
        return Ok(serde_json::from_slice(&ended.stdout)?);
    }
    let told = String::from_utf8_lossy(&ended.stderr);
    let lines: Vec<&str> = told.lines().rev().take(4).collect();
    Ok(Outcome {
        seed: one.seed,
        violations: vec![format!(
            "the simulation ended with {}: {}",
            ended.status,
            lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
        )],
        events: one
            .plan()?
            .events
            .iter()
            .map(|(number, _)| *number)
            .collect(),
        ..Outcome::default()
    })
}

/// Runs all of them, `jobs` at a time, and hands over each outcome as it comes. Stops
/// beginning new ones when `go_on` says no.
pub(super) fn all(
    seeds: impl Iterator<Item = One> + Send,
    jobs: usize,
    mut each: impl FnMut(&One, Outcome) -> bool,
) -> Result<()> {
    let seeds = Mutex::new(seeds);
    let goes_on = AtomicBool::new(true);
    let (send, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (seeds, goes_on, send) = (&seeds, &goes_on, send.clone());
            scope.spawn(move || {
                while goes_on.load(Ordering::Relaxed) {
                    let next = seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(one) = next else {
                        return;
                    };
                    let ended = outcome(&one);
                    if send.send((one, ended)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (one, outcome) in outcomes {
            if !each(&one, outcome?) {
                goes_on.store(false, Ordering::Relaxed);
            }
        }
        Ok(())
    })
}
