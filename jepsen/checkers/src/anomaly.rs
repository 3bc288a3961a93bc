//! What a checker may find.

use crate::history::{Key, Offset, Process, Value};
use crate::registers::Link;
use serde::Serialize;
use std::fmt;

/// The number a checker has in the reliability notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Checker {
    /// Inconsistent offsets.
    C1,
    /// Duplicates.
    C2,
    /// Aborted and phantom reads.
    C3,
    /// Lost writes.
    C5,
    /// Unseen writes.
    C6,
    /// Order inside one poll.
    C7,
    /// Order between the polls of a process.
    C8,
    /// Order of the sends of a process.
    C9,
    /// Order of sends in real time.
    C11,
    /// How far polls lag behind.
    C12,
    /// What a group's members consume.
    C13,
    /// Committed offsets.
    C22,
    /// Metadata as registers.
    C24,
    /// Availability.
    C25,
}

/// One thing that must not be, with the values that show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "anomaly", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields are those of the sentence that Display writes"
)]
pub enum Anomaly {
    /// C1: one offset was seen to hold several values.
    InconsistentOffset {
        key: Key,
        offset: Offset,
        values: Vec<Value>,
    },
    /// C2: one value is at several offsets.
    Duplicate {
        key: Key,
        value: Value,
        offsets: Vec<Offset>,
    },
    /// C3: a value was read whose write definitely failed.
    AbortedRead {
        key: Key,
        value: Value,
        offset: Offset,
    },
    /// C3: a value was read that nobody sent.
    PhantomRead {
        key: Key,
        value: Value,
        offset: Offset,
    },
    /// C5: readers went past a committed value and never got it.
    LostWrite {
        key: Key,
        value: Value,
        offset: Offset,
    },
    /// C6: an acknowledged value was read by nobody in the end.
    Unseen { key: Key, value: Value },
    /// C7, C8: a consumer left out values; `inside` one poll, or between two.
    PollSkip {
        process: Process,
        key: Key,
        from: Offset,
        to: Offset,
        inside: bool,
    },
    /// C7, C8: a consumer went back.
    NonmonotonicPoll {
        process: Process,
        key: Key,
        from: Offset,
        to: Offset,
        inside: bool,
    },
    /// C9: of two values a process sent one after the other, the second lies before the first.
    NonmonotonicSend {
        process: Process,
        key: Key,
        first: Value,
        second: Value,
        inside: bool,
    },
    /// C11: a send that began after another was acknowledged lies before it.
    SendBeforeAcknowledged {
        key: Key,
        value: Value,
        offset: Offset,
        acknowledged: Offset,
    },
    /// C12: after the cluster was whole again a consumer still lagged behind.
    Lag {
        process: Process,
        key: Key,
        lag_ns: u64,
        limit_ns: u64,
    },
    /// C13: a process was given a value twice under its share of a group.
    ConsumedTwice {
        process: Process,
        group: String,
        key: Key,
        value: Value,
    },
    /// C13: a share began before every position that its group may have had.
    ConsumedAgain {
        group: String,
        generation: i32,
        key: Key,
        position: Offset,
        first: Offset,
    },
    /// C13: a share began behind values that its group had not committed.
    ConsumeSkip {
        group: String,
        generation: i32,
        key: Key,
        position: Offset,
        first: Offset,
    },
    /// C13: two members were given one key in one generation.
    SharedKey {
        group: String,
        generation: i32,
        key: Key,
        processes: [Process; 2],
    },
    /// C13: a commit of a generation was accepted after a later one had been told.
    UnfencedCommit {
        process: Process,
        group: String,
        generation: i32,
    },
    /// C22: a group got back an offset that cannot be the last one committed.
    StaleCommit {
        group: String,
        key: Key,
        fetched: Option<Offset>,
        committed: Offset,
    },
    /// C22: a group got back an offset that nobody committed, or that lies beyond the log.
    UnknownCommit {
        group: String,
        key: Key,
        fetched: Offset,
    },
    /// C24: a register told a value that nobody had begun to write, or whose write failed.
    UnwrittenRead {
        key: Key,
        value: Value,
        session: u32,
        failed: bool,
    },
    /// C24: no order of a register's writes explains what clients saw.
    RegisterCircle { key: Key, links: Vec<Link> },
    /// C25: nothing was acknowledged any more after a fault.
    Unrecovered { key: Key, fault_ns: u64 },
    /// C25: a send failed while no fault was going on.
    FailedWithoutFault { key: Key, value: Value, t_ns: u64 },
}

impl Anomaly {
    /// Which checker finds it.
    #[must_use]
    pub fn checker(&self) -> Checker {
        match self {
            Self::InconsistentOffset { .. } => Checker::C1,
            Self::Duplicate { .. } => Checker::C2,
            Self::AbortedRead { .. } | Self::PhantomRead { .. } => Checker::C3,
            Self::LostWrite { .. } => Checker::C5,
            Self::Unseen { .. } => Checker::C6,
            Self::PollSkip { inside: true, .. } | Self::NonmonotonicPoll { inside: true, .. } => {
                Checker::C7
            }
            Self::PollSkip { inside: false, .. } | Self::NonmonotonicPoll { inside: false, .. } => {
                Checker::C8
            }
            Self::NonmonotonicSend { .. } => Checker::C9,
            Self::SendBeforeAcknowledged { .. } => Checker::C11,
            Self::Lag { .. } => Checker::C12,
            Self::ConsumedTwice { .. }
            | Self::ConsumedAgain { .. }
            | Self::ConsumeSkip { .. }
            | Self::SharedKey { .. }
            | Self::UnfencedCommit { .. } => Checker::C13,
            Self::UnwrittenRead { .. } | Self::RegisterCircle { .. } => Checker::C24,
            Self::StaleCommit { .. } | Self::UnknownCommit { .. } => Checker::C22,
            Self::Unrecovered { .. } | Self::FailedWithoutFault { .. } => Checker::C25,
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.checker())?;
        match self {
            Self::InconsistentOffset {
                key,
                offset,
                values,
            } => {
                write!(f, "offset {offset} of key {} held ", key.0)?;
                f.debug_list().entries(values.iter().map(|v| v.0)).finish()
            }
            Self::Duplicate {
                key,
                value,
                offsets,
            } => {
                write!(
                    f,
                    "value {} of key {} is at offsets {offsets:?}",
                    value.0, key.0
                )
            }
            Self::AbortedRead { key, value, offset } => {
                write!(
                    f,
                    "value {} of key {} was read at offset {offset}, its send failed",
                    value.0, key.0
                )
            }
            Self::PhantomRead { key, value, offset } => {
                write!(
                    f,
                    "value {} of key {} was read at offset {offset}, nobody sent it",
                    value.0, key.0
                )
            }
            Self::LostWrite { key, value, offset } => {
                write!(
                    f,
                    "value {} of key {} at offset {offset} was passed over by every reader",
                    value.0, key.0
                )
            }
            Self::Unseen { key, value } => {
                write!(
                    f,
                    "value {} of key {} was acknowledged and never read",
                    value.0, key.0
                )
            }
            Self::PollSkip {
                process,
                key,
                from,
                to,
                inside,
            } => {
                let place = if *inside {
                    "inside a poll"
                } else {
                    "between polls"
                };
                write!(
                    f,
                    "process {} went from offset {from} of key {} to {to} {place}, with values in between",
                    process.0, key.0
                )
            }
            Self::NonmonotonicPoll {
                process,
                key,
                from,
                to,
                inside,
            } => {
                let place = if *inside {
                    "inside a poll"
                } else {
                    "between polls"
                };
                write!(
                    f,
                    "process {} went back from offset {from} of key {} to {to} {place}",
                    process.0, key.0
                )
            }
            Self::NonmonotonicSend {
                process,
                key,
                first,
                second,
                inside,
            } => {
                let place = if *inside {
                    "in one operation"
                } else {
                    "in a row"
                };
                write!(
                    f,
                    "process {} sent {} and {} to key {} {place}, the log has them the other way round",
                    process.0, first.0, second.0, key.0
                )
            }
            Self::SendBeforeAcknowledged {
                key,
                value,
                offset,
                acknowledged,
            } => {
                write!(
                    f,
                    "value {} of key {} got offset {offset}, {acknowledged} had been acknowledged before it was sent",
                    value.0, key.0
                )
            }
            Self::Lag {
                process,
                key,
                lag_ns,
                limit_ns,
            } => {
                write!(
                    f,
                    "process {} lagged {} ms behind key {}, {} ms are allowed",
                    process.0,
                    lag_ns / 1_000_000,
                    key.0,
                    limit_ns / 1_000_000
                )
            }
            Self::ConsumedTwice {
                process,
                group,
                key,
                value,
            } => {
                write!(
                    f,
                    "process {} of group {group} was given value {} of key {} twice under one share",
                    process.0, value.0, key.0
                )
            }
            Self::ConsumedAgain {
                group,
                generation,
                key,
                position,
                first,
            } => {
                write!(
                    f,
                    "group {group} was given offset {first} of key {} again in generation {generation}, {position} was committed",
                    key.0
                )
            }
            Self::ConsumeSkip {
                group,
                generation,
                key,
                position,
                first,
            } => {
                write!(
                    f,
                    "group {group} began at offset {first} of key {} in generation {generation}, with values between that and {position}",
                    key.0
                )
            }
            Self::SharedKey {
                group,
                generation,
                key,
                processes: [one, other],
            } => {
                write!(
                    f,
                    "group {group} gave key {} to processes {} and {} in generation {generation}",
                    key.0, one.0, other.0
                )
            }
            Self::UnfencedCommit {
                process,
                group,
                generation,
            } => {
                write!(
                    f,
                    "group {group} accepted a commit of process {} in generation {generation} after a later one had been told",
                    process.0
                )
            }
            Self::UnwrittenRead {
                key,
                value,
                session,
                failed,
            } => {
                let why = if *failed {
                    "its write failed"
                } else {
                    "nobody had begun to write it"
                };
                write!(
                    f,
                    "register {} told connection {session} of {}, {why}",
                    key.0, value.0
                )
            }
            Self::RegisterCircle { key, links } => {
                let name = |value: &Option<Value>| {
                    value.map_or("the first state".to_owned(), |v| v.0.to_string())
                };
                let links = links.iter().map(|(before, after, because)| {
                    format!("{} before {} ({because:?})", name(before), name(after))
                });
                let links = links.collect::<Vec<_>>().join(", ");
                write!(f, "register {} has no order: {links}", key.0)
            }
            Self::StaleCommit {
                group,
                key,
                fetched,
                committed,
            } => {
                write!(
                    f,
                    "group {group} got {fetched:?} for key {}, {committed} had been committed after that",
                    key.0
                )
            }
            Self::UnknownCommit {
                group,
                key,
                fetched,
            } => {
                write!(
                    f,
                    "group {group} got {fetched} for key {}, which nobody committed or which is beyond the log",
                    key.0
                )
            }
            Self::Unrecovered { key, fault_ns } => {
                write!(
                    f,
                    "key {} acknowledged nothing any more after the fault at {} ms",
                    key.0,
                    fault_ns / 1_000_000
                )
            }
            Self::FailedWithoutFault { key, value, t_ns } => {
                write!(
                    f,
                    "value {} of key {} failed at {} ms, outside of every fault",
                    value.0,
                    key.0,
                    t_ns / 1_000_000
                )
            }
        }
    }
}
