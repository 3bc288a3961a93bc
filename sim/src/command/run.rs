//! Many seeds, and what they add up to.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::one::One;
use super::stopwatch::Stopwatch;
use super::worker;
use crate::nemesis;
use crate::outcome::Outcome;
use crate::points::Points;

/// From how many seeds on a sweep counts only if every kind of fault happened.
const SEEDS_FOR_ALL_KINDS: u64 = 100;

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

    fn finish(&mut self, watch: Stopwatch, jobs: usize) {
        self.wall_seconds = watch.passed().as_secs_f64();
        let jobs = u32::try_from(jobs).map_or(1.0, f64::from);
        self.speed = self.simulated_hours * 3600.0 / self.wall_seconds / jobs;
        let kinds = nemesis::KINDS.iter().copied();
        self.faults_missing = kinds
            .filter(|kind| !self.faults.contains_key(*kind))
            .collect();
        let points = Points::all();
        self.points_never = points
            .filter(|point| !self.points.contains_key(*point))
            .collect();
        self.points_never.sort_unstable();
        self.points_never.dedup();
    }

    /// Whether the sweep proves what it is to prove.
    fn is_good(&self) -> bool {
        let has_all = self.seeds < SEEDS_FOR_ALL_KINDS || self.faults_missing.is_empty();
        self.failed.is_empty() && has_all && self.acknowledged > 0
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
            self.points_never.join(", ")
        )?;
        // In the words that a script counts.
        writeln!(
            out,
            "{} passed, {} failed",
            seeds - failed.len() as u64,
            failed.len()
        )
    }
}

impl Run {
    pub(super) fn run(self) -> Result<ExitCode> {
        let saved = match &self.saved {
            Some(path) => saved(path)?,
            None => vec![],
        };
        let lying_fsync = self.with.lying_fsync;
        let total = saved.len() as u64 + self.seeds.end.saturating_sub(self.seeds.start);
        let seeds = saved.into_iter().chain(self.seeds.clone()).map(|seed| One {
            lying_fsync,
            ..One::new(seed)
        });
        let jobs = self.jobs.unwrap_or_else(worker::cores);
        let watch = Stopwatch::start();
        let limit = self.minutes.map(|m| std::time::Duration::from_secs(m * 60));
        let (mut summary, mut failed) = (Summary::default(), Ok(()));
        worker::all(seeds, jobs, |outcome| {
            summary.add(&outcome);
            failed = tell(&outcome, summary.seeds, total);
            failed.is_ok() && limit.is_none_or(|limit| watch.passed() < limit)
        })?;
        failed?;
        summary.finish(watch, jobs);
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
fn tell(outcome: &Outcome, done: u64, total: u64) -> io::Result<()> {
    if let Some(first) = outcome.violations.first() {
        let line = first.lines().next().unwrap_or_default();
        let seed = outcome.seed;
        writeln!(io::stdout(), "FAIL weir-sim replay --seed {seed}: {line}")?;
    }
    if done.is_multiple_of(20) {
        writeln!(io::stderr(), "{done} of {total} seeds")?;
    }
    Ok(())
}

/// The numbers at the beginnings of lines; `#` begins a comment.
fn saved(path: &PathBuf) -> Result<Vec<u64>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let seeds = lines.filter_map(|line| line.split_whitespace().next());
    seeds
        .map(|seed| seed.parse().with_context(|| format!("no seed: {seed}")))
        .collect()
}
