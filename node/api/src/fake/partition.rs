//! One partition's log in memory: a list of stamped batches and the producers' windows.

use std::collections::{BTreeMap, VecDeque};

use weir_base::{LeaderEpoch, Offset, RecordBatch, Timestamp};

use crate::AppendError;
use crate::log::ActiveProducer;

/// Batches of one producer that a repetition is recognised among.
const WINDOW: usize = 5;

#[derive(Default)]
pub(super) struct FakePartition {
    batches: Vec<RecordBatch>,
    pub(super) start: Offset,
    producers: BTreeMap<i64, Producer>,
}

struct Producer {
    epoch: i16,
    last_timestamp: Timestamp,
    /// First and last sequence and base offset of the latest batches.
    window: VecDeque<(i32, i32, Offset)>,
}

impl FakePartition {
    pub(super) fn end(&self) -> Offset {
        self.batches
            .last()
            .map_or(self.start, RecordBatch::end_offset)
            .max(self.start)
    }

    /// Appends as a leader of `epoch`; gives the base offset, the original's for a repetition.
    pub(super) fn append(
        &mut self,
        batch: RecordBatch,
        epoch: LeaderEpoch,
    ) -> Result<Offset, AppendError> {
        let header = *batch.header();
        let base = self.end();
        if header.is_idempotent() {
            let first = header.base_sequence;
            // Sequences wrap from 2^31-1 to 0.
            let last = first.wrapping_add_unsigned(header.last_offset_delta) & i32::MAX;
            let epoch = header.producer_epoch.0;
            if let Some(original) = self.check_sequence(header.producer_id.0, epoch, first, last)? {
                return Ok(original);
            }
            let producer = self
                .producers
                .entry(header.producer_id.0)
                .or_insert(Producer {
                    epoch,
                    last_timestamp: header.max_timestamp,
                    window: VecDeque::new(),
                });
            if producer.epoch != epoch {
                producer.window.clear();
            }
            producer.epoch = epoch;
            producer.last_timestamp = header.max_timestamp;
            producer.window.push_back((first, last, base));
            if producer.window.len() > WINDOW {
                producer.window.pop_front();
            }
        }
        self.batches.push(batch.stamped(base, epoch));
        Ok(base)
    }

    /// The original's base offset if the batch is a repetition.
    fn check_sequence(
        &self,
        id: i64,
        epoch: i16,
        first: i32,
        last: i32,
    ) -> Result<Option<Offset>, AppendError> {
        let Some(producer) = self.producers.get(&id) else {
            return match first {
                0 => Ok(None),
                _ => Err(AppendError::UnknownProducer),
            };
        };
        if epoch < producer.epoch {
            return Err(AppendError::ProducerFenced);
        }
        let mut window = producer.window.iter();
        if epoch == producer.epoch
            && let Some(same) = window.find(|(f, l, _)| (*f, *l) == (first, last))
        {
            return Ok(Some(same.2));
        }
        let newest = producer.window.back();
        let expected = match newest.filter(|_| epoch == producer.epoch) {
            Some((_, last, _)) => last.wrapping_add(1) & i32::MAX,
            None => 0,
        };
        if first == expected {
            return Ok(None);
        }
        Err(AppendError::OutOfOrderSequence {
            sequence: first,
            expected,
        })
    }

    /// Batches from the one that holds `from`: at most `bytes_max`, but one if `at_least_one`.
    pub(super) fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Vec<RecordBatch> {
        let mut bytes = 0;
        let mut read = Vec::new();
        let first = self.batches.partition_point(|b| b.end_offset() <= from);
        for batch in &self.batches[first..] {
            bytes += batch.size();
            if bytes > bytes_max && !(at_least_one && read.is_empty()) {
                break;
            }
            read.push(batch.clone());
        }
        read
    }

    /// Forgets the batch that holds `offset`.
    pub(super) fn lose(&mut self, offset: Offset) {
        let held =
            |batch: &RecordBatch| (batch.base_offset()..batch.end_offset()).contains(&offset);
        self.batches.retain(|batch| !held(batch));
    }

    /// Bytes from `from` on.
    pub(super) fn bytes_from(&self, from: Offset) -> usize {
        let first = self.batches.partition_point(|b| b.end_offset() <= from);
        self.batches[first..].iter().map(RecordBatch::size).sum()
    }

    /// The first record at or after `time`.
    pub(super) fn at_time(&self, time: Timestamp) -> Option<(Offset, Timestamp, LeaderEpoch)> {
        let live = self.batches.iter().filter(|b| b.end_offset() > self.start);
        for batch in live.filter(|b| b.header().max_timestamp >= time) {
            let Ok(records) = batch.records() else {
                let found = (batch.base_offset(), batch.header().max_timestamp);
                return Some((found.0, found.1, batch.leader_epoch()));
            };
            let mut records = records.iter();
            if let Some(record) = records.find(|r| r.timestamp >= time && r.offset >= self.start) {
                return Some((record.offset, record.timestamp, batch.leader_epoch()));
            }
        }
        None
    }

    /// The record with the largest timestamp, the earliest of several.
    pub(super) fn newest(&self) -> Option<(Offset, Timestamp, LeaderEpoch)> {
        let newest = self
            .batches
            .iter()
            .map(|b| b.header().max_timestamp)
            .max()?;
        self.at_time(newest)
    }

    /// The largest epoch at most `asked` that has records, and where it ended.
    pub(super) fn end_of_epoch(
        &self,
        asked: LeaderEpoch,
        current: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        if asked >= current {
            return Some((current, self.end()));
        }
        let upto = self.batches.partition_point(|b| b.leader_epoch() <= asked);
        let last = self.batches[..upto].last()?;
        Some((last.leader_epoch(), last.end_offset()))
    }

    /// Raises the start to `before` and forgets the batches wholly below it.
    pub(super) fn delete_before(&mut self, before: Offset) {
        self.start = self.start.max(before);
        if before >= self.end() {
            self.batches.clear();
        } else {
            self.batches.retain(|b| b.end_offset() > before);
        }
    }

    pub(super) fn active_producers(&self) -> Vec<ActiveProducer> {
        let active = self.producers.iter().map(|(id, producer)| ActiveProducer {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.window.back().map_or(-1, |(_, last, _)| *last),
            last_timestamp: producer.last_timestamp,
        });
        active.collect()
    }
}

#[cfg(test)]
mod tests {
    use weir_base::batch::BatchBuilder;
    use weir_base::{ProducerEpoch, ProducerId};

    use super::*;

    fn batch(epoch: i16, sequence: i32) -> RecordBatch {
        BatchBuilder::new(Timestamp(1))
            .producer(ProducerId(7), ProducerEpoch(epoch), sequence)
            .record(None, Some(b"a"))
            .record(None, Some(b"b"))
            .build()
    }

    #[test]
    fn sequences_are_gapless_and_repetitions_answer_the_original() {
        let mut log = FakePartition::default();
        let leader = LeaderEpoch(1);
        assert_eq!(
            log.append(batch(0, 2), leader),
            Err(AppendError::UnknownProducer)
        );
        assert_eq!(log.append(batch(0, 0), leader), Ok(Offset(0)));
        assert_eq!(log.append(batch(0, 2), leader), Ok(Offset(2)));
        assert_eq!(log.append(batch(0, 0), leader), Ok(Offset(0)));
        assert_eq!(
            log.append(batch(0, 6), leader),
            Err(AppendError::OutOfOrderSequence {
                sequence: 6,
                expected: 4
            })
        );
        assert_eq!(log.append(batch(1, 0), leader), Ok(Offset(4)));
        assert_eq!(
            log.append(batch(0, 4), leader),
            Err(AppendError::ProducerFenced)
        );
        assert_eq!(log.end(), Offset(6));
    }

    #[test]
    fn deleting_keeps_the_end() {
        let mut log = FakePartition::default();
        log.append(batch(0, 0), LeaderEpoch(1)).unwrap();
        log.delete_before(Offset(2));
        assert_eq!((log.start, log.end()), (Offset(2), Offset(2)));
    }
}
