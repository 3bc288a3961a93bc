//! What the rest of the node holds of a partition.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use weir_base::{
    BoxFuture, LeaderEpoch, NodeId, Offset, PartitionEpoch, RecordBatch, Timestamp, TopicPartition,
};
use weir_storage::{EpochEnd, LogError, PartitionLog, ProducerSummary, ReadChunk};

use crate::core::Core;
use crate::error::{AppendError, ReadError};
use crate::inbox::{AckLevel, Append, Inbox};
use crate::node::Node;
use crate::waiters::Appended;

/// A partition as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// In this epoch.
    pub leader_epoch: LeaderEpoch,
    /// The record this view is based on.
    pub partition_epoch: PartitionEpoch,
    /// Whether this replica leads.
    pub is_leader: bool,
    /// Whether it leads and knows all that earlier leaders committed: only then may it
    /// answer offset queries (S-21). Data below `high_watermark` may be read regardless.
    pub is_ready: bool,
    /// Whether this replica's data or disk is bad: it takes part in nothing.
    pub is_failed: bool,
    /// End of what is known to be committed: the bound of every read.
    pub high_watermark: Offset,
    /// First retained offset.
    pub log_start: Offset,
    /// Log end offset of this replica.
    pub log_end: Offset,
    /// Durable end offset of this replica.
    pub durable_end: Offset,
    /// The agreed ISR.
    pub isr: Arc<[NodeId]>,
    /// The least ISR size for which writes are acknowledged.
    pub min_isr: u32,
}

/// The core's view; shares with `before` what did not change.
pub(super) fn view(core: &Core, before: Option<&PartitionView>) -> PartitionView {
    let record = core.record();
    let isr = record.map_or(&[][..], |record| &record.isr[..]);
    let position = core.position();
    PartitionView {
        leader: record.and_then(|record| record.leader),
        leader_epoch: core.leader_epoch(),
        partition_epoch: record.map(|r| r.partition_epoch).unwrap_or_default(),
        is_leader: core.leads().is_some(),
        is_ready: core.is_ready(),
        is_failed: core.is_failed(),
        high_watermark: core.high_watermark(),
        log_start: position.start,
        log_end: position.end,
        durable_end: position.durable_end,
        isr: before
            .filter(|before| *before.isr == *isr)
            .map_or_else(|| isr.into(), |before| Arc::clone(&before.isr)),
        min_isr: record.map_or(0, |record| record.min_isr),
    }
}

/// Committed data, and where the partition stood when it was read.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches below the high watermark; `chunk.base` may lie below what was asked.
    pub chunk: ReadChunk,
    /// End of what is committed.
    pub high_watermark: Offset,
    /// First retained offset.
    pub log_start: Offset,
    /// The newest epoch known here.
    pub leader_epoch: LeaderEpoch,
}

/// One partition's replica on this node. Cheap to clone; useless after the replica was
/// closed, when everything answers `Closed`.
#[derive(Clone)]
pub struct PartitionHandle(Arc<Inner>);

struct Inner {
    at: TopicPartition,
    node: Arc<Node>,
    inbox: Arc<Inbox>,
    log: Arc<dyn PartitionLog>,
    views: watch::Receiver<PartitionView>,
}

impl PartitionHandle {
    pub(super) fn new(
        at: TopicPartition,
        node: Arc<Node>,
        inbox: Arc<Inbox>,
        log: Arc<dyn PartitionLog>,
        views: watch::Receiver<PartitionView>,
    ) -> PartitionHandle {
        PartitionHandle(Arc::new(Inner {
            at,
            node,
            inbox,
            log,
            views,
        }))
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.0.inbox
    }

    /// Which partition this is.
    #[must_use]
    pub fn at(&self) -> TopicPartition {
        self.0.at
    }

    /// Appends one verified batch. It is queued when this returns, before the future is
    /// polled: calls are appended in the order they were made. The future completes when
    /// `wait` is satisfied, or `deadline` passed (indeterminate). Dropping it gives the
    /// append up only if its turn has not come.
    pub fn append(
        &self,
        batch: RecordBatch,
        wait: AckLevel,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        self.queue(batch, wait, None, deadline)
    }

    /// As [`PartitionHandle::append`] for a journal, whose records hold only in the epoch
    /// they were decided in: refused with `NotLeader` in any other. Waits for everybody.
    pub fn append_in_epoch(
        &self,
        epoch: LeaderEpoch,
        batch: RecordBatch,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        self.queue(batch, AckLevel::All, Some(epoch), deadline)
    }

    fn queue(
        &self,
        batch: RecordBatch,
        wait: AckLevel,
        epoch: Option<LeaderEpoch>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let (reply, answer) = oneshot::channel();
        let inbox = &self.0.inbox;
        inbox.append(Append {
            batch,
            wait,
            epoch,
            reply,
        });
        let env = self.0.node.env.clone();
        Box::pin(async move {
            match env.timeout(deadline, answer).await {
                Some(Ok(answer)) => answer,
                // The task ended, or the node stops, with the reply in its hands.
                Some(Err(_)) => Err(AppendError::Closed),
                None => Err(AppendError::TimedOut(deadline)),
            }
        })
    }

    /// Reads committed data from `from` on, on leader and follower alike; an empty chunk
    /// at the high watermark. Whether a follower's answer is wanted is the caller's
    /// business.
    ///
    /// # Errors
    /// `OutOfRange` or `Storage`; the latter also takes the replica out if its data is bad.
    pub fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Fetched, ReadError>> + Send + 'static {
        let inner = Arc::clone(&self.0);
        async move {
            let view = inner.views.borrow().clone();
            let out_of_range = |start| ReadError::OutOfRange {
                asked: from,
                start,
                end: view.high_watermark,
            };
            if from < view.log_start || from > view.high_watermark {
                return Err(out_of_range(view.log_start));
            }
            let mut fetched = Fetched {
                chunk: ReadChunk {
                    base: from,
                    end: from,
                    ..ReadChunk::default()
                },
                high_watermark: view.high_watermark,
                log_start: view.log_start,
                leader_epoch: view.leader_epoch,
            };
            if from < view.high_watermark {
                let chunk = inner.log.read(from, view.high_watermark, bytes_max).await;
                fetched.chunk = chunk.map_err(|error| match error {
                    LogError::OutOfRange { start, .. } => out_of_range(start),
                    error @ (LogError::Discontinuous { .. }
                    | LogError::Malformed(_)
                    | LogError::DiskFull
                    | LogError::Corrupt { .. }
                    | LogError::DiskLost(_)
                    | LogError::Closed) => {
                        inner.inbox.fail(error.clone());
                        ReadError::Storage(error)
                    }
                })?;
                // Whole batches only, and none that reaches above the watermark (I8).
                assert!(
                    fetched.chunk.end <= view.high_watermark,
                    "I8: read to {} above the watermark {}",
                    fetched.chunk.end,
                    view.high_watermark
                );
            }
            Ok(fetched)
        }
    }

    /// Where the partition stands now.
    #[must_use]
    pub fn view(&self) -> PartitionView {
        self.0.views.borrow().clone()
    }

    /// Follows it: wakes when the watermark, the leader, the ISR or the log moves. Ends
    /// when the replica is closed.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<PartitionView> {
        self.0.views.clone()
    }

    /// Whether this replica leads, by the newest image here too, is ready and holds its
    /// node's lease (I10): what every answer needs that is not itself replicated.
    #[must_use]
    pub fn may_answer(&self) -> bool {
        self.leads_for_certain(|view| view.is_ready)
    }

    /// Whether this replica leads, by the newest image here too, and holds its node's lease
    /// (I10), be it ready or not: who does not may have been followed by another without
    /// having heard of it.
    #[must_use]
    pub fn is_sure_to_lead(&self) -> bool {
        self.leads_for_certain(|_| true)
    }

    fn leads_for_certain(&self, with: impl FnOnce(&PartitionView) -> bool) -> bool {
        let epoch = {
            let view = self.0.views.borrow();
            (view.is_leader && with(&view)).then_some(view.leader_epoch)
        };
        epoch.is_some_and(|epoch| self.0.node.is_sure_to_lead(self.0.at, epoch))
    }

    /// The largest epoch at most `asked` in this log, and where it ended.
    #[must_use]
    pub fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<EpochEnd> {
        self.0.log.end_of_epoch(asked)
    }

    /// Offset and timestamp of the first committed record at or after `timestamp`.
    ///
    /// # Errors
    /// `Storage`, which also takes the replica out if its data is bad.
    pub async fn offset_at_time(
        &self,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let below = self.0.views.borrow().high_watermark;
        let found = self.0.log.offset_at_time(timestamp, below).await;
        found.map_err(|error| {
            self.fail(error.clone());
            ReadError::Storage(error)
        })
    }

    /// Offset and timestamp of the newest record by timestamp, if it is committed.
    #[must_use]
    pub fn newest_timestamp(&self) -> Option<(Offset, Timestamp)> {
        let below = self.0.views.borrow().high_watermark;
        let newest = self.0.log.newest_timestamp();
        newest.filter(|(offset, _)| *offset < below)
    }

    /// Leader: raises the log start to `to`, at most the high watermark; followers learn
    /// of it with the next frame. Gives the log start then.
    ///
    /// # Errors
    /// `NotLeader`, `OutOfRange`, `Storage` or `Closed`.
    pub async fn set_start(&self, to: Offset) -> Result<Offset, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.0.inbox.raise_start(to, reply);
        answer.await.unwrap_or(Err(ReadError::Closed))
    }

    /// Takes the replica out, as if its task had met `error`: for what others notice first,
    /// a scrub that finds bad data, or a data directory that fails while nothing is
    /// appended. Errors that are no reason for that change nothing.
    pub fn fail(&self, error: LogError) {
        self.0.inbox.fail(error);
    }

    /// Producers with state in this log.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerSummary> {
        self.0.log.producers()
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.0.log.size_bytes()
    }

    /// The log itself, for what only reads it: retention plans, scrubs.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn PartitionLog> {
        &self.0.log
    }
}
