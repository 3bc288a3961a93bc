//! C14: what was acknowledged comes out, and nothing else does.

use std::collections::BTreeMap;

use super::{Event, Outcome, QueueAnomaly, QueueHistory};

/// What is lost, what came from nowhere, what is neither settled nor dead.
#[must_use]
pub fn check(history: &QueueHistory) -> Vec<QueueAnomaly> {
    let (mut owed, mut tried) = (BTreeMap::new(), BTreeMap::new());
    let mut taken_back = BTreeMap::new();
    for event in &history.events {
        match event {
            Event::Sent { id, outcome, .. } => {
                tried.insert(&**id, ());
                if *outcome == Outcome::Ok {
                    owed.insert(&**id, ());
                }
            }
            Event::Prepared { id, .. } => drop(tried.insert(&**id, ())),
            Event::Decided {
                id,
                commit: true,
                outcome: Outcome::Ok,
                ..
            } => drop(owed.insert(&**id, ())),
            Event::Cancelled { id, outcome } if *outcome != Outcome::Fail => {
                taken_back.insert(&**id, ());
            }
            Event::Decided { .. }
            | Event::Cancelled { .. }
            | Event::Delivered { .. }
            | Event::Acked { .. }
            | Event::Returned { .. }
            | Event::Asked { .. }
            | Event::Stored { .. }
            | Event::Kept { .. }
            | Event::DeadLetter { .. }
            | Event::Listed { .. }
            | Event::Replayed { .. } => {}
        }
    }
    let (delivered, dead) = (history.delivered(), history.dead_letters());
    let settled = history.may_be_settled();
    let mut found = Vec::new();
    for id in owed.keys().filter(|id| !taken_back.contains_key(*id)) {
        let id_of = || (*id).to_owned();
        if dead.contains_key(id) || settled.contains(id) {
            continue;
        }
        found.push(if delivered.contains_key(id) {
            QueueAnomaly::Unsettled { id: id_of() }
        } else {
            QueueAnomaly::Lost { id: id_of() }
        });
    }
    let strangers = delivered.keys().filter(|id| !tried.contains_key(*id));
    found.extend(strangers.map(|id| QueueAnomaly::Unexpected {
        id: (*id).to_owned(),
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{acked, dead, delivered, history, sent};
    use super::*;

    #[test]
    fn what_is_lost_strange_or_unsettled_is_flagged() {
        let bad = history(&[
            sent("lost", Outcome::Ok),
            sent("open", Outcome::Ok),
            delivered("open", 1, 0),
            delivered("strange", 1, 0),
            sent("refused", Outcome::Ok),
            delivered("refused", 1, 0),
            acked("refused", Outcome::Info),
            acked("refused", Outcome::Fail),
        ]);
        let named = |id: &str| id.to_owned();
        let expected = [
            QueueAnomaly::Lost { id: named("lost") },
            QueueAnomaly::Unsettled { id: named("open") },
            QueueAnomaly::Unsettled {
                id: named("refused"),
            },
            QueueAnomaly::Unexpected {
                id: named("strange"),
            },
        ];
        assert_eq!(check(&bad), expected);
    }

    #[test]
    fn unknown_outcomes_are_neither_lost_nor_strange() {
        let good = history(&[
            sent("unknown", Outcome::Info),
            sent("found", Outcome::Info),
            delivered("found", 1, 0),
            sent("failed", Outcome::Ok),
            dead("failed", 0),
            sent("done", Outcome::Ok),
            delivered("done", 1, 0),
            acked("done", Outcome::Info),
            sent("late", Outcome::Ok),
            delivered("late", 1, 0),
            acked("late", Outcome::Info),
            acked("late", Outcome::Fail),
            delivered("late", 2, 0),
            acked("late", Outcome::Info),
            acked("late", Outcome::Ok),
        ]);
        assert_eq!(check(&good), []);
    }
}
