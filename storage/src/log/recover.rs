//! Opening a log: from its stored state forward, frame by frame, to where it ends.
//!
//! ```text
//!   stored state          segments behind it        write-ahead log
//!   end, chain, epochs -> next frame in the file? -> the same frame there? -> the end
//! ```
//! A frame is taken if it continues the log: its offset, the chain of checksums, and a
//! generation not below the stored one. What the file lacks is taken from the write-ahead
//! log and written again, so replay is idempotent by offset, epoch and chain. Cost depends
//! on what was written since the last checkpoint, not on the size of the log.
//!
//! Behind the end three things can be (reliability 3.5):
//! - nothing: a clean end;
//! - bad bytes, or good frames none of which says that the end had been durable beyond
//!   here: a torn tail, which is cut off and reported;
//! - a good frame that does say so: corruption. Nothing is touched, the log stays shut
//!   and is to be repaired from a peer (S-16, M19). If the write-ahead log was needed to
//!   see it, a mark in the directory keeps the log shut once those files are recycled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_base::{DiskFile, Offset, RecordBatch, Timestamp, TopicPartition};

use super::LogError;
use super::disk::{DiskLog, Parts, SegmentEntry, Writer};
use super::read::WALK_BYTES;
use crate::LogConfig;
use crate::record_time::newest_in;
use crate::segment::frame::Frame;
use crate::segment::{SEGMENT_HEAD_BYTES, Segment, SegmentHead, Walk, base_of};
use crate::shared::Shared;
use crate::state::{LogState, NEVER, STATE_FORMAT, SegmentSummary};
use crate::two_slot::{Found, TwoSlot};
use crate::wal::replay::LogFrames;

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log was made just now.
    pub created: bool,
    /// Where it ends; all of it is durable.
    pub end: Offset,
    /// Batches read behind the stored state.
    pub batches_scanned: u64,
    /// Batches of those that only the write-ahead log still had.
    pub batches_replayed: u64,
    /// How the log ended.
    pub tail: RecoveredTail,
}

/// What lay behind the last good batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveredTail {
    /// Nothing.
    Clean,
    /// Bytes of an append that a crash cut short, or of a last batch that rotted: the two
    /// look alike here. Under sync flush the write-ahead log tells: if it is whole, what
    /// was cut was never acknowledged; if not, the start is a suspect one
    /// ([`StartKind::TailSuspect`](crate::StartKind), reliability 3.4).
    Torn,
}

struct Recovery {
    shared: Arc<Shared>,
    partition: TopicPartition,
    directory: String,
    state: LogState,
    slots: TwoSlot,
    segments: Vec<SegmentEntry>,
    /// Segments behind the stored state, by base.
    /// One whose head is bad can only prove that something was lost.
    later: BTreeMap<Offset, (Arc<Segment>, Option<SegmentHead>)>,
    frames: LogFrames,
    report: RecoveryReport,
    /// Segments that hold something not known to be durable.
    touched: Vec<Arc<Segment>>,
    /// The disk failed to read, which may pass.
    read_failed: AtomicBool,
}

/// Opens the log in `directory`, making it if there is none; `frames` are what the
/// write-ahead log holds for it.
pub(crate) async fn open(
    shared: Arc<Shared>,
    partition: TopicPartition,
    directory: String,
    config: LogConfig,
    frames: LogFrames,
) -> Result<(Arc<DiskLog>, RecoveryReport), LogError> {
    let mut tries = READ_TRIES;
    loop {
        tries -= 1;
        let begun = Recovery::begin(shared.clone(), partition, directory.clone(), frames.clone());
        let mut recovery = begun.await?;
        match recovery.find_end().await {
            Ok(()) => return recovery.finish(config).await,
            // What cannot be read now is not bad by that: nothing is decided on it, nor
            // was anything written but what is whole.
            Err(error) if recovery.read_failed.load(Ordering::Relaxed) && tries > 0 => {
                tracing::warn!(log = %partition, %error, "recovery begins again");
                shared.env.sleep(READ_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Times that recovery is tried when the disk fails to read, and the pause between two.
const READ_TRIES: u32 = 10;
const READ_PAUSE: Duration = Duration::from_millis(500);

/// The file that says that a log was found corrupt.
const MARK: &str = "corrupt";

/// Notes durably in `directory` that its log was found corrupt at `near`.
pub(crate) async fn mark_corrupt(
    shared: &Shared,
    directory: &str,
    near: Offset,
    detail: &str,
) -> Result<(), LogError> {
    let disk = &shared.env.disk;
    let path = format!("{directory}/{MARK}");
    let stored = crate::sidecar::store_durably(disk, &path, &(near, detail)).await;
    shared.health.judge(stored)?;
    shared
        .health
        .judge_sync(disk.sync_directory(directory).await)
}

fn corrupt(near: Offset, detail: impl Into<String>) -> LogError {
    LogError::Corrupt {
        near,
        detail: detail.into(),
    }
}

impl Recovery {
    async fn begin(
        shared: Arc<Shared>,
        partition: TopicPartition,
        directory: String,
        mut frames: LogFrames,
    ) -> Result<Recovery, LogError> {
        let health = &shared.health;
        let disk = shared.env.disk.clone();
        health.judge(disk.create_directory_all(&directory).await)?;
        let path = format!("{directory}/state");
        let opened = TwoSlot::open::<LogState>(&disk, &path).await;
        let (slots, found) = health.judge(opened)?;
        let (state, created) = match found {
            Found::Value(state) if state.format == STATE_FORMAT => (state, false),
            Found::Value(state) => {
                let detail = format!("stored state has unknown format {}", state.format);
                return Err(corrupt(Offset::ZERO, detail));
            }
            Found::Corrupt => return Err(corrupt(Offset::ZERO, "stored state, both copies")),
            // Stored at the end, when what it names is durable.
            Found::Nothing => (new_state(&shared), true),
        };
        frames.retain(|_, found| {
            found.lsn >= state.floor_lsn && found.frame.generation >= state.generation
        });
        let report = RecoveryReport {
            created,
            end: state.end,
            batches_scanned: 0,
            batches_replayed: 0,
            tail: RecoveredTail::Clean,
        };
        Ok(Recovery {
            shared,
            partition,
            directory,
            state,
            slots,
            segments: Vec::new(),
            later: BTreeMap::new(),
            frames,
            report,
            touched: Vec::new(),
            read_failed: AtomicBool::new(false),
        })
    }

    async fn find_end(&mut self) -> Result<(), LogError> {
        self.load_segments().await?;
        self.scan().await?;
        self.judge_tail().await?;
        self.write_again().await
    }

    /// Finds the segments that the state names, and those behind it.
    async fn load_segments(&mut self) -> Result<(), LogError> {
        let shared = self.shared.clone();
        let health = &shared.health;
        let disk = &shared.env.disk;
        let names = health.judge(disk.list(&self.directory).await)?;
        if names.iter().any(|name| name == MARK) {
            let path = format!("{}/{MARK}", self.directory);
            let mark: Option<(Offset, String)> = crate::sidecar::load(disk, &path).await;
            // A mark that is torn or rotten is one all the same.
            let (near, detail) = mark.unwrap_or((self.state.end, String::new()));
            return Err(corrupt(
                near,
                format!("found at an earlier start: {detail}"),
            ));
        }
        let there: Vec<Offset> = names.iter().filter_map(|name| base_of(name)).collect();
        for mut summary in self.state.segments.clone() {
            let segment = Segment::at(disk.clone(), &self.directory, summary.base);
            let found = there.contains(&summary.base);
            self.check_named(&segment, &mut summary, found).await?;
            self.segments.push(SegmentEntry { segment, summary });
        }
        for base in there {
            if self.state.segments.iter().any(|s| s.base == base) {
                continue;
            }
            let segment = Segment::at(disk.clone(), &self.directory, base);
            let head = self.read(segment.head().await)?;
            let stale = head.is_some_and(|head| {
                head.partition != self.partition
                    || head.base != base
                    || head.generation < self.state.generation
            });
            if stale || base < self.state.end {
                // Left behind by a cut or a raised start.
                self.discard(&segment).await?;
            } else {
                self.later.insert(base, (segment, head));
            }
        }
        Ok(())
    }

    /// A segment that the state names must be there, whole; an empty one is made again.
    async fn check_named(
        &mut self,
        segment: &Arc<Segment>,
        summary: &mut SegmentSummary,
        there: bool,
    ) -> Result<(), LogError> {
        let health = &self.shared.health;
        let head = if there {
            self.read(segment.head().await)?
        } else {
            None
        };
        let empty = summary.bytes == SEGMENT_HEAD_BYTES;
        let last = summary.base == self.state.segments.last().map_or(Offset::ZERO, |s| s.base);
        let current = head.filter(|head| {
            head.partition == self.partition
                && head.base == summary.base
                && (!empty || !last || head.generation >= self.state.generation)
        });
        if current.is_none() && empty && last {
            if there && head.is_none() {
                // Its head rotted; frames behind it may well be of this log, and durable.
                self.mend_head(segment, summary.made_at).await?;
            } else {
                // Not made yet, or of before a cut.
                let head = self.next_head(summary.base, summary.made_at);
                health.judge(segment.make(head).await)?;
            }
            let disk = &self.shared.env.disk;
            if there {
                // What a reset left beside it is of the log before.
                self.remove(&segment.index_path()).await?;
                self.store_producers(segment).await?;
            }
            return health.judge_sync(disk.sync_directory(&self.directory).await);
        }
        if current.is_none() {
            return Err(corrupt(
                summary.base,
                format!("{} is missing or has no head", segment.path),
            ));
        }
        // Compaction replaced it after the state was stored.
        if let Some(sealed) = current.map(|head| u64::from(head.sealed_bytes))
            && sealed > 0
            && !last
            && sealed != summary.bytes
        {
            // The process may have ended before the new file's name was durable.
            let disk = &self.shared.env.disk;
            health.judge_sync(disk.sync_directory(&self.directory).await)?;
            summary.bytes = sealed;
        }
        let file = health.judge(segment.file().await)?;
        let size = health.judge(file.size().await)?;
        if size < summary.bytes {
            let detail = format!("{} has {size} bytes of {}", segment.path, summary.bytes);
            return Err(corrupt(summary.base, detail));
        }
        Ok(())
    }

    /// The head of a segment that begins where the log stands.
    fn next_head(&self, base: Offset, made_at: Timestamp) -> SegmentHead {
        SegmentHead {
            partition: self.partition,
            generation: self.state.generation,
            base,
            previous: self.state.chain,
            made_at,
            sealed_bytes: 0,
        }
    }

    /// Writes the head of a segment that begins where the log stands: all of it is known.
    async fn mend_head(&self, segment: &Segment, made_at: Timestamp) -> Result<(), LogError> {
        tracing::warn!(log = %self.partition, path = segment.path, "bad segment head written anew");
        let health = &self.shared.health;
        let file = health.judge(segment.file().await)?;
        let head = self.next_head(segment.base, made_at);
        health.judge_sync(file.write_at_and_sync(0, vec![head.encode()]).await)
    }

    async fn discard(&self, segment: &Segment) -> Result<(), LogError> {
        for path in [
            segment.path.clone(),
            segment.index_path(),
            segment.producers_path(),
        ] {
            self.remove(&path).await?;
        }
        Ok(())
    }

    async fn remove(&self, path: &str) -> Result<(), LogError> {
        match self.shared.env.disk.remove_file(path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(self.shared.health.fail(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Goes forward from the stored state as far as the log goes.
    async fn scan(&mut self) -> Result<(), LogError> {
        let mut walk = self.walk().await?;
        loop {
            let found = self.read(walk.here().await)?;
            let good = found.and_then(|found| {
                let batch = found.frame.batch(&found.bytes)?;
                self.continues(&found.frame).then_some((found.frame, batch))
            });
            if let Some((frame, batch)) = good {
                walk.skip(frame.size());
                self.take(&frame, &batch);
                continue;
            }
            if self.next_segment().await? || self.replay_one(walk.file()).await? {
                walk = self.walk().await?;
                continue;
            }
            return Ok(());
        }
    }

    fn read<T>(&self, result: std::io::Result<T>) -> Result<T, LogError> {
        if result.is_err() {
            self.read_failed.store(true, Ordering::Relaxed);
        }
        self.shared.health.judge_read(result, self.state.end)
    }

    async fn walk(&self) -> Result<Walk, LogError> {
        let health = &self.shared.health;
        let active = self.active();
        let file = health.judge(active.segment.file().await)?;
        let size = health.judge(file.size().await)?;
        Ok(Walk::new(
            file.clone(),
            active.summary.bytes,
            size,
            WALK_BYTES,
        ))
    }

    fn active(&self) -> &SegmentEntry {
        let last = self.segments.last();
        last.expect("I12: a log has at least one segment")
    }

    fn continues(&self, frame: &Frame) -> bool {
        frame.base == self.state.end
            && frame.previous == self.state.chain
            && frame.generation >= self.state.generation
            && frame.epoch >= self.state.epochs.last()
    }

    fn take(&mut self, frame: &Frame, batch: &RecordBatch) {
        let state = &mut self.state;
        state.end = frame.end;
        state.chain = frame.crc;
        state.generation = frame.generation;
        state.epochs.on_append(frame.epoch, frame.base);
        let at = frame.appended_at;
        state
            .producers
            .on_append(batch.header(), frame.base, frame.end, at);
        if let Some(active) = self.segments.last_mut() {
            let size = frame.size() as u64;
            let newest = newest_in(batch);
            let position = active.summary.bytes;
            active
                .segment
                .index()
                .on_frame(frame.base, position, size, newest.1);
            active.summary.on_frame(frame.end, size, newest, at);
            let segment = active.segment.clone();
            self.touch(segment);
        }
        self.report.batches_scanned += 1;
    }

    fn touch(&mut self, segment: Arc<Segment>) {
        if !self.is_touched(&segment) {
            self.touched.push(segment);
        }
    }

    fn is_touched(&self, segment: &Arc<Segment>) -> bool {
        self.touched.iter().any(|held| Arc::ptr_eq(held, segment))
    }

    /// Goes on in the segment that begins where the log stands, if there is one.
    async fn next_segment(&mut self) -> Result<bool, LogError> {
        let Some((segment, head)) = self.later.get(&self.state.end).cloned() else {
            return Ok(false);
        };
        let head = match head {
            Some(head) => head,
            None => match self.first_in(&segment).await? {
                Some(first) if self.continues(&first) => {
                    self.mend_head(&segment, first.appended_at).await?;
                    self.next_head(first.base, first.appended_at)
                }
                Some(_) | None => return Ok(false),
            },
        };
        if head.previous != self.state.chain {
            return Ok(false);
        }
        self.store_producers(&segment).await?;
        self.later.remove(&head.base);
        let last_append = self.active().summary.appended_at;
        let summary = SegmentSummary::empty(head.base, head.made_at, last_append);
        self.touch(segment.clone());
        self.segments.push(SegmentEntry { segment, summary });
        Ok(true)
    }

    /// The first frame of a segment, if it is whole.
    async fn first_in(&self, segment: &Segment) -> Result<Option<Frame>, LogError> {
        let file = self.shared.health.judge(segment.file().await)?.clone();
        let size = self.shared.health.judge(file.size().await)?;
        let mut walk = Walk::new(file, SEGMENT_HEAD_BYTES, size, WALK_BYTES);
        let found = self.read(walk.here().await)?;
        Ok(found.and_then(|found| found.frame.batch(&found.bytes).map(|_| found.frame)))
    }

    /// Stores who produced up to the base of `segment`, where the log stands now: the crash
    /// may have come before that, and a cut into the segment begins from it.
    async fn store_producers(&self, segment: &Segment) -> Result<(), LogError> {
        let disk = &self.shared.env.disk;
        let path = segment.producers_path();
        let stored = crate::sidecar::store_durably(disk, &path, &self.state.producers).await;
        self.shared.health.judge(stored)
    }

    /// Writes the next frame anew from the write-ahead log, if it is there.
    async fn replay_one(&mut self, file: Arc<dyn DiskFile>) -> Result<bool, LogError> {
        let Some(found) = self.frames.get(&self.state.end).cloned() else {
            return Ok(false);
        };
        if !self.continues(&found.frame) {
            return Ok(false);
        }
        let health = &self.shared.health;
        let bytes = self.read(found.bytes().await)?;
        let Some(batch) = found.frame.batch(&bytes) else {
            return Ok(false);
        };
        let position = self.active().summary.bytes;
        health.judge(file.write_at(position, vec![bytes]).await)?;
        self.take(&found.frame, &batch);
        self.report.batches_replayed += 1;
        Ok(true)
    }

    /// Tells a clean end, a torn tail and corruption apart.
    async fn judge_tail(&mut self) -> Result<(), LogError> {
        let end = self.state.end;
        let generation = self.state.generation;
        let proves = |frame: &Frame| {
            frame.generation >= generation && frame.durable > end && !weir_base::mutant!(M19)
        };
        let lost = self.frames.values().any(|found| proves(&found.frame));
        if lost {
            return Err(corrupt(end, "a batch that was durable is in no file"));
        }
        let mut walk = self.walk().await?;
        let mut dirty = self.search(&mut walk, &proves).await?;
        let later: Vec<_> = self
            .later
            .values()
            .map(|(segment, _)| segment.clone())
            .collect();
        for segment in &later {
            let file = self.shared.health.judge(segment.file().await)?.clone();
            let size = self.shared.health.judge(file.size().await)?;
            let mut walk = Walk::new(file, SEGMENT_HEAD_BYTES, size, WALK_BYTES);
            dirty |= self.search(&mut walk, &proves).await?;
        }
        for segment in &later {
            self.discard(segment).await?;
        }
        if dirty {
            self.report.tail = RecoveredTail::Torn;
            tracing::warn!(log = %self.partition, %end, "torn tail cut off");
        }
        let active = self.active().clone();
        let file = self.shared.health.judge(active.segment.file().await)?;
        let size = self.shared.health.judge(file.size().await)?;
        if dirty && size > active.summary.bytes {
            self.shared
                .health
                .judge(file.truncate(active.summary.bytes).await)?;
            self.touch(active.segment.clone());
        }
        Ok(())
    }

    /// Writes what was found behind the stored state once more, for [`Recovery::finish`] to
    /// sync. If the fsync of an earlier process failed, its bytes can be read until the
    /// machine restarts and the next fsync says that all is well, but they are not on the
    /// disk (S-41). The same bytes in the same place: a crash in the midst harms nothing.
    async fn write_again(&self) -> Result<(), LogError> {
        if weir_base::mutant!(CacheIsDisk) {
            return Ok(());
        }
        let health = &self.shared.health;
        for entry in self.segments.iter().filter(|e| self.is_touched(&e.segment)) {
            let mut stored = self.state.segments.iter();
            let stored = stored.find(|summary| summary.base == entry.summary.base);
            // A head may be younger than the state that calls its segment empty.
            let mut at = stored
                .map(|summary| summary.bytes)
                .filter(|bytes| *bytes > SEGMENT_HEAD_BYTES)
                .unwrap_or(0);
            let file = health.judge(entry.segment.file().await)?;
            while at < entry.summary.bytes {
                let left = usize::try_from(entry.summary.bytes - at).unwrap_or(WALK_BYTES);
                let bytes = self.read(file.read_at(at, left.min(WALK_BYTES)).await)?;
                if bytes.is_empty() {
                    return Err(corrupt(entry.summary.base, "the file became shorter"));
                }
                let read = bytes.len() as u64;
                health.judge(file.write_at(at, vec![bytes]).await)?;
                at += read;
            }
        }
        Ok(())
    }

    /// Whether anything but zeros follows; errs if a frame there proves corruption.
    async fn search(
        &self,
        walk: &mut Walk,
        proves: &(dyn Fn(&Frame) -> bool + Send + Sync),
    ) -> Result<bool, LogError> {
        let mut dirty = false;
        loop {
            let (found, passed) = self.read(walk.search().await)?;
            dirty |= passed;
            let Some(frame) = found else {
                return Ok(dirty);
            };
            dirty = true;
            let whole = self.read(walk.here().await)?;
            let intact = whole.is_some_and(|w| w.frame.batch(&w.bytes).is_some());
            if intact && proves(&frame) {
                let detail = format!(
                    "bad frame, but the one at {} says that {} was durable",
                    frame.base, frame.durable
                );
                return Err(corrupt(self.state.end, detail));
            }
            walk.skip(if intact { frame.size() } else { 1 });
        }
    }

    async fn finish(
        mut self,
        config: LogConfig,
    ) -> Result<(Arc<DiskLog>, RecoveryReport), LogError> {
        let shared = self.shared.clone();
        let health = &shared.health;
        let changed = !self.touched.is_empty() || !self.later.is_empty();
        for segment in &self.touched {
            let file = health.judge(segment.file().await)?;
            health.judge_sync(file.sync_data().await)?;
        }
        self.state.segments = self.segments.iter().map(|e| e.summary).collect();
        let disk = &shared.env.disk;
        if changed || self.report.created {
            // An earlier process may have ended before the name of a segment that the state
            // is to name was durable.
            health.judge_sync(disk.sync_directory(&self.directory).await)?;
        }
        if self.report.created {
            let parent = self.directory.rsplit_once('/').map_or("", |(p, _)| p);
            health.judge_sync(disk.sync_directory(parent).await)?;
        }
        if changed || self.report.created {
            health.judge(self.slots.store(self.state.clone()).await)?;
        }
        self.report.end = self.state.end;
        let allocated = if changed || self.report.created {
            let file = health.judge(self.active().segment.file().await)?;
            health.judge(file.size().await)?
        } else {
            self.active().summary.bytes
        };
        // Files of idle logs are opened again when they are used: there may be thousands.
        for entry in &mut self.segments {
            let mut touched = self.touched.iter();
            if !touched.any(|held| Arc::ptr_eq(held, &entry.segment)) {
                let disk = shared.env.disk.clone();
                entry.segment = Segment::at(disk, &self.directory, entry.summary.base);
            }
        }
        let parts = Parts {
            partition: self.partition,
            directory: self.directory,
            config,
            writer: Writer {
                generation: self.state.generation,
                chain: self.state.chain,
                allocated,
                pending: None,
            },
            state_file: self.slots,
            floor_lsn: self.state.floor_lsn,
            producers: self.state.producers,
            start: self.state.start,
            end: self.state.end,
            epochs: self.state.epochs,
            segments: self.segments,
        };
        Ok((DiskLog::assemble(shared, parts), self.report))
    }
}

fn new_state(shared: &Shared) -> LogState {
    let made_at = shared.env.clock.wall();
    LogState {
        format: STATE_FORMAT,
        generation: 1,
        start: Offset::ZERO,
        end: Offset::ZERO,
        chain: 0,
        segments: vec![SegmentSummary::empty(Offset::ZERO, made_at, NEVER)],
        epochs: crate::epochs::EpochCache::default(),
        producers: crate::producers::Producers::default(),
        floor_lsn: shared.wal.next_lsn(),
    }
}
