//! C7 and C8: a consumer gets a key's values in the order of the log and leaves none out, inside one
//! poll (C7) and from one poll to the next (C8).
//!
//! Distance is counted in ranks, so offsets that hold no value are no gap. A consumer group may move a
//! reader anywhere: between polls only processes that assigned their keys themselves are judged, and
//! those that hold a share of a group, from their first poll in its generation on (before that: C13).

use crate::history::Offset;
use crate::{Action, Anomaly, Evidence, Key, Kind, Process};
use std::collections::{BTreeMap, BTreeSet};

/// What a process polls, and the last offset it got of each key.
#[derive(Default)]
struct Reader {
    subscribed: bool,
    last: BTreeMap<Key, Offset>,
}

/// Skips and steps back.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut readers: BTreeMap<Process, Reader> = BTreeMap::new();
    for op in evidence
        .history()
        .ops()
        .iter()
        .filter(|op| op.kind == Kind::Ok)
    {
        let reader = readers.entry(op.process).or_default();
        match &op.action {
            Action::Assign(keys) => reader.take(keys, false),
            Action::Subscribe(keys) => reader.take(keys, true),
            Action::Share(_) => *reader = Reader::default(),
            Action::Poll(_) | Action::Txn(_) => {
                let mut inside: BTreeMap<Key, Offset> = BTreeMap::new();
                for read in op.reads() {
                    let (from, is_inside) = match inside.insert(read.key, read.offset) {
                        Some(_) if op.rebalanced.contains(&read.key) => continue,
                        Some(from) => (Some(from), true),
                        None if reader.subscribed => continue,
                        None => (reader.last.get(&read.key).copied(), false),
                    };
                    let step = from.and_then(|from| {
                        step(evidence, op.process, read.key, from, read.offset, is_inside)
                    });
                    found.extend(step);
                }
                reader.last.append(&mut inside);
            }
            Action::Send(_) | Action::Commit(_) | Action::Committed(_) => {}
        }
    }
    found
}

impl Reader {
    fn take(&mut self, keys: &BTreeSet<Key>, subscribed: bool) {
        self.subscribed = subscribed;
        self.last.retain(|key, _| keys.contains(key));
    }
}

/// Judges the way from one offset to the next.
fn step(
    evidence: &Evidence<'_>,
    process: Process,
    key: Key,
    from: Offset,
    to: Offset,
    inside: bool,
) -> Option<Anomaly> {
    let log = evidence.log(key)?;
    let (a, b) = (log.rank(from)?, log.rank(to)?);
    if b <= a {
        Some(Anomaly::NonmonotonicPoll {
            process,
            key,
            from,
            to,
            inside,
        })
    } else if b > a + 1 {
        Some(Anomaly::PollSkip {
            process,
            key,
            from,
            to,
            inside,
        })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    const P: Process = Process(1);
    const K: Key = Key(0);

    #[test]
    fn skips_and_steps_back_are_flagged_inside_and_between() {
        let history = script::history(
            "p0 ok send 0=1@0 0=2@1 0=3@2 0=4@3
             p1 ok assign 0
             p1 ok poll 0=1@0 0=3@2 0=2@1
             p1 ok poll 0=4@3
             p1 ok poll 0=4@3",
        );
        let bad = [
            Anomaly::PollSkip {
                process: P,
                key: K,
                from: 0,
                to: 2,
                inside: true,
            },
            Anomaly::NonmonotonicPoll {
                process: P,
                key: K,
                from: 2,
                to: 1,
                inside: true,
            },
            Anomaly::PollSkip {
                process: P,
                key: K,
                from: 1,
                to: 3,
                inside: false,
            },
            Anomaly::NonmonotonicPoll {
                process: P,
                key: K,
                from: 3,
                to: 3,
                inside: false,
            },
        ];
        assert_eq!(check(&Evidence::new(&history)), bad);
    }

    #[test]
    fn sparse_offsets_rebalances_and_new_assignments_pass() {
        let history = script::history(
            "p0 ok send 0=1@0 0=2@5 1=3@0 0=4@9
             p1 ok assign 0
             p1 ok poll 0=1@0 0=2@5
             p1 ok assign 1
             p1 ok poll 1=3@0
             p1 ok assign 0 1
             p1 ok poll 0=1@0
             p2 ok subscribe 0
             p2 ok poll 0=2@5
             p2 ok poll 0=1@0 0=4@9 !0",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
