//! Cutting a log: from behind (divergence), whole (reset), and from the front (start).
//!
//! The stored state is the commit point: once it is durable with a higher generation,
//! frames behind the cut are void whether the segment or the write-ahead log still has
//! them (S-10, M8). A segment that it is the first to name is made before, head and name
//! durable. Then the other files follow, physically. A crash before the commit point
//! leaves the log as it was; after it, recovery finishes the work. Runs as one
//! uninterrupted operation with the right to write; readers notice by the view's version.

use std::io;
use std::sync::Arc;

use weir_base::Offset;

use super::LogError;
use super::disk::{DiskLog, SegmentEntry, Writer};
use super::read::{BadFrame, WALK_BYTES, corrupt};
use crate::epochs::EpochCache;
use crate::producers::Producers;
use crate::record_time::newest_in;
use crate::segment::{SEGMENT_HEAD_BYTES, Segment, SegmentHead, Walk};
use crate::state::{LogState, NEVER, SegmentSummary};

/// The log as it was at some offset: where a cut may come to lie.
struct Place {
    /// Index of the segment.
    at: usize,
    /// That segment up to here.
    summary: SegmentSummary,
    /// Checksum of the last frame before here.
    chain: u32,
    producers: Producers,
}

impl DiskLog {
    pub(super) async fn cut(&self, to: Offset) -> Result<(), LogError> {
        let mut writer = self.write_lock().await?;
        let (segments, position) = {
            let view = self.view();
            if to < view.start || to > view.end {
                return Err(view.out_of_range(to));
            }
            (view.segments.clone(), view.position())
        };
        if to == position.end {
            return Ok(());
        }
        let place = self.place_of(to, &segments).await?;
        // What stays must be durable before the stored state says so.
        self.flush_segments(true).await?;
        let mut kept = segments;
        kept.truncate(place.at + 1);
        if let Some(last) = kept.last_mut() {
            last.summary = place.summary;
        }
        let state = self.cut_state(&writer, &kept, &place, position.start);
        tracing::info!(log = %self.partition, from = %position.end, to = %state.end, "log cut");
        let cut = kept.last().cloned();
        let begins_anew = state.segments.len() > kept.len();
        if begins_anew {
            let entry = self.empty_segment(&state);
            let made = self.make_segment(&entry, &state).await;
            self.shared.health.judge(made)?;
            self.sync_names().await?;
            kept.push(entry);
        }
        self.store_cut(&state).await?;
        let gone = self.adopt(&mut writer, &state, kept);
        self.remove_segments(&gone).await?;
        if let Some(cut) = cut {
            self.cut_file(&cut, &state, place.chain).await?;
            writer.allocated = cut.summary.bytes;
        }
        if begins_anew {
            writer.allocated = SEGMENT_HEAD_BYTES;
        }
        Ok(())
    }

    /// The log cut down to `end`; if the batch that holds the log start goes too, it
    /// goes on empty at the start.
    fn cut_state(
        &self,
        writer: &Writer,
        kept: &[SegmentEntry],
        place: &Place,
        start: Offset,
    ) -> LogState {
        let end = place.summary.end.max(start);
        let mut state = self.snapshot(writer);
        if !weir_base::mutant!(M8) {
            state.generation += 1;
        }
        state.end = end;
        state.chain = place.chain;
        state.segments = kept.iter().map(|entry| entry.summary).collect();
        if end > place.summary.end {
            let made_at = place.summary.appended_at;
            state
                .segments
                .push(SegmentSummary::empty(end, made_at, made_at));
        }
        state.epochs.truncate_to(place.summary.end);
        if !weir_base::mutant!(M11) {
            state.producers = place.producers.clone();
        }
        state
    }

    /// Stores a state with a higher generation: nothing of before it counts behind its end.
    /// Late commits and checkpoints are ignored from here on.
    async fn store_cut(&self, state: &LogState) -> Result<(), LogError> {
        {
            let mut view = self.view();
            view.version += 1;
            view.layout += 1;
        }
        let mut file = self.state_file.lock().await;
        self.shared
            .health
            .judge_sync(file.store(state.clone()).await)
    }

    async fn cut_file(
        &self,
        last: &SegmentEntry,
        state: &LogState,
        chain: u32,
    ) -> Result<(), LogError> {
        if weir_base::mutant!(M8) {
            return Ok(());
        }
        let health = &self.shared.health;
        let file = health.judge(last.segment.file().await)?;
        health.judge_sync(file.truncate(last.summary.bytes).await)?;
        if last.is_empty() {
            // Recovery makes an empty segment anew if its head is of an older generation.
            let head = SegmentHead {
                partition: self.partition,
                generation: state.generation,
                base: last.summary.base,
                previous: chain,
                made_at: last.summary.made_at,
                sealed_bytes: 0,
            };
            health.judge_sync(file.write_at(0, vec![head.encode()]).await)?;
        }
        health.judge_sync(file.sync_data().await)
    }

    pub(super) async fn reset(&self, at: Offset) -> Result<(), LogError> {
        let mut writer = self.write_lock().await?;
        let mut state = self.snapshot(&writer);
        let made_at = self.shared.env.clock.wall();
        state.generation += 1;
        (state.start, state.end, state.chain) = (at, at, 0);
        state.segments = vec![SegmentSummary::empty(at, made_at, NEVER)];
        state.epochs = EpochCache::default();
        state.producers = Producers::default();
        let entry = self.empty_segment(&state);
        // A file of that name is part of the log until the state is stored. Its head is of
        // an older generation, so recovery makes it anew if a crash leaves that undone.
        let in_place = self.view().segments.iter().any(|s| s.summary.base == at);
        if !in_place {
            let made = self.make_segment(&entry, &state).await;
            self.shared.health.judge(made)?;
            self.sync_names().await?;
        }
        // Nothing of before may come back, wherever it lay.
        self.store_cut(&state).await?;
        let gone = self.adopt(&mut writer, &state, vec![entry.clone()]);
        self.remove_segments(&gone).await?;
        if in_place {
            // The stored state says that it is empty: there is no way back.
            let made = self.make_segment(&entry, &state).await;
            self.shared.health.judge_sync(made)?;
            self.sync_names().await?;
        }
        writer.allocated = SEGMENT_HEAD_BYTES;
        Ok(())
    }

    pub(super) async fn raise_start(&self, start: Offset) -> Result<(), LogError> {
        let mut writer = self.write_lock().await?;
        let whole = {
            let view = self.view();
            if start > view.end {
                return Err(view.out_of_range(start));
            }
            if start <= view.start {
                return Ok(());
            }
            start == view.end && !view.active().is_empty()
        };
        if whole {
            let now = self.shared.env.clock.wall();
            self.roll(&mut writer, now).await?;
        }
        self.flush_segments(true).await?;
        let mut state = self.snapshot(&writer);
        let ends_below = |summary: &SegmentSummary| summary.end <= start;
        let last = state.segments.len() - 1;
        let gone = state.segments[..last].iter().take_while(|s| ends_below(s));
        let gone = gone.count();
        state.segments.drain(..gone);
        state.start = start;
        state.epochs.set_start(start);
        self.view().layout += 1;
        {
            let mut file = self.state_file.lock().await;
            let stored = file.store(state.clone()).await;
            self.shared.health.judge_sync(stored)?;
        }
        let removed: Vec<SegmentEntry> = {
            let mut view = self.view();
            view.start = start;
            view.epochs = state.epochs;
            let removed = view.segments.drain(..gone).collect();
            self.publish(&view);
            removed
        };
        self.shared
            .cache
            .retain(&self.tail, start, Offset(u64::MAX));
        self.remove_segments(&removed).await
    }

    /// Puts a stored state in force, before the files follow: readers that began earlier
    /// begin again, and later ones look at nothing that is about to go. Returns the
    /// segments that are no longer part of the log.
    fn adopt(
        &self,
        writer: &mut Writer,
        state: &LogState,
        segments: Vec<SegmentEntry>,
    ) -> Vec<SegmentEntry> {
        writer.generation = state.generation;
        writer.chain = state.chain;
        *self.producers_state() = state.producers.clone();
        self.shared.cache.retain(&self.tail, state.start, state.end);
        let mut view = self.view();
        for entry in &segments {
            entry.segment.index().truncate_to(entry.summary.bytes);
        }
        view.start = state.start;
        view.end = state.end;
        view.epochs = state.epochs.clone();
        let mut gone = std::mem::replace(&mut view.segments, segments);
        gone.retain(|old| {
            let mut kept = view.segments.iter();
            !kept.any(|entry| Arc::ptr_eq(&entry.segment, &old.segment))
        });
        view.durable_end = state.end;
        view.unsynced.clear();
        view.version += 1;
        self.publish(&view);
        gone
    }

    /// The last segment of `state`, which is empty and not made yet.
    fn empty_segment(&self, state: &LogState) -> SegmentEntry {
        let disk = self.shared.env.disk.clone();
        let summary = state.segments.last().copied();
        SegmentEntry {
            segment: Segment::at(disk, &self.directory, state.end),
            summary: summary.expect("I12: a log has at least one segment"),
        }
    }

    /// Makes the file that [`DiskLog::empty_segment`] began, durable but for its name. Until
    /// a stored state names it recovery takes it for a left-over: it holds no frames.
    async fn make_segment(&self, entry: &SegmentEntry, state: &LogState) -> io::Result<()> {
        let head = SegmentHead {
            partition: self.partition,
            generation: state.generation,
            base: entry.summary.base,
            previous: state.chain,
            made_at: entry.summary.made_at,
            sealed_bytes: 0,
        };
        entry.segment.make(head).await?;
        let disk = &self.shared.env.disk;
        let path = entry.segment.producers_path();
        crate::sidecar::store_durably(disk, &path, &state.producers).await
    }

    async fn sync_names(&self) -> Result<(), LogError> {
        let synced = self.shared.env.disk.sync_directory(&self.directory).await;
        self.shared.health.judge_sync(synced)
    }

    /// Removes segments that the stored state no longer names, but not a file that the
    /// active segment took over.
    pub(super) async fn remove_segments(&self, gone: &[SegmentEntry]) -> Result<(), LogError> {
        if gone.is_empty() {
            return Ok(());
        }
        let disk = &self.shared.env.disk;
        let active = self.view().active().segment.path.clone();
        for entry in gone {
            let segment = &entry.segment;
            for path in [
                segment.path.clone(),
                segment.index_path(),
                segment.producers_path(),
            ] {
                if path == active {
                    continue;
                }
                match disk.remove_file(&path).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.shared.health.fail(error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        self.sync_names().await
    }

    /// The place of the frame that holds `to`, with the producers' state there: folded
    /// from the stored state if it lies before, else from a segment's beginning.
    async fn place_of(&self, to: Offset, segments: &[SegmentEntry]) -> Result<Place, LogError> {
        let stored: Option<LogState> = {
            let file = self.state_file.lock().await;
            self.shared.health.judge_read(file.load().await, to)?
        };
        let base = stored.filter(|state| state.end <= to).and_then(|state| {
            let summary = *state.segments.last()?;
            let at = segments
                .iter()
                .position(|e| e.summary.base == summary.base)?;
            Some(Place {
                at,
                summary,
                chain: state.chain,
                producers: state.producers,
            })
        });
        let mut place = match base {
            Some(place) => place,
            None => self.place_at_segment(to, segments).await?,
        };
        while !self.fold(&mut place, to, segments).await? {
            let next = segments
                .get(place.at + 1)
                .ok_or_else(|| LogError::Corrupt {
                    near: place.summary.end,
                    detail: format!("offset {to} is in no segment"),
                })?;
            place.at += 1;
            let last_append = place.summary.appended_at;
            place.summary =
                SegmentSummary::empty(next.summary.base, next.summary.made_at, last_append);
        }
        Ok(place)
    }

    /// The beginning of the nearest segment at or before `to` whose producers are known.
    async fn place_at_segment(
        &self,
        to: Offset,
        segments: &[SegmentEntry],
    ) -> Result<Place, LogError> {
        let holding = segments.partition_point(|e| e.summary.base <= to).max(1) - 1;
        let disk = &self.shared.env.disk;
        for at in (0..=holding).rev() {
            let entry = &segments[at];
            let known = crate::sidecar::load(disk, &entry.segment.producers_path()).await;
            // Before the first segment nothing is known of anybody.
            let producers = if at == 0 {
                Some(known.unwrap_or_default())
            } else {
                known
            };
            if let Some(producers) = producers {
                let head = self.shared.health.judge(entry.segment.head().await)?;
                let before = at.checked_sub(1).map(|before| &segments[before].summary);
                let last_append = before.map_or(NEVER, |summary| summary.appended_at);
                let SegmentSummary { base, made_at, .. } = entry.summary;
                return Ok(Place {
                    at,
                    summary: SegmentSummary::empty(base, made_at, last_append),
                    chain: head.map_or(0, |head| head.previous),
                    producers,
                });
            }
        }
        Err(LogError::Closed)
    }

    /// Moves `place` forward to the frame that holds `to`; false if its segment ends first.
    async fn fold(
        &self,
        place: &mut Place,
        to: Offset,
        segments: &[SegmentEntry],
    ) -> Result<bool, LogError> {
        let entry = &segments[place.at];
        let file = self.shared.health.judge(entry.segment.file().await)?;
        let limit = entry.summary.bytes;
        let mut walk = Walk::new(file.clone(), place.summary.bytes, limit, WALK_BYTES);
        while walk.position() < limit {
            let near = place.summary.end;
            let found = self.shared.health.judge_read(walk.here().await, near)?;
            let whole = found.and_then(|f| f.frame.batch(&f.bytes).map(|batch| (f.frame, batch)));
            let Some((frame, batch)) = whole else {
                let bad = BadFrame {
                    near: place.summary.end,
                    position: walk.position(),
                };
                return Err(corrupt(entry, &bad));
            };
            if frame.end > to {
                place.chain = frame.previous;
                return Ok(true);
            }
            let size = frame.size() as u64;
            let at = frame.appended_at;
            place
                .producers
                .on_append(batch.header(), frame.base, frame.end, at);
            place
                .summary
                .on_frame(frame.end, size, newest_in(&batch), at);
            place.chain = frame.crc;
            walk.pass(&frame);
        }
        // The cut lies exactly at the segment's end: it stays whole, and written to.
        Ok(place.summary.end >= to)
    }
}
