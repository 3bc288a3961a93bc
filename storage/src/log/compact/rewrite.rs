//! The compacted copy of a segment on its way to the disk, a megabyte in memory at a time.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_base::{DiskFile, OpenMode, RecordBatch, Timestamp};

use super::super::LogError;
use super::super::disk::{DiskLog, SegmentEntry};
use super::super::read::{BadFrame, corrupt};
use super::join;
use crate::record_time::newest_in;
use crate::segment::frame::{Frame, FrameContext};
use crate::segment::{SEGMENT_HEAD_BYTES, SegmentHead};
use crate::state::{NEVER, SegmentSummary};

/// Bytes of frames that are gathered before they are written.
const GATHERED_BYTES: usize = 1024 * 1024;

/// A batch, and what its frame says.
struct Kept {
    batch: RecordBatch,
    generation: u32,
    appended_at: Timestamp,
}

/// A file beside the segment that it is to replace. Dropped, it is of no account: the next
/// round begins it anew.
pub(super) struct Rewrite<'a> {
    log: &'a DiskLog,
    file: Arc<dyn DiskFile>,
    head: SegmentHead,
    /// Of what was encoded.
    summary: SegmentSummary,
    /// Checksum of the last frame encoded.
    chain: u32,
    /// May be joined with what comes next.
    last: Option<Kept>,
    heads: BytesMut,
    chunks: Vec<Bytes>,
    /// Bytes in `chunks`.
    gathered: usize,
    /// Bytes in the file.
    written: u64,
}

impl<'a> Rewrite<'a> {
    pub(super) async fn begin(log: &'a DiskLog, entry: &SegmentEntry) -> Result<Self, LogError> {
        let (health, near) = (&log.shared.health, entry.summary.base);
        let Some(head) = health.judge_read(entry.segment.head().await, near)? else {
            return Err(corrupt(entry, &BadFrame { near, position: 0 }));
        };
        let path = entry.segment.replacement_path();
        let file = health.judge(log.shared.env.disk.open(&path, OpenMode::Create).await)?;
        health.judge(file.truncate(0).await)?;
        Ok(Self {
            log,
            file,
            head,
            summary: SegmentSummary::empty(near, entry.summary.made_at, NEVER),
            chain: head.previous,
            last: None,
            heads: BytesMut::new(),
            chunks: Vec::new(),
            gathered: 0,
            written: SEGMENT_HEAD_BYTES,
        })
    }

    /// Adds what is left of the batch that was in `frame`.
    pub(super) async fn push(&mut self, frame: &Frame, batch: RecordBatch) -> Result<(), LogError> {
        let (generation, appended_at) = (frame.generation, frame.appended_at);
        let last = self.last.take();
        let joined = last.as_ref().and_then(|last| join(&last.batch, &batch));
        let (batch, done) = match joined {
            Some(joined) => (joined, None),
            None => (batch, last),
        };
        self.last = Some(Kept {
            batch,
            generation,
            appended_at,
        });
        if let Some(done) = done {
            self.encode(&done);
        }
        if self.gathered >= GATHERED_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    fn encode(&mut self, kept: &Kept) {
        let context = FrameContext {
            generation: kept.generation,
            durable: self.summary.base,
            appended_at: kept.appended_at,
        };
        let frame = Frame::encode(&kept.batch, self.chain, context, &mut self.heads);
        self.chain = frame.crc;
        self.chunks.push(self.heads.split().freeze());
        self.chunks.push(kept.batch.body().clone());
        self.gathered += frame.size();
        let newest = newest_in(&kept.batch);
        let size = frame.size() as u64;
        self.summary
            .on_frame(frame.end, size, newest, kept.appended_at);
    }

    async fn write(&mut self) -> Result<(), LogError> {
        let chunks = std::mem::take(&mut self.chunks);
        let written = self.file.write_at(self.written, chunks).await;
        self.log.shared.health.judge(written)?;
        self.written += self.gathered as u64;
        self.gathered = 0;
        Ok(())
    }

    /// Writes the rest, the head, and syncs. `None` if the copy is larger than a head can say,
    /// which no segment is configured to be: then the segment stays as it is.
    pub(super) async fn end(mut self) -> Result<Option<SegmentSummary>, LogError> {
        if let Some(last) = self.last.take() {
            self.encode(&last);
        }
        self.write().await?;
        let Ok(sealed_bytes) = u32::try_from(self.summary.bytes) else {
            return Ok(None);
        };
        let health = &self.log.shared.health;
        self.head.sealed_bytes = sealed_bytes;
        let head = vec![self.head.encode()];
        health.judge(self.file.write_at(0, head).await)?;
        health.judge_sync(self.file.sync_data().await)?;
        Ok(Some(self.summary))
    }
}
