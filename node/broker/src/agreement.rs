//! Carries replication's proposals and troubles to the metadata group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_base::image::PartitionRecord;
use weir_base::{BoxFuture, FaultClass, LeaderEpoch, NodeId, TopicPartition};
use weir_metadata::command::Refusal;
use weir_metadata::{Metadata, MetadataError};
use weir_replication::{IsrAgreement, IsrChange, IsrRefusal, ReplicaEvent};

use crate::cut::CutKeeper;
use crate::resigning::Resigning;

/// Replication's way to the controller.
pub(crate) struct Agreement {
    pub(crate) metadata: Metadata,
    pub(crate) resigning: Resigning,
    pub(crate) cut: CutKeeper,
    pub(crate) changes: Arc<IsrChanges>,
}

/// How often an ISR changed on this node's word.
#[derive(Debug, Default)]
pub(crate) struct IsrChanges {
    pub(crate) shrinks: AtomicU64,
    pub(crate) expands: AtomicU64,
}

impl IsrAgreement for Agreement {
    fn propose(
        &self,
        change: IsrChange,
    ) -> BoxFuture<'static, Result<PartitionRecord, IsrRefusal>> {
        let metadata = self.metadata.clone();
        let changes = Arc::clone(&self.changes);
        Box::pin(async move {
            let leader = change.leader;
            let refusal = |error| refusal(error, leader);
            if change.durability.is_some() {
                let ready = metadata.durability_ready(change.at, change.partition_epoch);
                return ready.await.map_err(refusal);
            }
            let proposal = weir_metadata::IsrChange {
                at: change.at,
                leader_epoch: change.leader_epoch,
                partition_epoch: change.partition_epoch,
                isr: change.isr,
            };
            let image = metadata.image();
            let before = image.partition(proposal.at).map_or(0, |of| of.isr.len());
            let agreed = metadata.alter_partition(proposal).await.map_err(refusal)?;
            if agreed.isr.len() < before {
                changes.shrinks.fetch_add(1, Ordering::Relaxed);
            } else {
                changes.expands.fetch_add(1, Ordering::Relaxed);
            }
            Ok(agreed)
        })
    }

    fn on_event(&self, event: ReplicaEvent) {
        match event {
            ReplicaEvent::Failed { at, error } => {
                tracing::error!(partition = %at, %error, "replica failed");
                // A dead data directory stops the whole node, which moves all its leaders.
                assert!(
                    error.class() != FaultClass::DiskLost,
                    "the data directory failed and holds every replica of this node: {error}"
                );
                if error.class() == FaultClass::Quarantine {
                    self.resigning.replica(at, &error);
                }
            }
            ReplicaEvent::LeadershipRefused { at, epoch } => {
                tracing::warn!(partition = %at, %epoch, "leadership refused after a restart");
                self.resigning.leadership(at, epoch);
            }
            ReplicaEvent::AcknowledgedCut {
                at,
                from,
                offsets,
                batches,
            } => {
                let bytes: usize = batches.iter().map(bytes::Bytes::len).sum();
                tracing::error!(
                    partition = %at, %from, offsets, bytes,
                    "a fail-over under async replication cut records that may have been acknowledged"
                );
                self.cut.save(at, from, batches);
            }
        }
    }

    fn leader_epoch(&self, at: TopicPartition) -> Option<LeaderEpoch> {
        let image = self.metadata.image();
        image.partition(at).map(|record| record.leader_epoch)
    }
}

fn refusal(error: MetadataError, leader: NodeId) -> IsrRefusal {
    match error {
        MetadataError::Refused(
            Refusal::StalePartitionEpoch { .. }
            | Refusal::StaleLeaderEpoch { .. }
            | Refusal::NotLeader { .. }
            | Refusal::UnknownPartition(_),
        ) => IsrRefusal::Stale,
        MetadataError::Refused(Refusal::StaleNodeEpoch { id, .. }) if id == leader => {
            IsrRefusal::Stale
        }
        MetadataError::Refused(other) => IsrRefusal::Ineligible(other.to_string()),
        MetadataError::Unavailable(detail) | MetadataError::Start(detail) => {
            IsrRefusal::Unanswered(detail)
        }
        MetadataError::TimedOut(after) => IsrRefusal::Unanswered(format!("within {after:?}")),
    }
}
