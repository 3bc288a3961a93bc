//! Bytes of records: postcard, a key and a value each with a tag in front.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::{Offset, Timestamp};

use super::{
    Block, Counts, Delays, Departure, Destination, HalfChecks, Outgoing, QueueRecord, Reign,
    StoredAttempts, StoredDecision, StoredDedup, StoredGroupSettings, StoredHalf, StoredVersion,
};
use crate::aside::StoredAside;
use crate::ids::{EntryNumber, GroupName, GroupNumber, KeyHash};
use crate::replay::StoredReplay;

/// A journal entry that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record without a key.
    #[error("queue record has no key")]
    NoKey,
    /// Key or value does not decode: damaged, or written by a newer version.
    #[error("queue record does not decode: {0}")]
    Malformed(String),
    /// The value is of another kind than the key, or misses.
    #[error("queue record's value does not belong to its key")]
    Mismatch,
}

/// The compaction key. Append-only.
#[derive(Serialize, Deserialize)]
enum Key {
    Reign,
    Group(GroupName),
    Cursor(GroupNumber),
    Block(GroupNumber, u64),
    Attempts(GroupNumber, Offset),
    Ledger(GroupNumber, u32),
    Gap(GroupNumber, Offset),
    Version(GroupNumber, KeyHash),
    Scheduled(Timestamp, EntryNumber),
    Cancelled(EntryNumber),
    Dedup(u128),
    Half(EntryNumber),
    HalfChecks(EntryNumber),
    Decided(EntryNumber),
    Outgoing(Destination, u64),
    Sequence(Destination),
    Departing(Destination, EntryNumber),
    Replay(EntryNumber),
    MovedBack(u64),
    Aside(EntryNumber),
    Delays,
    TakenIn(u64),
}

/// The value. Append-only: a changed field means a new variant beside the old one.
#[derive(Serialize, Deserialize)]
enum Value {
    Reign(Reign),
    Group(StoredGroupSettings),
    Number(u64),
    Block(OldBlock),
    Attempts(StoredAttempts),
    Ledger(OldCounts),
    Version(StoredVersion),
    Payload(Bytes),
    Until(Timestamp),
    Half(StoredHalf),
    HalfChecks(HalfChecks),
    Decided(StoredDecision),
    Outgoing(Outgoing),
    Departing(Departure),
    Replay(StoredReplay),
    Bits(u128),
    Aside(StoredAside),
    Dedup(StoredDedup),
    /// A replay of the letters of one group alone.
    ReplayOf(Arc<str>, StoredReplay),
    Delays(Delays),
    /// A delayed message that is in the log too.
    Logged(Offset, Bytes),
    /// With delayed messages among those that are counted.
    DelayedBlock(Block),
    /// As well.
    DelayedLedger(Counts),
}

/// Counts without delayed messages, as most are.
#[derive(Serialize, Deserialize)]
struct OldCounts {
    acked: u64,
    dead_lettered: u64,
    forwarded: u64,
    filtered: u64,
    superseded: u64,
    dropped: u64,
    missing: u64,
    no_message: u64,
    sought: i64,
}

/// A block without delayed messages.
#[derive(Serialize, Deserialize)]
struct OldBlock {
    finished: u128,
    counts: Vec<(u32, OldCounts)>,
}

impl From<Counts> for OldCounts {
    fn from(counts: Counts) -> Self {
        Self {
            acked: counts.acked,
            dead_lettered: counts.dead_lettered,
            forwarded: counts.forwarded,
            filtered: counts.filtered,
            superseded: counts.superseded,
            dropped: counts.dropped,
            missing: counts.missing,
            no_message: counts.no_message,
            sought: counts.sought,
        }
    }
}

impl From<OldCounts> for Counts {
    fn from(old: OldCounts) -> Self {
        Self {
            acked: old.acked,
            dead_lettered: old.dead_lettered,
            forwarded: old.forwarded,
            filtered: old.filtered,
            superseded: old.superseded,
            dropped: old.dropped,
            missing: old.missing,
            no_message: old.no_message,
            delayed: 0,
            sought: old.sought,
        }
    }
}

fn block_value(block: Block) -> Value {
    if block.counts.iter().any(|(_, counts)| counts.delayed > 0) {
        return Value::DelayedBlock(block);
    }
    let counts = block.counts.into_iter();
    Value::Block(OldBlock {
        finished: block.finished,
        counts: counts.map(|(hour, counts)| (hour, counts.into())).collect(),
    })
}

fn ledger_value(counts: Counts) -> Value {
    match counts.delayed {
        0 => Value::Ledger(counts.into()),
        _ => Value::DelayedLedger(counts),
    }
}

impl From<OldBlock> for Block {
    fn from(old: OldBlock) -> Self {
        let counts = old.counts.into_iter();
        Self {
            finished: old.finished,
            counts: counts.map(|(hour, counts)| (hour, counts.into())).collect(),
        }
    }
}

impl QueueRecord {
    /// The record's key and value (none for a deletion).
    #[must_use]
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let (key, value) = self.parts();
        (bytes_of(&key), value.as_ref().map(bytes_of))
    }

    fn parts(&self) -> (Key, Option<Value>) {
        match self.clone() {
            QueueRecord::Reign(reign) => (Key::Reign, Some(Value::Reign(reign))),
            QueueRecord::Group { group, value } => (Key::Group(group), value.map(Value::Group)),
            QueueRecord::Cursor { group, block } => (Key::Cursor(group), block.map(Value::Number)),
            QueueRecord::Block {
                group,
                block,
                value,
            } => (Key::Block(group, block), value.map(block_value)),
            QueueRecord::Attempts {
                group,
                offset,
                value,
            } => (Key::Attempts(group, offset), value.map(Value::Attempts)),
            QueueRecord::Ledger { group, hour, value } => {
                (Key::Ledger(group, hour), value.map(ledger_value))
            }
            QueueRecord::Gap {
                group,
                from,
                offsets,
            } => (Key::Gap(group, from), offsets.map(Value::Number)),
            QueueRecord::Version { group, key, value } => {
                (Key::Version(group, key), value.map(Value::Version))
            }
            QueueRecord::Scheduled {
                deliver_at,
                number,
                logged,
                payload,
            } => (
                Key::Scheduled(deliver_at, number),
                payload.map(|payload| match logged {
                    Some(at) => Value::Logged(at, payload),
                    None => Value::Payload(payload),
                }),
            ),
            QueueRecord::Cancelled { number, until } => {
                (Key::Cancelled(number), until.map(Value::Until))
            }
            QueueRecord::Dedup { id, value } => (
                Key::Dedup(id),
                value.map(|value| match value.first {
                    Some(_) => Value::Dedup(value),
                    None => Value::Until(value.until),
                }),
            ),
            QueueRecord::Half { number, value } => (Key::Half(number), value.map(Value::Half)),
            QueueRecord::HalfChecks { number, value } => {
                (Key::HalfChecks(number), value.map(Value::HalfChecks))
            }
            QueueRecord::Decided { number, value } => {
                (Key::Decided(number), value.map(Value::Decided))
            }
            QueueRecord::Outgoing {
                destination,
                sequence,
                value,
            } => (
                Key::Outgoing(destination, sequence),
                value.map(Value::Outgoing),
            ),
            QueueRecord::Sequence { destination, next } => {
                (Key::Sequence(destination), Some(Value::Number(next)))
            }
            QueueRecord::Departing {
                destination,
                number,
                value,
            } => (
                Key::Departing(destination, number),
                value.map(Value::Departing),
            ),
            QueueRecord::Replay { number, value } => (
                Key::Replay(number),
                value.map(|value| match value.filter.group.clone() {
                    Some(group) => Value::ReplayOf(group, value),
                    None => Value::Replay(value),
                }),
            ),
            QueueRecord::MovedBack { block, bits } => {
                (Key::MovedBack(block), bits.map(Value::Bits))
            }
            QueueRecord::Aside { number, value } => (Key::Aside(number), value.map(Value::Aside)),
            QueueRecord::Delays(delays) => (Key::Delays, Some(Value::Delays(delays))),
            QueueRecord::TakenIn { block, bits } => (Key::TakenIn(block), bits.map(Value::Bits)),
        }
    }

    /// Reads back what [`QueueRecord::encode`] wrote, in this version or an older one.
    ///
    /// # Errors
    /// [`RecordError`]; the bytes passed the journal's checksum, so this is no bit rot
    /// but a journal of a newer version.
    pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<QueueRecord, RecordError> {
        let malformed = |error: postcard::Error| RecordError::Malformed(error.to_string());
        let key = postcard::from_bytes(key.ok_or(RecordError::NoKey)?).map_err(malformed)?;
        let value: Option<Value> = value
            .map(postcard::from_bytes)
            .transpose()
            .map_err(malformed)?;
        /// The value behind the key's own tag, or none.
        macro_rules! of {
            ($tag:ident) => {
                match value {
                    None => None,
                    Some(Value::$tag(value)) => Some(value),
                    Some(_) => return Err(RecordError::Mismatch),
                }
            };
        }
        Ok(match key {
            Key::Reign => QueueRecord::Reign(of!(Reign).ok_or(RecordError::Mismatch)?),
            Key::Group(group) => QueueRecord::Group {
                group,
                value: of!(Group),
            },
            Key::Cursor(group) => QueueRecord::Cursor {
                group,
                block: of!(Number),
            },
            Key::Block(group, block) => QueueRecord::Block {
                group,
                block,
                value: match value {
                    None => None,
                    Some(Value::Block(old)) => Some(old.into()),
                    Some(Value::DelayedBlock(block)) => Some(block),
                    Some(_) => return Err(RecordError::Mismatch),
                },
            },
            Key::Attempts(group, offset) => QueueRecord::Attempts {
                group,
                offset,
                value: of!(Attempts),
            },
            Key::Ledger(group, hour) => QueueRecord::Ledger {
                group,
                hour,
                value: match value {
                    None => None,
                    Some(Value::Ledger(old)) => Some(old.into()),
                    Some(Value::DelayedLedger(counts)) => Some(counts),
                    Some(_) => return Err(RecordError::Mismatch),
                },
            },
            Key::Gap(group, from) => QueueRecord::Gap {
                group,
                from,
                offsets: of!(Number),
            },
            Key::Version(group, key) => QueueRecord::Version {
                group,
                key,
                value: of!(Version),
            },
            Key::Scheduled(deliver_at, number) => {
                let (logged, payload) = match value {
                    None => (None, None),
                    Some(Value::Payload(payload)) => (None, Some(payload)),
                    Some(Value::Logged(at, payload)) => (Some(at), Some(payload)),
                    Some(_) => return Err(RecordError::Mismatch),
                };
                QueueRecord::Scheduled {
                    deliver_at,
                    number,
                    logged,
                    payload,
                }
            }
            Key::Cancelled(number) => QueueRecord::Cancelled {
                number,
                until: of!(Until),
            },
            Key::Dedup(id) => QueueRecord::Dedup {
                id,
                value: match value {
                    None => None,
                    Some(Value::Dedup(value)) => Some(value),
                    Some(Value::Until(until)) => Some(StoredDedup { until, first: None }),
                    Some(_) => return Err(RecordError::Mismatch),
                },
            },
            Key::Half(number) => QueueRecord::Half {
                number,
                value: of!(Half),
            },
            Key::HalfChecks(number) => QueueRecord::HalfChecks {
                number,
                value: of!(HalfChecks),
            },
            Key::Decided(number) => QueueRecord::Decided {
                number,
                value: of!(Decided),
            },
            Key::Outgoing(destination, sequence) => QueueRecord::Outgoing {
                destination,
                sequence,
                value: of!(Outgoing),
            },
            Key::Sequence(destination) => QueueRecord::Sequence {
                destination,
                next: of!(Number).ok_or(RecordError::Mismatch)?,
            },
            Key::Departing(destination, number) => QueueRecord::Departing {
                destination,
                number,
                value: of!(Departing),
            },
            Key::Replay(number) => QueueRecord::Replay {
                number,
                value: match value {
                    None => None,
                    Some(Value::Replay(value)) => Some(value),
                    Some(Value::ReplayOf(group, mut value)) => {
                        value.filter.group = Some(group);
                        Some(value)
                    }
                    Some(_) => return Err(RecordError::Mismatch),
                },
            },
            Key::MovedBack(block) => QueueRecord::MovedBack {
                block,
                bits: of!(Bits),
            },
            Key::Aside(number) => QueueRecord::Aside {
                number,
                value: of!(Aside),
            },
            Key::Delays => QueueRecord::Delays(of!(Delays).ok_or(RecordError::Mismatch)?),
            Key::TakenIn(block) => QueueRecord::TakenIn {
                block,
                bits: of!(Bits),
            },
        })
    }
}

fn bytes_of<T: Serialize>(value: &T) -> Bytes {
    // Serializing these plain types into memory cannot fail.
    postcard::to_stdvec(value)
        .map(Bytes::from)
        .unwrap_or_default()
}
