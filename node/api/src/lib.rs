//! The waist: the only way from a wire protocol to the log, the groups and the cluster.
//!
//! Fronts know no nodes, no partitions' replicas and no storage. Where a call needs
//! another node the error says who ([`NotLeader`]); the client is redirected.

pub mod admin;
pub mod cluster;
pub mod console;
pub mod contract;
pub mod error;
pub mod fake;
pub mod front;
pub mod group;
pub mod log;
pub mod metrics;
pub mod outgoing;
pub mod queue;
pub mod records;

use std::sync::Arc;

pub use admin::{AdminApi, AdminError, NewTopic};
pub use cluster::ClusterApi;
pub use error::{AppendError, NotLeader, ReadError};
pub use front::{Front, FrontContext};
pub use group::{Coordinator, GroupApi, GroupCallError};
pub use log::{Acks, Appended, LogApi};
pub use metrics::{Metrics, MetricsSource};
pub use queue::{QueueApi, QueueCallError};
pub use weir_base::image;
pub use weir_coordinator as groups;
pub use weir_queue as queues;

/// Everything a front may call; one object of the broker implements all of it.
#[derive(Clone)]
pub struct Api {
    /// Append, read, offsets.
    pub log: Arc<dyn LogApi>,
    /// Consumer groups.
    pub groups: Arc<dyn GroupApi>,
    /// Queues: per-message delivery, delays, half messages.
    pub queues: Arc<dyn QueueApi>,
    /// Topics, configs, reassignments.
    pub admin: Arc<dyn AdminApi>,
    /// The cluster image and this node's place in it.
    pub cluster: Arc<dyn ClusterApi>,
}
