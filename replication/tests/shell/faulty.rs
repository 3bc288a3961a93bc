//! A log whose stored bytes can go bad, on a disk that can be full.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use weir_base::image::FlushMode;
use weir_base::{BoxFuture, CacheHint, LeaderEpoch, Offset, RecordBatch, Timestamp};
use weir_storage::{
    AppendOutcome, EpochEnd, LogError, LogPosition, PartitionLog, ProducerSummary, ReadChunk,
};

/// Passes everything on, until it rots: then every read finds a bad checksum; or until
/// its disk is full: then nothing is written.
pub(crate) struct Faulty {
    log: Arc<dyn PartitionLog>,
    is_rotten: AtomicBool,
    is_full: AtomicBool,
    /// Where followers' appends began, and what was said of them.
    hints: Mutex<Vec<(Offset, CacheHint)>>,
}

impl Faulty {
    pub(crate) fn new(log: Arc<dyn PartitionLog>) -> Faulty {
        Faulty {
            log,
            is_rotten: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            hints: Mutex::default(),
        }
    }

    pub(crate) fn rot(&self) {
        self.is_rotten.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn hints(&self) -> Vec<(Offset, CacheHint)> {
        self.hints.lock().unwrap().clone()
    }

    /// Does it if there is space.
    fn with_space<'a, T: Send + 'a>(
        &self,
        write: impl FnOnce() -> BoxFuture<'a, Result<T, LogError>>,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        if self.is_full.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(LogError::DiskFull)));
        }
        write()
    }
}

fn bad(near: Offset) -> LogError {
    LogError::Corrupt {
        near,
        detail: "checksum".to_owned(),
    }
}

impl PartitionLog for Faulty {
    fn position(&self) -> LogPosition {
        self.log.position()
    }

    fn positions(&self) -> watch::Receiver<LogPosition> {
        self.log.positions()
    }

    fn append_as_leader(
        &self,
        epoch: LeaderEpoch,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> BoxFuture<'_, Result<Vec<AppendOutcome>, LogError>> {
        self.with_space(|| self.log.append_as_leader(epoch, now, batches, flush))
    }

    fn append_as_follower(
        &self,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
        hint: CacheHint,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        let base = batches[0].base_offset();
        self.hints.lock().unwrap().push((base, hint));
        self.with_space(|| self.log.append_as_follower(now, batches, flush, hint))
    }

    fn read(
        &self,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ReadChunk, LogError>> {
        if self.is_rotten.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(bad(from))));
        }
        self.log.read(from, below, bytes_max)
    }

    fn truncate_to(&self, to: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.with_space(|| self.log.truncate_to(to))
    }

    fn reset_to(&self, at: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.reset_to(at)
    }

    fn set_start(&self, start: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.set_start(start)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.flush()
    }

    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<EpochEnd> {
        self.log.end_of_epoch(asked)
    }

    fn offset_at_time(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> BoxFuture<'_, Result<Option<(Offset, Timestamp)>, LogError>> {
        if self.is_rotten.load(Ordering::Relaxed) {
            return Box::pin(std::future::ready(Err(bad(Offset::ZERO))));
        }
        self.log.offset_at_time(timestamp, below)
    }

    fn newest_timestamp(&self) -> Option<(Offset, Timestamp)> {
        self.log.newest_timestamp()
    }

    fn producers(&self) -> Vec<ProducerSummary> {
        self.log.producers()
    }

    fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }
}
