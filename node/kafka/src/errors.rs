//! Weir's errors in Kafka's words: one exhaustive map an enum, never with `_`, so that
//! a new error breaks the build here and not a client there.

use kafka_protocol::ResponseError;
use weir_api::groups::GroupError;
use weir_api::{AdminError, AppendError, GroupCallError, ReadError};
use weir_base::BatchError;

/// The code of success.
pub(crate) const NONE: i16 = 0;

/// A failed append.
pub(crate) fn append(error: &AppendError) -> ResponseError {
    match error {
        AppendError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        AppendError::NotLeader(_) | AppendError::LeadershipLost(_) => {
            ResponseError::NotLeaderOrFollower
        }
        // Overload means that nothing was appended and that trying again helps. Every
        // producer takes this code so; a throttling one is final to librdkafka, and a
        // timeout would leave it open whether the batch is there.
        AppendError::NotEnoughReplicas { .. } | AppendError::Overloaded => {
            ResponseError::NotEnoughReplicas
        }
        AppendError::NotEnoughReplicasAfterAppend { .. } => {
            ResponseError::NotEnoughReplicasAfterAppend
        }
        AppendError::TimedOut(_) | AppendError::Unanswered(_) => ResponseError::RequestTimedOut,
        AppendError::Batch(error) => batch(error),
        AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
        AppendError::Timestamp { .. } => ResponseError::InvalidTimestamp,
        AppendError::InvalidRecord(_) => ResponseError::InvalidRecord,
        // The producer hears at once, with the message; a code to be repeated would keep it
        // waiting until its delivery timeout.
        AppendError::QueueFull { .. } => ResponseError::PolicyViolation,
        AppendError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        AppendError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        AppendError::UnknownProducer => ResponseError::UnknownProducerId,
        AppendError::DiskFull | AppendError::Storage => ResponseError::KafkaStorageError,
    }
}

/// A malformed record batch.
pub(crate) fn batch(error: &BatchError) -> ResponseError {
    match error {
        BatchError::Truncated { .. }
        | BatchError::Length { .. }
        | BatchError::Checksum { .. }
        | BatchError::Count { .. }
        | BatchError::Record { .. }
        | BatchError::Decompress => ResponseError::CorruptMessage,
        // Java's producer halves a batch of several records and tries again.
        BatchError::Expands { .. } => ResponseError::MessageTooLarge,
        BatchError::Magic { .. } | BatchError::Trailing { .. } => ResponseError::InvalidRecord,
        BatchError::Codec { .. } => ResponseError::UnsupportedCompressionType,
    }
}

/// A failed read or offset query.
pub(crate) fn read(error: &ReadError) -> ResponseError {
    match error {
        ReadError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        ReadError::NotLeader(_) => ResponseError::NotLeaderOrFollower,
        ReadError::FencedEpoch(_) => ResponseError::FencedLeaderEpoch,
        ReadError::UnknownEpoch => ResponseError::UnknownLeaderEpoch,
        ReadError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::NotReady => ResponseError::OffsetNotAvailable,
        ReadError::Storage => ResponseError::KafkaStorageError,
    }
}

/// A refused change of the cluster.
pub(crate) fn admin(error: &AdminError) -> ResponseError {
    match error {
        AdminError::TopicExists(_) => ResponseError::TopicAlreadyExists,
        AdminError::UnknownTopic(_) => ResponseError::UnknownTopicOrPartition,
        AdminError::UnknownTopicId(_) => ResponseError::UnknownTopicId,
        AdminError::InvalidTopicName(_) => ResponseError::InvalidTopicException,
        AdminError::InvalidPartitions(_) => ResponseError::InvalidPartitions,
        AdminError::InvalidReplicationFactor(_) => ResponseError::InvalidReplicationFactor,
        AdminError::InvalidAssignment(_) => ResponseError::InvalidReplicaAssignment,
        AdminError::InvalidConfig(_) => ResponseError::InvalidConfig,
        AdminError::InvalidRequest(_) => ResponseError::InvalidRequest,
        AdminError::NoReassignment => ResponseError::NoReassignmentInProgress,
        AdminError::PreferredLeaderNotAvailable => ResponseError::PreferredLeaderNotAvailable,
        AdminError::ElectionNotNeeded => ResponseError::ElectionNotNeeded,
        AdminError::Unavailable(_) => ResponseError::NotController,
        AdminError::TimedOut(_) => ResponseError::RequestTimedOut,
    }
}

/// A group call that did not happen, or was refused.
pub(crate) fn group_call(error: &GroupCallError) -> ResponseError {
    match error {
        // An unknown outcome sends the client to the new coordinator, where it repeats.
        GroupCallError::NotCoordinator | GroupCallError::Indeterminate => {
            ResponseError::NotCoordinator
        }
        GroupCallError::NotAvailable => ResponseError::CoordinatorNotAvailable,
        GroupCallError::Loading => ResponseError::CoordinatorLoadInProgress,
        GroupCallError::Group(error) => group(error),
    }
}

/// A group's refusal.
pub(crate) fn group(error: &GroupError) -> ResponseError {
    match error {
        GroupError::InvalidGroupId => ResponseError::InvalidGroupId,
        GroupError::MemberIdRequired(_) => ResponseError::MemberIdRequired,
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout { .. } => ResponseError::InvalidSessionTimeout,
        GroupError::GroupFull => ResponseError::GroupMaxSizeReached,
        GroupError::NotEmpty => ResponseError::NonEmptyGroup,
        GroupError::NoSuchGroup => ResponseError::GroupIdNotFound,
        GroupError::Subscribed => ResponseError::GroupSubscribedToTopic,
        GroupError::MetadataTooLong => ResponseError::OffsetMetadataTooLarge,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_api::NotLeader;
    use weir_base::{LeaderEpoch, WriteOutcome};

    use super::*;

    #[test]
    fn an_unknown_outcome_has_a_code_that_producers_retry() {
        let elsewhere = NotLeader {
            leader: None,
            epoch: LeaderEpoch(1),
        };
        let (isr, min_isr) = (1, 2);
        let all = [
            AppendError::UnknownPartition,
            AppendError::NotLeader(elsewhere),
            AppendError::LeadershipLost(elsewhere),
            AppendError::NotEnoughReplicas { isr, min_isr },
            AppendError::NotEnoughReplicasAfterAppend { isr, min_isr },
            AppendError::TimedOut(Duration::ZERO),
            AppendError::Unanswered(weir_base::NodeId(2)),
            AppendError::Batch(BatchError::Magic { magic: 1 }),
            AppendError::TooLarge { size: 2, max: 1 },
            AppendError::Timestamp { timestamp: 0 },
            AppendError::InvalidRecord("why".into()),
            AppendError::OutOfOrderSequence {
                sequence: 2,
                expected: 1,
            },
            AppendError::ProducerFenced,
            AppendError::UnknownProducer,
            AppendError::DiskFull,
            AppendError::Storage,
            AppendError::Overloaded,
            AppendError::QueueFull {
                group: "g".to_owned(),
                messages_max: 1,
            },
        ];
        for error in all {
            if error.outcome() == WriteOutcome::Indeterminate {
                assert!(append(&error).is_retriable(), "{error}");
            }
        }
    }
}
