//! Where each planted bug is looked for, and the search.

use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context, Result};
use weir_base::mutant::Mutant;

use super::Mutants;
use crate::command::one::One;
use crate::command::worker;
use crate::focus;

/// Bugs of the queue machine that clients of whole nodes can meet.
const OF_QUEUES: &[Mutant] = &[
    Mutant::M14,
    Mutant::M15,
    Mutant::M16,
    Mutant::M17,
    Mutant::M28,
    Mutant::CursorLeaps,
    Mutant::OldReceipts,
    Mutant::TimeoutsAreFree,
    Mutant::RetryLetsFollowersPass,
    Mutant::DeadLettersVanish,
    Mutant::CancelLies,
];

/// All that are looked for.
fn all() -> impl Iterator<Item = Mutant> {
    Mutant::NODES.iter().chain(OF_QUEUES).copied()
}

/// How many are looked for with each commit.
const A_COMMIT: usize = 4;

/// Those that a commit may be tried with: each was found within two seeds (`mutants.md`).
/// What is rarer is looked for by hand; as a gate it would fail for no reason or take too
/// long.
const SOON: &[Mutant] = &[
    Mutant::M4,
    Mutant::M5,
    Mutant::M8,
    Mutant::M10,
    Mutant::M12,
    Mutant::M13,
    Mutant::M19,
    Mutant::M22,
    Mutant::M25,
    Mutant::M30,
    Mutant::M34,
    Mutant::L1,
];

/// Seeds within which each of them must be found: six times what it took, so that another
/// turn of the same seeds is no failure, and in the worst case a minute on two cores.
const BUDGET: u64 = 12;

/// The planted bug of this name.
pub(super) fn named(name: &str) -> Result<Mutant> {
    let found = all().find(|mutant| format!("{mutant:?}") == name);
    found.with_context(|| format!("no mutant {name}"))
}

/// The focus with which it is looked for; `None` where any seed will do.
fn ground(mutant: Mutant) -> Option<&'static str> {
    match mutant {
        Mutant::M4 | Mutant::M5 | Mutant::M10 | Mutant::M13 | Mutant::M30 | Mutant::M31 => None,
        Mutant::M1 | Mutant::M12 | Mutant::M21 | Mutant::L2 => Some("elections"),
        Mutant::M2 | Mutant::M9 => Some("joins"),
        Mutant::M26 => Some("late streams"),
        Mutant::M3 => Some("lost tails"),
        Mutant::M8 => Some("cuts"),
        Mutant::M11 => Some("copies"),
        Mutant::M6 | Mutant::M7 | Mutant::M20 => Some("power"),
        Mutant::M22 | Mutant::M35 => Some("rot"),
        Mutant::M19 => Some("bad batches"),
        Mutant::M29 => Some("suspects"),
        Mutant::M23 => Some("votes"),
        Mutant::M25 => Some("lost voter"),
        Mutant::M18 => Some("groups"),
        Mutant::M24 | Mutant::M27 => Some("moves"),
        Mutant::M32 | Mutant::M33 => Some("configs"),
        Mutant::M34 => Some("members"),
        Mutant::L1 => Some("slow network"),
        Mutant::L4 => Some("stall"),
        Mutant::M14
        | Mutant::M15
        | Mutant::M16
        | Mutant::M17
        | Mutant::M28
        | Mutant::CursorLeaps
        | Mutant::OldReceipts
        | Mutant::TimeoutsAreFree
        | Mutant::RetryLetsFollowersPass
        | Mutant::RunsOutliveFailures
        | Mutant::FollowersPay
        | Mutant::DeadLettersVanish
        | Mutant::CancelLies => Some("queues"),
        Mutant::DedupForgets | Mutant::ReplayForgetsMark | Mutant::ReplaySkips => None, // of the queue machine's own model
        Mutant::CacheIsDisk => None, // of storage's own model
    }
}

/// One that is to be found.
struct Hunt {
    mutant: Mutant,
    focus: Option<String>,
    seeds: Range<u64>,
}

/// The few of a commit: every other commit has others, and the same one the same.
fn of_commit(commit: &str) -> Vec<Mutant> {
    let mut all = SOON.to_vec();
    all.sort_by_key(|mutant| crc32c::crc32c(format!("{commit} {mutant:?}").as_bytes()));
    all.truncate(A_COMMIT);
    all
}

impl Mutants {
    pub(in crate::command) fn run(self) -> Result<ExitCode> {
        let (mut found, mut survived) = (0, 0);
        for hunt in self.hunts()? {
            if hunt.search()? {
                found += 1;
            } else {
                survived += 1;
            }
        }
        writeln!(io::stdout(), "{found} passed, {survived} failed")?;
        Ok(ExitCode::from(u8::from(survived > 0 || found == 0)))
    }

    fn hunts(self) -> Result<Vec<Hunt>> {
        let ground = |mutant| ground(mutant).map(str::to_owned);
        if let Some(commit) = &self.commit {
            let hunts = of_commit(commit).into_iter().map(|mutant| Hunt {
                mutant,
                focus: ground(mutant),
                seeds: 0..BUDGET,
            });
            return Ok(hunts.collect());
        }
        let chosen: Vec<Mutant> = match &*self.only {
            [] => all().collect(),
            names => names
                .iter()
                .map(|name| named(name))
                .collect::<Result<_>>()?,
        };
        let focus = |mutant| match self.focus.as_deref() {
            None => Ok(ground(mutant)),
            Some("none") => Ok(None),
            Some(name) => focus::named(name).map(|focus| Some(focus.name.to_owned())),
        };
        let hunts = chosen.into_iter().map(|mutant| {
            Ok(Hunt {
                mutant,
                focus: focus(mutant)?,
                seeds: self.seeds.clone(),
            })
        });
        hunts.collect()
    }
}

impl Hunt {
    fn one(&self, seed: u64, mutant: Option<Mutant>) -> One {
        One {
            focus: self.focus.clone(),
            mutant: mutant.map(|mutant| format!("{mutant:?}")),
            ..One::new(seed)
        }
    }

    /// Tries seed after seed until one finds it. Says whether one did.
    fn search(&self) -> Result<bool> {
        let seeds = self
            .seeds
            .clone()
            .map(|seed| self.one(seed, Some(self.mutant)));
        let (mut tried, mut proof, mut void) = (0, Ok(None), 0);
        worker::all(seeds, worker::cores(), |_, outcome| {
            if !matches!(proof, Ok(None)) {
                return false;
            }
            tried += 1;
            let Some(violation) = outcome.violations.into_iter().next() else {
                return true;
            };
            proof = worker::outcome(&self.one(outcome.seed, None)).map(|without| {
                let is_found = without.violations.is_empty();
                void += u32::from(!is_found);
                is_found.then_some((outcome.seed, violation))
            });
            matches!(proof, Ok(None))
        })?;
        let (mutant, focus) = (self.mutant, self.focus.as_deref().unwrap_or("none"));
        let mut out = io::stdout().lock();
        if void > 0 {
            writeln!(out, "  {void} seeds fail without {mutant:?} too")?;
        }
        match proof? {
            Some((seed, violation)) => {
                let line = violation.lines().next().unwrap_or_default();
                writeln!(
                    out,
                    "{mutant:?}: found after {tried} seeds, in {seed} of focus {focus}: {line}"
                )?;
                Ok(true)
            }
            None => {
                writeln!(
                    out,
                    "FAIL {mutant:?} survives {tried} seeds of focus {focus}"
                )?;
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(commit: &str) -> BTreeSet<String> {
        let few = of_commit(commit).into_iter();
        few.map(|mutant| format!("{mutant:?}")).collect()
    }

    #[test]
    fn a_commit_has_its_own_four_and_all_have_their_turn() {
        assert_eq!(names("0a1b"), names("0a1b"));
        assert_eq!(names("0a1b").len(), A_COMMIT);
        let commits = (0..100).map(|commit| format!("{commit:x}"));
        let all: BTreeSet<String> = commits.flat_map(|commit| names(&commit)).collect();
        assert_eq!(all.len(), SOON.len());
    }

    #[test]
    fn every_focus_that_a_bug_is_looked_for_with_exists() {
        for mutant in all() {
            if let Some(focus) = ground(mutant) {
                focus::named(focus).unwrap();
            }
        }
    }
}
