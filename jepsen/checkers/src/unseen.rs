//! C6: what was acknowledged is read in the end, and while faults go on the number of values not yet
//! read shows how far behind the readers are.

use crate::{Anomaly, Evidence, Key, Kind, Value};
use std::collections::BTreeSet;

/// How many acknowledged values nobody had read.
#[derive(Debug, Default)]
pub struct Unseen {
    /// Time in nanoseconds and the number of unseen values from then on.
    pub curve: Vec<(u64, usize)>,
    /// The values still unseen at the end.
    pub anomalies: Vec<Anomaly>,
}

impl Unseen {
    /// The most values that were unseen at one time.
    #[must_use]
    pub fn worst(&self) -> usize {
        self.curve.iter().map(|point| point.1).max().unwrap_or(0)
    }
}

/// Follows acknowledged and read values through the history. The end counts only if the history ends with
/// polls that reach the end of every log.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Unseen {
    let mut result = Unseen::default();
    let mut read: BTreeSet<(Key, Value)> = BTreeSet::new();
    let mut unseen: BTreeSet<(Key, Value)> = BTreeSet::new();
    for (op, operation) in evidence
        .history()
        .lines()
        .filter(|line| line.0.kind != Kind::Invoke)
    {
        for send in op
            .sends()
            .filter(|send| Evidence::acknowledged(&operation, send))
        {
            if !read.contains(&(send.key, send.value)) {
                unseen.insert((send.key, send.value));
            }
        }
        if op.kind == Kind::Ok {
            for found in op.reads() {
                read.insert((found.key, found.value));
                unseen.remove(&(found.key, found.value));
            }
        }
        if result
            .curve
            .last()
            .is_none_or(|point| point.1 != unseen.len())
        {
            result.curve.push((op.t_ns, unseen.len()));
        }
    }
    result.anomalies = unseen
        .into_iter()
        .map(|(key, value)| Anomaly::Unseen { key, value })
        .collect();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    #[test]
    fn an_acknowledged_value_that_never_comes_is_flagged() {
        let history = script::history(
            "p0 ok send 0=1@0 0=2@1
             p0 info send 0=3@2 0=4
             p1 ok poll 0=1@0
             p2 info poll 0=2@1",
        );
        let result = check(&Evidence::new(&history));
        let bad = |value| Anomaly::Unseen {
            key: Key(0),
            value: Value(value),
        };
        assert_eq!(result.anomalies, [bad(2), bad(3)]);
        assert_eq!(result.worst(), 3);
    }

    #[test]
    fn a_curve_that_falls_to_nothing_passes() {
        let history = script::history(
            "p0 invoke send 0=1
             p1 ok poll 0=1@0
             p0 end-ok send 0=1@0
             p0 ok send 0=2@1
             p0 fail send 0=3
             p1 ok poll 0=2@1",
        );
        let result = check(&Evidence::new(&history));
        assert_eq!(result.anomalies, []);
        assert_eq!(
            result.curve.iter().map(|point| point.1).collect::<Vec<_>>(),
            [0, 1, 0]
        );
    }
}
