//! Why a queue refused: facts and limits, never a sentence alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::fault::FaultClass;
use weir_base::ids::TopicName;
use weir_base::{Offset, Timestamp};

use crate::command::Decision;
use crate::ids::{EntryNumber, GroupName};
use crate::replay::ReplayState;

/// A setting out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// A number is not within its bounds.
    #[error("{field} is {value}, which is outside {least}..={most}")]
    OutOfBounds {
        /// Which setting, with its unit.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// Least allowed.
        least: u64,
        /// Most allowed.
        most: u64,
    },
    /// Messages cannot be moved to such a topic.
    #[error("topic name {topic:?} is not legal: 1 to 249 of [a-zA-Z0-9._-]")]
    Topic {
        /// What was asked for.
        topic: TopicName,
    },
    /// The filter does not compile.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
}

/// A filter that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// Longer than allowed.
    #[error("expression has {bytes} bytes, more than {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// Most allowed.
        max: usize,
    },
    /// A tag is empty or has characters that no tag can have.
    #[error("tag at byte {at} is empty or holds a '|' or a control character")]
    Tag {
        /// Where it begins.
        at: usize,
    },
    /// SQL that is not in the language.
    #[error("at byte {at}: expected {expected}")]
    Syntax {
        /// Where.
        at: usize,
        /// What would have been right.
        expected: &'static str,
    },
    /// SQL that would cost too much for every message.
    #[error("expression needs {steps} steps, more than {max}")]
    TooComplex {
        /// Instructions or depth it takes.
        steps: usize,
        /// Most allowed.
        max: usize,
    },
}

/// Why a receipt was not honoured. Nothing has changed. Goes over the wire: append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ReceiptError {
    /// Not a receipt of this machine: damaged, invented, or of another partition.
    #[error("receipt was not given by this partition")]
    Forged,
    /// Of another group.
    #[error("receipt belongs to another group")]
    OtherGroup,
    /// Its lease ended: the time ran out, the message was settled or returned, its member
    /// left, or another node leads since. The message may have been delivered again.
    #[error("lease of attempt {attempt} at offset {offset} has ended")]
    Expired {
        /// The message.
        offset: Offset,
        /// The attempt that it was for.
        attempt: u16,
    },
}

/// Why a replay was not begun or changed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// Another one is not over: wait for it, or cancel it.
    #[error("replay {} of these dead letters is not over: resume or cancel it first", .0.0)]
    UnderWay(EntryNumber),
    /// No such replay, or it is no longer remembered.
    #[error("no replay {} of these dead letters is remembered", .0.0)]
    NotKnown(EntryNumber),
    /// It has ended.
    #[error("replay {} is over: {}", .number.0, .state.name())]
    Over {
        /// Which.
        number: EntryNumber,
        /// How it ended.
        state: ReplayState,
    },
    /// A rate out of bounds.
    #[error("rate {asked} is outside 1..={most} letters a second")]
    Rate {
        /// What was asked for.
        asked: u32,
        /// Most allowed.
        most: u32,
    },
    /// A cause, key, tag or name that is too long.
    #[error("text has {bytes} bytes, more than {max}")]
    Text {
        /// Its length.
        bytes: usize,
        /// Most allowed.
        max: usize,
    },
}

/// Why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueError {
    /// A group name is empty or too long.
    #[error("group name has {bytes} bytes, outside 1..={max}")]
    InvalidGroupName {
        /// Its length.
        bytes: usize,
        /// Most allowed.
        max: usize,
    },
    /// No such group here: make it first.
    #[error("group {0} does not exist on this partition")]
    NoSuchGroup(GroupName),
    /// As many groups as allowed.
    #[error("partition has {max} groups, the most allowed (groups_max)")]
    TooManyGroups {
        /// The limit.
        max: usize,
    },
    /// Settings out of bounds, or a filter that does not compile.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A lease out of bounds.
    #[error("invisible duration {asked:?} is outside {least:?}..={most:?}")]
    InvisibleDuration {
        /// What was asked for.
        asked: Duration,
        /// Least allowed.
        least: Duration,
        /// Most allowed.
        most: Duration,
    },
    /// A pause before the retry out of bounds.
    #[error("retry delay {asked:?} is more than {most:?}")]
    RetryDelay {
        /// What was asked for.
        asked: Duration,
        /// Most allowed.
        most: Duration,
    },
    /// Too many receives wait on the group.
    #[error("{max} receives wait on the group, the most allowed (waiting_max)")]
    TooManyWaiting {
        /// The limit.
        max: usize,
    },
    /// The receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Delivery too far ahead.
    #[error("delivery at {at:?} is more than {max:?} ahead")]
    DelayTooLong {
        /// The time asked for.
        at: Timestamp,
        /// The limit.
        max: Duration,
    },
    /// Too large to be kept in the journal.
    #[error("message has {bytes} bytes, a journal keeps at most {max} of one (payload_bytes_max)")]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A group has as many messages waiting, or kept for later, as its capacity allows.
    #[error("queue is full: group '{group}' may hold {messages_max} messages")]
    Full {
        /// Which.
        group: GroupName,
        /// Its limit.
        messages_max: u64,
    },
    /// As many delayed messages as allowed.
    #[error("partition holds {max} delayed messages, the most allowed (scheduled_max)")]
    TooManyScheduled {
        /// The limit.
        max: usize,
    },
    /// As many undecided half messages as allowed.
    #[error("partition holds {max} half messages, the most allowed (halves_max)")]
    TooManyHalves {
        /// The limit.
        max: usize,
    },
    /// As many remembered ids as allowed.
    #[error(
        "partition remembers {max} message ids, the most allowed (dedup_max): send again when \
         the oldest are older than the window, or shorten weir.dedup.window.ms"
    )]
    TooManyIds {
        /// The limit.
        max: usize,
    },
    /// A half message whose id (or business key) was sent before as another kind of message:
    /// there is nothing to decide.
    #[error("a message of this id or key was sent before, and not as a half message")]
    SentBefore,
    /// Too long to be kept for repeats of a message.
    #[error("what a repeat is told has {bytes} bytes, more than {max}")]
    ToldTooLong {
        /// Its length.
        bytes: usize,
        /// Most allowed.
        max: usize,
    },
    /// A handle that this partition did not give.
    #[error("handle was not given by this partition")]
    ForgedHandle,
    /// No half message of that handle: it never was, or was decided longer ago than is
    /// remembered.
    #[error("no half message of that handle is remembered")]
    NoSuchHalf,
    /// The half message was decided the other way; the first decision stands.
    #[error("half message was decided before: {0:?}")]
    AlreadyDecided(Decision),
    /// A replay of dead letters.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// No such outgoing batch: it is done already.
    #[error("no such outgoing batch")]
    NoSuchOutgoing,
}

impl QueueError {
    /// Whose doing it is: only limits pass by themselves.
    #[must_use]
    pub fn class(&self) -> FaultClass {
        match self {
            QueueError::TooManyWaiting { .. }
            | QueueError::Full { .. }
            | QueueError::TooManyScheduled { .. }
            | QueueError::TooManyHalves { .. }
            | QueueError::TooManyIds { .. } => FaultClass::Retry,
            QueueError::InvalidGroupName { .. }
            | QueueError::NoSuchGroup(_)
            | QueueError::TooManyGroups { .. }
            | QueueError::Settings(_)
            | QueueError::InvisibleDuration { .. }
            | QueueError::RetryDelay { .. }
            | QueueError::Receipt(_)
            | QueueError::DelayTooLong { .. }
            | QueueError::PayloadTooLarge { .. }
            | QueueError::ForgedHandle
            | QueueError::NoSuchHalf
            | QueueError::SentBefore
            | QueueError::ToldTooLong { .. }
            | QueueError::AlreadyDecided(_)
            | QueueError::Replay(_)
            | QueueError::NoSuchOutgoing => FaultClass::Rejected,
        }
    }
}
