//! C17: nothing before its time or long after it, nothing stored twice, nothing that was taken
//! back.

use std::collections::BTreeMap;

use super::{Event, Outcome, Patience, QueueAnomaly, QueueHistory};

/// Delayed messages that came early, twice, or after they were taken back; clocks differ
/// by up to `slack` milliseconds. That none is lost is C14.
#[must_use]
pub fn check(history: &QueueHistory, slack: i64) -> Vec<QueueAnomaly> {
    let mut due: BTreeMap<&str, i64> = BTreeMap::new();
    let mut taken_back = Vec::new();
    for event in &history.events {
        if let Event::Sent {
            id, due: Some(at), ..
        } = event
        {
            due.insert(id, *at);
        }
        if let Event::Cancelled {
            id,
            outcome: Outcome::Ok,
        } = event
        {
            taken_back.push(&**id);
        }
    }
    let (delivered, stored) = (history.delivered(), history.stored());
    let mut found = Vec::new();
    for (id, due) in &due {
        let first = delivered.get(id).and_then(|times| times.first());
        if let Some((_, at)) = first.filter(|(_, at)| *at < due - slack) {
            found.push(QueueAnomaly::Early {
                id: (*id).to_owned(),
                due: *due,
                at: *at,
            });
        }
        if let Some(offsets) = stored.get(id).filter(|offsets| offsets.len() > 1) {
            found.push(QueueAnomaly::Doubled {
                id: (*id).to_owned(),
                offsets: offsets.clone(),
            });
        }
    }
    for id in taken_back {
        if delivered.contains_key(id) || stored.contains_key(id) {
            found.push(QueueAnomaly::DeliveredAfterCancel { id: id.to_owned() });
        }
    }
    found
}

/// Delayed messages that were neither in the log nor delivered when they should have been, by
/// the clocks of leaders and of the driver: `patience` has to allow for their difference, for
/// the time that the sending took, and for whatever a release needs and did not have. Of those
/// that never were, C14 tells.
#[must_use]
pub fn late(history: &QueueHistory, patience: &Patience) -> Vec<QueueAnomaly> {
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    for event in &history.events {
        if let Event::Delivered { id, at, .. } | Event::Stored { id, at, .. } = event {
            let first = seen.entry(id).or_insert(*at);
            *first = (*first).min(*at);
        }
    }
    let late = history.events.iter().filter_map(|event| {
        let Event::Sent {
            id,
            due: Some(due),
            outcome: Outcome::Ok,
        } = event
        else {
            return None;
        };
        let at = *seen.get(&**id)?;
        patience.is_over(*due, at).then(|| QueueAnomaly::Late {
            id: id.clone(),
            due: *due,
            at,
        })
    });
    late.collect()
}

/// How late each delayed message was delivered first, in milliseconds, sorted.
#[must_use]
pub fn lateness(history: &QueueHistory) -> Vec<i64> {
    let delivered = history.delivered();
    let mut late: Vec<i64> = history
        .events
        .iter()
        .filter_map(|event| {
            let Event::Sent {
                id, due: Some(due), ..
            } = event
            else {
                return None;
            };
            let (_, at) = delivered.get(&**id)?.first()?;
            Some(at - due)
        })
        .collect();
    late.sort_unstable();
    late
}

#[cfg(test)]
mod tests {
    use super::super::script::{delivered, history, stored, stored_at};
    use super::*;

    fn delayed(id: &str, due: i64) -> Event {
        Event::Sent {
            id: id.to_owned(),
            due: Some(due),
            outcome: Outcome::Ok,
        }
    }

    #[test]
    fn what_is_early_doubled_or_cancelled_is_flagged() {
        let cancelled = Event::Cancelled {
            id: "back".to_owned(),
            outcome: Outcome::Ok,
        };
        let bad = history(&[
            delayed("early", 100),
            delivered("early", 1, 98),
            delayed("twice", 100),
            stored("twice", 3),
            stored("twice", 9),
            delayed("back", 100),
            cancelled,
            delivered("back", 1, 100),
        ]);
        let expected = [
            QueueAnomaly::Early {
                id: "early".to_owned(),
                due: 100,
                at: 98,
            },
            QueueAnomaly::Doubled {
                id: "twice".to_owned(),
                offsets: vec![3, 9],
            },
            QueueAnomaly::DeliveredAfterCancel {
                id: "back".to_owned(),
            },
        ];
        assert_eq!(check(&bad, 1), expected);
        assert_eq!(lateness(&bad), [-2, 0]);
    }

    /// 50 ms, but for the second from 1,000 on.
    fn patience() -> Patience {
        Patience {
            most: 50,
            excused: vec![(1_000, 2_000)],
        }
    }

    #[test]
    fn what_is_stored_or_delivered_long_after_it_was_due_is_flagged() {
        let late = |id: &str, due, at| QueueAnomaly::Late {
            id: id.to_owned(),
            due,
            at,
        };
        let bad = history(&[
            delayed("stored", 100),
            stored_at("stored", 1, 151),
            delayed("delivered", 100),
            delivered("delivered", 1, 200),
            stored_at("delivered", 2, 300),
            delayed("outage", 990),
            stored_at("outage", 3, 2_041),
        ]);
        let expected = [
            late("stored", 100, 151),
            late("delivered", 100, 200),
            late("outage", 990, 2_041),
        ];
        assert_eq!(late_ones(&bad), expected);
    }

    #[test]
    fn what_had_no_leader_when_it_was_due_may_be_later() {
        let good = history(&[
            delayed("stored", 100),
            delivered("stored", 1, 900),
            stored_at("stored", 1, 150),
            delayed("outage", 990),
            stored_at("outage", 3, 2_040),
            delayed("unseen", 10),
        ]);
        assert_eq!(late_ones(&good), []);
    }

    fn late_ones(history: &QueueHistory) -> Vec<QueueAnomaly> {
        late(history, &patience())
    }

    #[test]
    fn in_time_and_once_is_fine() {
        let good = history(&[
            delayed("fine", 100),
            delivered("fine", 1, 99),
            delivered("fine", 2, 300),
            stored("fine", 3),
        ]);
        assert_eq!(check(&good, 1), []);
    }
}
