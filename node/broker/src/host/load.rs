//! Folding the journal into `Durable`.

use bytes::Bytes;
use weir_base::{BatchError, Offset, RecordBatch};

use super::{JournalChunk, Journaled};

/// `Durable` and how far the journal was folded into it.
pub(super) struct Fold<M: Journaled> {
    pub(super) durable: M::Durable,
    /// Next offset to be folded.
    pub(super) applied: Offset,
    /// Bytes of records folded since the last snapshot.
    pub(super) bytes: u64,
}

/// A journal this version cannot read. Its batches passed their checksums, so this is a
/// newer version's journal or a bug, not bit rot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LoadError {
    /// A batch does not parse.
    #[error("batch at or after {near}: {source}")]
    Batch {
        /// Where.
        near: Offset,
        /// Why.
        source: BatchError,
    },
    /// A record does not decode.
    #[error("record at {at}: {detail}")]
    Record {
        /// Where.
        at: Offset,
        /// Why.
        detail: String,
    },
}

impl<M: Journaled> Fold<M> {
    /// Nothing folded yet.
    pub(super) fn new() -> Self {
        Self {
            durable: M::Durable::default(),
            applied: Offset::ZERO,
            bytes: 0,
        }
    }

    /// Folds the record that comes next.
    pub(super) fn apply(&mut self, record: &M::Record) {
        M::apply(&mut self.durable, self.applied, record);
        self.applied = self.applied + 1;
    }

    /// Folds committed batches; what was folded before is skipped, and so are control
    /// batches, such as the barrier at the start of an epoch.
    pub(super) fn apply_chunk(&mut self, chunk: JournalChunk) -> Result<(), LoadError> {
        let near = self.applied;
        let bytes = joined(chunk.chunks);
        let batches =
            RecordBatch::parse_all(bytes).map_err(|source| LoadError::Batch { near, source })?;
        for batch in batches {
            if !batch.header().attributes.is_control() {
                self.apply_batch(&batch)?;
            }
            // Compaction leaves gaps, so the batch's own end counts, not its records.
            self.applied = self.applied.max(batch.end_offset());
        }
        self.applied = self.applied.max(chunk.end);
        Ok(())
    }

    fn apply_batch(&mut self, batch: &RecordBatch) -> Result<(), LoadError> {
        let near = batch.base_offset();
        let records = batch
            .records()
            .map_err(|source| LoadError::Batch { near, source })?;
        for record in records {
            if record.offset < self.applied {
                continue;
            }
            let decoded = M::decode(record.key.as_deref(), record.value.as_deref());
            let decoded = decoded.map_err(|detail| LoadError::Record {
                at: record.offset,
                detail,
            })?;
            self.applied = record.offset;
            self.apply(&decoded);
            self.count(record.key.as_ref(), record.value.as_ref());
        }
        Ok(())
    }

    /// Counts a record towards the next snapshot.
    pub(super) fn count(&mut self, key: Option<&Bytes>, value: Option<&Bytes>) {
        let bytes: usize = [key, value].into_iter().flatten().map(Bytes::len).sum();
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        chunks.pop().unwrap_or_default()
    } else {
        chunks.concat().into()
    }
}
