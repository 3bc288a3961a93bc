//! Log compaction: of every key only the latest record stays.
//!
//! Works on closed segments, one after the other: a compacted copy is written beside the
//! segment a megabyte at a time, synced, and renamed over it. Its head says where it ends,
//! so a crash between the rename and the next stored state confuses nobody. A round ends
//! where the memory for its keys does, be it within a segment; the next goes on from there.
//! Offsets do not change and leave no gaps: a batch that loses all its records stays as an empty one, and empty
//! neighbours are joined.
//!
//! Compressed batches are opened, and what is left of one is compressed again with its
//! codec. Left whole, and not counted as holders of a key: control batches, transactional
//! ones (an aborted record must not displace a committed one), and batches that do not
//! decompress into 64 MiB: the front refuses those, unless it is set otherwise.
//! Records without a key stay.

mod latest;
mod rewrite;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use weir_base::batch::{Compression, Record, compress, decompress, read_records};
use weir_base::limits::DECOMPRESSED_BYTES_CEILING;
use weir_base::{Clock, Monotonic, Offset, RecordBatch, Timestamp};

use super::LogError;
use super::disk::{DiskLog, SegmentEntry};
use super::read::{BadFrame, WALK_BYTES, corrupt};
use crate::segment::frame::Frame;
use crate::segment::{Segment, Walk};
use crate::state::SegmentSummary;
use latest::Latest;
use rewrite::Rewrite;

/// What a round of compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionReport {
    /// Segments replaced.
    pub segments: u64,
    /// Bytes they had more than what replaced them.
    pub bytes_freed: u64,
}

/// The segments worth compacting: all closed ones below `below`, if what was not looked
/// at yet is at least a third of them (else the work is not worth its writes).
pub(crate) fn plan(segments: &[SegmentSummary], compacted_to: Offset, below: Offset) -> usize {
    let closed = segments.len().saturating_sub(1);
    let count = segments[..closed]
        .iter()
        .take_while(|segment| segment.end <= below)
        .count();
    let bytes = |segments: &mut dyn Iterator<Item = &SegmentSummary>| -> u64 {
        segments.map(|segment| segment.bytes).sum()
    };
    let all = bytes(&mut segments[..count].iter());
    let new = bytes(&mut segments[..count].iter().filter(|s| s.end > compacted_to));
    if new * 3 >= all && new > 0 { count } else { 0 }
}

/// How long a round works at a stretch, and how many times as long it then rests. Millions of
/// records are seconds of work, and all replicas are due at about the same time: at full speed
/// everything else would wait for those who are in no hurry.
const STRETCH: Duration = Duration::from_millis(2);
const REST: u32 = 3;

/// Keeps a round to its share of a core and of the disk.
struct Pace {
    clock: Arc<dyn Clock>,
    since: Monotonic,
}

impl Pace {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let since = clock.now();
        Self { clock, since }
    }

    /// Between two batches: rests if it is time to.
    async fn rest(&mut self) {
        let now = self.clock.now();
        let worked = now - self.since;
        if worked >= STRETCH {
            self.clock.sleep_until(now + worked * REST).await;
            self.since = self.clock.now();
        }
    }
}

impl DiskLog {
    /// One round, for records below `below`.
    pub(crate) async fn compact(&self, below: Offset) -> Result<CompactionReport, LogError> {
        let log = self.arc()?;
        self.uninterrupted("log-compact", async move { log.compact_round(below).await })
            .await
    }

    async fn compact_round(&self, below: Offset) -> Result<CompactionReport, LogError> {
        self.usable()?;
        let mut report = CompactionReport::default();
        let (segments, from) = {
            let view = self.view();
            let summaries: Vec<_> = view.segments.iter().map(|e| e.summary).collect();
            let bound = below.min(view.durable_end);
            let count = plan(&summaries, view.compacted_to, bound);
            (view.segments[..count].to_vec(), view.compacted_to)
        };
        if segments.is_empty() || !self.config().compact {
            return Ok(report);
        }
        // The stored state must be past the segments that are about to change.
        self.checkpoint().await?;
        let mut pace = Pace::new(Arc::clone(&self.shared.env.clock));
        let latest = self.latest_keys(&segments, from, &mut pace).await?;
        let covered = latest.covered();
        for entry in segments.iter().filter(|e| e.summary.base < covered) {
            let freed = self.compact_segment(entry, &latest, &mut pace).await?;
            report.segments += u64::from(freed > 0);
            report.bytes_freed += freed;
        }
        let mut view = self.view();
        view.compacted_to = view.compacted_to.max(covered);
        Ok(report)
    }

    /// The latest offset of each key from `from` on, as far as memory allows: at least of one
    /// batch.
    async fn latest_keys(
        &self,
        segments: &[SegmentEntry],
        from: Offset,
        pace: &mut Pace,
    ) -> Result<Latest, LogError> {
        let mut latest = Latest::new(from, self.config().compaction_bytes_max);
        for entry in segments.iter().filter(|e| e.summary.end > from) {
            let mut walk = self.walk_of(entry).await?;
            while let Some((frame, batch)) = self.next_batch(&mut walk, entry, pace).await? {
                if latest.is_full() {
                    return Ok(latest);
                }
                if frame.end > from {
                    let records = visible(&batch)?.unwrap_or_default().0;
                    latest.learn(&records, frame.end);
                }
            }
        }
        Ok(latest)
    }

    async fn walk_of(&self, entry: &SegmentEntry) -> Result<Walk, LogError> {
        let walk = entry.segment.walk(entry.summary.bytes, WALK_BYTES).await;
        self.shared.health.judge_read(walk, entry.summary.base)
    }

    async fn next_batch(
        &self,
        walk: &mut Walk,
        entry: &SegmentEntry,
        pace: &mut Pace,
    ) -> Result<Option<(Frame, RecordBatch)>, LogError> {
        pace.rest().await;
        if walk.position() >= entry.summary.bytes {
            return Ok(None);
        }
        let near = entry.summary.base;
        let found = self.shared.health.judge_read(walk.here().await, near)?;
        let whole = found.and_then(|f| f.frame.batch(&f.bytes).map(|batch| (f.frame, batch)));
        let Some((frame, batch)) = whole else {
            let position = walk.position();
            return Err(corrupt(entry, &BadFrame { near, position }));
        };
        walk.pass(&frame);
        Ok(Some((frame, batch)))
    }

    /// Replaces one segment; returns the bytes freed.
    async fn compact_segment(
        &self,
        entry: &SegmentEntry,
        latest: &Latest,
        pace: &mut Pace,
    ) -> Result<u64, LogError> {
        let tombstones_from = {
            let keep = i64::try_from(self.config().tombstone_retention.as_millis());
            let now = self.shared.env.clock.wall().0;
            Timestamp(now.saturating_sub(keep.unwrap_or(i64::MAX)))
        };
        let compacted = |frame: &Frame, batch: &RecordBatch| {
            compact_batch(batch, latest, frame.appended_at < tombstones_from)
        };
        let mut walk = self.walk_of(entry).await?;
        loop {
            let Some((frame, batch)) = self.next_batch(&mut walk, entry, pace).await? else {
                return Ok(0);
            };
            if compacted(&frame, &batch)?.is_some() {
                break;
            }
        }
        let mut rewrite = Rewrite::begin(self, entry).await?;
        let mut walk = self.walk_of(entry).await?;
        while let Some((frame, batch)) = self.next_batch(&mut walk, entry, pace).await? {
            let batch = compacted(&frame, &batch)?.unwrap_or(batch);
            rewrite.push(&frame, batch).await?;
        }
        match rewrite.end().await? {
            Some(summary) => self.replace(entry, summary).await,
            None => Ok(0),
        }
    }

    /// Puts the copy, which is synced, in place of the segment.
    async fn replace(
        &self,
        entry: &SegmentEntry,
        mut summary: SegmentSummary,
    ) -> Result<u64, LogError> {
        let health = &self.shared.health;
        let disk = self.shared.env.disk.clone();
        let near = entry.summary.base;
        let path = entry.segment.replacement_path();
        summary.appended_at = entry.summary.appended_at;
        // Nobody cuts or removes segments while we hold the right to write.
        let _writer = self.write_lock().await?;
        let there = |held: &SegmentEntry| Arc::ptr_eq(&held.segment, &entry.segment);
        if !self.view().segments.iter().any(there) {
            health.judge(disk.remove_file(&path).await)?;
            return Ok(0);
        }
        health.judge_sync(disk.rename(&path, &entry.segment.path).await)?;
        health.judge_sync(disk.sync_directory(&self.directory).await)?;
        let segment = Segment::at(disk, &self.directory, near);
        segment.forget_stored_index();
        let log = self.arc()?;
        let mut view = self.view();
        if let Some(held) = view.segments.iter_mut().find(|held| there(held)) {
            *held = SegmentEntry { segment, summary };
        }
        // Readers that looked up a place in the old file begin again.
        view.layout += 1;
        view.checkpoint_due = true;
        drop(view);
        self.shared.dirty(&log);
        Ok(entry.summary.bytes.saturating_sub(summary.bytes))
    }
}

/// The records of a batch that compaction may look into, and their bytes, decompressed.
fn visible(batch: &RecordBatch) -> Result<Option<(Vec<Record>, Bytes)>, LogError> {
    let header = batch.header();
    if header.attributes.is_control() || header.attributes.is_transactional() {
        return Ok(None);
    }
    if header.attributes.compression() == Compression::None || batch.body().is_empty() {
        return Ok(Some((batch.records()?, batch.body().clone())));
    }
    // Nothing is known to be wrong with the disk: the checksum holds, the client wrote this.
    let Ok(body) = decompress(batch, DECOMPRESSED_BYTES_CEILING) else {
        return Ok(None);
    };
    let records = read_records(header, &body).ok();
    Ok(records.map(|records| (records, body)))
}

/// The batch without the records that later ones displace; `None` if it stays as it is.
fn compact_batch(
    batch: &RecordBatch,
    latest: &Latest,
    drop_tombstones: bool,
) -> Result<Option<RecordBatch>, LogError> {
    let Some((records, body)) = visible(batch)? else {
        return Ok(None);
    };
    let stays = |record: &Record| latest.keeps(record, drop_tombstones);
    if records.iter().all(stays) {
        return Ok(None);
    }
    let mut kept = BytesMut::new();
    let mut count = 0;
    for (record, raw) in records.iter().zip(raw_records(&body)) {
        if stays(record) {
            kept.extend_from_slice(&raw);
            count += 1;
        }
    }
    Ok(Some(repacked(batch, kept.freeze(), count)?))
}

/// `batch` with only these records, under its codec if that makes them smaller.
fn repacked(batch: &RecordBatch, records: Bytes, count: u32) -> Result<RecordBatch, LogError> {
    let codec = batch.header().attributes.compression();
    if codec != Compression::None
        && let Ok(packed) = compress(&records, codec)
        && packed.len() < records.len()
    {
        return Ok(batch.with_records(packed, count, codec)?);
    }
    Ok(batch.with_records(records, count, Compression::None)?)
}

/// The records' bytes, each with its length in front.
fn raw_records(body: &Bytes) -> Vec<Bytes> {
    let mut rest = body.clone();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let mut length: u64 = 0;
        let mut prefix: usize = 0;
        for byte in rest.iter().take(10) {
            length |= u64::from(byte & 0x7f) << (7 * prefix);
            prefix += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        // Zig-zag; the batch's records were parsed before, so the length is sound.
        let length = usize::try_from(length >> 1).unwrap_or(usize::MAX);
        let end = prefix.saturating_add(length).min(rest.len());
        records.push(rest.split_to(end));
    }
    records
}

/// One empty batch for two that follow each other, if nothing is lost by it.
fn join(left: &RecordBatch, right: &RecordBatch) -> Option<RecordBatch> {
    let is_empty = |batch: &RecordBatch| {
        let header = batch.header();
        header.record_count == 0 && !header.is_idempotent() && !header.attributes.is_control()
    };
    let fits = is_empty(left)
        && is_empty(right)
        && left.leader_epoch() == right.leader_epoch()
        && left.end_offset() == right.base_offset();
    if !fits {
        return None;
    }
    let last_offset_delta = u32::try_from(right.end_offset() - left.base_offset() - 1)
        .ok()
        .filter(|delta| i32::try_from(*delta).is_ok())?;
    Some(left.stretched(last_offset_delta, right.header().max_timestamp))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use weir_base::batch::BatchBuilder;
    use weir_base::{BoxFuture, LeaderEpoch};

    use super::*;
    use crate::state::NEVER;

    /// Nanoseconds that passed: by work, or by rests.
    #[derive(Default)]
    struct Time(AtomicU64);

    impl Clock for Time {
        fn now(&self) -> Monotonic {
            Monotonic(self.0.load(Ordering::Relaxed))
        }

        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
            self.0.store(at.0, Ordering::Relaxed);
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn a_round_takes_a_quarter_of_the_time_and_short_ones_no_rest() {
        let time = Arc::new(Time::default());
        let mut pace = Pace::new(time.clone());
        let mut spent = Vec::new();
        for micros in [0, 500, 1_499, 1, 9_000, 1_000] {
            time.0.fetch_add(micros * 1_000, Ordering::Relaxed);
            pace.rest().await;
            spent.push(time.0.load(Ordering::Relaxed) / 1_000);
        }
        assert_eq!(spent, [0, 500, 1_999, 8_000, 44_000, 45_000]);
    }

    fn batch(base: u64, records: &[(&str, Option<&str>)]) -> RecordBatch {
        records
            .iter()
            .fold(BatchBuilder::new(Timestamp(5)), |builder, (key, value)| {
                builder.record(Some(key.as_bytes()), value.map(str::as_bytes))
            })
            .build()
            .stamped(Offset(base), LeaderEpoch(3))
    }

    fn latest(list: &[(&str, u64)]) -> Latest {
        let mut latest = Latest::new(Offset(0), usize::MAX);
        for (key, at) in list {
            let record = batch(*at, &[(key, None)]).records().unwrap();
            latest.learn(&record, Offset(at + 1));
        }
        latest
    }

    /// What lies behind the end of a round stays: of a tombstone's key older records may be there.
    #[test]
    fn a_round_ends_where_its_memory_does() {
        let mut round = Latest::new(Offset(0), 2 * 40);
        let first = batch(0, &[("a", Some("1")), ("b", Some("2")), ("a", None)]);
        assert!(!round.is_full());
        round.learn(&first.records().unwrap(), first.end_offset());
        assert!(round.is_full() && round.covered() == Offset(3));
        let left = compact_batch(&first, &round, false).unwrap().unwrap();
        assert_eq!(left.header().record_count, 2);
        let behind = batch(3, &[("a", Some("4")), ("b", None)]);
        assert_eq!(compact_batch(&behind, &round, true).unwrap(), None);
    }

    #[test]
    fn displaced_records_go_and_offsets_stay() {
        let full = batch(10, &[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))]);
        let latest = latest(&[("a", 12), ("b", 11)]);
        let left = compact_batch(&full, &latest, false).unwrap().unwrap();
        left.verify_checksum().unwrap();
        assert_eq!(
            (left.base_offset(), left.end_offset()),
            (Offset(10), Offset(13))
        );
        let offsets: Vec<u64> = left.records().unwrap().iter().map(|r| r.offset.0).collect();
        assert_eq!(offsets, [11, 12]);
        assert_eq!(compact_batch(&left, &latest, false).unwrap(), None);
    }

    #[test]
    fn compressed_batches_are_opened_and_closed_again() {
        let codecs = [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let value = "a value that compresses, and compresses, and compresses";
        let full = batch(
            10,
            &[("a", Some(value)), ("b", Some(value)), ("a", Some(value))],
        );
        let latest = latest(&[("a", 12), ("b", 11)]);
        let gone = self::latest(&[("a", 99), ("b", 99)]);
        for codec in codecs {
            let packed = compress(full.body(), codec).unwrap();
            let packed = full.with_records(packed, 3, codec).unwrap();
            let (records, _) = visible(&packed).unwrap().unwrap();
            assert_eq!(records, full.records().unwrap());
            let left = compact_batch(&packed, &latest, false).unwrap().unwrap();
            left.verify_checksum().unwrap();
            assert_eq!(left.header().attributes.compression(), codec);
            assert_eq!(left.end_offset(), Offset(13));
            let (records, _) = visible(&left).unwrap().unwrap();
            let offsets: Vec<u64> = records.iter().map(|r| r.offset.0).collect();
            assert_eq!(offsets, [11, 12], "{codec:?}");
            // Nothing left: an empty batch has no codec, and can be joined.
            let none = compact_batch(&packed, &gone, false);
            let none = none.unwrap().unwrap();
            assert_eq!(none.header().attributes.compression(), Compression::None);
            assert!(join(&none, &none.clone().stamped(Offset(13), LeaderEpoch(3))).is_some());
            // What does not decompress stays whole.
            let junk = Bytes::from_static(b"junk");
            let junk = full.with_records(junk, 3, codec).unwrap();
            assert_eq!(compact_batch(&junk, &latest, false).unwrap(), None);
        }
    }

    #[test]
    fn tombstones_go_last() {
        let tombstone = batch(4, &[("a", None)]);
        let latest = latest(&[("a", 4)]);
        assert_eq!(compact_batch(&tombstone, &latest, false).unwrap(), None);
        let left = compact_batch(&tombstone, &latest, true).unwrap().unwrap();
        assert_eq!(left.header().record_count, 0);
        assert_eq!(left.end_offset(), Offset(5));
    }

    #[test]
    fn empty_neighbours_are_joined() {
        let nothing = latest(&[("a", 99)]);
        let empty = |base| {
            let full = batch(base, &[("a", Some("1")), ("a", Some("2"))]);
            compact_batch(&full, &nothing, false).unwrap().unwrap()
        };
        let joined = join(&empty(4), &empty(6)).unwrap();
        assert_eq!(
            (joined.base_offset(), joined.end_offset()),
            (Offset(4), Offset(8))
        );
        joined.verify_checksum().unwrap();
        assert!(joined.records().unwrap().is_empty());
        assert!(join(&empty(4), &empty(8)).is_none());
        assert!(join(&empty(4), &batch(6, &[("b", None)])).is_none());
    }

    #[test]
    fn a_round_waits_until_it_is_worth_it() {
        let segment = |base: u64| SegmentSummary {
            end: Offset(base + 10),
            bytes: 100,
            ..SegmentSummary::empty(Offset(base), Timestamp(0), NEVER)
        };
        let segments = [
            segment(0),
            segment(10),
            segment(20),
            segment(30),
            segment(40),
        ];
        assert_eq!(
            plan(&segments, Offset(0), Offset(99)),
            4,
            "never the active one"
        );
        assert_eq!(plan(&segments, Offset(0), Offset(25)), 2);
        assert_eq!(
            plan(&segments, Offset(30), Offset(99)),
            0,
            "a quarter is new"
        );
        assert_eq!(plan(&segments, Offset(20), Offset(99)), 4);
        assert_eq!(plan(&segments, Offset(40), Offset(99)), 0);
    }
}
