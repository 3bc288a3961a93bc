//! Changes that admins and leaders ask for. Each is answered when it is committed and
//! applied here.

use std::ops::Range;
use std::time::Duration;

use weir_base::image::PartitionRecord;
use weir_base::{LeaderEpoch, NodeEpoch, NodeId, PartitionEpoch, TopicId, TopicPartition};

use super::{AlterRefused, Metadata, MetadataError};
use crate::ask::{Ask, ConfigChange, ConfigResource, LogEnd, NewTopic, Resignation};
use crate::command::{IsrProposal, Outcome, Refusal};

/// How long calls without a timeout of their own are tried.
const PATIENCE: Duration = Duration::from_secs(5);
/// Producer ids taken at once: one entry of the metadata log for so many producers.
const PRODUCER_IDS: u32 = 1000;

/// A leader's wish for an ISR; its own id and epoch are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrChange {
    /// The partition.
    pub at: TopicPartition,
    /// The epoch it leads in.
    pub leader_epoch: LeaderEpoch,
    /// The record it means to change.
    pub partition_epoch: PartitionEpoch,
    /// The whole new ISR, each with the boot that was seen caught up.
    pub isr: Vec<(NodeId, NodeEpoch)>,
}

impl Metadata {
    /// Makes a topic; with `validate_only` checks alone. Gives its id.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn create_topic(
        &self,
        topic: NewTopic,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<TopicId, MetadataError> {
        let ask = Ask::CreateTopic {
            topic,
            validate_only,
        };
        let outcome = self.ask(ask, timeout).await?;
        if let Outcome::Topic(id) = outcome {
            Ok(id)
        } else {
            Err(unexpected(&outcome))
        }
    }

    /// Deletes a topic; done if it does not exist.
    ///
    /// # Errors
    /// As [`MetadataError`] says; [`Refusal::UnknownTopicId`] if this node knows of none.
    pub async fn delete_topic(&self, id: TopicId, timeout: Duration) -> Result<(), MetadataError> {
        if !self.image().topic_names.contains_key(&id) {
            return Err(Refusal::UnknownTopicId(id).into());
        }
        self.ask(Ask::DeleteTopic(id), timeout).await.map(drop)
    }

    /// Grows a topic to `total` partitions; `assignment` places the new ones.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn create_partitions(
        &self,
        topic: String,
        total: u32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<(), MetadataError> {
        let ask = Ask::CreatePartitions {
            topic,
            total,
            assignment,
            validate_only,
        };
        self.ask(ask, timeout).await.map(drop)
    }

    /// Changes configs, all or none; `replace` first removes all that were set.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn alter_configs(
        &self,
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<(), MetadataError> {
        let ask = Ask::AlterConfigs {
            resource,
            changes,
            replace,
            validate_only,
        };
        self.ask(ask, timeout).await.map(drop)
    }

    /// Makes the preferred replica lead.
    ///
    /// # Errors
    /// [`Refusal::ElectionNotNeeded`], [`Refusal::PreferredLeaderNotAvailable`], or as
    /// [`MetadataError`] says.
    pub async fn elect_preferred(
        &self,
        at: TopicPartition,
        timeout: Duration,
    ) -> Result<(), MetadataError> {
        self.ask(Ask::ElectPreferred(at), timeout).await.map(drop)
    }

    /// Moves a partition to `target`, preferred leader first (`None` gives a move up).
    /// Returns when the move has begun; the image tells when it is done.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn reassign(
        &self,
        at: TopicPartition,
        target: Option<Vec<NodeId>>,
        timeout: Duration,
    ) -> Result<(), MetadataError> {
        self.ask(Ask::Reassign { at, target }, timeout)
            .await
            .map(drop)
    }

    /// Proposes an ISR for a partition that this node leads. Gives its new record.
    ///
    /// # Errors
    /// [`MetadataError::Refused`] if an epoch is stale or a member not eligible; until
    /// the answer is known the leader keeps its maximal ISR.
    pub async fn alter_partition(
        &self,
        change: IsrChange,
    ) -> Result<PartitionRecord, AlterRefused> {
        let proposal = IsrProposal {
            at: change.at,
            leader: self.inner().me.id,
            node_epoch: self.epoch()?,
            leader_epoch: change.leader_epoch,
            partition_epoch: change.partition_epoch,
            isr: change.isr,
        };
        partition(self.ask(Ask::AlterPartition(proposal), PATIENCE).await?)
    }

    /// Gives up this node's copy of a partition, or its leadership. Done if it has been
    /// given up already, or the partition is not placed here. What became of it is in
    /// the image: a copy that was given up has a new identity there, in neither ISR nor ELR.
    ///
    /// # Errors
    /// [`Refusal::LastCopy`] if nobody else may hold all that was acknowledged: nothing
    /// was changed, and asking again helps only once the record has changed. Else as
    /// [`MetadataError`] says.
    pub async fn resign(&self, at: TopicPartition, what: Resignation) -> Result<(), MetadataError> {
        let ask = Ask::Resign {
            at,
            node: self.inner().me.id,
            epoch: self.epoch()?,
            what,
        };
        match self.ask(ask, PATIENCE).await {
            Ok(_)
            | Err(MetadataError::Refused(
                Refusal::UnknownPartition(_) | Refusal::UnknownTopicId(_),
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells where this node's copies end of partitions that nobody leads and only suspects
    /// could. Whom that makes a leader is in the image. Tell again until there is one: what
    /// was told dies with the controller.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn tell_log_ends(&self, ends: Vec<LogEnd>) -> Result<(), MetadataError> {
        let ask = Ask::LogEnds {
            node: self.inner().me.id,
            epoch: self.epoch()?,
            ends,
        };
        self.ask(ask, PATIENCE).await.map(drop)
    }

    /// Tells that the flush barrier of a pending durability passed: every ISR member's
    /// durable end reached what was the log's end. Gives the partition's new record.
    ///
    /// # Errors
    /// As [`MetadataError`] says.
    pub async fn durability_ready(
        &self,
        at: TopicPartition,
        partition_epoch: PartitionEpoch,
    ) -> Result<PartitionRecord, MetadataError> {
        let ask = Ask::DurabilityReady {
            at,
            partition_epoch,
        };
        partition(self.ask(ask, PATIENCE).await?)
    }

    /// A block of producer ids that nobody else gets.
    ///
    /// # Errors
    /// As [`MetadataError`] says; a block may then be lost, which harms nobody.
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, MetadataError> {
        let outcome = self.ask(Ask::ProducerIds(PRODUCER_IDS), PATIENCE).await?;
        if let Outcome::ProducerIds(first, end) = outcome {
            Ok(first..end)
        } else {
            Err(unexpected(&outcome))
        }
    }

    /// Writes a document if its version is still the expected one (`None`: if it does
    /// not exist). Gives its new version.
    ///
    /// # Errors
    /// [`Refusal::VersionConflict`], or as [`MetadataError`] says.
    pub async fn put_document(
        &self,
        key: String,
        expected: Option<u64>,
        value: Vec<u8>,
        timeout: Duration,
    ) -> Result<u64, MetadataError> {
        let ask = Ask::PutDocument {
            key,
            expected,
            value,
        };
        let outcome = self.ask(ask, timeout).await?;
        if let Outcome::Document(version) = outcome {
            Ok(version)
        } else {
            Err(unexpected(&outcome))
        }
    }

    /// Deletes a document if its version is still the expected one.
    ///
    /// # Errors
    /// [`Refusal::VersionConflict`], or as [`MetadataError`] says.
    pub async fn delete_document(
        &self,
        key: String,
        expected: u64,
        timeout: Duration,
    ) -> Result<(), MetadataError> {
        self.ask(Ask::DeleteDocument { key, expected }, timeout)
            .await
            .map(drop)
    }

    pub(super) fn epoch(&self) -> Result<NodeEpoch, MetadataError> {
        let not_yet = || MetadataError::Unavailable("this node is not registered".to_owned());
        (*self.inner().epoch.borrow()).ok_or_else(not_yet)
    }
}

fn partition(outcome: Outcome) -> Result<PartitionRecord, MetadataError> {
    if let Outcome::Partition(record) = outcome {
        Ok(*record)
    } else {
        Err(unexpected(&outcome))
    }
}

/// A controller of another mind: its answer is not to the question. What it did is not
/// known.
fn unexpected(outcome: &Outcome) -> MetadataError {
    tracing::error!(?outcome, "the controller answered another question");
    MetadataError::TimedOut(Duration::ZERO)
}
