//! Random clients, time and fail-overs against what must always hold.
//!
//! The driver (`model/world.rs`) is a host in miniature: records are appended at once and
//! committed later, replies are parked until then, outgoing batches are appended to logs
//! that know an idempotent producer, and a fail-over drops all that is volatile or not
//! committed. The twin (`model/twin.rs`) keeps every message's state in plain maps, from
//! nothing but what clients were told and what was committed.
//!
//! Checked: Q1 (one live receipt; nothing final comes again), Q2 (attempts count up on
//! every way back, none beyond the most allowed), Q3 (order within a message group), Q4
//! (nothing early, nothing undecided or rolled back visible), Q5 (replay from the start,
//! from a compacted journal and from a snapshot agree), backoff gaps, truthful
//! cancellation, first decision wins, deduplication, versions; the ledger adds up after
//! every step; and after the faults every message is acknowledged or a dead letter, once.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that is wrong about a reply should panic"
)]

#[path = "model/twin.rs"]
mod twin;
#[path = "model/world.rs"]
mod world;

use proptest::prelude::*;

use world::{Coverage, World};

/// A history of this many steps, then healing.
fn run(choices: impl IntoIterator<Item = (u8, u32)>) -> Result<Coverage, String> {
    let mut world = World::new();
    for (step, dice) in choices {
        world.step(step, dice)?;
    }
    world.heal()?;
    Ok(world.coverage())
}

fn choices(seed: u64, steps: usize) -> impl Iterator<Item = (u8, u32)> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        ((random >> 56) as u8, (random >> 16) as u32)
    })
    .take(steps)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn what_must_hold_holds(choices in prop::collection::vec(any::<(u8, u32)>(), 0..200)) {
        prop_assert!(run(choices.clone()).is_ok(), "{:?}", run(choices).err());
    }
}

#[test]
fn it_holds_over_long_histories() {
    let mut happened = Coverage::new();
    for seed in 0..60 {
        let coverage =
            run(choices(seed, 600)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (what, count) in coverage {
            *happened.entry(what).or_default() += count;
        }
    }
    println!("{happened:?}");
    let rare: Vec<_> = happened.iter().filter(|(_, count)| **count < 20).collect();
    assert!(rare.is_empty(), "too rare to prove anything: {rare:?}");
}

/// Delayed messages of the log are taken in while nobody comes by, and not listed. Each counted
/// where it is in the log and once more as kept: a queue that had room refused.
#[test]
fn what_is_taken_in_counts_once() {
    let choices = [
        (64, 1_690_043_040),
        (70, 0),
        (64, 460_930_990),
        (70, 636_949_896),
        (101, 222_247_504),
        (70, 0),
        (64, 1_686_193_158),
        (100, 0x8000_4c00),
    ];
    if let Err(error) = run(choices) {
        panic!("{error}");
    }
}

/// The leader dies after each step of a history, with what it just decided committed, or
/// not: every moment of a delivery, a release, a decision, a move to the dead letters.
#[test]
fn it_holds_when_the_leader_dies_after_any_step() {
    const COMMIT: (u8, u32) = (255, 0);
    const FAIL_OVER: (u8, u32) = (60, 7);
    for seed in 100..103 {
        let history: Vec<(u8, u32)> = choices(seed, 70).collect();
        for crash in 0..history.len() {
            for committed in [true, false] {
                let (before, after) = history.split_at(crash);
                let commit = committed.then_some(COMMIT);
                let steps = before.iter().copied().chain(commit).chain([FAIL_OVER]);
                let steps = steps.chain(after.iter().copied());
                if let Err(error) = run(steps) {
                    panic!("seed {seed}, step {crash}, committed {committed}: {error}");
                }
            }
        }
    }
}

/// Each planted bug must be found within a bounded number of histories.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_found() {
    use weir_base::mutant::{Mutant, plant};
    let mut survivors = Vec::new();
    for mutant in Mutant::QUEUES.iter().copied() {
        plant(Some(mutant));
        let found = (0..200u64).find_map(|seed| {
            let held = std::panic::catch_unwind(|| run(choices(seed, 400)));
            let error = held.unwrap_or_else(|_| Err("an assertion of the machine".to_owned()));
            Some((seed, error.err()?))
        });
        plant(None);
        match found {
            Some((seed, error)) => println!("{mutant:?} found in history {seed}: {error}"),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "{survivors:?} survive");
}
