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

#[cfg(test)]
mod tests {
    use weir_base::batch::BatchBuilder;
    use weir_base::{LeaderEpoch, Timestamp};

    use super::*;
    use crate::host::tests::toy::Adder;

    fn batch(base: u64, numbers: &[u64]) -> RecordBatch {
        let batch = numbers
            .iter()
            .fold(BatchBuilder::new(Timestamp(0)), |batch, n| {
                batch.record(None, Some(&n.to_be_bytes()))
            });
        batch.build().stamped(Offset(base), LeaderEpoch(1))
    }

    fn chunk(batches: &[RecordBatch]) -> JournalChunk {
        JournalChunk {
            chunks: batches.iter().flat_map(RecordBatch::chunks).collect(),
            end: batches.last().map_or(Offset::ZERO, RecordBatch::end_offset),
        }
    }

    #[test]
    fn a_read_may_begin_inside_a_batch_and_bring_what_is_known() {
        let mut fold = Fold::<Adder>::new();
        let batches = [batch(0, &[1, 2, 3]), batch(3, &[4])];
        fold.apply_chunk(chunk(&batches[..1])).unwrap();
        fold.applied = Offset(2);
        fold.durable.added.pop();
        fold.apply_chunk(chunk(&batches)).unwrap();
        let added = (0..4).map(|n| (Offset(n), n + 1));
        assert_eq!(fold.durable.added, added.collect::<Vec<_>>());
        assert_eq!(fold.applied, Offset(4));
    }

    #[test]
    fn barriers_and_gaps_count_as_offsets_only() {
        let mut fold = Fold::<Adder>::new();
        let barrier = BatchBuilder::new(Timestamp(0))
            .control()
            .record(Some(b"b"), None);
        let batches = [barrier.build(), batch(5, &[9])];
        fold.apply_chunk(chunk(&batches)).unwrap();
        assert_eq!(fold.durable.added, [(Offset(5), 9)]);
        fold.apply_chunk(chunk(&[])).unwrap();
        assert_eq!(fold.applied, Offset(6));
    }

    #[test]
    fn what_does_not_decode_is_an_error_that_says_where() {
        let mut fold = Fold::<Adder>::new();
        let odd = BatchBuilder::new(Timestamp(0))
            .record(None, Some(b"odd"))
            .build();
        let odd = odd.stamped(Offset(7), LeaderEpoch(1));
        let error = fold.apply_chunk(chunk(&[batch(0, &[1]), odd])).unwrap_err();
        assert!(
            matches!(error, LoadError::Record { at: Offset(7), .. }),
            "{error}"
        );
        let mut cut = chunk(&[batch(1, &[1])]);
        cut.chunks.pop();
        let error = fold.apply_chunk(cut).unwrap_err();
        assert!(
            matches!(
                error,
                LoadError::Batch {
                    near: Offset(1),
                    ..
                }
            ),
            "{error}"
        );
    }
}
