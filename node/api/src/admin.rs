//! Changes to the cluster. Each is one command to the metadata group and is answered
//! when it is committed and applied on this node.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;
use weir_base::{BoxFuture, NodeId, TopicId};

/// A topic to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` for the cluster's default.
    pub partitions: Option<u32>,
    /// Replicas of each; `None` for the cluster's default (capped by the node count).
    pub replication_factor: Option<u16>,
    /// Instead of both: the nodes of each partition, preferred leader first.
    pub assignment: Option<Vec<Vec<NodeId>>>,
    /// Topic configs, by Kafka name (`retention.ms`) or Weir's (`weir.flush`).
    pub configs: BTreeMap<String, String>,
    /// Made by Weir for itself.
    pub internal: bool,
}

/// What configs are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic's.
    Topic(String),
    /// All nodes'.
    Cluster,
}

/// One change of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum ConfigChange {
    Set { key: String, value: String },
    Delete { key: String },
    Append { key: String, value: String },
    Subtract { key: String, value: String },
}

/// A config with its default, for describing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub key: String,
    /// Its value in force.
    pub value: String,
    /// Whether it was set, and not the default.
    pub is_set: bool,
    /// Its type, Kafka's number (1 bool, 2 string, 3 int, 5 long, 6 double, 7 list).
    pub kind: i8,
    /// Whether it can be changed.
    pub read_only: bool,
    /// One line on what it does.
    pub documentation: &'static str,
}

/// Why a change was refused or is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AdminError {
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    #[error("topic '{0}' does not exist")]
    UnknownTopic(String),
    #[error("no topic has id {0}")]
    UnknownTopicId(TopicId),
    #[error("'{0}' is not a legal topic name: 1 to 249 of [a-zA-Z0-9._-]")]
    InvalidTopicName(String),
    #[error("invalid number of partitions: {0}")]
    InvalidPartitions(String),
    #[error("invalid replication factor: {0}")]
    InvalidReplicationFactor(String),
    #[error("invalid replica assignment: {0}")]
    InvalidAssignment(String),
    #[error("invalid config: {0}")]
    InvalidConfig(String),
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    #[error("no reassignment is in progress")]
    NoReassignment,
    #[error("the preferred leader is not available")]
    PreferredLeaderNotAvailable,
    #[error("the preferred leader leads already")]
    ElectionNotNeeded,
    /// Definitely not done.
    #[error("no metadata leader can be reached: {0}")]
    Unavailable(String),
    /// May have been done.
    #[error("not committed within {0:?}; it may still be")]
    TimedOut(Duration),
}

/// A partition by topic name, as admins write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPartition {
    /// Topic name.
    pub topic: String,
    /// Partition.
    pub partition: u32,
}

/// Changes and descriptions for admins.
pub trait AdminApi: Send + Sync {
    /// Makes a topic; with `validate_only` checks alone. Gives its id.
    fn create_topic(
        &self,
        topic: NewTopic,
        validate_only: bool,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<TopicId, AdminError>>;

    /// Deletes a topic.
    fn delete_topic(
        &self,
        topic: TopicId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AdminError>>;

    /// Grows a topic to `total` partitions; `assignment` places the new ones.
    fn create_partitions(
        &self,
        topic: String,
        total: u32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AdminError>>;

    /// Changes configs, all or none; `replace` first removes all that were set.
    fn alter_configs(
        &self,
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> BoxFuture<'static, Result<(), AdminError>>;

    /// All configs of a resource, set or default.
    fn configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, AdminError>;

    /// Makes the preferred replica lead.
    fn elect_preferred(
        &self,
        partition: NamedPartition,
    ) -> BoxFuture<'static, Result<(), AdminError>>;

    /// Moves a partition to `replicas` (`None` cancels a move under way).
    fn reassign(
        &self,
        partition: NamedPartition,
        replicas: Option<Vec<NodeId>>,
    ) -> BoxFuture<'static, Result<(), AdminError>>;
}
