//! Judges what queue clients saw, and what brokers count: C14 to C18 and C20.
//!
//! Nothing is forgiven: queues are flushed and replicated synchronously.

use std::collections::BTreeMap;

use weir_checkers::queue::check_back::{self, CheckBacks};
use weir_checkers::queue::{
    Event, Outcome, Patience, QueueAnomaly, QueueHistory, delay, order, retry, settled,
};

use crate::workload::workers::book::{Book, Counted};
use crate::workload::workers::{ATTEMPTS_MAX, CHECK_INTERVAL, CHECKS_MAX, QUEUES, message_group};

/// Anomalies of one queue that are told.
const TOLD_MAX: usize = 5;

/// What came of it.
pub(crate) struct Judgement {
    pub(crate) violations: Vec<String>,
    /// States that were reached.
    pub(crate) points: Vec<&'static str>,
}

/// What a run allows queues, in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// By how much the clocks of leaders may differ.
    pub(crate) slack: i64,
    /// How late a delayed message may be.
    pub(crate) release: Patience,
    /// How late a question about a half message may be.
    pub(crate) check: Patience,
    /// How long one may be under way.
    pub(crate) under_way: i64,
    /// When the run ended.
    pub(crate) end: i64,
}

/// States that clients of queues see.
pub(crate) const POINTS: &[&str] = &[
    "half message asked about",
    "half message parked",
    "queues drained",
    "message delivered again",
    "message returned",
    "dead letter",
    "settling of unknown outcome",
    "half message decided",
    "delayed message recalled",
];

impl Terms {
    /// What is promised of questions; who cannot be asked is not asked late.
    fn check_backs(&self, can_be_asked: bool) -> CheckBacks {
        let mut patience = self.check.clone();
        if !can_be_asked {
            patience.most = i64::MAX;
        }
        CheckBacks {
            interval: i64::try_from(CHECK_INTERVAL.as_millis()).unwrap_or(i64::MAX),
            checks_max: usize::from(CHECKS_MAX),
            patience,
            under_way: self.under_way,
            end: self.end,
        }
    }
}

/// Judges all queues.
pub(crate) fn judge(book: &Book, terms: &Terms) -> Judgement {
    let slack = terms.slack;
    let mut judgement = Judgement {
        violations: Vec::new(),
        points: Vec::new(),
    };
    let is_closed = book.is_closed();
    if is_closed {
        judgement.points.push("queues drained");
    }
    for (queue, history, counted) in book.histories() {
        let mut found = if is_closed {
            let mut found = history.check(slack, ATTEMPTS_MAX);
            found.extend(delay::late(&history, &terms.release));
            let can_be_asked = !QUEUES[queue].is_ordered || book.has_mute();
            let promised = terms.check_backs(can_be_asked);
            found.extend(check_back::check(&history, &promised));
            if QUEUES[queue].is_ordered {
                found.extend(order::check(&history, message_group));
            }
            found
        } else {
            // What is not read to its end may still come.
            let mut found = delay::check(&history, slack);
            found.extend(retry::check(&history, slack, ATTEMPTS_MAX));
            found.extend(settled::check(&history));
            found
        };
        found.extend(doubled(&history));
        let topic = QUEUES[queue].topic;
        let told = found.iter().take(TOLD_MAX);
        let told = told.map(|anomaly| format!("queue {topic}: {anomaly:?}"));
        judgement.violations.extend(told);
        if found.len() > TOLD_MAX {
            let more = found.len() - TOLD_MAX;
            let what = format!("queue {topic}: and {more} more anomalies");
            judgement.violations.push(what);
        }
        if is_closed {
            let books = balance(&history, counted);
            let books = books.map(|what| format!("queue {topic}: C20: {what}"));
            judgement.violations.extend(books);
        }
        judgement.points.extend(reached(&history));
    }
    judgement
}

/// Plain messages that are stored twice: nobody sent one twice.
fn doubled(history: &QueueHistory) -> Vec<QueueAnomaly> {
    let mut plain: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in &history.events {
        if let Event::Sent { id, due: None, .. } = event {
            plain.entry(id).or_default();
        }
    }
    for event in &history.events {
        if let Event::Stored { id, offset, .. } = event
            && let Some(places) = plain.get_mut(&**id)
        {
            places.push(*offset);
        }
    }
    let doubled = plain.into_iter().filter(|(_, places)| places.len() > 1);
    let doubled = doubled.map(|(id, offsets)| QueueAnomaly::Doubled {
        id: id.to_owned(),
        offsets,
    });
    doubled.collect()
}

/// Whether what brokers count adds up with what is in the logs: every message is settled or
/// a dead letter, and none is both.
fn balance(history: &QueueHistory, counted: Counted) -> Option<String> {
    let count = |wanted: fn(&Event) -> bool| {
        let events = history.events.iter().filter(|event| wanted(event));
        events.count() as u64
    };
    let stored = count(|event| matches!(event, Event::Stored { .. }));
    let letters = count(|event| matches!(event, Event::DeadLetter { .. }));
    let Counted {
        acked,
        dead_lettered,
    } = counted;
    let adds_up = dead_lettered == letters && acked + dead_lettered == stored;
    (!adds_up).then(|| {
        format!(
            "{stored} messages and {letters} dead letters are stored, the brokers count {acked} settled and {dead_lettered} dead"
        )
    })
}

fn reached(history: &QueueHistory) -> Vec<&'static str> {
    let mut open: BTreeMap<&str, bool> = BTreeMap::new();
    let mut points = Vec::new();
    for event in &history.events {
        match event {
            Event::Delivered { attempt: 2.., .. } => points.push("message delivered again"),
            Event::Returned {
                outcome: Outcome::Ok,
                ..
            } => points.push("message returned"),
            Event::Asked { .. } => points.push("half message asked about"),
            Event::Kept { parked: true, .. } => points.push("half message parked"),
            Event::DeadLetter { .. } => points.push("dead letter"),
            Event::Acked { id, outcome } => {
                open.insert(id, *outcome == Outcome::Info);
            }
            Event::Cancelled {
                outcome: Outcome::Ok,
                ..
            } => points.push("delayed message recalled"),
            Event::Decided {
                outcome: Outcome::Ok,
                ..
            } => points.push("half message decided"),
            Event::Delivered { .. }
            | Event::Returned { .. }
            | Event::Cancelled { .. }
            | Event::Decided { .. }
            | Event::Sent { .. }
            | Event::Prepared { .. }
            | Event::Stored { .. }
            | Event::Kept { .. }
            | Event::Listed { .. }
            | Event::Replayed { .. } => {}
        }
    }
    if open.values().any(|is_open| *is_open) {
        points.push("settling of unknown outcome");
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(id: &str, offset: u64) -> Event {
        let id = id.to_owned();
        Event::Stored { id, offset, at: 0 }
    }

    fn sent(id: &str) -> Event {
        Event::Sent {
            id: id.to_owned(),
            due: None,
            outcome: Outcome::Info,
        }
    }

    fn history(events: &[Event]) -> QueueHistory {
        QueueHistory {
            events: events.to_vec(),
        }
    }

    #[test]
    fn a_message_that_was_sent_once_and_is_stored_twice_is_flagged() {
        let bad = history(&[sent("m1"), stored("m1", 3), stored("m1", 8)]);
        let expected = QueueAnomaly::Doubled {
            id: "m1".to_owned(),
            offsets: vec![3, 8],
        };
        assert_eq!(doubled(&bad), [expected]);
        let good = history(&[sent("m1"), sent("m2"), stored("m1", 3), stored("m2", 3)]);
        assert_eq!(doubled(&good), []);
    }

    #[test]
    fn books_that_do_not_add_up_are_flagged() {
        let letter = Event::DeadLetter {
            id: "m1".to_owned(),
            offset: 0,
        };
        let seen = history(&[stored("m1", 3), stored("m2", 4), letter]);
        let counted = |acked, dead_lettered| Counted {
            acked,
            dead_lettered,
        };
        assert_eq!(balance(&seen, counted(1, 1)), None);
        for wrong in [counted(2, 1), counted(2, 0), counted(0, 1), counted(1, 0)] {
            assert!(balance(&seen, wrong).is_some(), "{wrong:?}");
        }
    }
}
