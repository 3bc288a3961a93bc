//! The tail of every log in memory, so that followers and caught-up consumers cost no
//! disk read. Batches are shared with whoever appended them: nothing is copied.
//!
//! One budget for the node; the batch that entered first leaves first, whichever log
//! it belongs to. Nothing waits on it: a full cache evicts. Lost with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_base::{Offset, RecordBatch};

use crate::log::ReadChunk;

/// Bookkeeping bytes counted for a batch beside its own.
const ENTRY_BYTES: usize = 256;

/// The node's budget.
pub(crate) struct TailCache {
    budget: usize,
    order: Mutex<Order>,
}

#[derive(Default)]
struct Order {
    bytes: usize,
    /// Numbers what enters.
    next: u64,
    entered: VecDeque<(u64, Arc<LogTail>)>,
}

/// The cached tail of one log: batches without gaps, oldest first.
#[derive(Default)]
pub(crate) struct LogTail {
    batches: Mutex<VecDeque<(u64, RecordBatch)>>,
}

fn cost(batch: &RecordBatch) -> usize {
    batch.size() + ENTRY_BYTES
}

impl TailCache {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            order: Mutex::default(),
        }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the batches just appended to `tail`'s log.
    pub(crate) fn push(&self, tail: &Arc<LogTail>, batches: impl Iterator<Item = RecordBatch>) {
        let mut order = self.order();
        let mut own = tail.lock();
        for batch in batches {
            order.bytes += cost(&batch);
            let number = order.next;
            order.next += 1;
            order.entered.push_back((number, tail.clone()));
            own.push_back((number, batch));
        }
        drop(own);
        while order.bytes > self.budget {
            let Some((number, tail)) = order.entered.pop_front() else {
                return;
            };
            let mut own = tail.lock();
            if own.front().is_some_and(|(first, _)| *first == number)
                && let Some((_, batch)) = own.pop_front()
            {
                order.bytes -= cost(&batch);
            }
        }
    }

    /// Drops what `tail`'s log no longer holds: all batches outside `start..end`.
    pub(crate) fn retain(&self, tail: &LogTail, start: Offset, end: Offset) {
        let mut order = self.order();
        tail.lock().retain(|(_, batch)| {
            let kept = batch.end_offset() > start && batch.end_offset() <= end;
            if !kept {
                order.bytes -= cost(batch);
            }
            kept
        });
    }

    /// Drops all of `tail`'s log: it grew by batches that are not held, and there are no gaps.
    pub(crate) fn clear(&self, tail: &LogTail) {
        self.retain(tail, Offset(u64::MAX), Offset(0));
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.order().bytes
    }
}

impl LogTail {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, RecordBatch)>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `PartitionLog::read`, if the batch that holds `from` is here.
    pub(crate) fn read(&self, from: Offset, below: Offset, bytes_max: usize) -> Option<ReadChunk> {
        let batches = self.lock();
        let first = batches.partition_point(|(_, batch)| batch.end_offset() <= from);
        if batches.get(first)?.1.base_offset() > from {
            return None;
        }
        let mut chunk = ReadChunk {
            base: from,
            end: from,
            ..ReadChunk::default()
        };
        for (_, batch) in batches.range(first..) {
            if !chunk.take(batch, below, bytes_max) {
                break;
            }
        }
        Some(chunk)
    }
}

impl ReadChunk {
    /// Adds `batch` if it ends at or below `below` and fits, or is the first.
    pub(crate) fn take(&mut self, batch: &RecordBatch, below: Offset, bytes_max: usize) -> bool {
        let fits = self.admits(batch.end_offset(), batch.size(), below, bytes_max);
        if fits {
            self.note(batch.base_offset(), batch.end_offset(), batch.size());
            self.chunks.extend(batch.chunks());
        }
        fits
    }

    /// Whether a batch of `size` bytes that ends at `end` still belongs in.
    pub(crate) fn admits(&self, end: Offset, size: usize, below: Offset, bytes_max: usize) -> bool {
        end <= below && (self.bytes == 0 || self.bytes + size <= bytes_max)
    }

    /// Counts a batch whose bytes the caller adds.
    pub(crate) fn note(&mut self, base: Offset, end: Offset, size: usize) {
        if self.bytes == 0 {
            self.base = base;
        }
        self.end = end;
        self.bytes += size;
    }
}

#[cfg(test)]
mod tests {
    use weir_base::batch::BatchBuilder;
    use weir_base::{LeaderEpoch, Timestamp};

    use super::*;

    fn batch(base: u64) -> RecordBatch {
        BatchBuilder::new(Timestamp(0))
            .record(None, Some(&[0; 100]))
            .build()
            .stamped(Offset(base), LeaderEpoch(1))
    }

    #[test]
    fn the_first_to_enter_leaves_first_across_logs() {
        let size = cost(&batch(0));
        let cache = TailCache::new(3 * size);
        let (one, two) = (Arc::new(LogTail::default()), Arc::new(LogTail::default()));
        cache.push(&one, [batch(0), batch(1)].into_iter());
        cache.push(&two, [batch(0), batch(1)].into_iter());
        assert_eq!(cache.bytes(), 3 * size);
        assert!(one.read(Offset(0), Offset(9), 9999).is_none());
        assert_eq!(one.read(Offset(1), Offset(9), 9999).unwrap().end, Offset(2));
        assert_eq!(two.read(Offset(0), Offset(9), 9999).unwrap().end, Offset(2));
        assert_eq!(two.read(Offset(0), Offset(1), 9999).unwrap().end, Offset(1));
        assert_eq!(two.read(Offset(0), Offset(9), 1).unwrap().end, Offset(1));
    }

    #[test]
    fn a_cut_log_keeps_the_budget_exact() {
        let size = cost(&batch(0));
        let cache = TailCache::new(2 * size);
        let one = Arc::new(LogTail::default());
        cache.push(&one, [batch(0), batch(1)].into_iter());
        cache.retain(&one, Offset(0), Offset(1));
        assert_eq!(cache.bytes(), size);
        cache.push(&one, [batch(1), batch(2)].into_iter());
        assert_eq!(cache.bytes(), 2 * size);
        assert_eq!(one.read(Offset(1), Offset(9), 9999).unwrap().end, Offset(3));
        cache.clear(&one);
        assert_eq!(cache.bytes(), 0);
    }
}
