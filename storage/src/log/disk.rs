//! A partition's log on the disk: what it is made of, and who may touch what.
//!
//! ```text
//!   segment 0 .......| segment 40 .......| segment 90 ....|reserved, zero
//!   ^ start              ^ durable end       ^ end
//! ```
//! - [`Writer`], behind an async lock, belongs to the one operation that writes.
//! - [`View`], behind a short lock never held across an await, is what readers, the
//!   commit and the position see. It changes only after the bytes are where they belong.
//!
//! An operation dropped half way must not leave a write behind that lands later. So a
//! single write stays in [`Writer::pending`] and is awaited by the next operation, and
//! all that takes several steps runs as a task of its own ([`DiskLog::uninterrupted`]).
//!
//! Invariants: start <= durable end <= end; I2, I9, I11, I12. After a crash `recover`
//! rebuilds it from the stored state, the segments behind it, and the write-ahead log.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use weir_base::image::FlushMode;
use weir_base::{
    BoxFuture, CacheHint, LeaderEpoch, Offset, RecordBatch, Timestamp, TopicPartition,
};

use super::{
    AppendOutcome, EpochEnd, LogError, LogPosition, PartitionLog, ProducerSummary, ReadChunk,
};
use crate::LogConfig;
use crate::cache::LogTail;
use crate::epochs::EpochCache;
use crate::producers::Producers;
use crate::record_time::newer;
use crate::segment::{SEGMENT_HEAD_BYTES, Segment};
use crate::shared::Shared;
use crate::state::{LogState, STATE_FORMAT, SegmentSummary};
use crate::two_slot::TwoSlot;
use crate::wal::CommitSink;

/// A log on the disk.
pub(crate) struct DiskLog {
    pub(super) this: Weak<DiskLog>,
    pub(crate) partition: TopicPartition,
    pub(super) directory: String,
    pub(super) shared: Arc<Shared>,
    config: Mutex<LogConfig>,
    pub(super) writer: Arc<tokio::sync::Mutex<Writer>>,
    view: Mutex<View>,
    producers: Mutex<Producers>,
    /// Locked for as long as a stored state is replaced, after the writer if both are.
    pub(super) state_file: tokio::sync::Mutex<TwoSlot>,
    floor_lsn: u64,
    pub(super) tail: Arc<LogTail>,
    positions: watch::Sender<LogPosition>,
}

/// What only the writing operation knows.
pub(crate) struct Writer {
    /// Counts cuts.
    pub(super) generation: u32,
    /// Checksum of the last frame.
    pub(super) chain: u32,
    /// Length of the active segment's file, reserved space included.
    pub(super) allocated: u64,
    /// A write that its operation did not live to see the end of.
    pub(super) pending: Option<BoxFuture<'static, io::Result<()>>>,
}

/// What readers see.
pub(crate) struct View {
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) epochs: EpochCache,
    /// Never empty; the last is written to.
    pub(super) segments: Vec<SegmentEntry>,
    /// All below is fsynced, in segments or in the write-ahead log.
    pub(super) durable_end: Offset,
    /// Counts cuts since the log was opened, to tell old commits and reads.
    pub(super) version: u64,
    /// Counts stored states other than checkpoints, which an older checkpoint must not
    /// overwrite.
    pub(super) layout: u64,
    /// Segments written to since they were last synced, oldest first.
    pub(super) unsynced: Vec<Arc<Segment>>,
    /// Something changed since the last stored state.
    pub(super) checkpoint_due: bool,
    pub(super) closed: bool,
    /// Up to where compaction has looked at keys.
    pub(super) compacted_to: Offset,
}

/// A segment and what is known of its content.
#[derive(Clone)]
pub(crate) struct SegmentEntry {
    pub(super) segment: Arc<Segment>,
    pub(super) summary: SegmentSummary,
}

impl SegmentEntry {
    /// An empty segment of a log last appended to at `appended_at`.
    pub(super) fn empty(segment: Arc<Segment>, made_at: Timestamp, appended_at: Timestamp) -> Self {
        let summary = SegmentSummary::empty(segment.base, made_at, appended_at);
        Self { segment, summary }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.summary.bytes == SEGMENT_HEAD_BYTES
    }
}

impl SegmentSummary {
    pub(crate) fn empty(base: Offset, made_at: Timestamp, appended_at: Timestamp) -> Self {
        Self {
            base,
            end: base,
            bytes: SEGMENT_HEAD_BYTES,
            newest: None,
            appended_at,
            made_at,
        }
    }

    /// Notes a frame of `size` bytes.
    pub(crate) fn on_frame(
        &mut self,
        end: Offset,
        size: u64,
        newest: (Offset, Timestamp),
        at: Timestamp,
    ) {
        self.end = end;
        self.bytes += size;
        self.newest = Some(newer(self.newest, newest));
        self.appended_at = self.appended_at.max(at);
    }
}

impl View {
    pub(super) fn position(&self) -> LogPosition {
        LogPosition {
            start: self.start,
            durable_end: self.durable_end,
            end: self.end,
            last_epoch: self.epochs.last(),
        }
    }

    pub(super) fn active(&self) -> &SegmentEntry {
        let last = self.segments.last();
        last.expect("I12: a log has at least one segment")
    }

    pub(super) fn active_mut(&mut self) -> &mut SegmentEntry {
        let last = self.segments.last_mut();
        last.expect("I12: a log has at least one segment")
    }

    pub(super) fn out_of_range(&self, asked: Offset) -> LogError {
        LogError::OutOfRange {
            asked,
            start: self.start,
            end: self.end,
        }
    }

    /// Changes whenever files are cut or replaced under a reader.
    pub(super) fn edition(&self) -> (u64, u64) {
        (self.version, self.layout)
    }

    /// Notes that `segment` holds bytes that are not synced.
    /// Returns whether a checkpoint became due by it.
    pub(super) fn written(&mut self, segment: &Arc<Segment>) -> bool {
        if !self.unsynced.iter().any(|held| Arc::ptr_eq(held, segment)) {
            self.unsynced.push(segment.clone());
        }
        !std::mem::replace(&mut self.checkpoint_due, true)
    }
}

/// Everything recovery found out.
pub(crate) struct Parts {
    pub(super) partition: TopicPartition,
    pub(super) directory: String,
    pub(super) config: LogConfig,
    pub(super) writer: Writer,
    pub(super) state_file: TwoSlot,
    pub(super) floor_lsn: u64,
    pub(super) producers: Producers,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) epochs: EpochCache,
    pub(super) segments: Vec<SegmentEntry>,
}

impl DiskLog {
    pub(super) fn assemble(shared: Arc<Shared>, parts: Parts) -> Arc<DiskLog> {
        let view = View {
            start: parts.start,
            end: parts.end,
            epochs: parts.epochs,
            segments: parts.segments,
            durable_end: parts.end,
            version: 0,
            unsynced: Vec::new(),
            layout: 0,
            checkpoint_due: false,
            closed: false,
            compacted_to: Offset::ZERO,
        };
        Arc::new_cyclic(|this| DiskLog {
            this: this.clone(),
            partition: parts.partition,
            directory: parts.directory,
            shared,
            config: Mutex::new(parts.config),
            writer: Arc::new(tokio::sync::Mutex::new(parts.writer)),
            positions: watch::Sender::new(view.position()),
            view: Mutex::new(view),
            producers: Mutex::new(parts.producers),
            state_file: tokio::sync::Mutex::new(parts.state_file),
            floor_lsn: parts.floor_lsn,
            tail: Arc::default(),
        })
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn producers_state(&self) -> MutexGuard<'_, Producers> {
        self.producers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn config(&self) -> LogConfig {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_config(&self, config: LogConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Tells those who follow the position, if it changed. Called with the view locked,
    /// so that positions are told in the order they came about.
    pub(super) fn publish(&self, view: &View) {
        let position = view.position();
        assert!(
            position.start <= position.durable_end && position.durable_end <= position.end,
            "I12: log {} is at {position:?}",
            self.partition
        );
        self.positions.send_if_modified(|current| {
            let changed = *current != position;
            *current = position;
            changed
        });
    }

    /// Errs if the log was closed or the data directory failed.
    pub(super) fn usable(&self) -> Result<(), LogError> {
        self.shared.health.check()?;
        if self.view().closed {
            return Err(LogError::Closed);
        }
        Ok(())
    }

    pub(super) fn arc(&self) -> Result<Arc<DiskLog>, LogError> {
        self.this.upgrade().ok_or(LogError::Closed)
    }

    /// The right to write, once what an earlier operation left behind is done.
    pub(super) async fn write_lock(&self) -> Result<OwnedMutexGuard<Writer>, LogError> {
        let mut writer = self.writer.clone().lock_owned().await;
        self.usable()?;
        if writer.pending.is_some() {
            // Its outcome concerns nobody any more, unless it fails the directory.
            match self.settle(&mut writer).await {
                Ok(()) | Err(LogError::DiskFull) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(writer)
    }

    /// Awaits the pending write.
    pub(super) async fn settle(&self, writer: &mut Writer) -> Result<(), LogError> {
        let Some(pending) = writer.pending.as_mut() else {
            return Ok(());
        };
        let result = pending.await;
        writer.pending = None;
        self.shared.health.judge(result)
    }

    /// Runs `operation` to its end even if the caller stops waiting.
    pub(super) async fn uninterrupted<T: Send + 'static>(
        &self,
        name: &'static str,
        operation: impl Future<Output = Result<T, LogError>> + Send + 'static,
    ) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.shared.env.tasks.spawn(name, async move {
            reply.send(operation.await).ok();
        });
        answer.await.unwrap_or(Err(LogError::Closed))
    }

    /// The state to store for a log that is durable up to where it stands now.
    pub(super) fn snapshot(&self, writer: &Writer) -> LogState {
        let view = self.view();
        LogState {
            format: STATE_FORMAT,
            generation: writer.generation,
            start: view.start,
            end: view.end,
            chain: writer.chain,
            segments: view.segments.iter().map(|entry| entry.summary).collect(),
            epochs: view.epochs.clone(),
            producers: self.producers_state().clone(),
            floor_lsn: self.floor_lsn,
        }
    }

    /// Refuses further writes and ends the waiting of all that follow it.
    pub(crate) fn close(&self) {
        self.view().closed = true;
        self.shared
            .cache
            .retain(&self.tail, Offset::ZERO, Offset::ZERO);
    }
}

impl CommitSink for DiskLog {
    fn on_committed(&self, end: Offset, version: u64) {
        let mut view = self.view();
        if view.version == version {
            view.durable_end = view.durable_end.max(end);
            self.publish(&view);
        }
    }
}

impl PartitionLog for DiskLog {
    fn position(&self) -> LogPosition {
        *self.positions.borrow()
    }

    fn positions(&self) -> watch::Receiver<LogPosition> {
        self.positions.subscribe()
    }

    fn append_as_leader(
        &self,
        epoch: LeaderEpoch,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> BoxFuture<'_, Result<Vec<AppendOutcome>, LogError>> {
        Box::pin(self.leader_append(epoch, now, batches, flush))
    }

    fn append_as_follower(
        &self,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
        hint: CacheHint,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.follower_append(now, batches, (flush, hint)))
    }

    fn read(
        &self,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ReadChunk, LogError>> {
        Box::pin(self.read_chunk(from, below, bytes_max))
    }

    fn truncate_to(&self, to: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let log = self.arc()?;
            self.uninterrupted("log-truncate", async move { log.cut(to).await })
                .await
        })
    }

    fn reset_to(&self, at: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let log = self.arc()?;
            self.uninterrupted("log-reset", async move { log.reset(at).await })
                .await
        })
    }

    fn set_start(&self, start: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let log = self.arc()?;
            self.uninterrupted("log-set-start", async move { log.raise_start(start).await })
                .await
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let log = self.arc()?;
            self.uninterrupted("log-flush", async move {
                log.usable()?;
                log.flush_segments(false).await
            })
            .await
        })
    }

    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<EpochEnd> {
        let view = self.view();
        view.epochs.end_of(asked, view.end)
    }

    fn offset_at_time(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> BoxFuture<'_, Result<Option<(Offset, Timestamp)>, LogError>> {
        Box::pin(self.find_time(timestamp, below))
    }

    fn newest_timestamp(&self) -> Option<(Offset, Timestamp)> {
        let view = self.view();
        view.segments
            .iter()
            .filter_map(|entry| entry.summary.newest)
            .fold(None, |held, other| Some(newer(held, other)))
    }

    fn producers(&self) -> Vec<ProducerSummary> {
        self.producers_state().summaries()
    }

    fn size_bytes(&self) -> u64 {
        let view = self.view();
        view.segments.iter().map(|entry| entry.summary.bytes).sum()
    }
}
