//! Planted bugs: how many seeds it takes to find each.

use std::ops::Range;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Mutants {
    /// Seeds to try, at most
    #[arg(long, value_parser = super::seeds, default_value = "0..200")]
    seeds: Range<u64>,
    /// Which, by comma; all by default
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Plants a bug in this thread.
#[cfg(feature = "mutants")]
pub(super) fn plant(name: Option<&str>) -> Result<()> {
    use anyhow::Context;
    use weir_base::mutant::{Mutant, plant};
    let Some(name) = name else {
        return Ok(());
    };
    let mut all = Mutant::NODES.iter().copied();
    let mutant = all.find(|mutant| format!("{mutant:?}") == name);
    plant(Some(mutant.with_context(|| format!("no mutant {name}"))?));
    Ok(())
}

/// Plants nothing: there is no bug in this build.
#[cfg(not(feature = "mutants"))]
pub(super) fn plant(name: Option<&str>) -> Result<()> {
    anyhow::ensure!(name.is_none(), "{WITHOUT}");
    Ok(())
}

#[cfg(not(feature = "mutants"))]
const WITHOUT: &str = "built without planted bugs: build with --features mutants";

impl Mutants {
    #[cfg(not(feature = "mutants"))]
    pub(super) fn run(self) -> Result<ExitCode> {
        anyhow::bail!("{WITHOUT}")
    }

    #[cfg(feature = "mutants")]
    pub(super) fn run(self) -> Result<ExitCode> {
        use std::io::{self, Write};

        use super::one::One;
        use super::worker;
        use weir_base::mutant::Mutant;

        let names = Mutant::NODES.iter().map(|mutant| format!("{mutant:?}"));
        let chosen = names.filter(|name| self.only.is_empty() || self.only.contains(name));
        let (mut found, mut survived) = (0, 0);
        for name in chosen {
            let seeds = self.seeds.clone().map(|seed| One {
                mutant: Some(name.clone()),
                ..One::new(seed)
            });
            let (mut tried, mut told) = (0, None);
            worker::all(seeds, worker::cores(), |outcome| {
                tried += 1;
                if told.is_none() {
                    told = outcome
                        .violations
                        .first()
                        .map(|v| (outcome.seed, v.clone()));
                }
                told.is_none()
            })?;
            match told {
                Some((seed, violation)) => {
                    found += 1;
                    let line = violation.lines().next().unwrap_or_default();
                    writeln!(
                        io::stdout(),
                        "{name}: found after {tried} seeds, in {seed}: {line}"
                    )?;
                }
                None => {
                    survived += 1;
                    writeln!(io::stdout(), "FAIL {name} survives {tried} seeds")?;
                }
            }
        }
        writeln!(io::stdout(), "{found} passed, {survived} failed")?;
        Ok(ExitCode::from(u8::from(survived > 0)))
    }
}
