//! C15 and C20, in real time: what was acknowledged as settled, and what as returned, counts
//! for every receive that begins afterwards.

use std::collections::BTreeMap;

use super::{Event, Outcome, QueueAnomaly, QueueHistory};

/// Deliveries of settled messages, and of attempts that had ended. Only such that were asked
/// for after the acknowledgement: an answer may be under way for as long as it likes.
#[must_use]
pub fn check(history: &QueueHistory) -> Vec<QueueAnomaly> {
    let mut settled: BTreeMap<&str, usize> = BTreeMap::new();
    // Where each acknowledged return of a message stands in the history.
    let mut returned: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    for (now, event) in history.events.iter().enumerate() {
        if let Event::Acked {
            id,
            outcome: Outcome::Ok,
        } = event
        {
            settled.entry(id).or_insert(now);
        }
        if let Event::Returned {
            id,
            outcome: Outcome::Ok,
            ..
        } = event
        {
            returned.entry(id).or_default().push(now);
        }
        let Event::Delivered {
            id, attempt, asked, ..
        } = event
        else {
            continue;
        };
        if settled.get(&**id).is_some_and(|at| at < asked) {
            found.push(QueueAnomaly::DeliveredAfterAck { id: id.clone() });
        }
        let ended = returned.get(&**id).into_iter().flatten();
        let ended = ended.filter(|at| *at < asked).count();
        let ended = u16::try_from(ended).unwrap_or(u16::MAX);
        if *attempt <= ended {
            found.push(QueueAnomaly::AttemptForgotten {
                id: id.clone(),
                attempt: *attempt,
                ended,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{acked, delivered, history};
    use super::*;

    fn asked(id: &str, attempt: u16, asked: usize) -> Event {
        Event::Delivered {
            id: id.to_owned(),
            attempt,
            at: 0,
            asked,
        }
    }

    fn returned(id: &str, outcome: Outcome) -> Event {
        Event::Returned {
            id: id.to_owned(),
            outcome,
            next: None,
        }
    }

    #[test]
    fn what_comes_again_though_it_was_settled_or_as_an_ended_attempt_is_flagged() {
        let bad = history(&[
            delivered("done", 1, 0),
            acked("done", Outcome::Info),
            acked("done", Outcome::Ok),
            asked("done", 1, 3),
            delivered("back", 1, 0),
            returned("back", Outcome::Ok),
            asked("back", 1, 6),
        ]);
        let expected = [
            QueueAnomaly::DeliveredAfterAck {
                id: "done".to_owned(),
            },
            QueueAnomaly::AttemptForgotten {
                id: "back".to_owned(),
                attempt: 1,
                ended: 1,
            },
        ];
        assert_eq!(check(&bad), expected);
    }

    #[test]
    fn an_answer_that_was_under_way_proves_nothing_nor_does_an_unknown_outcome() {
        let good = history(&[
            delivered("late", 1, 0),
            acked("late", Outcome::Info),
            // Asked for between the two.
            acked("late", Outcome::Ok),
            asked("late", 2, 2),
            acked("unknown", Outcome::Info),
            asked("unknown", 1, 5),
            acked("refused", Outcome::Fail),
            asked("refused", 1, 7),
            returned("maybe", Outcome::Info),
            asked("maybe", 1, 9),
            returned("back", Outcome::Ok),
            asked("back", 2, 11),
        ]);
        assert_eq!(check(&good), []);
    }
}
