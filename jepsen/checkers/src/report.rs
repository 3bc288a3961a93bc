//! All checkers of a log over one history.

use crate::realtime_lag::Settled;
use crate::{Anomaly, Checker, Evidence, History};
use crate::{
    aborted_read, committed_offsets, consume_counts, duplicate, inconsistent_offsets, lost_write,
    poll_order, realtime_lag, realtime_order, send_order, unseen,
};
use std::collections::BTreeMap;
use std::fmt;

/// What the run promised.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// Producers were idempotent: a duplicate is an error. Otherwise it is only counted.
    pub idempotent: bool,
    /// The history ends with polls that reach the end of every log: what nobody saw is an error.
    pub drained: bool,
    /// From when on consumers may not lag.
    pub settled: Option<Settled>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Lines of the history.
    pub operations: usize,
    /// Values known to be in a log.
    pub values: usize,
    /// Errors.
    pub anomalies: Vec<Anomaly>,
    /// Duplicates that are not errors.
    pub duplicates: usize,
    /// The most acknowledged values that nobody had read, at any one time.
    pub unseen_worst: usize,
    /// The largest lag of any reader, in nanoseconds.
    pub lag_worst_ns: u64,
    /// How often a member of a group went on where another had been.
    pub takeovers: usize,
}

impl Report {
    /// Runs every checker that judges logs and group offsets.
    #[must_use]
    pub fn new(history: &History, verdict: Verdict) -> Self {
        let evidence = Evidence::new(history);
        let mut report = Self {
            operations: history.ops().len(),
            values: evidence.logs().map(|(_, log)| log.offsets().len()).sum(),
            ..Self::default()
        };
        let duplicates = duplicate::check(&evidence);
        if verdict.idempotent {
            report.anomalies.extend(duplicates);
        } else {
            report.duplicates = duplicates.len();
        }
        let unseen = unseen::check(&evidence);
        report.unseen_worst = unseen.worst();
        if verdict.drained {
            report.anomalies.extend(unseen.anomalies);
        }
        let lag = realtime_lag::check(&evidence, verdict.settled);
        report.lag_worst_ns = lag.worst_ns.values().copied().max().unwrap_or(0);
        report.anomalies.extend(lag.anomalies);
        let consumed = consume_counts::check(&evidence);
        report.takeovers = consumed.takeovers;
        report.anomalies.extend(consumed.anomalies);
        for check in [
            inconsistent_offsets::check,
            aborted_read::check,
            lost_write::check,
            poll_order::check,
            send_order::check,
            realtime_order::check,
            committed_offsets::check,
        ] {
            report.anomalies.extend(check(&evidence));
        }
        report.anomalies.sort_unstable_by_key(Anomaly::checker);
        report
    }

    /// How many anomalies each checker found.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Checker, usize> {
        let mut counts = BTreeMap::new();
        for anomaly in &self.anomalies {
            *counts.entry(anomaly.checker()).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Report {
    /// One line, then up to five anomalies of each checker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operations,
            values,
            duplicates,
            unseen_worst,
            lag_worst_ns,
            takeovers: _,
            anomalies,
        } = self;
        write!(
            f,
            "{operations} history lines, {values} values in the log, {duplicates} tolerated duplicates, at worst {unseen_worst} unseen and {} ms behind, {} anomalies",
            lag_worst_ns / 1_000_000,
            anomalies.len()
        )?;
        for (checker, count) in self.counts() {
            for anomaly in anomalies
                .iter()
                .filter(|anomaly| anomaly.checker() == checker)
                .take(5)
            {
                write!(f, "\n  {anomaly}")?;
            }
            if count > 5 {
                write!(f, "\n  {checker:?}: and {} more", count - 5)?;
            }
        }
        Ok(())
    }
}
