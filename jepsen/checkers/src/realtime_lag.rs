//! C12: how far polls lag behind what was known to be there.
//!
//! Once somebody knows of offset `o`, every later poll of a reader that stands before `o` should bring it.
//! The lag of a poll is the time from that knowledge to the poll's beginning, when the poll still left the
//! reader short of it. While faults go on it is a measurement; once the cluster is whole it has a limit.

use crate::history::Offset;
use crate::{Action, Anomaly, Evidence, Key, Kind, Process};
use std::collections::{BTreeMap, BTreeSet};

/// From when on lag is limited.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    /// Polls that begin at or after this time are judged.
    pub from_ns: u64,
    /// What is allowed, usually twice the poll interval.
    pub limit_ns: u64,
}

/// The measurement.
#[derive(Debug, Default)]
pub struct RealtimeLag {
    /// The largest lag of each key.
    pub worst_ns: BTreeMap<Key, u64>,
    /// Polls past the limit after the cluster was whole.
    pub anomalies: Vec<Anomaly>,
}

/// For each key the times at which a higher offset than any before became known; both rise.
type Frontier = BTreeMap<Key, Vec<(Offset, u64)>>;

fn frontier(evidence: &Evidence<'_>) -> Frontier {
    let mut known = Frontier::new();
    let mut learn = |key: Key, offset: Offset, t_ns: u64| {
        let steps = known.entry(key).or_default();
        if steps.last().is_none_or(|step| step.0 < offset) {
            steps.push((offset, t_ns));
        }
    };
    for (op, operation) in evidence
        .history()
        .lines()
        .filter(|line| line.0.kind != Kind::Invoke)
    {
        for read in op.reads() {
            learn(read.key, read.offset, op.t_ns);
        }
        for send in op
            .sends()
            .filter(|send| Evidence::acknowledged(&operation, send))
        {
            if let Some(offset) = send.offset {
                learn(send.key, offset, op.t_ns);
            }
        }
    }
    known
}

/// When an offset at or behind `next` was first known.
fn known_since(known: &Frontier, key: Key, next: Offset) -> Option<u64> {
    let steps = known.get(&key)?;
    steps
        .get(steps.partition_point(|step| step.0 < next))
        .map(|step| step.1)
}

/// Measures every poll of the processes that assigned their keys themselves.
#[must_use]
pub fn check(evidence: &Evidence<'_>, settled: Option<Settled>) -> RealtimeLag {
    let known = frontier(evidence);
    let mut result = RealtimeLag::default();
    let mut assigned: BTreeMap<Process, BTreeSet<Key>> = BTreeMap::new();
    let mut next: BTreeMap<(Process, Key), Offset> = BTreeMap::new();
    for (op, operation) in evidence
        .history()
        .lines()
        .filter(|line| line.0.kind == Kind::Ok)
    {
        match &op.action {
            Action::Assign(keys) => {
                assigned.insert(op.process, keys.clone());
            }
            Action::Subscribe(_) | Action::Share(_) => {
                assigned.remove(&op.process);
            }
            Action::Poll(_) => {
                for read in op.reads() {
                    let position = next.entry((op.process, read.key)).or_default();
                    *position = (read.offset + 1).max(*position);
                }
                let began = operation.invoke.t_ns;
                for &key in assigned.get(&op.process).into_iter().flatten() {
                    let position = next.get(&(op.process, key)).copied().unwrap_or(0);
                    let lag_ns = known_since(&known, key, position)
                        .map_or(0, |since| began.saturating_sub(since));
                    let worst = result.worst_ns.entry(key).or_default();
                    *worst = lag_ns.max(*worst);
                    if let Some(Settled { from_ns, limit_ns }) = settled
                        && began >= from_ns
                        && lag_ns > limit_ns
                    {
                        result.anomalies.push(Anomaly::Lag {
                            process: op.process,
                            key,
                            lag_ns,
                            limit_ns,
                        });
                    }
                }
            }
            Action::Txn(_) | Action::Send(_) | Action::Commit(_) | Action::Committed(_) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    const SETTLED: Settled = Settled {
        from_ns: 0,
        limit_ns: 50_000_000,
    };

    #[test]
    fn a_reader_that_stays_behind_is_flagged() {
        let history = script::history(
            "p1 ok assign 0
             p0 ok send 0=1@0
             p0 ok send 0=2@1
             p1 ok poll 0=1@0
             500
             p1 ok poll",
        );
        let result = check(&Evidence::new(&history), Some(SETTLED));
        // Offset 1 was known at 6 ms, the last poll began at 509 ms and did not bring it.
        let bad = Anomaly::Lag {
            process: Process(1),
            key: Key(0),
            lag_ns: 503_000_000,
            limit_ns: 50_000_000,
        };
        assert_eq!(result.anomalies, [bad]);
        assert_eq!(result.worst_ns[&Key(0)], 503_000_000);
    }

    #[test]
    fn old_records_that_come_late_in_a_first_poll_pass() {
        let history = script::history(
            "p1 ok assign 0
             p0 ok send 0=1@0 1=2@0
             500
             p1 ok poll 0=1@0
             500
             p1 ok poll
             p2 ok subscribe 0
             p2 ok poll",
        );
        let result = check(&Evidence::new(&history), Some(SETTLED));
        assert_eq!(result.anomalies, []);
        assert_eq!(result.worst_ns[&Key(0)], 0);
    }

    #[test]
    fn lag_during_faults_is_only_measured() {
        let history = script::history(
            "p1 ok assign 0
             p0 ok send 0=1@0
             500
             p1 ok poll
             p1 ok poll 0=1@0",
        );
        let late = Settled {
            from_ns: 506_000_000,
            limit_ns: 1,
        };
        let result = check(&Evidence::new(&history), Some(late));
        assert_eq!(result.anomalies, []);
        assert!(result.worst_ns[&Key(0)] >= 500_000_000);
    }
}
