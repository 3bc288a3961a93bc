//! C22: a group gets back the offset it committed last.
//!
//! A fetched offset is right when some commit of exactly that offset began before the fetch ended and was
//! not certainly overwritten: no other commit began after it ended and ended before the fetch began. A fetch
//! that finds nothing is right as long as no commit had ended. No committed offset lies beyond the log.

use crate::history::{Offset, Offsets};
use crate::{Action, Anomaly, Evidence, Key, Kind};
use std::collections::BTreeMap;

/// Commits of one group and key so far; positions are those of history lines.
#[derive(Default)]
struct Slot {
    /// For each offset the latest end of a commit of it; one that has not ended counts as never ending.
    latest_end: BTreeMap<Offset, u64>,
    /// Of the Ok commits that have ended: the latest beginning, and its offset.
    latest_begin: Option<(u64, Offset)>,
}

/// Fetches that no order of the commits explains.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut slots: BTreeMap<(&str, Key), Slot> = BTreeMap::new();
    // What had certainly been committed when a fetch began, by the line of its beginning.
    let mut floors: BTreeMap<(u64, Key), (u64, Offset)> = BTreeMap::new();
    let transactions = evidence
        .history()
        .ops()
        .iter()
        .any(|op| op.is_transaction());
    for (op, operation) in evidence.history().lines() {
        match (&op.action, op.kind) {
            (Action::Commit(commit), Kind::Invoke) => {
                let end = match operation.completion {
                    Some(end) if end.kind == Kind::Fail => continue,
                    Some(end) if end.kind == Kind::Ok => end.index,
                    Some(_) | None => u64::MAX,
                };
                for &(key, offset) in &commit.offsets {
                    let slot = slots.entry((&commit.group, key)).or_default();
                    let latest = slot.latest_end.entry(offset).or_default();
                    *latest = end.max(*latest);
                }
            }
            (Action::Commit(commit), Kind::Ok) => {
                let began = operation.invoke.index;
                for &(key, offset) in &commit.offsets {
                    let slot = slots.entry((&commit.group, key)).or_default();
                    if slot.latest_begin.is_none_or(|latest| latest.0 < began) {
                        slot.latest_begin = Some((began, offset));
                    }
                }
            }
            (Action::Committed(asked), Kind::Invoke) => {
                for &(key, _) in &asked.offsets {
                    let floor = slots
                        .get(&(asked.group.as_str(), key))
                        .and_then(|slot| slot.latest_begin);
                    floors.extend(floor.map(|floor| ((op.index, key), floor)));
                }
            }
            (Action::Committed(answer), Kind::Ok) => {
                let Action::Committed(asked) = &operation.invoke.action else {
                    continue;
                };
                for &(key, _) in &asked.offsets {
                    let fetched = answer
                        .offsets
                        .iter()
                        .find(|entry| entry.0 == key)
                        .map(|entry| entry.1);
                    let slot = slots.entry((&answer.group, key)).or_default();
                    let floor = floors.get(&(operation.invoke.index, key)).copied();
                    found.extend(judge(slot, answer, key, fetched, floor));
                    let end = evidence.log(key).and_then(|log| log.offsets().last());
                    if let (Some(fetched), Some(end), false) = (fetched, end, transactions)
                        && fetched > end + 1
                    {
                        found.push(Anomaly::UnknownCommit {
                            group: answer.group.clone(),
                            key,
                            fetched,
                        });
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn judge(
    slot: &Slot,
    answer: &Offsets,
    key: Key,
    fetched: Option<Offset>,
    floor: Option<(u64, Offset)>,
) -> Option<Anomaly> {
    let group = || answer.group.clone();
    let Some(offset) = fetched else {
        let committed = floor?.1;
        return Some(Anomaly::StaleCommit {
            group: group(),
            key,
            fetched,
            committed,
        });
    };
    let Some(&end) = slot.latest_end.get(&offset) else {
        return Some(Anomaly::UnknownCommit {
            group: group(),
            key,
            fetched: offset,
        });
    };
    let (began, committed) = floor?;
    (end < began).then(|| Anomaly::StaleCommit {
        group: group(),
        key,
        fetched,
        committed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    fn stale(fetched: Option<Offset>, committed: Offset) -> Anomaly {
        Anomaly::StaleCommit {
            group: "g".to_owned(),
            key: Key(0),
            fetched,
            committed,
        }
    }

    #[test]
    fn an_offset_that_went_back_or_vanished_is_flagged() {
        let history = script::history(
            "p0 ok commit g 0@3
             p0 ok commit g 0@5
             p1 invoke committed g 0@0
             p1 end-ok committed g 0@3
             p2 invoke committed g 0@0
             p2 end-ok committed g
             p3 invoke committed g 0@0
             p3 end-ok committed g 0@4",
        );
        let unknown = Anomaly::UnknownCommit {
            group: "g".to_owned(),
            key: Key(0),
            fetched: 4,
        };
        assert_eq!(
            check(&Evidence::new(&history)),
            [stale(Some(3), 5), stale(None, 5), unknown]
        );
    }

    #[test]
    fn an_offset_beyond_the_log_is_flagged() {
        let history = script::history(
            "p0 ok send 0=1@0
             p0 ok commit g 0@9
             p1 invoke committed g 0@0
             p1 end-ok committed g 0@9",
        );
        let unknown = Anomaly::UnknownCommit {
            group: "g".to_owned(),
            key: Key(0),
            fetched: 9,
        };
        assert_eq!(check(&Evidence::new(&history)), [unknown]);
    }

    #[test]
    fn resets_unknown_and_concurrent_commits_pass() {
        let history = script::history(
            "p1 invoke committed g 0@0
             p1 end-ok committed g
             p0 ok commit g 0@5
             p0 ok commit g 0@2
             p1 invoke committed g 0@0
             p1 end-ok committed g 0@2
             p2 info commit g 0@7
             p1 invoke committed g 0@0
             p1 end-ok committed g 0@7
             p1 invoke committed g 0@0
             p3 ok commit g 0@8
             p1 end-ok committed g 0@2
             p4 invoke committed h 0@0
             p4 end-ok committed h",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
