//! Appending: check, stamp, frame, write, publish, and hand on to be made durable.
//!
//! Nothing of an append is visible, nor in the write-ahead log, before its bytes are in
//! the segment: a full disk therefore leaves nothing behind (I12), and the order "segment,
//! then write-ahead log" lets a checkpoint free a log file once all segments are synced.

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use weir_base::image::FlushMode;
use weir_base::limits::BATCH_BYTES_CEILING;
use weir_base::{BatchError, CacheHint, LeaderEpoch, RecordBatch, Timestamp};

use super::disk::{DiskLog, SegmentEntry, Writer};
use super::{AppendOutcome, LogError, batch_continues};
use crate::producers::{Producers, Verdict};
use crate::record_time::newest_in;
use crate::segment::frame::{FRAME_HEAD_BYTES, FRAME_PROBE_BYTES, Frame, FrameContext};
use crate::segment::{SEGMENT_HEAD_BYTES, Segment, SegmentHead};
use crate::wal::{Framed, Submission};

/// Space is reserved in steps that grow with the segment, between these two: an idle log
/// costs little, a busy one rarely asks.
const ALLOCATE_STEP_MIN: u64 = 256 * 1024;
const ALLOCATE_STEP_MAX: u64 = 16 * 1024 * 1024;
/// Bodies up to this are copied beside their heads: dearer as an I/O vector.
const COPY_BYTES_MAX: usize = 2048;

/// The right to append, how soon it is to be durable, and whether memory is to hold it.
struct Pass {
    flush: FlushMode,
    hint: CacheHint,
    permit: OwnedSemaphorePermit,
}

impl DiskLog {
    pub(super) async fn leader_append(
        &self,
        epoch: LeaderEpoch,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> Result<Vec<AppendOutcome>, LogError> {
        let limit = self.config().batch_limit();
        for batch in &batches {
            // What a journal sends was acknowledged before: here it is only to be readable.
            let limit = match batch.header().producer_id.is_journal() {
                true => BATCH_BYTES_CEILING as usize,
                false => limit,
            };
            if batch.size() > limit {
                let length = batch.header().length;
                return Err(BatchError::Length { length }.into());
            }
            batch.verify_checksum()?;
        }
        let permit = self.reserve(&batches).await?;
        let writer = self.write_lock().await?;
        let now = self.append_time(now);
        let mut end = self.view().end;
        let mut staged = Producers::default();
        let mut accepted = Vec::with_capacity(batches.len());
        let mut outcomes = Vec::with_capacity(batches.len());
        for batch in batches {
            staged.borrow_from(&self.producers_state(), batch.header());
            outcomes.push(match staged.check(batch.header(), now) {
                Verdict::Refused(error) => AppendOutcome::Refused(error),
                Verdict::Duplicate { base, end } => AppendOutcome::Duplicate { base, end },
                Verdict::New => {
                    let batch = batch.stamped(end, epoch);
                    let base = end;
                    end = batch.end_offset();
                    staged.on_append(batch.header(), base, end, now);
                    accepted.push(batch.clone());
                    AppendOutcome::Appended { base, end, batch }
                }
            });
        }
        let hint = CacheHint::Keep;
        let pass = Pass {
            flush,
            hint,
            permit,
        };
        self.write(writer, accepted, now, staged, pass).await?;
        Ok(outcomes)
    }

    pub(super) async fn follower_append(
        &self,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        (flush, hint): (FlushMode, CacheHint),
    ) -> Result<(), LogError> {
        let permit = self.reserve(&batches).await?;
        let writer = self.write_lock().await?;
        let now = self.append_time(now);
        let (mut end, mut last_epoch) = {
            let view = self.view();
            (view.end, view.epochs.last())
        };
        let mut staged = Producers::default();
        for batch in &batches {
            batch_continues(batch, end, last_epoch)?;
            (end, last_epoch) = (batch.end_offset(), batch.leader_epoch());
            staged.borrow_from(&self.producers_state(), batch.header());
            staged.on_append(batch.header(), batch.base_offset(), end, now);
        }
        let pass = Pass {
            flush,
            hint,
            permit,
        };
        self.write(writer, batches, now, staged, pass).await
    }

    /// Broker time of an append never falls within a log (S-45).
    fn append_time(&self, now: Timestamp) -> Timestamp {
        now.max(self.view().active().summary.appended_at)
    }

    /// Waits until there is room for the append in the write-ahead log's queue.
    async fn reserve(&self, batches: &[RecordBatch]) -> Result<OwnedSemaphorePermit, LogError> {
        self.usable()?;
        let bytes = batches.iter().map(|b| b.size() + FRAME_HEAD_BYTES).sum();
        let reserved = self.shared.wal.reserve(bytes).await;
        // The queue closes when the directory fails.
        self.shared.health.check()?;
        reserved
    }

    /// Writes stamped batches at the end, and hands them to the write-ahead log.
    async fn write(
        &self,
        writer: OwnedMutexGuard<Writer>,
        batches: Vec<RecordBatch>,
        now: Timestamp,
        staged: Producers,
        pass: Pass,
    ) -> Result<(), LogError> {
        if batches.is_empty() {
            return Ok(());
        }
        let running = self.shared.health.begins(self.shared.env.clock.now());
        let bytes = batches.iter().map(|b| (b.size() + FRAME_HEAD_BYTES) as u64);
        let bytes = bytes.sum();
        let mut writer = self.roll_if_due(writer, bytes, now).await?;
        let (entry, durable) = {
            let view = self.view();
            (view.active().clone(), view.durable_end)
        };
        let position = entry.summary.bytes;
        self.allocate(&mut writer, &entry, position + bytes).await?;
        let context = FrameContext {
            generation: writer.generation,
            durable,
            appended_at: now,
        };
        let (framed, chain) = frame(&batches, writer.chain, context);
        let file = self.shared.health.judge(entry.segment.file().await)?;
        writer.pending = Some(file.write_at(position, chunks(&framed)));
        self.settle(&mut writer).await?;
        drop(running);
        self.shared
            .write_back
            .wrote(file, position..position + bytes, pass.hint);
        // From here on nothing waits, so nothing can come between.
        writer.chain = chain;
        self.producers_state().absorb(staged);
        let hint = pass.hint;
        self.publish_append(&entry, &batches, &framed, context.appended_at, pass);
        drop(writer);
        match hint {
            CacheHint::Keep => self.shared.cache.push(&self.tail, batches.into_iter()),
            CacheHint::Drop => self.shared.cache.clear(&self.tail),
        }
        self.shared.appended(bytes);
        Ok(())
    }

    fn publish_append(
        &self,
        entry: &SegmentEntry,
        batches: &[RecordBatch],
        framed: &[Framed],
        appended_at: Timestamp,
        pass: Pass,
    ) {
        let mut view = self.view();
        for (batch, framed) in batches.iter().zip(framed) {
            let frame = &framed.frame;
            view.epochs.on_append(frame.epoch, frame.base);
            let active = view.active_mut();
            let newest = newest_in(batch);
            let size = frame.size() as u64;
            active
                .segment
                .index()
                .on_frame(frame.base, active.summary.bytes, size, newest.1);
            active
                .summary
                .on_frame(frame.end, size, newest, appended_at);
            view.end = frame.end;
        }
        let newly_due = view.written(&entry.segment);
        let (end, version) = (view.end, view.version);
        let Some(sink) = self.this.upgrade() else {
            return;
        };
        if newly_due {
            self.shared.dirty(&sink);
        }
        let submission = Submission {
            partition: self.partition,
            batches: framed.to_vec(),
            flush: pass.flush,
            end,
            version,
            sink,
            permit: pass.permit,
        };
        self.shared
            .wal
            .submit(submission, self.shared.env.clock.now());
        self.publish(&view);
    }

    /// Begins a new segment if the active one is full or old.
    async fn roll_if_due(
        &self,
        writer: OwnedMutexGuard<Writer>,
        bytes: u64,
        now: Timestamp,
    ) -> Result<OwnedMutexGuard<Writer>, LogError> {
        let config = self.config();
        let due = {
            let view = self.view();
            let active = view.active();
            let age = config.retention.map_or(config.segment_age, |retention| {
                config.segment_age.min(retention / 2)
            });
            !active.is_empty()
                && (active.summary.bytes + bytes > config.segment_bytes
                    || active.summary.made_at + age < now)
        };
        if !due {
            return Ok(writer);
        }
        let log = self.arc()?;
        self.uninterrupted("log-roll", async move {
            let mut writer = writer;
            log.roll(&mut writer, now).await?;
            Ok(writer)
        })
        .await
    }

    /// Closes the active segment and begins one at the log's end.
    pub(super) async fn roll(&self, writer: &mut Writer, now: Timestamp) -> Result<(), LogError> {
        let health = &self.shared.health;
        let (old, end) = {
            let view = self.view();
            (view.active().clone(), view.end)
        };
        let head = SegmentHead {
            partition: self.partition,
            generation: writer.generation,
            base: end,
            previous: writer.chain,
            made_at: now,
            sealed_bytes: 0,
        };
        self.check_space(0).await?;
        let disk = self.shared.env.disk.clone();
        let segment = Segment::at(disk.clone(), &self.directory, end);
        health.judge(segment.make(head).await)?;
        // A cut into this segment begins from here, when the ones before it may be gone.
        let producers = self.producers_state().clone();
        let path = segment.producers_path();
        health.judge(crate::sidecar::store_durably(&disk, &path, &producers).await)?;
        if !weir_base::mutant!(M6) {
            health.judge_sync(disk.sync_directory(&self.directory).await)?;
        }
        // Space reserved and not used goes back; the next sync of the file keeps the rest.
        let file = health.judge(old.segment.file().await)?;
        health.judge(file.truncate(old.summary.bytes).await)?;
        // A hint only: a full disk may go without.
        match health.judge(old.segment.store_index().await) {
            Ok(()) | Err(LogError::DiskFull) => {}
            Err(other) => return Err(other),
        }
        writer.allocated = SEGMENT_HEAD_BYTES;
        let mut view = self.view();
        if view.written(&old.segment) {
            self.shared.dirty(&self.arc()?);
        }
        let last_append = old.summary.appended_at;
        view.segments
            .push(SegmentEntry::empty(segment, now, last_append));
        Ok(())
    }

    /// Makes the active file at least `needed` bytes long, with some to spare.
    async fn allocate(
        &self,
        writer: &mut Writer,
        entry: &SegmentEntry,
        needed: u64,
    ) -> Result<(), LogError> {
        if needed <= writer.allocated {
            return Ok(());
        }
        self.check_space(needed - writer.allocated).await?;
        let file = self.shared.health.judge(entry.segment.file().await)?;
        for length in [ample(needed), needed] {
            match self.shared.health.judge(file.allocate(length).await) {
                Ok(()) => {
                    writer.allocated = length;
                    return Ok(());
                }
                // Little is left: take no more than is needed.
                Err(LogError::DiskFull) => {}
                Err(other) => return Err(other),
            }
        }
        Err(LogError::DiskFull)
    }

    /// Refuses to dip into the reserve, unless this log may.
    async fn check_space(&self, bytes: u64) -> Result<(), LogError> {
        let reserve = if self.config().uses_reserve {
            0
        } else {
            self.shared.options.reserve_bytes
        };
        let space = self.shared.env.disk.space().await;
        let (free, _) = self.shared.health.judge(space)?;
        if free < bytes.saturating_add(reserve) {
            return Err(LogError::DiskFull);
        }
        Ok(())
    }
}

/// How long a file is made that must hold `needed` bytes: about twice that, until the
/// step has its full size.
fn ample(needed: u64) -> u64 {
    let step = (needed / 2).clamp(ALLOCATE_STEP_MIN, ALLOCATE_STEP_MAX);
    needed.next_multiple_of(step.next_power_of_two())
}

/// Frames the batches, all heads in one allocation. Returns the last frame's checksum too.
fn frame(batches: &[RecordBatch], mut chain: u32, context: FrameContext) -> (Vec<Framed>, u32) {
    let mut heads = BytesMut::with_capacity(batches.len() * (FRAME_PROBE_BYTES + 40));
    let framed = batches
        .iter()
        .map(|batch| {
            let frame = Frame::encode(batch, chain, context, &mut heads);
            chain = frame.crc;
            Framed {
                frame,
                head: heads.split().freeze(),
                body: batch.body().clone(),
            }
        })
        .collect();
    (framed, chain)
}

/// The frames as one vectored write.
fn chunks(framed: &[Framed]) -> Vec<Bytes> {
    let mut chunks = Vec::with_capacity(2 * framed.len());
    let mut small = BytesMut::new();
    for framed in framed {
        if framed.body.len() <= COPY_BYTES_MAX {
            small.extend_from_slice(&framed.head);
            small.extend_from_slice(&framed.body);
            continue;
        }
        if !small.is_empty() {
            chunks.push(small.split().freeze());
        }
        chunks.push(framed.head.clone());
        chunks.push(framed.body.clone());
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// Each reservation is a hop to the disk and a change of the file's metadata: appends
    /// must not have to make their own.
    #[test]
    fn a_segment_is_reserved_in_few_steps() {
        let (mut reserved, mut steps) = (0, 0);
        for needed in (KIB..=128 * KIB * KIB).step_by(1000) {
            if needed > reserved {
                reserved = ample(needed);
                steps += 1;
                let spare = reserved - needed;
                let most = needed.clamp(ALLOCATE_STEP_MIN, ALLOCATE_STEP_MAX);
                assert!(spare <= most, "{needed} {spare}");
            }
        }
        assert_eq!(steps, 14);
    }
}
