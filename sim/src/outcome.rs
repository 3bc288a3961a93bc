//! What came of one seed, as one process tells another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The result of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// What must not be, in words; empty for a good run.
    pub(crate) violations: Vec<String>,
    /// Length of the run in simulated milliseconds.
    pub(crate) simulated_ms: u64,
    /// Faults that happened, by kind.
    pub(crate) faults: BTreeMap<String, u64>,
    /// Named states that were reached, and how often.
    pub(crate) points: BTreeMap<String, u64>,
    /// Values acknowledged.
    pub(crate) acknowledged: u64,
    /// Values that a weak mode was allowed to lose, and lost.
    pub(crate) forgiven: u64,
    /// Hash of the trace, and its number of events.
    pub(crate) digest: String,
    /// Numbers of the events that the plan had.
    pub(crate) events: Vec<usize>,
}
