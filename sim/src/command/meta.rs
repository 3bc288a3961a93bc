//! The proof that a seed says everything: two processes, one trace.

use std::io::{self, Write};
use std::ops::Range;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use super::one::One;
use super::worker;

#[derive(Debug, Args)]
pub(super) struct Meta {
    /// Which: 0..20
    #[arg(long, value_parser = super::seeds, default_value = "0..20")]
    seeds: Range<u64>,
}

impl Meta {
    pub(super) fn run(self) -> Result<ExitCode> {
        let twice = self.seeds.flat_map(|seed| [One::new(seed), One::new(seed)]);
        let mut digests = std::collections::BTreeMap::new();
        let mut differ = Vec::new();
        worker::all(twice, worker::cores(), |_, outcome| {
            let first = digests
                .entry(outcome.seed)
                .or_insert_with(|| outcome.digest.clone());
            if *first != outcome.digest {
                differ.push(outcome.seed);
            }
            true
        })?;
        let mut out = io::stdout().lock();
        for seed in &differ {
            let how = first_difference(*seed)?;
            writeln!(out, "FAIL seed {seed} gives two runs: {how}")?;
        }
        let count = digests.len() - differ.len();
        writeln!(out, "{count} passed, {} failed", differ.len())?;
        Ok(ExitCode::from(u8::from(!differ.is_empty())))
    }
}

/// Where two more runs of a seed part.
fn first_difference(seed: u64) -> Result<String> {
    let trace = || -> Result<String> {
        let replay = Command::new(std::env::current_exe()?)
            .arg("replay")
            .args(One::new(seed).arguments())
            .output()?;
        Ok(String::from_utf8_lossy(&replay.stdout).into_owned())
    };
    let (one, two) = (trace()?, trace()?);
    let mut lines = one.lines().zip(two.lines()).enumerate();
    Ok(match lines.find(|(_, (a, b))| a != b) {
        Some((number, (a, b))) => format!("line {}:\n  {a}\n  {b}", number + 1),
        None if one.len() != two.len() => "one is longer".to_owned(),
        None => "two more runs were equal".to_owned(),
    })
}
