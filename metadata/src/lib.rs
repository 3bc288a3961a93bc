//! The cluster's metadata: what the nodes agree on, and who decides it.
//!
//! One Raft group (openraft) of one, three or five voters keeps a log of
//! [`command::Command`]s; every node applies the committed log to its
//! [`weir_base::ClusterImage`]. The leader of the group is the *controller*: it fences
//! silent nodes, elects partition leaders, places replicas. Gossip only suspects; Raft
//! decides. See `README.md` for the picture, the reading order and the failure table.

pub mod apply;
mod ask;
mod client;
pub mod command;
pub mod controller;
pub mod document;
mod feed;
mod gossip;
mod image_store;
pub mod invariants;
mod options;
mod probe;
mod raft;
mod service;
pub mod topic_options;

pub use ask::{ConfigChange, ConfigOp, ConfigResource, LogEnd, NewTopic, Resignation};
pub use client::{
    AlterRefused, Health, IsrChange, Metadata, MetadataError, NodeFacts, RaftProgress,
};
pub use command::{Refusal, StartKind};
pub use controller::slow::DiskFacts;
pub use options::MetadataOptions;

#[cfg(test)]
mod testing;
