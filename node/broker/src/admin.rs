//! Admin calls: the waist's words to the metadata group's, and back.

use std::time::Duration;

use weir_api::admin::{
    AdminApi, AdminError, ConfigChange, ConfigEntry, ConfigResource, NamedPartition, NewTopic,
};
use weir_base::{BoxFuture, NodeId, TopicId, TopicPartition};
use weir_metadata::command::Refusal;
use weir_metadata::topic_options::{self, CLUSTER_OPTIONS, TOPIC_OPTIONS};
use weir_metadata::{ConfigOp, MetadataError};

use crate::Broker;

/// How long calls that carry no time-out of their own wait for the controller.
const PATIENCE: Duration = Duration::from_secs(30);

impl AdminApi for Broker {
    fn create_topic(
        &self,
        topic: NewTopic,
        validate_only: bool,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<TopicId, AdminError>> {
        let metadata = self.0.metadata.clone();
        let topic = weir_metadata::NewTopic {
            name: topic.name,
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            assignment: topic.assignment,
            configs: topic.configs,
            internal: topic.internal,
        };
        Box::pin(async move {
            let made = metadata.create_topic(topic, validate_only, timeout).await;
            made.map_err(admin_error)
        })
    }

    fn delete_topic(
        &self,
        topic: TopicId,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let metadata = self.0.metadata.clone();
        Box::pin(async move {
            metadata
                .delete_topic(topic, timeout)
                .await
                .map_err(admin_error)
        })
    }

    fn create_partitions(
        &self,
        topic: String,
        total: u32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let metadata = self.0.metadata.clone();
        Box::pin(async move {
            metadata
                .create_partitions(topic, total, assignment, validate_only, timeout)
                .await
                .map_err(admin_error)
        })
    }

    fn alter_configs(
        &self,
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let metadata = self.0.metadata.clone();
        let resource = match resource {
            ConfigResource::Topic(name) => weir_metadata::ConfigResource::Topic(name),
            ConfigResource::Cluster => weir_metadata::ConfigResource::Cluster,
        };
        let changes = changes.into_iter().map(config_change).collect();
        Box::pin(async move {
            metadata
                .alter_configs(resource, changes, replace, validate_only, PATIENCE)
                .await
                .map_err(admin_error)
        })
    }

    fn configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, AdminError> {
        let image = self.0.metadata.image();
        let entry =
            |option: &'static topic_options::ConfigOption, value: &str, is_set| ConfigEntry {
                key: option.key.to_owned(),
                value: value.to_owned(),
                is_set,
                kind: option.kind as i8,
                read_only: matches!(option.rule, topic_options::Rule::Fixed(_)),
                documentation: option.documentation,
            };
        match resource {
            ConfigResource::Cluster => Ok(CLUSTER_OPTIONS
                .iter()
                .map(|option| {
                    let set = image.configs.get(option.key);
                    entry(
                        option,
                        set.map_or(option.default, String::as_str),
                        set.is_some(),
                    )
                })
                .collect()),
            ConfigResource::Topic(name) => {
                let topic = image
                    .topics
                    .get(name.as_str())
                    .ok_or_else(|| AdminError::UnknownTopic(name.clone()))?;
                Ok(TOPIC_OPTIONS
                    .iter()
                    .map(|option| {
                        let value = topic_options::value(option, &image.configs, &topic.configs);
                        entry(option, value, topic.configs.contains_key(option.key))
                    })
                    .collect())
            }
        }
    }

    fn elect_preferred(
        &self,
        partition: NamedPartition,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let metadata = self.0.metadata.clone();
        let at = self.named(&partition);
        Box::pin(async move {
            metadata
                .elect_preferred(at?, PATIENCE)
                .await
                .map_err(admin_error)
        })
    }

    fn reassign(
        &self,
        partition: NamedPartition,
        replicas: Option<Vec<NodeId>>,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let metadata = self.0.metadata.clone();
        let at = self.named(&partition);
        Box::pin(async move {
            metadata
                .reassign(at?, replicas, PATIENCE)
                .await
                .map_err(admin_error)
        })
    }
}

impl Broker {
    fn named(&self, partition: &NamedPartition) -> Result<TopicPartition, AdminError> {
        let image = self.0.metadata.image();
        let unknown = || AdminError::UnknownTopic(partition.topic.clone());
        let topic = image
            .topics
            .get(partition.topic.as_str())
            .ok_or_else(unknown)?;
        let at = TopicPartition::new(topic.id, partition.partition);
        image.partition(at).map(|_| at).ok_or_else(unknown)
    }
}

fn config_change(change: ConfigChange) -> weir_metadata::ConfigChange {
    let (key, op) = match change {
        ConfigChange::Set { key, value } => (key, ConfigOp::Set(value)),
        ConfigChange::Delete { key } => (key, ConfigOp::Delete),
        ConfigChange::Append { key, value } => (key, ConfigOp::Append(value)),
        ConfigChange::Subtract { key, value } => (key, ConfigOp::Subtract(value)),
    };
    weir_metadata::ConfigChange { key, op }
}

fn admin_error(error: MetadataError) -> AdminError {
    match error {
        MetadataError::Refused(refusal) => refused(refusal),
        MetadataError::Unavailable(detail) | MetadataError::Start(detail) => {
            AdminError::Unavailable(detail)
        }
        MetadataError::TimedOut(after) => AdminError::TimedOut(after),
    }
}

fn refused(refusal: Refusal) -> AdminError {
    let text = refusal.to_string();
    match refusal {
        Refusal::TopicExists(name) => AdminError::TopicExists(name),
        Refusal::UnknownTopic(name) => AdminError::UnknownTopic(name),
        Refusal::UnknownTopicId(id) => AdminError::UnknownTopicId(id),
        Refusal::InvalidTopicName(name) => AdminError::InvalidTopicName(name),
        Refusal::InvalidPartitions(detail) => AdminError::InvalidPartitions(detail),
        Refusal::InvalidReplicationFactor(detail) => AdminError::InvalidReplicationFactor(detail),
        Refusal::InvalidAssignment(detail) => AdminError::InvalidAssignment(detail),
        Refusal::InvalidConfig(detail) => AdminError::InvalidConfig(detail),
        Refusal::InvalidRequest(detail) => AdminError::InvalidRequest(detail),
        Refusal::NoReassignment => AdminError::NoReassignment,
        Refusal::PreferredLeaderNotAvailable => AdminError::PreferredLeaderNotAvailable,
        Refusal::ElectionNotNeeded => AdminError::ElectionNotNeeded,
        Refusal::AlreadyFormed(_)
        | Refusal::StorageMismatch { .. }
        | Refusal::UnknownNode(_)
        | Refusal::StaleNodeEpoch { .. }
        | Refusal::UnknownPartition(_)
        | Refusal::StalePartitionEpoch { .. }
        | Refusal::StaleLeaderEpoch { .. }
        | Refusal::NotLeader { .. }
        | Refusal::IneligibleReplica { .. }
        | Refusal::ReassignmentNotReady(_)
        | Refusal::VersionConflict { .. }
        | Refusal::LastCopy { .. }
        | Refusal::NoReplica { .. }
        | Refusal::Breaks { .. } => AdminError::InvalidRequest(text),
    }
}
