//! Reading: from the cached tail if it is there, else from the segment that holds it.
//!
//! A frame read from the disk is checked whole before any of it is served (S-16), and that it
//! follows the one before it: a write that the disk put elsewhere leaves an intact frame in the
//! place of another, behind which a reader would go on and miss all between. The index only says
//! where to start, and what frame begins there; if that proves wrong it is rebuilt, and only a bad
//! frame found by walking from the segment's own beginning counts as corruption. A cut
//! that comes between is noticed by the view's edition, and the read begins again.

use weir_base::{Offset, Timestamp};

use super::disk::{DiskLog, SegmentEntry};
use super::{LogError, ReadChunk};
use crate::record_time::first_record_at;
use crate::segment::frame::FRAME_HEAD_BYTES;
use crate::segment::index::IndexEntry;
use crate::segment::{SEGMENT_HEAD_BYTES, Walk, Walked};

/// Bytes read at a time when looking for a place.
const LOOK_BYTES: usize = 64 * 1024;
/// Bytes read at a time when walking a whole segment.
pub(super) const WALK_BYTES: usize = 1024 * 1024;
/// The most that one read returns, whatever was asked, beyond its first batch.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A read that met a bad frame.
pub(super) struct BadFrame {
    pub(super) near: Offset,
    pub(super) position: u64,
}

/// What a place is looked for by.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Offset(Offset),
    Time(Timestamp),
}

impl DiskLog {
    pub(super) async fn read_chunk(
        &self,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> Result<ReadChunk, LogError> {
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        loop {
            self.usable()?;
            let (entries, below, edition) = {
                let view = self.view();
                if from < view.start || from > view.end {
                    return Err(view.out_of_range(from));
                }
                let at = view.segments.partition_point(|e| e.summary.end <= from);
                // More than two segments are for the next read.
                let entries = view.segments.iter().skip(at).take(2);
                let entries: Vec<_> = entries.cloned().collect();
                (entries, below.min(view.end), view.edition())
            };
            if from < below
                && let Some(chunk) = self.tail.read(from, below, bytes_max)
            {
                return Ok(chunk);
            }
            let mut chunk = ReadChunk {
                base: from,
                end: from,
                ..ReadChunk::default()
            };
            let read = self.read_segments(&entries, below, bytes_max, &mut chunk);
            let read = read.await?;
            if self.view().edition() != edition {
                continue;
            }
            // What was read before a bad frame is good.
            return match read {
                Err(error) if chunk.bytes == 0 => Err(error),
                Ok(()) | Err(_) => Ok(chunk),
            };
        }
    }

    async fn read_segments(
        &self,
        entries: &[SegmentEntry],
        below: Offset,
        bytes_max: usize,
        chunk: &mut ReadChunk,
    ) -> Result<Result<(), LogError>, LogError> {
        for entry in entries {
            if chunk.end < entry.summary.base || chunk.end >= below || chunk.bytes >= bytes_max {
                break;
            }
            match self.read_segment(entry, below, bytes_max, chunk).await? {
                Ok(()) => {}
                Err(bad) => return Ok(Err(corrupt(entry, &bad))),
            }
            if chunk.end < entry.summary.end {
                break;
            }
        }
        Ok(Ok(()))
    }

    /// Adds to `chunk` what the segment holds from the chunk's end on.
    async fn read_segment(
        &self,
        entry: &SegmentEntry,
        below: Offset,
        bytes_max: usize,
        chunk: &mut ReadChunk,
    ) -> Result<Result<(), BadFrame>, LogError> {
        let step = (bytes_max - chunk.bytes).min(WALK_BYTES) + LOOK_BYTES;
        let place = self.look(entry, Wanted::Offset(chunk.end), step).await?;
        let (mut walk, mut next) = match place {
            Err(bad) => return Ok(Err(bad)),
            Ok((walk, next)) => (walk, next),
        };
        while let Some(found) = next {
            let frame = found.frame;
            if !chunk.admits(frame.end, frame.length as usize, below, bytes_max) {
                break;
            }
            if frame.batch(&found.bytes).is_none() {
                return Ok(Err(bad_at(frame.base, found.position)));
            }
            chunk.note(frame.base, frame.end, frame.length as usize);
            chunk.chunks.push(found.bytes.slice(FRAME_HEAD_BYTES..));
            walk.pass(&frame);
            next = match self.next_frame(&mut walk, entry, frame.end).await? {
                Ok(next) => next,
                Err(bad) => return Ok(Err(bad)),
            };
        }
        Ok(Ok(()))
    }

    /// The frame at the walk's position, none at the segment's end.
    pub(super) async fn next_frame(
        &self,
        walk: &mut Walk,
        entry: &SegmentEntry,
        near: Offset,
    ) -> Result<Result<Option<Walked>, BadFrame>, LogError> {
        if walk.position() >= entry.summary.bytes {
            return Ok(Ok(None));
        }
        let found = self.shared.health.judge_read(walk.here().await, near)?;
        Ok(found.map(Some).ok_or_else(|| bad_at(near, walk.position())))
    }

    /// Walks to the first frame wanted, by way of the index.
    pub(super) async fn look(
        &self,
        entry: &SegmentEntry,
        wanted: Wanted,
        step: usize,
    ) -> Result<Result<(Walk, Option<Walked>), BadFrame>, LogError> {
        self.cover(entry).await?;
        let hint = {
            let index = entry.segment.index();
            match wanted {
                Wanted::Offset(offset) => index.entry_of(offset),
                Wanted::Time(time) => index.entry_at_time(time),
            }
        };
        if hint.is_some() {
            let found = self.walk_to(entry, hint, wanted, step).await?;
            if found.is_ok() {
                return Ok(found);
            }
            // The index may be at fault: it goes, and the frames decide.
            entry.segment.index().truncate_to(SEGMENT_HEAD_BYTES);
        }
        self.walk_to(entry, None, wanted, WALK_BYTES).await
    }

    async fn walk_to(
        &self,
        entry: &SegmentEntry,
        from: Option<IndexEntry>,
        wanted: Wanted,
        step: usize,
    ) -> Result<Result<(Walk, Option<Walked>), BadFrame>, LogError> {
        let (health, mut near) = (&self.shared.health, entry.summary.base);
        let limit = entry.summary.bytes;
        let mut walk = match from {
            Some(from) => {
                let file = health.judge_read(entry.segment.file().await, near)?;
                Walk::new(file.clone(), from.position, limit, step)
            }
            None => health.judge_read(entry.segment.walk(limit, step).await, near)?,
        };
        loop {
            let found = match self.next_frame(&mut walk, entry, near).await? {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(Ok((walk, None))),
                Err(bad) => return Ok(Err(bad)),
            };
            let is_other =
                |from: IndexEntry| from.position == found.position && from.base != found.frame.base;
            if from.is_some_and(is_other) {
                return Ok(Err(bad_at(near, found.position)));
            }
            let there = match wanted {
                Wanted::Offset(offset) => found.frame.end > offset,
                Wanted::Time(time) => match found.frame.batch(&found.bytes) {
                    Some(batch) => batch.header().max_timestamp >= time,
                    None => return Ok(Err(bad_at(near, found.position))),
                },
            };
            if there {
                return Ok(Ok((walk, Some(found))));
            }
            near = found.frame.end;
            walk.pass(&found.frame);
        }
    }

    /// Makes the segment's index cover it: loads the stored one, walks what it lacks.
    async fn cover(&self, entry: &SegmentEntry) -> Result<(), LogError> {
        if entry.segment.index().covered_to() >= entry.summary.bytes {
            return Ok(());
        }
        entry.segment.load_index().await;
        let from = entry.segment.index().covered_to();
        if from >= entry.summary.bytes {
            return Ok(());
        }
        let (health, near) = (&self.shared.health, entry.summary.base);
        let limit = entry.summary.bytes;
        let mut walk = if from == SEGMENT_HEAD_BYTES {
            health.judge_read(entry.segment.walk(limit, WALK_BYTES).await, near)?
        } else {
            let file = health.judge_read(entry.segment.file().await, near)?;
            Walk::new(file.clone(), from, limit, WALK_BYTES)
        };
        while let Some(found) = health.judge_read(walk.here().await, near)? {
            // A bad frame ends it; whoever reads there will find out.
            let Some(batch) = found.frame.batch(&found.bytes) else {
                break;
            };
            let size = found.frame.size() as u64;
            let newest = batch.header().max_timestamp;
            entry
                .segment
                .index()
                .on_frame(found.frame.base, found.position, size, newest);
            walk.pass(&found.frame);
        }
        Ok(())
    }

    pub(super) async fn find_time(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, LogError> {
        loop {
            self.usable()?;
            let (segments, start, edition) = {
                let view = self.view();
                (view.segments.clone(), view.start, view.edition())
            };
            let found = self
                .find_time_in(&segments, start, timestamp, below)
                .await?;
            if self.view().edition() == edition {
                return found.map_err(|(entry, bad)| corrupt(&entry, &bad));
            }
        }
    }

    async fn find_time_in(
        &self,
        segments: &[SegmentEntry],
        start: Offset,
        timestamp: Timestamp,
        below: Offset,
    ) -> Result<Result<Option<(Offset, Timestamp)>, (SegmentEntry, BadFrame)>, LogError> {
        let may_hold = |entry: &&SegmentEntry| {
            let newest = entry.summary.newest;
            entry.summary.end > start && newest.is_some_and(|(_, time)| time >= timestamp)
        };
        for entry in segments.iter().filter(may_hold) {
            let place = self
                .look(entry, Wanted::Time(timestamp), LOOK_BYTES)
                .await?;
            let (mut walk, mut next) = match place {
                Err(bad) => return Ok(Err((entry.clone(), bad))),
                Ok(place) => place,
            };
            while let Some(found) = next {
                let frame = found.frame;
                if frame.base >= below {
                    return Ok(Ok(None));
                }
                let Some(batch) = frame.batch(&found.bytes) else {
                    return Ok(Err((entry.clone(), bad_at(frame.base, found.position))));
                };
                if let Some(hit) = first_record_at(&batch, timestamp, start)? {
                    return Ok(Ok(Some(hit).filter(|(at, _)| *at < below)));
                }
                walk.pass(&frame);
                next = match self.next_frame(&mut walk, entry, frame.end).await? {
                    Ok(next) => next,
                    Err(bad) => return Ok(Err((entry.clone(), bad))),
                };
            }
        }
        Ok(Ok(None))
    }
}

pub(super) fn bad_at(near: Offset, position: u64) -> BadFrame {
    BadFrame { near, position }
}

pub(super) fn corrupt(entry: &SegmentEntry, bad: &BadFrame) -> LogError {
    LogError::Corrupt {
        near: bad.near,
        detail: format!(
            "bad frame at byte {} of {}",
            bad.position, entry.segment.path
        ),
    }
}
