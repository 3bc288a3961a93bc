//! Append, read, offsets.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_base::{BoxFuture, LeaderEpoch, Offset, RecordBatch, Timestamp, TopicPartition};

use crate::{AppendError, ReadError};

/// Whom an append waits for, as the client asked. The topic's durability decides what
/// `All` means; `Leader` never waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acks {
    /// acks=0: answered before anything is known.
    None,
    /// acks=1: the leader.
    Leader,
    /// acks=all.
    All,
}

/// An acknowledged append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// Offset of the first record.
    pub base: Offset,
    /// Log start at that time.
    pub log_start: Offset,
    /// The broker's time, if the topic stamps it.
    pub append_time: Option<Timestamp>,
}

/// One partition's part of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPartition {
    /// The partition.
    pub at: TopicPartition,
    /// Offset to read from.
    pub from: Offset,
    /// Most bytes, but at least one batch if it is the first of the whole answer.
    pub bytes_max: usize,
    /// The epoch the client believes in, if it told.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record the client has, for divergence.
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

/// A read over many partitions.
#[derive(Debug, Clone)]
pub struct Read {
    /// In the order to fill them.
    pub partitions: Vec<ReadPartition>,
    /// Answer when this many bytes are there (or any error is),
    pub bytes_min: usize,
    /// ... and never with more than this, but for the first batch.
    pub bytes_max: usize,
    /// Or when this long has passed.
    pub wait_max: Duration,
}

/// What one partition has to say.
#[derive(Debug, Clone)]
pub struct ReadOutcome {
    /// The partition.
    pub at: TopicPartition,
    /// What was read.
    pub result: Result<ReadOk, ReadError>,
}

/// Data below the high watermark.
#[derive(Debug, Clone, Default)]
pub struct ReadOk {
    /// Whole record batches back to back, in pieces to be written out as they are.
    pub chunks: Vec<Bytes>,
    /// Bytes in `chunks`.
    pub bytes: usize,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// First retained offset.
    pub log_start: Offset,
    /// The log ended there for the client's last epoch: it must truncate.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// First retained.
    Earliest,
    /// High watermark.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// First record at or after this time.
    AtTime(Timestamp),
}

/// A found offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` if there is none.
    pub offset: Option<Offset>,
    /// Its record's timestamp, if it has one.
    pub timestamp: Option<Timestamp>,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
}

/// A producer with state in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct ActiveProducer {
    pub id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp: Timestamp,
}

/// The data path.
pub trait LogApi: Send + Sync {
    /// Appends one batch, verified by the caller ([`RecordBatch::verify`]), and completes
    /// when `acks` and the topic's durability are satisfied or `timeout` passed. The
    /// append is queued by the time this returns: calls for one partition are appended in
    /// the order they were made.
    fn append(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>>;

    /// As [`LogApi::append`], wherever the partition is led: carried to its leader if that
    /// is another node, for fronts whose clients cannot be redirected. Calls keep no order
    /// among each other. While nobody leads, and as long as nothing was appended, it is
    /// tried again until `timeout`; an answer that was lost on the way is
    /// [`AppendError::Unanswered`] at once, since only the caller knows whether it may
    /// send the batch twice.
    fn append_forwarded(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>>;

    /// Reads; waits as the request says. One outcome a partition, in order.
    fn read(&self, request: Read) -> BoxFuture<'static, Vec<ReadOutcome>>;

    /// Answers an offset query.
    fn offset(
        &self,
        at: TopicPartition,
        query: OffsetQuery,
        leader_epoch: Option<LeaderEpoch>,
    ) -> BoxFuture<'static, Result<FoundOffset, ReadError>>;

    /// The largest epoch at most `asked` and where it ended.
    fn end_of_epoch(
        &self,
        at: TopicPartition,
        asked: LeaderEpoch,
        leader_epoch: Option<LeaderEpoch>,
    ) -> BoxFuture<'static, Result<Option<(LeaderEpoch, Offset)>, ReadError>>;

    /// Raises the log start to `before` (`None`: to the high watermark); gives the new start.
    fn delete_records(
        &self,
        at: TopicPartition,
        before: Option<Offset>,
    ) -> BoxFuture<'static, Result<Offset, ReadError>>;

    /// Producers with state in a partition.
    fn producers(&self, at: TopicPartition) -> Result<Vec<ActiveProducer>, ReadError>;

    /// Bytes this node holds of each of its replicas, and how far a replica lags behind
    /// the high watermark it knows.
    fn replica_sizes(&self) -> Vec<(TopicPartition, u64, u64)>;
}
