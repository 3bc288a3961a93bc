//! Many seeds, and what they add up to.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::one::One;
use super::saved;
use super::stopwatch::Stopwatch;
use super::worker;
use crate::focus::{self, Focus};
use crate::nemesis;
use crate::outcome::Outcome;
use crate::points::Points;

/// From how many seeds on a sweep counts only if every kind of fault happened: the
/// rarest happens in one seed of twenty.
const SEEDS_FOR_ALL_KINDS: u64 = 200;
/// From how many on it counts only if every named state was reached: the rarest is in one
/// seed of two thousand.
const SEEDS_FOR_ALL_POINTS: u64 = 5_000;
/// From how many with clients of queues on it counts only if those reached all of theirs, and
/// leaders died at all of their steps.
const SEEDS_FOR_ALL_STEPS: u64 = 400;
/// From how many with a focus on it counts only if the clients that no other run has came to
/// what they are there for.
const SEEDS_FOR_OWN_POINTS: u64 = 60;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Which: 0..200
    #[arg(long, value_parser = super::seeds, default_value = "0..200")]
    seeds: Range<u64>,
    /// Seeds that failed once, one a line, before those
    #[arg(long)]
    saved: Option<PathBuf>,
    /// Begin no more after that many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// Not good with fewer than that many, saved ones not counted
    #[arg(long, default_value_t = 0)]
    least: u64,
    /// Processes at a time; one for each core by default
    #[arg(long)]
    jobs: Option<usize>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    with: With,
}

/// What is done to every seed.
#[derive(Debug, Args)]
struct With {
    /// Every disk says that it synced and did not: some seeds must fail
    #[arg(long)]
    lying_fsync: bool,
    /// Queues have clients, whatever it is about
    #[arg(long)]
    queues: bool,
    /// A class of bugs that it looks for, by its name in `focus.rs`
    #[arg(long)]
    focus: Option<String>,
}

/// What many runs add up to.
#[derive(Debug, Default, Serialize)]
struct Summary {
    seeds: u64,
    failed: Vec<u64>,
    simulated_hours: f64,
    wall_seconds: f64,
    /// Simulated seconds in a second of one core.
    speed: f64,
    acknowledged: u64,
    /// Values that weak modes lost as they may.
    forgiven: u64,
    faults: BTreeMap<String, u64>,
    /// Kinds of faults that never happened.
    faults_missing: Vec<&'static str>,
    /// In how many seeds a state was reached.
    points: BTreeMap<String, u64>,
    points_never: Vec<&'static str>,
    /// States of queues, where they had clients.
    steps_never: Vec<&'static str>,
    /// States of the clients that only this focus has.
    own_never: Vec<&'static str>,
    /// Why the sweep proves less than it is to prove, although no seed failed.
    rejected: Vec<String>,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        if !outcome.violations.is_empty() {
            self.failed.push(outcome.seed);
        }
        self.simulated_hours +=
            std::time::Duration::from_millis(outcome.simulated_ms).as_secs_f64() / 3600.0;
        self.acknowledged += outcome.acknowledged;
        self.forgiven += outcome.forgiven;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        for point in outcome.points.keys() {
            *self.points.entry(point.clone()).or_default() += 1;
        }
    }

    fn finish(
        &mut self,
        watch: Stopwatch,
        jobs: usize,
        focus: Option<&'static Focus>,
        has_queues: bool,
    ) {
        self.wall_seconds = watch.passed().as_secs_f64();
        let jobs = u32::try_from(jobs).map_or(1.0, f64::from);
        self.speed = self.simulated_hours * 3600.0 / self.wall_seconds / jobs;
        let kinds = focus.map_or(nemesis::KINDS, |focus| focus.kinds);
        self.faults_missing = kinds
            .iter()
            .copied()
            .filter(|kind| !self.faults.contains_key(*kind))
            .collect();
        let points = Points::demanded();
        self.points_never = points
            .filter(|point| !self.points.contains_key(*point))
            .collect();
        let steps = Points::of_queues().filter(|_| has_queues);
        self.steps_never = steps
            .filter(|point| !self.points.contains_key(*point))
            .collect();
        let own = focus.map_or(&[][..], |focus| focus.points).iter();
        self.own_never = own
            .copied()
            .filter(|point| !self.points.contains_key(*point))
            .collect();
        self.points_never.sort_unstable();
        self.points_never.dedup();
    }

    /// Coverage is judged apart from the seeds: what never happened was not survived.
    fn reject(&mut self, least: u64) {
        if self.seeds < least {
            let why = format!("{} seeds in the given time, not {least}", self.seeds);
            self.rejected.push(why);
        }
        let missing = [
            (SEEDS_FOR_ALL_KINDS, "faults", &self.faults_missing),
            (SEEDS_FOR_ALL_POINTS, "states", &self.points_never),
            (SEEDS_FOR_ALL_STEPS, "states of queues", &self.steps_never),
            (SEEDS_FOR_OWN_POINTS, "states of the focus", &self.own_never),
        ];
        for (from, what, names) in missing {
            if self.seeds >= from && !names.is_empty() {
                let names = names.join(", ");
                let why = format!("{what} that {} seeds should have: {names}", self.seeds);
                self.rejected.push(why);
            }
        }
        if self.acknowledged == 0 {
            self.rejected.push("nothing was acknowledged".to_owned());
        }
    }

    /// Whether the sweep proves what it is to prove.
    fn is_good(&self) -> bool {
        self.failed.is_empty() && self.rejected.is_empty()
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            seeds,
            failed,
            simulated_hours,
            wall_seconds,
            speed,
            acknowledged,
            forgiven,
            ..
        } = self;
        writeln!(
            out,
            "{seeds} seeds, {} failed; {simulated_hours:.2} simulated hours in {wall_seconds:.0} s, {speed:.0} simulated seconds in a core's second; {acknowledged} values acknowledged, {forgiven} lost as weak modes may",
            failed.len()
        )?;
        let list = |counts: &BTreeMap<String, u64>| -> String {
            let each = counts.iter().map(|(name, count)| format!("{name} {count}"));
            each.collect::<Vec<_>>().join(", ")
        };
        writeln!(out, "faults: {}", list(&self.faults))?;
        if !self.faults_missing.is_empty() {
            writeln!(
                out,
                "faults that never happened: {}",
                self.faults_missing.join(", ")
            )?;
        }
        writeln!(
            out,
            "states, by seeds that reached them: {}",
            list(&self.points)
        )?;
        writeln!(
            out,
            "states never reached: {}",
            [&*self.points_never, &self.steps_never, &self.own_never]
                .concat()
                .join(", ")
        )?;
        for why in &self.rejected {
            writeln!(out, "REJECTED {why}")?;
        }
        // In the words that a script counts.
        writeln!(
            out,
            "{} passed, {} failed",
            seeds - failed.len() as u64,
            failed.len() + self.rejected.len()
        )
    }
}

impl Run {
    pub(super) fn run(self) -> Result<ExitCode> {
        let saved = match &self.saved {
            Some(path) => saved::read(path)?,
            None => vec![],
        };
        let With {
            lying_fsync,
            queues,
            focus,
        } = self.with;
        let focus = focus.as_deref().map(focus::named).transpose()?;
        let least = saved.len() as u64 + self.least;
        let total = saved.len() as u64 + self.seeds.end.saturating_sub(self.seeds.start);
        let seeds = saved.into_iter().chain(self.seeds.clone().map(One::new));
        let seeds = seeds.map(|one| One {
            lying_fsync,
            queues: queues || one.queues,
            focus: one.focus.or_else(|| focus.map(|f| f.name.to_owned())),
            ..one
        });
        let jobs = self.jobs.unwrap_or_else(worker::cores);
        let Range { start, end } = self.seeds;
        writeln!(io::stderr(), "seeds {start}..{end}, {jobs} at a time")?;
        let watch = Stopwatch::start();
        let limit = self.minutes.map(|m| std::time::Duration::from_secs(m * 60));
        let (mut summary, mut failed) = (Summary::default(), Ok(()));
        worker::all(seeds, jobs, |one, outcome| {
            summary.add(&outcome);
            failed = tell(one, &outcome, (summary.seeds, total));
            failed.is_ok() && limit.is_none_or(|limit| watch.passed() < limit)
        })?;
        failed?;
        summary.finish(
            watch,
            jobs,
            focus,
            queues || focus.is_some_and(|focus| focus.has_queues),
        );
        summary.reject(least);
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &summary)?;
            writeln!(out)?;
        } else {
            summary.write(&mut out)?;
        }
        Ok(ExitCode::from(u8::from(!summary.is_good())))
    }
}

/// Progress, and what failed with the command that repeats it.
fn tell(one: &One, outcome: &Outcome, (done, total): (u64, u64)) -> io::Result<()> {
    if let Some(first) = outcome.violations.first() {
        let line = first.lines().next().unwrap_or_default();
        let words = one.arguments().into_iter();
        let quoted = words.map(|word| match word.contains(' ') {
            true => format!("'{word}'"),
            false => word,
        });
        let words = quoted.collect::<Vec<_>>().join(" ");
        writeln!(io::stdout(), "FAIL weir-sim replay {words}: {line}")?;
    }
    if done.is_multiple_of(20) {
        writeln!(io::stderr(), "{done} of {total} seeds")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_steps;

    /// A sweep of so many good seeds in which everything happened but what is named.
    fn sweep_of(focus: Option<&'static Focus>, seeds: u64, without: &[&str]) -> Summary {
        let names = |all: &mut dyn Iterator<Item = &'static str>| -> BTreeMap<String, u64> {
            all.filter(|name| !without.contains(name))
                .map(|name| (name.to_owned(), 1))
                .collect()
        };
        let outcome = Outcome {
            faults: names(&mut nemesis::KINDS.iter().copied()),
            points: names(&mut Points::all()),
            acknowledged: 1,
            ..Outcome::default()
        };
        let mut summary = Summary::default();
        (0..seeds).for_each(|_| summary.add(&outcome));
        summary.finish(Stopwatch::start(), 1, focus, true);
        summary.reject(0);
        summary
    }

    fn sweep(seeds: u64, without: &[&str]) -> Summary {
        sweep_of(None, seeds, without)
    }

    #[test]
    fn a_sweep_of_a_focus_whose_clients_never_came_to_their_point_is_rejected() {
        let focus = focus::named("configs").unwrap();
        let missed = focus.points[1];
        assert!(sweep_of(Some(focus), SEEDS_FOR_OWN_POINTS - 1, &[missed]).is_good());
        let many = sweep_of(Some(focus), SEEDS_FOR_OWN_POINTS, &[missed]);
        assert!(!many.is_good() && many.rejected[0].ends_with(missed));
        assert!(sweep(SEEDS_FOR_OWN_POINTS, &[missed]).is_good());
    }

    #[test]
    fn a_sweep_with_queues_in_which_nobody_died_at_some_step_is_rejected() {
        let missed = queue_steps::POINTS[0];
        assert!(sweep(SEEDS_FOR_ALL_STEPS - 1, &[missed]).is_good());
        let many = sweep(SEEDS_FOR_ALL_STEPS, &[missed]);
        assert!(!many.is_good() && many.rejected[0].ends_with(missed));
    }

    #[test]
    fn a_sweep_without_some_fault_or_state_is_rejected_by_its_name() {
        assert!(sweep(SEEDS_FOR_ALL_POINTS, &[]).is_good());
        let few = sweep(SEEDS_FOR_ALL_KINDS - 1, &["bit rot", "torn tail"]);
        assert!(few.is_good(), "chance may leave both out of a few seeds");
        let many = sweep(SEEDS_FOR_ALL_KINDS, &["bit rot", "torn tail"]);
        assert!(!many.is_good() && many.rejected.len() == 1);
        assert!(
            many.rejected[0].ends_with(": bit rot"),
            "{:?}",
            many.rejected
        );
        let long = sweep(SEEDS_FOR_ALL_POINTS, &["torn tail"]);
        assert!(!long.is_good() && long.rejected[0].ends_with(": torn tail"));
        let mut told = Vec::new();
        long.write(&mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.contains("REJECTED") && told.ends_with(" 1 failed\n"),
            "{told}"
        );
    }

    #[test]
    fn a_sweep_with_a_failed_seed_or_no_acknowledgement_is_not_good() {
        let mut failed = sweep(1, &[]);
        let violations = vec!["I1".to_owned()];
        failed.add(&Outcome {
            violations,
            ..Outcome::default()
        });
        assert!(!failed.is_good());
        let mut silent = Summary::default();
        silent.add(&Outcome::default());
        silent.finish(Stopwatch::start(), 1, None, false);
        silent.reject(0);
        assert!(!silent.is_good());
        let mut few = sweep(2, &[]);
        few.reject(2);
        assert!(few.is_good());
        few.reject(3);
        assert!(!few.is_good());
    }
}
