//! C20: attempts are counted and end; a dead letter is one message, and no other's.

use std::collections::BTreeMap;

use super::{Event, Outcome, QueueAnomaly, QueueHistory};

/// Messages that are settled and dead, dead twice, tried too often, or again too early:
/// before the time that the broker told when it was returned.
#[must_use]
pub fn check(history: &QueueHistory, slack: i64, attempts_max: u16) -> Vec<QueueAnomaly> {
    let mut found = Vec::new();
    let settled = history.settled();
    for (id, offsets) in history.dead_letters() {
        let named = || id.to_owned();
        if settled.contains(id) {
            found.push(QueueAnomaly::AckedAndDead { id: named() });
        }
        if offsets.len() > 1 {
            found.push(QueueAnomaly::Doubled {
                id: named(),
                offsets,
            });
        }
    }
    let mut not_before: BTreeMap<&str, i64> = BTreeMap::new();
    for event in &history.events {
        if let Event::Returned {
            id,
            outcome: Outcome::Ok,
            next: Some(next),
        } = event
        {
            not_before.insert(id, *next);
        }
        let Event::Delivered {
            id, attempt, at, ..
        } = event
        else {
            continue;
        };
        if *attempt > attempts_max {
            found.push(QueueAnomaly::TooManyAttempts {
                id: id.clone(),
                attempt: *attempt,
            });
        }
        if let Some(next) = not_before.remove(&**id)
            && *at < next - slack
        {
            found.push(QueueAnomaly::RetriedEarly {
                id: id.clone(),
                next,
                at: *at,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{acked, dead, delivered, history, sent};
    use super::*;

    fn returned(id: &str, next: i64) -> Event {
        Event::Returned {
            id: id.to_owned(),
            outcome: Outcome::Ok,
            next: Some(next),
        }
    }

    #[test]
    fn what_is_dead_twice_settled_too_or_tried_too_soon_is_flagged() {
        let bad = history(&[
            sent("both", Outcome::Ok),
            acked("both", Outcome::Ok),
            dead("both", 0),
            dead("twice", 1),
            dead("twice", 2),
            delivered("often", 4, 0),
            delivered("soon", 1, 0),
            returned("soon", 100),
            delivered("soon", 2, 98),
        ]);
        let named = |id: &str| id.to_owned();
        let expected = [
            QueueAnomaly::AckedAndDead { id: named("both") },
            QueueAnomaly::Doubled {
                id: named("twice"),
                offsets: vec![1, 2],
            },
            QueueAnomaly::TooManyAttempts {
                id: named("often"),
                attempt: 4,
            },
            QueueAnomaly::RetriedEarly {
                id: named("soon"),
                next: 100,
                at: 98,
            },
        ];
        assert_eq!(check(&bad, 1, 3), expected);
    }

    #[test]
    fn a_dead_letter_whose_settling_is_unknown_is_fine() {
        let good = history(&[
            sent("a", Outcome::Ok),
            delivered("a", 1, 0),
            acked("a", Outcome::Info),
            delivered("a", 1, 50),
            returned("a", 90),
            delivered("a", 2, 90),
            dead("a", 0),
        ]);
        assert_eq!(check(&good, 1, 2), []);
    }
}
