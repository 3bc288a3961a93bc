//! C17: nothing before its time, nothing stored twice, nothing that was taken back.

use std::collections::BTreeMap;

use super::{Event, Outcome, QueueAnomaly, QueueHistory};

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
    use super::super::script::{delivered, history, stored};
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
