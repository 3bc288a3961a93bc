//! C25: how long a fault stopped the acknowledgements of each key, and whether anything failed without one.
//!
//! For each fault and key the gap is the longest pause between two acknowledgements that the fault touches:
//! from the last before it to the first after, unless it flickered. Probes at a steady rate make it a
//! measure of unavailability, exact to the time between two probes.

use crate::{Anomaly, Evidence, Key, Kind};
use std::collections::BTreeMap;

/// A fault, and how long what goes wrong may be put down to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When it struck.
    pub from_ns: u64,
    /// When its effects must be over.
    pub until_ns: u64,
}

/// The pause of one key around one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The fault, by its place in the list.
    pub fault: usize,
    /// Which key.
    pub key: Key,
    /// Its length in nanoseconds.
    pub gap_ns: u64,
}

/// The measurement.
#[derive(Debug, Default)]
pub struct Availability {
    /// One for each fault and key that had acknowledgements on both sides.
    pub gaps: Vec<Gap>,
    /// Keys that did not come back, and failures outside of every fault.
    pub anomalies: Vec<Anomaly>,
}

/// Measures the gaps around `faults`.
#[must_use]
pub fn check(evidence: &Evidence<'_>, faults: &[Fault]) -> Availability {
    let mut result = Availability::default();
    let mut acknowledged: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    for (op, operation) in evidence
        .history()
        .lines()
        .filter(|line| line.0.kind != Kind::Invoke)
    {
        for send in op.sends() {
            if Evidence::acknowledged(&operation, &send) {
                acknowledged.entry(send.key).or_default().push(op.t_ns);
            } else if !faults
                .iter()
                .any(|fault| fault.from_ns <= op.t_ns && operation.invoke.t_ns <= fault.until_ns)
            {
                result.anomalies.push(Anomaly::FailedWithoutFault {
                    key: send.key,
                    value: send.value,
                    t_ns: op.t_ns,
                });
            }
        }
    }
    for (fault, window) in faults.iter().enumerate() {
        for (&key, times) in &acknowledged {
            match longest_gap(times, window) {
                Some(gap_ns) => result.gaps.push(Gap { fault, key, gap_ns }),
                None => result.anomalies.push(Anomaly::Unrecovered {
                    key,
                    fault_ns: window.from_ns,
                }),
            }
        }
    }
    result
}

/// The longest pause that touches the window; `None` when nothing follows its beginning.
fn longest_gap(times: &[u64], window: &Fault) -> Option<u64> {
    let first_after = times.partition_point(|&t| t <= window.from_ns);
    if first_after == times.len() {
        return None;
    }
    let from = first_after.saturating_sub(1);
    let to = times
        .partition_point(|&t| t <= window.until_ns)
        .max(first_after)
        + 1;
    let touched = &times[from..to.min(times.len())];
    Some(
        touched
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(0),
    )
}

/// The value below which a share `percent` of the sorted samples lies, by nearest rank.
#[must_use]
pub fn percentile(sorted: &[u64], percent: u8) -> Option<u64> {
    let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, history::script};

    fn ms(from: u64, until: u64) -> Fault {
        Fault {
            from_ns: from * 1_000_000,
            until_ns: until * 1_000_000,
        }
    }

    #[test]
    fn a_key_that_stays_away_and_a_failure_without_a_fault_are_flagged() {
        let history = script::history(
            "p0 ok send 0=1@0
             p1 ok send 1=2@0
             p2 fail send 1=3
             500
             p3 ok send 1=4@1",
        );
        let result = check(&Evidence::new(&history), &[ms(100, 200)]);
        let failed = Anomaly::FailedWithoutFault {
            key: Key(1),
            value: Value(3),
            t_ns: 6_000_000,
        };
        let gone = Anomaly::Unrecovered {
            key: Key(0),
            fault_ns: 100_000_000,
        };
        assert_eq!(result.anomalies, [failed, gone]);
        assert_eq!(
            result.gaps,
            [Gap {
                fault: 0,
                key: Key(1),
                gap_ns: 504_000_000
            }]
        );
    }

    #[test]
    fn the_longest_pause_inside_a_flickering_fault_counts() {
        let history = script::history(
            "p0 ok send 0=1@0
             100
             p1 info send 0=2
             p0 ok send 0=3@1
             300
             p0 ok send 0=4@2
             600
             p0 ok send 0=5@3",
        );
        let result = check(&Evidence::new(&history), &[ms(50, 200)]);
        assert_eq!(result.anomalies, []);
        // 2, 106, 408 and 1010 ms: the pause after the fault is over is not its doing.
        assert_eq!(
            result.gaps,
            [Gap {
                fault: 0,
                key: Key(0),
                gap_ns: 302_000_000
            }]
        );
    }

    #[test]
    fn percentiles_are_samples() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(
            [50, 99, 100].map(|p| percentile(&hundred, p)),
            [Some(50), Some(99), Some(100)]
        );
    }
}
