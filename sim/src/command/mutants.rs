//! Planted bugs: how many seeds it takes to find each.
//!
//! A seed finds a bug if it fails with it and passes without: what fails anyway proves
//! nothing. Each bug is looked for where it shows ([`hunt`]).

#[cfg(feature = "mutants")]
mod hunt;

use std::ops::Range;

use anyhow::Result;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Mutants {
    /// Seeds to try for each, at most
    #[arg(long, value_parser = super::seeds, default_value = "0..200")]
    seeds: Range<u64>,
    /// Which, by comma; all by default
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Look for all of them with this focus, or with "none", and not each with its own
    #[arg(long)]
    focus: Option<String>,
    /// Only a few of those that are found soon, others for each commit: its hash
    #[arg(long, conflicts_with_all = ["seeds", "only", "focus"])]
    commit: Option<String>,
}

/// Plants a bug in this thread.
#[cfg(feature = "mutants")]
pub(super) fn plant(name: Option<&str>) -> Result<()> {
    let mutant = name.map(hunt::named).transpose()?;
    weir_base::mutant::plant(mutant);
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
    pub(super) fn run(self) -> Result<std::process::ExitCode> {
        anyhow::bail!("{WITHOUT}")
    }
}
