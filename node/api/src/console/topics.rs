//! Topics and their partitions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A line of `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicLine {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Made by Weir for itself.
    pub internal: bool,
    /// Its partitions.
    pub partitions: usize,
    /// Replicas of its first partition.
    pub replication_factor: usize,
    /// `sync` or `async`.
    pub flush: String,
    /// `sync` or `async`.
    pub replication: String,
    /// Partitions that nobody leads.
    pub leaderless: usize,
    /// Partitions whose ISR is smaller than their replicas.
    pub under_replicated: usize,
}

/// `POST /v1/topics`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// Partitions; the cluster's default if not told.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Replicas; the cluster's default if not told.
    #[serde(default)]
    pub replication_factor: Option<u16>,
    /// Instead of both: the nodes of each partition, preferred leader first.
    #[serde(default)]
    pub assignment: Option<Vec<Vec<u32>>>,
    /// Topic configs.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Only check.
    #[serde(default)]
    pub validate_only: bool,
}

/// `PATCH /v1/topics/{name}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlterTopic {
    /// The number of partitions to grow to.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Configs to set.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Configs to return to their defaults.
    #[serde(default)]
    pub unset: Vec<String>,
    /// Only check.
    #[serde(default)]
    pub validate_only: bool,
}

/// `GET /v1/topics/{name}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Made by Weir for itself.
    pub internal: bool,
    /// All its configs.
    pub configs: Vec<ConfigView>,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionView>,
}

/// A config in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether it was set, and not the default.
    pub is_set: bool,
    /// What it does.
    pub documentation: String,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its index.
    pub partition: u32,
    /// Its leader.
    pub leader: Option<u32>,
    /// The leader's epoch.
    pub leader_epoch: u32,
    /// Nodes with a replica, preferred leader first.
    pub replicas: Vec<u32>,
    /// In-sync replicas.
    pub isr: Vec<u32>,
    /// Eligible leaders outside the ISR.
    pub elr: Vec<u32>,
    /// Being added.
    pub adding: Vec<u32>,
    /// Being removed.
    pub removing: Vec<u32>,
    /// ISR size below which writes are refused.
    pub min_isr: u32,
    /// `sync` or `async`.
    pub flush: String,
    /// `sync` or `async`.
    pub replication: String,
    /// Its offsets; none if the answering node does not lead it.
    pub offsets: Option<OffsetsView>,
}

/// A partition's ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsView {
    /// First retained.
    pub log_start: u64,
    /// End of what is committed.
    pub high_watermark: u64,
}

/// `GET /v1/topics/{name}/offsets?at=earliest|latest|<milliseconds>`: for each partition
/// that the answering node leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundOffsets {
    /// The topic.
    pub topic: String,
    /// Offsets by partition; for a time, the high watermark if no record is as young.
    pub offsets: BTreeMap<u32, u64>,
}
