//! One seed in this process.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::cluster::on_fresh_thread;
use crate::focus;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::simulation::simulate;
use crate::trace::Trace;

/// How long a process may take for one seed before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(300);

/// A seed, and what of it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct One {
    /// The seed
    #[arg(long)]
    pub(super) seed: u64,
    /// Only these of its faults, by number; "" for none
    #[arg(long)]
    pub(super) events: Option<String>,
    /// Every disk says that it synced and did not: the run must fail
    #[arg(long)]
    pub(super) lying_fsync: bool,
    /// One acknowledged value is taken out of all that was read: the run must fail
    #[arg(long)]
    pub(super) spoilt: bool,
    /// Queues have clients, whatever it is about
    #[arg(long)]
    pub(super) queues: bool,
    /// What it is about: a class of bugs, by its name in `focus.rs`
    #[arg(long)]
    pub(super) focus: Option<String>,
    /// A bug that is planted in the product, by its number (M4)
    #[arg(long)]
    pub(super) mutant: Option<String>,
}

impl One {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// As it is written on a command line.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--seed".to_owned(), self.seed.to_string()];
        for (name, value) in [
            ("--focus", &self.focus),
            ("--events", &self.events),
            ("--mutant", &self.mutant),
        ] {
            if let Some(value) = value {
                arguments.extend([name.to_owned(), value.clone()]);
            }
        }
        for (name, is_set) in [
            ("--lying-fsync", self.lying_fsync),
            ("--spoilt", self.spoilt),
            ("--queues", self.queues),
        ] {
            arguments.extend(is_set.then(|| name.to_owned()));
        }
        arguments
    }

    pub(super) fn with_events(&self, events: &[usize]) -> Self {
        let numbers: Vec<String> = events.iter().map(usize::to_string).collect();
        Self {
            events: Some(numbers.join(",")),
            ..self.clone()
        }
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        let focus = self.focus.as_deref().map(focus::named).transpose()?;
        let mut plan = Plan::of(self.seed, focus);
        if self.queues {
            plan.add_queues();
        }
        if let Some(events) = &self.events {
            let numbers = events.split(',').filter_map(|number| number.parse().ok());
            plan.keep(&numbers.collect::<Vec<usize>>());
        }
        plan.syncs_lie = self.lying_fsync;
        plan.is_spoilt = self.spoilt;
        Ok(plan)
    }

    fn run(&self, trace: Trace) -> Result<Outcome> {
        let plan = self.plan()?;
        let mutant = self.mutant.clone();
        on_fresh_thread(move || {
            super::mutants::plant(mutant.as_deref())?;
            Ok(simulate(&plan, &trace))
        })
    }

    /// The outcome as a line of JSON.
    pub(super) fn report(&self) -> Result<ExitCode> {
        end_when_hung()?;
        let outcome = self.run(Trace::new())?;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &outcome)?;
        writeln!(out)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The trace, and what is wrong on standard error.
    pub(super) fn replay(&self) -> Result<ExitCode> {
        let trace = Trace::with_text();
        let outcome = self.run(trace.clone())?;
        let text = trace.text();
        std::io::stdout().lock().write_all(text.as_bytes())?;
        let mut told = std::io::stderr().lock();
        for violation in &outcome.violations {
            writeln!(told, "{violation}")?;
        }
        writeln!(told, "{}", outcome.digest)?;
        Ok(ExitCode::from(u8::from(!outcome.violations.is_empty())))
    }

    /// The plan.
    pub(super) fn describe(&self) -> Result<ExitCode> {
        let plan = self.plan()?;
        let mut out = std::io::stdout().lock();
        let Plan {
            nodes,
            spares,
            victim,
            end,
            ..
        } = &plan;
        writeln!(
            out,
            "nodes {nodes:?}, later {spares:?}, bad disk at {victim}, faults until {end} ms"
        )?;
        for (number, event) in &plan.events {
            writeln!(out, "{number:>3} {event}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A run that makes no progress ends its process; whoever waits for it counts that.
fn end_when_hung() -> Result<()> {
    let watch = std::thread::Builder::new().name("patience".to_owned());
    watch
        .spawn(|| {
            let begun = super::stopwatch::Stopwatch::start();
            while let Some(left) = PATIENCE.checked_sub(begun.passed()) {
                std::thread::park_timeout(left);
            }
            drop(writeln!(std::io::stderr(), "hung for {PATIENCE:?}"));
            std::process::exit(124);
        })
        .context("no thread")?;
    Ok(())
}
