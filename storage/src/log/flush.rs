//! Making segments durable: for async flush, for barriers, and for checkpoints.
//!
//! Async-flush appends never touch the write-ahead log. The first one that finds
//! nothing queued queues its log for a flush within the interval; many unflushed bytes
//! bring it forward. A few workers take logs from the queue one by one, so a log that is
//! flushed never holds up the others for longer than that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use weir_base::{Monotonic, Offset};

use super::LogError;
use super::disk::DiskLog;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::state::LogState;

/// Workers that flush logs side by side.
pub(crate) const FLUSH_WORKERS: usize = 4;

/// How urgently a log waits for its flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlushQueued {
    No,
    Timed,
    Now,
}

/// Logs that wait for a flush. At most two entries a log.
pub(crate) struct Flusher {
    queue: Mutex<Queue>,
    wake: Notify,
    interval: std::time::Duration,
}

#[derive(Default)]
struct Queue {
    now: VecDeque<Weak<DiskLog>>,
    /// Deadlines never fall, since the interval is the same for all.
    timed: VecDeque<(Monotonic, Weak<DiskLog>)>,
}

impl Flusher {
    pub(crate) fn new(interval: std::time::Duration) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            interval,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `log`.
    pub(crate) fn wanted(&self, log: &Arc<DiskLog>, how: FlushQueued, now: Monotonic) {
        let mut queue = self.queue();
        let log = Arc::downgrade(log);
        match how {
            FlushQueued::No => return,
            FlushQueued::Now => queue.now.push_back(log),
            FlushQueued::Timed => queue.timed.push_back((now + self.interval, log)),
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// The next log to flush, or when there will be one.
    fn next(&self, now: Monotonic) -> Result<Weak<DiskLog>, Option<Monotonic>> {
        let mut queue = self.queue();
        if let Some(log) = queue.now.pop_front() {
            return Ok(log);
        }
        match queue.timed.front() {
            Some((deadline, _)) if *deadline > now => Err(Some(*deadline)),
            Some(_) => queue.timed.pop_front().map(|(_, log)| log).ok_or(None),
            None => Err(None),
        }
    }

    /// One worker: ends when the data directory fails.
    pub(crate) async fn work(shared: Arc<Shared>) {
        let flusher = &shared.flusher;
        loop {
            match flusher.next(shared.env.clock.now()) {
                Ok(log) => {
                    // Another worker may take the next one meanwhile.
                    flusher.wake.notify_one();
                    if let Some(log) = log.upgrade()
                        && log.flush_segments(false).await.is_err()
                    {
                        return;
                    }
                }
                Err(None) => flusher.wake.notified().await,
                Err(Some(deadline)) => {
                    let sleep = shared.env.clock.sleep_until(deadline);
                    tokio::select! {
                        biased;
                        () = flusher.wake.notified() => {}
                        () = sleep => {}
                    }
                }
            }
        }
    }
}

impl DiskLog {
    /// Syncs the segments written to, and so makes all durable that is written now. Does
    /// nothing if it is already, unless `forced`: a checkpoint cares for segments alone.
    pub(crate) async fn flush_segments(&self, forced: bool) -> Result<(), LogError> {
        let health = &self.shared.health;
        health.check()?;
        let (segments, end, version) = {
            let mut view = self.view();
            view.flush_queued = FlushQueued::No;
            view.unflushed_bytes = 0;
            if !forced && view.durability.end() == view.end {
                return Ok(());
            }
            (view.unsynced.clone(), view.end, view.version)
        };
        for segment in &segments {
            self.sync(segment).await?;
        }
        self.on_synced(&segments, end, version);
        Ok(())
    }

    async fn sync(&self, segment: &Segment) -> Result<(), LogError> {
        let health = &self.shared.health;
        let file = health.judge(segment.file().await)?.clone();
        let clock = &self.shared.env.clock;
        let number = health.sync_begins(clock.now());
        let result = file.sync_data().await;
        health.sync_ends(number, clock.now(), result.is_ok());
        health.judge_sync(result)
    }

    fn on_synced(&self, segments: &[Arc<Segment>], end: Offset, version: u64) {
        let mut view = self.view();
        if view.version != version {
            return;
        }
        view.durability.on_synced(end);
        // The one that was active then may have been written to since.
        let grown = view.end > end;
        let synced = if grown {
            segments.split_last().map_or(segments, |(_, rest)| rest)
        } else {
            segments
        };
        view.unsynced
            .retain(|held| !synced.iter().any(|segment| Arc::ptr_eq(held, segment)));
        self.publish(&view);
    }

    /// Syncs the segments and stores the state, so that recovery begins here and the
    /// write-ahead log may forget what was submitted so far.
    pub(crate) async fn checkpoint(&self) -> Result<(), LogError> {
        let (state, layout, active) = {
            let writer = self.writer.lock().await;
            self.shared.health.check()?;
            let mut view = self.view();
            if view.closed || !view.checkpoint_due {
                return Ok(());
            }
            view.checkpoint_due = false;
            let (layout, active) = (view.layout, view.active().segment.clone());
            drop(view);
            (self.snapshot(&writer), layout, active)
        };
        let stored = self.store_checkpoint(state, layout).await;
        if stored.is_err() {
            self.view().checkpoint_due = true;
        }
        stored?;
        // A hint; the disk may be too full for it.
        match self.shared.health.judge(active.store_index().await) {
            Ok(()) | Err(LogError::DiskFull) => Ok(()),
            Err(other) => Err(other),
        }
    }

    async fn store_checkpoint(&self, mut state: LogState, layout: u64) -> Result<(), LogError> {
        self.flush_segments(true).await?;
        let mut file = self.state_file.lock().await;
        if self.view().layout != layout {
            return Ok(());
        }
        state.producers.expire(self.shared.env.clock.wall());
        self.shared.health.judge(file.store(state).await)
    }

    /// Waits until nobody writes.
    pub(crate) async fn idle(&self) {
        drop(self.writer.lock().await);
    }

    /// Nothing changed since its state was last stored.
    pub(crate) fn is_settled(&self) -> bool {
        !self.view().checkpoint_due
    }

    /// Gives back reserved space, so that the next start finds the file as long as its
    /// frames and need not look behind them.
    pub(crate) async fn prepare_shutdown(&self) -> Result<(), LogError> {
        let mut writer = self.write_lock().await?;
        let active = self.view().active().clone();
        if writer.allocated > active.summary.bytes {
            let health = &self.shared.health;
            let file = health.judge(active.segment.file().await)?;
            health.judge_sync(file.truncate(active.summary.bytes).await)?;
            health.judge_sync(file.sync_data().await)?;
            writer.allocated = active.summary.bytes;
        }
        Ok(())
    }
}
