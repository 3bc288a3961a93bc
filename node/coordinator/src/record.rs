//! What the group machine writes into its journal.
//!
//! Every record has a key, and its newest value replaces older ones, so that a journal
//! may be compacted by key: a group's generation under one key, each committed offset
//! under its own; a deletion is a key without value. Tags are append-only: new variants
//! and fields go to the end of a new variant (`testdata/records.bin` guards old bytes).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::{Timestamp, TopicId};

use crate::command::{CommittedOffset, GroupId, MemberId};

/// One journal entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// A generation began, was assigned, or had a static member replaced.
    Generation {
        /// The group.
        group: GroupId,
        /// All of it.
        generation: Generation,
    },
    /// The group's generation is forgotten (its offsets have records of their own).
    GroupDeleted {
        /// The group.
        group: GroupId,
    },
    /// An offset was committed.
    OffsetCommitted {
        /// Whose.
        group: GroupId,
        /// Topic name.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
        /// The topic's incarnation and the position.
        offset: StoredOffset,
    },
    /// An offset was deleted or expired.
    OffsetDeleted {
        /// Whose.
        group: GroupId,
        /// Topic name.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
    },
}

/// A generation of a group: with no members it is an empty group's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number; the first is 1, none is given out twice.
    pub number: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: Arc<str>,
    /// The assignor chosen; `None` if empty.
    pub protocol: Option<Arc<str>>,
    /// Who assigns; `None` if empty.
    pub leader: Option<MemberId>,
    /// Whether the leader has brought the assignment (stable) or not yet.
    pub assigned: bool,
    /// Its members, sorted by id.
    pub members: Vec<StoredMember>,
    /// When it came to this state.
    pub at: Timestamp,
}

/// A member of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMember {
    /// Its id.
    pub id: MemberId,
    /// Its instance id if static.
    pub instance: Option<Arc<str>>,
    /// For describing.
    pub client_id: Arc<str>,
    /// For describing.
    pub client_host: Arc<str>,
    /// Silence after which it is dead.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// Assignors it offers, preferred first, each with its metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// What it was assigned; empty before that.
    pub assignment: Bytes,
}

/// A committed offset and the incarnation of the topic that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOffset {
    /// The topic's id: a topic made anew under the name does not inherit the offset.
    pub topic_id: TopicId,
    /// The position.
    pub committed: CommittedOffset,
}

/// A journal entry that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record without a key.
    #[error("group record has no key")]
    NoKey,
    /// Key or value does not decode: damaged, or written by a newer version.
    #[error("group record does not decode: {0}")]
    Malformed(String),
    /// The value is of another kind than the key.
    #[error("group record's value does not belong to its key")]
    Mismatch,
}

/// The compaction key. Append-only.
#[derive(Serialize, Deserialize)]
enum Key {
    Group(GroupId),
    Offset(GroupId, Arc<str>, u32),
}

/// The value. Append-only: a changed field means a new variant beside the old one.
#[derive(Serialize, Deserialize)]
enum Value {
    Generation(Generation),
    Offset(StoredOffset),
}

impl GroupRecord {
    /// The record's key and value (none for a deletion).
    #[must_use]
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let (key, value) = match self {
            GroupRecord::Generation { group, generation } => (
                Key::Group(group.clone()),
                Some(Value::Generation(generation.clone())),
            ),
            GroupRecord::GroupDeleted { group } => (Key::Group(group.clone()), None),
            GroupRecord::OffsetCommitted {
                group,
                topic,
                partition,
                offset,
            } => (
                Key::Offset(group.clone(), topic.clone(), *partition),
                Some(Value::Offset(offset.clone())),
            ),
            GroupRecord::OffsetDeleted {
                group,
                topic,
                partition,
            } => (Key::Offset(group.clone(), topic.clone(), *partition), None),
        };
        (bytes_of(&key), value.as_ref().map(bytes_of))
    }

    /// Reads back what [`GroupRecord::encode`] wrote, in this version or an older one.
    ///
    /// # Errors
    /// [`RecordError`]; the bytes passed the journal's checksum, so this is no bit rot
    /// but a journal of a newer version.
    pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<GroupRecord, RecordError> {
        let malformed = |error: postcard::Error| RecordError::Malformed(error.to_string());
        let key = postcard::from_bytes(key.ok_or(RecordError::NoKey)?).map_err(malformed)?;
        let value = value
            .map(postcard::from_bytes)
            .transpose()
            .map_err(malformed)?;
        match (key, value) {
            (Key::Group(group), Some(Value::Generation(generation))) => {
                Ok(GroupRecord::Generation { group, generation })
            }
            (Key::Group(group), None) => Ok(GroupRecord::GroupDeleted { group }),
            (Key::Offset(group, topic, partition), Some(Value::Offset(offset))) => {
                Ok(GroupRecord::OffsetCommitted {
                    group,
                    topic,
                    partition,
                    offset,
                })
            }
            (Key::Offset(group, topic, partition), None) => Ok(GroupRecord::OffsetDeleted {
                group,
                topic,
                partition,
            }),
            (Key::Group(_), Some(Value::Offset(_)))
            | (Key::Offset(..), Some(Value::Generation(_))) => Err(RecordError::Mismatch),
        }
    }
}

fn bytes_of<T: Serialize>(value: &T) -> Bytes {
    // Serializing these plain types into memory cannot fail.
    postcard::to_stdvec(value)
        .map(Bytes::from)
        .unwrap_or_default()
}
