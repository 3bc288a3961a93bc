//! How a scenario is run: with its own seed, with more, with a planted bug.

use anyhow::{Context, Result};
use weir::options::NodeOptions;

use super::Theatre;
use crate::cluster::on_fresh_thread;
use crate::log_events::{Listener, Said};
use crate::trace::Trace;

/// What the cluster of a scenario is.
#[derive(Clone, Copy)]
pub(in crate::scenarios) struct Setting {
    pub(in crate::scenarios) seed: u64,
    /// Nodes 1 to this.
    pub(in crate::scenarios) nodes: u32,
    /// The founding voters of the metadata group: nodes 1 to this.
    pub(in crate::scenarios) voters: u32,
    /// Of the topic's partition, the preferred leader first.
    pub(in crate::scenarios) replicas: &'static [u32],
    pub(in crate::scenarios) configs: &'static [(&'static str, &'static str)],
    /// What else the options of every node are.
    pub(in crate::scenarios) options: fn(&mut NodeOptions),
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 3,
            voters: 3,
            replicas: &[1, 2, 3],
            configs: &[],
            options: |_| {},
        }
    }
}

/// Runs a scenario, with its seed and as many more as are asked for.
pub(in crate::scenarios) fn play(
    setting: Setting,
    scenario: impl FnOnce(&mut Theatre) -> Result<()> + Copy + Send + 'static,
) -> Result<()> {
    // More in a nightly run.
    let seeds = std::env::var("WEIR_SCENARIO_SEEDS").map_or(Ok(1), |seeds| seeds.parse())?;
    for seed in setting.seed..setting.seed + seeds {
        let setting = Setting { seed, ..setting };
        on_fresh_thread(move || perform(setting, scenario))?;
    }
    Ok(())
}

/// Runs a scenario with a planted bug. Gives what objected.
///
/// # Panics
/// If nothing did.
#[cfg(feature = "mutants")]
pub(in crate::scenarios) fn objection(
    mutant: weir_base::mutant::Mutant,
    setting: Setting,
    scenario: impl FnOnce(&mut Theatre) -> Result<()> + Send + 'static,
) -> String {
    let ended = on_fresh_thread(move || {
        weir_base::mutant::plant(Some(mutant));
        perform(setting, scenario)
    });
    match ended {
        Err(error) => format!("{error:#}"),
        Ok(()) => panic!("{mutant:?} survives"),
    }
}

fn perform(setting: Setting, scenario: impl FnOnce(&mut Theatre) -> Result<()>) -> Result<()> {
    // The text of a run takes much memory: only for whoever looks into a failure.
    let is_wanted = std::env::var_os("WEIR_SCENARIO_TRACE").is_some();
    let trace = if is_wanted {
        Trace::with_text()
    } else {
        Trace::new()
    };
    let said = Said::default();
    let listener = Listener::new(trace.clone(), said.clone());
    tracing::subscriber::with_default(listener, || {
        let mut theatre = Theatre::open(&setting, trace.clone(), said)?;
        let ended = theatre.make_topic(&setting);
        let ended = ended.and_then(|()| scenario(&mut theatre));
        let ended = ended.and_then(|()| theatre.heard_no_bug());
        let at = theatre.now();
        theatre.insides.lock().clear();
        if ended.is_err() && is_wanted {
            println!("{}", trace.text());
        }
        ended.with_context(|| format!("seed {} at {at} ms", setting.seed))
    })
}
