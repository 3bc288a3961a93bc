//! What the queue machine writes into its journal.
//!
//! Every record is absolute: it has a key, and its newest value replaces older ones, so
//! the journal may be compacted by key; a deletion is a key without value. Tags are
//! append-only: new variants go to the end (`testdata/records.bin` guards old bytes).
//!
//! Groups have numbers here, given with their settings, so that what is written with
//! every acknowledgement is short.

mod encoding;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

pub use encoding::RecordError;

use crate::aside::StoredAside;
use crate::command::{Decision, EndCause};
use crate::ids::{EntryNumber, GroupName, GroupNumber, KeyHash};
use crate::replay::StoredReplay;
use crate::settings::{GroupSettings, Target};

/// One journal entry. `None` deletes what the key names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named after the types they hold")]
pub enum QueueRecord {
    /// A leader began, or used up its numbers.
    Reign(Reign),
    /// A group's number and settings.
    Group {
        group: GroupName,
        value: Option<StoredGroupSettings>,
    },
    /// How many whole blocks of a group are final.
    Cursor {
        group: GroupNumber,
        block: Option<u64>,
    },
    /// Which offsets of a block above the cursor are final.
    Block {
        group: GroupNumber,
        block: u64,
        value: Option<Block>,
    },
    /// Attempts of one message that ended without success.
    Attempts {
        group: GroupNumber,
        offset: Offset,
        value: Option<StoredAttempts>,
    },
    /// One hour of a group's ledger: blocks that the cursor has passed.
    Ledger {
        group: GroupNumber,
        hour: u32,
        value: Option<Counts>,
    },
    /// Offsets at which a group found no record.
    Gap {
        group: GroupNumber,
        from: Offset,
        offsets: Option<u64>,
    },
    /// The newest version of a key that a group was given.
    Version {
        group: GroupNumber,
        key: KeyHash,
        value: Option<StoredVersion>,
    },
    /// A delayed message, with its payload; `logged` is where it is in the partition's log,
    /// if it was put there as it was sent.
    Scheduled {
        deliver_at: Timestamp,
        number: EntryNumber,
        logged: Option<Offset>,
        payload: Option<Bytes>,
    },
    /// A delayed message was taken back; remembered until then.
    Cancelled {
        number: EntryNumber,
        until: Option<Timestamp>,
    },
    /// An id that keeps further messages of the same id out.
    Dedup {
        id: u128,
        value: Option<StoredDedup>,
    },
    /// A half message, with its payload.
    Half {
        number: EntryNumber,
        value: Option<StoredHalf>,
    },
    /// How often a half message was asked about.
    HalfChecks {
        number: EntryNumber,
        value: Option<HalfChecks>,
    },
    /// What became of a half message.
    Decided {
        number: EntryNumber,
        value: Option<StoredDecision>,
    },
    /// A batch that is to be appended elsewhere.
    Outgoing {
        destination: Destination,
        sequence: u64,
        value: Option<Outgoing>,
    },
    /// The next sequence number of a destination.
    Sequence { destination: Destination, next: u64 },
    /// A message that is to go elsewhere, and is in no batch yet.
    Departing {
        destination: Destination,
        number: EntryNumber,
        value: Option<Departure>,
    },
    /// Dead letters that go back where they came from, as a job.
    Replay {
        number: EntryNumber,
        value: Option<StoredReplay>,
    },
    /// Which offsets of a block of dead letters were moved back: bit n is
    /// `block * 128 + n`.
    MovedBack { block: u64, bits: Option<u128> },
    /// A message that is refused where it was to go, with its payload.
    Aside {
        number: EntryNumber,
        value: Option<StoredAside>,
    },
    /// Delayed messages as a whole.
    Delays(Delays),
    /// Which offsets of a block are delayed messages that were taken in: bit n is
    /// `block * 128 + n`.
    TakenIn { block: u64, bits: Option<u128> },
}

/// Delayed messages as a whole: what was taken in, and what became of them. Always
/// `kept = released + cancelled +` those in the timeline and on their way to the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// Records of the partition that are to be delivered after this time are taken in; others
    /// are delivered where they are.
    pub since: Timestamp,
    /// All records below were looked at.
    pub next: Offset,
    /// How many were kept so far.
    pub kept: u64,
    /// Of them, those that are known to be in the log for queues to deliver.
    pub released: u64,
    /// Of them, those that were taken back.
    pub cancelled: u64,
}

/// A leader's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    /// All numbers below are used, or lost with the leader that reserved them.
    pub reserved: u64,
    /// Seals receipts and handles; drawn once, kept for ever.
    pub secret: (u64, u64),
}

/// A group's place in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredGroupSettings {
    /// Names it in other records.
    pub number: GroupNumber,
    /// Where it began.
    pub start: Offset,
    /// Its settings.
    pub settings: GroupSettings,
}

/// Offsets of one block.
pub const BLOCK_OFFSETS: u64 = 128;

/// Final messages of one block of offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Bit n: offset `block * 128 + n` is final.
    pub finished: u128,
    /// How they ended, by the hour in which they were stored; sorted by hour, most often
    /// a single one.
    pub counts: Vec<(u32, Counts)>,
}

/// How messages ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Acknowledged.
    Acked,
    /// Moved to the dead letters.
    DeadLettered,
    /// Moved elsewhere.
    Forwarded,
    /// The group's filter did not want it.
    Filtered,
    /// A newer version of its key was delivered before.
    Superseded,
    /// Dropped by capacity.
    Dropped,
    /// No record was found.
    Missing,
    /// The offset never held a message.
    NoMessage,
    /// Taken in as a delayed message: it comes again, as another record, when it is due.
    Delayed,
}

/// Messages by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of `Ending`")]
pub struct Counts {
    pub acked: u64,
    pub dead_lettered: u64,
    pub forwarded: u64,
    pub filtered: u64,
    pub superseded: u64,
    pub dropped: u64,
    pub missing: u64,
    pub no_message: u64,
    pub delayed: u64,
    /// Made final by a seek forward, less what a seek back made pending again.
    pub sought: i64,
}

/// Attempts of one message that ended without success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAttempts {
    /// How many.
    pub ended: u16,
    /// Not delivered again before this time.
    pub next_at: Timestamp,
    /// When the first ended.
    pub first_at: Timestamp,
    /// The last 16, oldest first.
    pub history: Vec<AttemptEnd>,
    /// What the consumer said last.
    pub note: Option<Arc<str>>,
}

/// The end of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub cause: EndCause,
}

/// The newest version of a key that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVersion {
    /// The version.
    pub version: u64,
    /// When it was delivered.
    pub at: Timestamp,
}

/// A half message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHalf {
    /// Who can be asked.
    pub producers: Arc<str>,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// When it is asked about first.
    pub check_at: Timestamp,
    /// A [`Payload`](crate::Payload), encoded.
    pub payload: Bytes,
}

/// How often a half message was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfChecks {
    /// How often.
    pub checks: u16,
    /// When next; when parked, when it was.
    pub next_at: Timestamp,
    /// Whether it is asked about no more.
    pub parked: bool,
}

/// Why messages of an id are kept out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDedup {
    /// Until then.
    pub until: Timestamp,
    /// The message that was taken; journals of the first version do not tell.
    pub first: Option<StoredFirst>,
}

/// The first message of an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFirst {
    /// Its number.
    pub number: EntryNumber,
    /// When it was to be delivered; `None`: a half message.
    pub deliver_at: Option<Timestamp>,
    /// What a repeat is told of it.
    pub told: Option<Arc<str>>,
}

/// What became of a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDecision {
    /// Which way.
    pub decision: Decision,
    /// How long it is remembered.
    pub until: Timestamp,
}

/// A message that is to go elsewhere: with the next batch that has room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// About its size.
    pub bytes: u32,
    /// What goes.
    pub message: OutgoingMessage,
}

/// Where an outgoing batch goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    /// The partition that the journal belongs to.
    Here,
    /// Another one.
    There(Target),
    /// The partition that the journal belongs to, as [copies](crate::copies) that queues alone
    /// read: of messages that are in its log as they were sent.
    Copies,
}

/// A batch to be appended as one, idempotently: by the journal's producer, at the batch's
/// sequence numbers, one a message. It stays until the append is known to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// At least one.
    pub messages: Vec<OutgoingMessage>,
}

/// One message of an outgoing batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutgoingMessage {
    /// A delayed message that is due: payload at this offset of the journal.
    Released {
        /// When it was due.
        deliver_at: Timestamp,
        /// Its number.
        number: EntryNumber,
        /// Where its payload is, in the journal.
        payload_at: Offset,
    },
    /// A half message that was committed.
    Committed {
        /// Its number.
        number: EntryNumber,
        /// Where its payload is, in the journal.
        payload_at: Offset,
    },
    /// A message that failed too often: the record at `offset` of the partition, with the
    /// headers of [`dead_letter_headers`](crate::envelope::dead_letter_headers).
    DeadLetter {
        /// The message.
        offset: Offset,
        /// What to tell of it.
        facts: DeadLetter,
    },
    /// The record at `offset` of the partition, as it is but for `weir.dlq.*` headers.
    Forwarded {
        /// The message.
        offset: Offset,
    },
    /// The dead letter at `offset` of the partition, as it was before it died, for the
    /// group that gave it up alone.
    Replayed {
        /// The letter.
        offset: Offset,
        /// The group, if the letter tells it; else it is for all of the topic's.
        group: Option<GroupName>,
    },
    /// A message that was set aside.
    Aside {
        /// Its number.
        number: EntryNumber,
        /// Where its payload is, in the journal.
        payload_at: Offset,
    },
}

/// Why a message is among the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The group that gave it up.
    pub group: GroupName,
    /// All its attempts.
    pub attempts: StoredAttempts,
}

impl QueueRecord {
    /// The group it is about, by number, if it is about one's messages.
    #[must_use]
    pub fn group(&self) -> Option<GroupNumber> {
        match self {
            QueueRecord::Cursor { group, .. }
            | QueueRecord::Block { group, .. }
            | QueueRecord::Attempts { group, .. }
            | QueueRecord::Ledger { group, .. }
            | QueueRecord::Gap { group, .. }
            | QueueRecord::Version { group, .. } => Some(*group),
            QueueRecord::Group { value, .. } => value.as_ref().map(|value| value.number),
            QueueRecord::Reign(_)
            | QueueRecord::Scheduled { .. }
            | QueueRecord::Cancelled { .. }
            | QueueRecord::Dedup { .. }
            | QueueRecord::Half { .. }
            | QueueRecord::HalfChecks { .. }
            | QueueRecord::Decided { .. }
            | QueueRecord::Outgoing { .. }
            | QueueRecord::Sequence { .. }
            | QueueRecord::Departing { .. }
            | QueueRecord::Replay { .. }
            | QueueRecord::MovedBack { .. }
            | QueueRecord::Aside { .. }
            | QueueRecord::Delays(_)
            | QueueRecord::TakenIn { .. } => None,
        }
    }

    /// The [`Payload`](crate::Payload) that it keeps, encoded.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        match self {
            QueueRecord::Scheduled { payload, .. } => payload.as_ref(),
            QueueRecord::Half { value, .. } => value.as_ref().map(|half| &half.payload),
            QueueRecord::Aside { value, .. } => value.as_ref().map(|aside| &aside.payload),
            QueueRecord::Reign(_)
            | QueueRecord::Group { .. }
            | QueueRecord::Cursor { .. }
            | QueueRecord::Block { .. }
            | QueueRecord::Attempts { .. }
            | QueueRecord::Ledger { .. }
            | QueueRecord::Gap { .. }
            | QueueRecord::Version { .. }
            | QueueRecord::Cancelled { .. }
            | QueueRecord::Dedup { .. }
            | QueueRecord::HalfChecks { .. }
            | QueueRecord::Decided { .. }
            | QueueRecord::Outgoing { .. }
            | QueueRecord::Sequence { .. }
            | QueueRecord::Departing { .. }
            | QueueRecord::Replay { .. }
            | QueueRecord::MovedBack { .. }
            | QueueRecord::Delays(_)
            | QueueRecord::TakenIn { .. } => None,
        }
    }
}
