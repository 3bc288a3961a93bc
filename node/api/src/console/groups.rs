//! Consumer groups and what they committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A line of `GET /v1/groups`: groups that the answering node coordinates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupLine {
    /// Its id.
    pub group: String,
    /// Kafka's word: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`.
    pub state: String,
    /// `consumer`, `connect`, ...; empty for a group that only commits.
    pub protocol_type: String,
    /// The node that coordinates it.
    pub coordinator: u32,
}

/// `GET /v1/groups/{group}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its id.
    pub group: String,
    /// Kafka's word.
    pub state: String,
    /// Its protocol type.
    pub protocol_type: String,
    /// The assignor chosen.
    pub protocol: String,
    /// The node that coordinates it.
    pub coordinator: u32,
    /// Its members.
    pub members: Vec<GroupMemberView>,
    /// What it committed.
    pub offsets: Vec<CommittedView>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberView {
    /// Its id.
    pub member: String,
    /// Its static id.
    pub instance: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its partitions by topic; none if they are not in Kafka's consumer format.
    pub assignment: Option<BTreeMap<String, Vec<u32>>>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedView {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to be consumed.
    pub offset: u64,
    /// The client's note.
    pub metadata: String,
    /// When it was committed.
    pub at: i64,
    /// High watermark; none if the answering node does not lead the partition.
    pub end: Option<u64>,
}

/// `POST /v1/groups/{group}/offsets`: commits in the place of an empty group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetOffsets {
    /// What to commit.
    pub offsets: Vec<ResetOffset>,
    /// Only check.
    #[serde(default)]
    pub dry_run: bool,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to be consumed.
    pub offset: u64,
}
