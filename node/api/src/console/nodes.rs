//! Nodes: their health, the cluster that they are, and how a request fails.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Registered, active, its fronts listen, and every partition it knows has a leader.
    pub ready: bool,
    /// The node.
    pub node: u32,
    /// Why it is not ready, for people; empty if it is.
    pub reasons: Vec<String>,
}

/// The [`Problem::error`] of a node that is starting and has done nothing of what was asked.
pub const NOT_READY: &str = "not_ready";

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A word for programs, such as `unknown_topic`.
    pub error: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The admin address of the node that can answer, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
}

/// `GET /v1/cluster`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id; none before it is formed.
    pub cluster_id: Option<String>,
    /// How new the answering node's image is: an index of the metadata log.
    pub version: u64,
    /// The answering node.
    pub node: u32,
    /// The leader of the metadata group, if known.
    pub controller: Option<u32>,
    /// All nodes, by id.
    pub nodes: Vec<NodeView>,
    /// Topics, internal ones included.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Partitions that nobody leads.
    pub leaderless: usize,
    /// Partitions whose ISR is smaller than their replicas.
    pub under_replicated: usize,
    /// Partitions whose ISR is below min ISR: they take no writes.
    pub under_min_isr: usize,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `fenced`, `active` or `draining`.
    pub state: String,
    /// Its boot: the metadata log index of its registration.
    pub epoch: u64,
    /// Its rack.
    pub rack: Option<String>,
    /// Where other nodes reach it.
    pub peer: String,
    /// Where clients reach it, by front.
    pub endpoints: BTreeMap<String, String>,
    /// Partitions it leads.
    pub leads: usize,
    /// Partitions it has a replica of.
    pub replicas: usize,
}

/// The answer to a change that was made or, if it was asked, only checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, for people.
    pub message: String,
    /// The topic's id, when one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}
