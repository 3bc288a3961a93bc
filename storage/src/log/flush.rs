//! Making segments durable: for barriers and for checkpoints.
//!
//! Appends become durable in the write-ahead log. Syncing the segments makes them durable
//! too, whatever the write-ahead log does: a full one, for instance, waits for just that.

use std::sync::Arc;

use weir_base::Offset;

use super::LogError;
use super::disk::DiskLog;
use crate::segment::Segment;
use crate::state::LogState;

impl DiskLog {
    /// Syncs the segments written to, and so makes all durable that is written now. Does
    /// nothing if it is already, unless `forced`: a checkpoint cares for segments alone.
    pub(crate) async fn flush_segments(&self, forced: bool) -> Result<(), LogError> {
        let health = &self.shared.health;
        health.check()?;
        let (segments, end, version) = {
            let view = self.view();
            if !forced && view.durable_end == view.end {
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
        let running = health.begins(clock.now());
        let result = file.sync_data().await;
        running.synced(clock.now(), result.is_ok());
        health.judge_sync(result)
    }

    fn on_synced(&self, segments: &[Arc<Segment>], end: Offset, version: u64) {
        let mut view = self.view();
        if view.version != version {
            return;
        }
        view.durable_end = view.durable_end.max(end);
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
