//! Histories of queue clients, and the checkers that judge them: C14 to C18, C20, C20 for
//! letters that are replayed, and C21.
//!
//! A driver notes every call with its outcome and every delivery, drains, and then reads
//! the logs back: a queue history says nothing before it was drained. Messages are named
//! by their id, given out once. Times are milliseconds of the driver's clock.

pub mod broadcast;
pub mod check_back;
pub mod conservation;
pub mod delay;
pub mod half;
pub mod order;
mod patience;
pub mod replay;
pub mod retry;
pub mod settled;

use std::collections::{BTreeMap, BTreeSet};

pub use patience::Patience;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Acknowledged.
    Ok,
    /// Nobody knows.
    Info,
    /// Definitely not done.
    Fail,
}

/// What a driver saw.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Event {
    /// A message was sent; `due` if it was to be delayed.
    Sent {
        id: String,
        due: Option<i64>,
        outcome: Outcome,
    },
    /// A half message was prepared; its producers are to be asked from `check_at` on.
    Prepared {
        id: String,
        outcome: Outcome,
        check_at: i64,
    },
    /// A half message was decided on.
    Decided {
        id: String,
        commit: bool,
        outcome: Outcome,
        at: i64,
    },
    /// A producer was asked what became of a half message.
    Asked { id: String, at: i64 },
    /// A delayed message was to be taken back; `Ok`: the broker said that it was.
    Cancelled { id: String, outcome: Outcome },
    /// A consumer got it, having asked when so many events had been noted.
    Delivered {
        id: String,
        attempt: u16,
        at: i64,
        asked: usize,
    },
    /// A consumer settled it.
    Acked { id: String, outcome: Outcome },
    /// A consumer returned it; not before `next` again, if the broker said when.
    Returned {
        id: String,
        outcome: Outcome,
        next: Option<i64>,
    },
    /// Found in the partition's log when all was over, appended at this time.
    Stored { id: String, offset: u64, at: i64 },
    /// Found undecided when all was over: a half message, asked about so often, and no more
    /// if it is parked.
    Kept {
        id: String,
        checks: usize,
        parked: bool,
    },
    /// Found among the dead letters when all was over.
    DeadLetter { id: String, offset: u64 },
    /// A dead letter that was still listed when all was over.
    Listed { letter: u64 },
    /// Found in the partition's log when all was over: that letter, replayed.
    Replayed {
        id: String,
        letter: u64,
        offset: u64,
    },
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum QueueAnomaly {
    /// C14: acknowledged, and neither delivered nor dead-lettered.
    Lost { id: String },
    /// C14: delivered, and never sent.
    Unexpected { id: String },
    /// C14, C20: acknowledged and delivered, and after the drain neither settled nor
    /// dead-lettered.
    Unsettled { id: String },
    /// C17, C18, C20: stored twice by the broker itself.
    Doubled { id: String, offsets: Vec<u64> },
    /// C17: delivered before it was due.
    Early { id: String, due: i64, at: i64 },
    /// C17: neither stored nor delivered long after it was due.
    Late { id: String, due: i64, at: i64 },
    /// C17: delivered though the broker said that it was taken back.
    DeliveredAfterCancel { id: String },
    /// C18: seen though nobody ever decided to commit it.
    SeenUncommitted { id: String },
    /// C18: both decisions were acknowledged.
    DecidedTwice { id: String },
    /// C18: asked about long after a decision had been acknowledged.
    AskedAfterDecision { id: String, decided: i64, at: i64 },
    /// C18: asked about more often than was promised.
    AskedTooOften { id: String, times: usize },
    /// C18: not asked about long after it should have been.
    AskedLate { id: String, due: i64, at: i64 },
    /// C18: not asked about any more, after less questions than promised.
    ParkedEarly { id: String, checks: usize },
    /// C18: decided, and kept as if it were not.
    DecidedAndKept { id: String },
    /// C18: nobody decided on it, and it is gone.
    HalfDropped { id: String },
    /// C15: asked for when its settling had been acknowledged, and delivered.
    DeliveredAfterAck { id: String },
    /// C16: delivered while the message before it in its message group was not settled.
    Overtook { id: String, before: String },
    /// C20: delivered as an attempt that had been returned, and that was acknowledged.
    AttemptForgotten {
        id: String,
        attempt: u16,
        ended: u16,
    },
    /// C20: among the dead letters though its settling was acknowledged.
    AckedAndDead { id: String },
    /// C20: more deliveries than attempts allow.
    TooManyAttempts { id: String, attempt: u16 },
    /// C20: delivered again before the pause was over.
    RetriedEarly { id: String, next: i64, at: i64 },
    /// C20: a dead letter that is not listed, and not where it came from.
    LetterLost { id: String, letter: u64 },
    /// C20: a dead letter in both places.
    ListedAndReplayed { id: String, letter: u64 },
    /// C20: a dead letter that came back more than once.
    ReplayedTwice { id: String, offsets: Vec<u64> },
    /// C20: what came back is not what died.
    ReplayedOther { id: String, letter: u64 },
    /// C21: acknowledged, and a subscriber got neither it nor a newer version.
    Missed { id: String },
    /// C21: delivered to a subscriber that had got a newer version.
    OlderFollowed { id: String, newer: String },
}

/// All that was seen, in the order it was seen.
#[derive(Debug, Clone, Default)]
pub struct QueueHistory {
    /// The events.
    pub events: Vec<Event>,
}

impl QueueHistory {
    /// All verdicts that need no more than the history. `slack` is what clocks may differ
    /// by, in milliseconds; `attempts_max` the group's.
    #[must_use]
    pub fn check(&self, slack: i64, attempts_max: u16) -> Vec<QueueAnomaly> {
        let mut found = conservation::check(self);
        found.extend(delay::check(self, slack));
        found.extend(half::check(self));
        found.extend(retry::check(self, slack, attempts_max));
        found.extend(settled::check(self));
        found
    }

    fn delivered(&self) -> BTreeMap<&str, Vec<(u16, i64)>> {
        let mut delivered: BTreeMap<&str, Vec<(u16, i64)>> = BTreeMap::new();
        for event in &self.events {
            if let Event::Delivered {
                id, attempt, at, ..
            } = event
            {
                delivered.entry(id).or_default().push((*attempt, *at));
            }
        }
        delivered
    }

    /// Places by id.
    fn places(&self, of: impl Fn(&Event) -> Option<(&String, u64)>) -> BTreeMap<&str, Vec<u64>> {
        let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (id, offset) in self.events.iter().filter_map(of) {
            places.entry(id).or_default().push(offset);
        }
        places
    }

    fn stored(&self) -> BTreeMap<&str, Vec<u64>> {
        self.places(|event| {
            if let Event::Stored { id, offset, .. } = event {
                return Some((id, *offset));
            }
            None
        })
    }

    fn dead_letters(&self) -> BTreeMap<&str, Vec<u64>> {
        self.places(|event| {
            if let Event::DeadLetter { id, offset } = event {
                return Some((id, *offset));
            }
            None
        })
    }

    /// Ids that a consumer settled, and was told so.
    fn settled(&self) -> BTreeSet<&str> {
        let settled = self.events.iter().filter_map(|event| {
            if let Event::Acked {
                id,
                outcome: Outcome::Ok,
            } = event
            {
                return Some(&**id);
            }
            None
        });
        settled.collect()
    }

    /// Ids that a consumer settled, or that nobody knows of whether it did.
    fn may_be_settled(&self) -> BTreeSet<&str> {
        let mut tries = Tries::default();
        self.events.iter().for_each(|event| tries.note(event));
        tries.0.into_keys().collect()
    }
}

/// Settling that succeeded or may have: a try is noted as unknown before it is made, and
/// with its outcome behind.
#[derive(Default)]
struct Tries<'h>(BTreeMap<&'h str, usize>);

impl<'h> Tries<'h> {
    fn note(&mut self, event: &'h Event) {
        let Event::Acked { id, outcome } = event else {
            return;
        };
        match outcome {
            // A success twice over, which no failure of another try takes back.
            Outcome::Info | Outcome::Ok => *self.0.entry(id).or_default() += 1,
            Outcome::Fail => {
                if let Some(open) = self.0.get_mut(&**id) {
                    *open -= 1;
                    if *open == 0 {
                        self.0.remove(&**id);
                    }
                }
            }
        }
    }

    fn may_be_settled(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }
}

/// Histories of the unit tests.
#[cfg(test)]
mod script {
    use super::{Event, Outcome, QueueHistory};

    pub(super) fn sent(id: &str, outcome: Outcome) -> Event {
        Event::Sent {
            id: id.to_owned(),
            due: None,
            outcome,
        }
    }

    pub(super) fn delivered(id: &str, attempt: u16, at: i64) -> Event {
        Event::Delivered {
            id: id.to_owned(),
            attempt,
            at,
            asked: 0,
        }
    }

    pub(super) fn acked(id: &str, outcome: Outcome) -> Event {
        Event::Acked {
            id: id.to_owned(),
            outcome,
        }
    }

    pub(super) fn stored(id: &str, offset: u64) -> Event {
        stored_at(id, offset, 0)
    }

    pub(super) fn stored_at(id: &str, offset: u64, at: i64) -> Event {
        let id = id.to_owned();
        Event::Stored { id, offset, at }
    }

    pub(super) fn prepared(id: &str, check_at: i64) -> Event {
        Event::Prepared {
            id: id.to_owned(),
            outcome: Outcome::Ok,
            check_at,
        }
    }

    pub(super) fn decided(id: &str, commit: bool, outcome: Outcome, at: i64) -> Event {
        Event::Decided {
            id: id.to_owned(),
            commit,
            outcome,
            at,
        }
    }

    pub(super) fn dead(id: &str, offset: u64) -> Event {
        Event::DeadLetter {
            id: id.to_owned(),
            offset,
        }
    }

    pub(super) fn history(events: &[Event]) -> QueueHistory {
        QueueHistory {
            events: events.to_vec(),
        }
    }
}
