//! The way of an append, and the rest of the data path's calls.

use std::time::Duration;

use weir_api::log::{
    Acks, ActiveProducer, Appended, FoundOffset, LogApi, OffsetQuery, Read, ReadOutcome,
};
use weir_api::{AppendError, NotLeader, ReadError};
use weir_base::{BoxFuture, LeaderEpoch, Offset, RecordBatch, TopicPartition};
use weir_replication::{AckLevel, AppendError as Failure, KnownLeader};
use weir_storage::SequenceError;

use crate::Broker;
use crate::read::read_error;

impl Broker {
    /// Appends to a replica that is held here, whatever its queues say.
    pub(crate) fn append_here(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let Some(partition) = self.0.replication.partition(to) else {
            let hint = self.leader_hint(to);
            let error = hint.map_or(AppendError::UnknownPartition, AppendError::NotLeader);
            return Box::pin(std::future::ready(Err(error)));
        };
        let header = batch.header();
        let level = match acks {
            Acks::None => AckLevel::None,
            Acks::Leader => AckLevel::Leader,
            // A queue forgets what it sent: under async replication too it must be where a
            // change of leader leaves it.
            Acks::All if header.is_idempotent() && header.producer_id.is_journal() => {
                AckLevel::Committed
            }
            Acks::All => AckLevel::All,
        };
        let max_timestamp = batch.header().max_timestamp;
        let stamped = batch.header().attributes.is_log_append_time();
        // Queued here, before the future is polled: calls keep their order.
        let appended = partition.append(batch, level, timeout);
        Box::pin(async move {
            let done = appended.await.map_err(|failure| {
                // What it knows of the producer may be history: who leads now knows more,
                // and a producer that believes it would send again what is stored (S-19).
                if matches!(failure, Failure::Sequence(_)) && !partition.may_answer() {
                    return AppendError::NotLeader(NotLeader {
                        leader: None,
                        epoch: partition.view().leader_epoch,
                    });
                }
                append_error(failure)
            })?;
            Ok(Appended {
                base: done.base,
                log_start: done.log_start,
                append_time: stamped.then_some(max_timestamp),
            })
        })
    }
}

impl LogApi for Broker {
    fn append(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        self.append_admitted(to, batch, acks, timeout, true)
    }

    fn append_forwarded(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        Box::pin(self.clone().forward_append(to, batch, acks, timeout, true))
    }

    fn read(&self, request: Read) -> BoxFuture<'static, Vec<ReadOutcome>> {
        Box::pin(self.clone().read_waiting(request))
    }

    fn offset(
        &self,
        at: TopicPartition,
        query: OffsetQuery,
        leader_epoch: Option<LeaderEpoch>,
    ) -> BoxFuture<'static, Result<FoundOffset, ReadError>> {
        let led = self.led(at, leader_epoch);
        Box::pin(async move {
            let (partition, view) = led?;
            // Ready, and by its lease still the only leader (I10).
            if !partition.may_answer() {
                return Err(ReadError::NotReady);
            }
            let (offset, timestamp) = match query {
                OffsetQuery::Earliest => (Some(view.log_start), None),
                OffsetQuery::Latest => (Some(view.high_watermark), None),
                OffsetQuery::MaxTimestamp => partition.newest_timestamp().unzip(),
                OffsetQuery::AtTime(timestamp) => partition
                    .offset_at_time(timestamp)
                    .await
                    .map_err(read_error)?
                    .unzip(),
            };
            Ok(FoundOffset {
                offset,
                timestamp,
                leader_epoch: view.leader_epoch,
            })
        })
    }

    fn end_of_epoch(
        &self,
        at: TopicPartition,
        asked: LeaderEpoch,
        leader_epoch: Option<LeaderEpoch>,
    ) -> BoxFuture<'static, Result<Option<(LeaderEpoch, Offset)>, ReadError>> {
        let found = self.led(at, leader_epoch).and_then(|(partition, _)| {
            if !partition.may_answer() {
                return Err(ReadError::NotReady);
            }
            Ok(partition
                .end_of_epoch(asked)
                .map(|found| (found.epoch, found.end)))
        });
        Box::pin(std::future::ready(found))
    }

    fn delete_records(
        &self,
        at: TopicPartition,
        before: Option<Offset>,
    ) -> BoxFuture<'static, Result<Offset, ReadError>> {
        let led = self.led(at, None);
        Box::pin(async move {
            let (partition, view) = led?;
            let start = before.unwrap_or(view.high_watermark);
            if start > view.high_watermark {
                return Err(ReadError::OutOfRange {
                    asked: start,
                    start: view.log_start,
                    end: view.high_watermark,
                });
            }
            partition.set_start(start).await.map_err(read_error)
        })
    }

    fn producers(&self, at: TopicPartition) -> Result<Vec<ActiveProducer>, ReadError> {
        let (partition, _) = self.led(at, None)?;
        let producers = partition.producers().into_iter();
        Ok(producers
            .map(|p| ActiveProducer {
                id: p.id.0,
                epoch: p.epoch.0,
                last_sequence: p.last_sequence,
                last_timestamp: p.last_timestamp,
            })
            .collect())
    }

    fn replica_sizes(&self) -> Vec<(TopicPartition, u64, u64)> {
        let image = self.0.metadata.image();
        let mine = image
            .partitions()
            .filter(|(_, record)| record.has_replica(self.0.node));
        mine.filter_map(|(at, _)| {
            let partition = self.0.replication.partition(at)?;
            let view = partition.view();
            let lag = view.high_watermark.0.saturating_sub(view.log_end.0);
            Some((at, partition.size_bytes(), lag))
        })
        .collect()
    }
}

fn append_error(failure: Failure) -> AppendError {
    let not_leader = |known: KnownLeader| NotLeader {
        leader: known.leader,
        epoch: known.epoch,
    };
    match failure {
        Failure::NotLeader(known) => AppendError::NotLeader(not_leader(known)),
        Failure::LeadershipLost(known) => AppendError::LeadershipLost(not_leader(known)),
        Failure::NotEnoughReplicas { isr, min_isr } => {
            AppendError::NotEnoughReplicas { isr, min_isr }
        }
        Failure::NotEnoughReplicasAfterAppend { isr, min_isr } => {
            AppendError::NotEnoughReplicasAfterAppend { isr, min_isr }
        }
        Failure::TimedOut(after) => AppendError::TimedOut(after),
        Failure::Sequence(SequenceError::OutOfOrder { sequence, expected }) => {
            AppendError::OutOfOrderSequence { sequence, expected }
        }
        Failure::Sequence(SequenceError::Fenced { .. }) => AppendError::ProducerFenced,
        Failure::Sequence(SequenceError::UnknownProducer { .. }) => AppendError::UnknownProducer,
        Failure::DiskFull => AppendError::DiskFull,
        Failure::Storage(_) => AppendError::Storage,
        Failure::Overloaded => AppendError::Overloaded,
        // The replica is not here any more: whoever asks again finds out where it is.
        Failure::Closed => AppendError::NotLeader(NotLeader {
            leader: None,
            epoch: LeaderEpoch(0),
        }),
    }
}
