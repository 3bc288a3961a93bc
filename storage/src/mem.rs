//! A log in memory: the contract of [`PartitionLog`] at its plainest.
//!
//! The naive twin that the disk log is tested against, and the log that other rooms'
//! tests run on. Everything is a fold of a list of batches; a cut folds again from the
//! start. Sync-flush appends are durable at once; async-flush ones when [`MemLog::flush`]
//! or a later sync append says so, which lets a test hold the durable end back.
//! A crash loses it all: it is memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use weir_base::image::FlushMode;
use weir_base::{BoxFuture, CacheHint, LeaderEpoch, Offset, RecordBatch, Timestamp};

use crate::epochs::EpochCache;
use crate::log::{
    AppendOutcome, EpochEnd, LogError, LogPosition, PartitionLog, ProducerSummary, ReadChunk,
    batch_continues,
};
use crate::producers::{Producers, Verdict};
use crate::record_time::{first_record_at, newer, newest_in};

/// An in-memory log.
#[derive(Debug, Default)]
pub struct MemLog {
    state: Mutex<State>,
    positions: watch::Sender<LogPosition>,
}

#[derive(Debug, Default, Clone)]
struct State {
    /// Everything since the last reset, also what lies below the log start: producers
    /// outlive the data they wrote.
    batches: Vec<(RecordBatch, Timestamp)>,
    origin: Offset,
    start: Offset,
    durable_end: Offset,
    epochs: EpochCache,
    producers: Producers,
}

impl MemLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> MemLog {
        MemLog::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: &State) {
        let position = state.position();
        self.positions.send_if_modified(|current| {
            let changed = *current != position;
            *current = position;
            changed
        });
    }
}

/// A copy that goes its own way from here on.
impl Clone for MemLog {
    fn clone(&self) -> Self {
        Self {
            positions: watch::Sender::new(self.position()),
            state: Mutex::new(self.state().clone()),
        }
    }
}

impl State {
    fn end(&self) -> Offset {
        self.batches
            .last()
            .map_or(self.origin, |(batch, _)| batch.end_offset())
            .max(self.start)
    }

    fn position(&self) -> LogPosition {
        LogPosition {
            start: self.start,
            durable_end: self.durable_end,
            end: self.end(),
            last_epoch: self.epochs.last(),
        }
    }

    fn push(&mut self, batch: RecordBatch, now: Timestamp) {
        self.epochs
            .on_append(batch.leader_epoch(), batch.base_offset());
        self.producers
            .on_append(batch.header(), batch.base_offset(), batch.end_offset(), now);
        self.batches.push((batch, now));
    }

    fn written(&mut self, flush: FlushMode) {
        if flush == FlushMode::Sync {
            self.durable_end = self.end();
        }
    }

    fn out_of_range(&self, asked: Offset) -> LogError {
        LogError::OutOfRange {
            asked,
            start: self.start,
            end: self.end(),
        }
    }

    fn retained(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches
            .iter()
            .map(|(batch, _)| batch)
            .filter(|batch| batch.end_offset() > self.start)
    }

    fn read(&self, from: Offset, below: Offset, bytes_max: usize) -> Result<ReadChunk, LogError> {
        if from < self.start || from > self.end() {
            return Err(self.out_of_range(from));
        }
        let mut chunk = ReadChunk {
            base: from,
            end: from,
            ..ReadChunk::default()
        };
        for batch in self.retained().filter(|batch| batch.end_offset() > from) {
            let full = chunk.bytes > 0 && chunk.bytes + batch.size() > bytes_max;
            if batch.end_offset() > below || full {
                break;
            }
            if chunk.bytes == 0 {
                chunk.base = batch.base_offset();
            }
            chunk.chunks.extend(batch.chunks());
            chunk.end = batch.end_offset();
            chunk.bytes += batch.size();
        }
        Ok(chunk)
    }

    fn truncate_to(&mut self, to: Offset) -> Result<(), LogError> {
        if to < self.start || to > self.end() {
            return Err(self.out_of_range(to));
        }
        let kept = self
            .batches
            .iter()
            .take_while(|(batch, _)| batch.end_offset() <= to)
            .count();
        let batches: Vec<_> = self.batches.drain(..).take(kept).collect();
        self.epochs.clear();
        self.producers.clear();
        for (batch, now) in batches {
            self.push(batch, now);
        }
        self.epochs.set_start(self.start);
        self.durable_end = self.end();
        Ok(())
    }

    fn offset_at_time(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, LogError> {
        for batch in self.retained() {
            if let Some(found) = first_record_at(batch, timestamp, self.start)? {
                return Ok(Some(found).filter(|(offset, _)| *offset < below));
            }
        }
        Ok(None)
    }
}

impl MemLog {
    fn append_leader(
        &self,
        epoch: LeaderEpoch,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> Result<Vec<AppendOutcome>, LogError> {
        let mut state = self.state();
        let mut outcomes = Vec::with_capacity(batches.len());
        for batch in batches {
            outcomes.push(match state.producers.check(batch.header(), now) {
                Verdict::Refused(error) => AppendOutcome::Refused(error),
                Verdict::Duplicate { base, end } => AppendOutcome::Duplicate { base, end },
                Verdict::New => {
                    let batch = batch.stamped(state.end(), epoch);
                    state.push(batch.clone(), now);
                    AppendOutcome::Appended {
                        base: batch.base_offset(),
                        end: batch.end_offset(),
                        batch,
                    }
                }
            });
        }
        state.written(flush);
        self.publish(&state);
        Ok(outcomes)
    }

    fn append_follower(
        &self,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> Result<(), LogError> {
        let mut state = self.state();
        let (mut end, mut last_epoch) = (state.end(), state.epochs.last());
        for batch in &batches {
            batch_continues(batch, end, last_epoch)?;
            (end, last_epoch) = (batch.end_offset(), batch.leader_epoch());
        }
        for batch in batches {
            state.push(batch, now);
        }
        state.written(flush);
        self.publish(&state);
        Ok(())
    }

    fn change(
        &self,
        change: impl FnOnce(&mut State) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut state = self.state();
        change(&mut state)?;
        self.publish(&state);
        Ok(())
    }
}

/// Everything is done when the call returns: nothing in memory waits.
fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl PartitionLog for MemLog {
    fn position(&self) -> LogPosition {
        *self.positions.borrow()
    }

    fn positions(&self) -> watch::Receiver<LogPosition> {
        self.positions.subscribe()
    }

    fn append_as_leader(
        &self,
        epoch: LeaderEpoch,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> BoxFuture<'_, Result<Vec<AppendOutcome>, LogError>> {
        ready(self.append_leader(epoch, now, batches, flush))
    }

    fn append_as_follower(
        &self,
        now: Timestamp,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
        _hint: CacheHint,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        ready(self.append_follower(now, batches, flush))
    }

    fn read(
        &self,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<ReadChunk, LogError>> {
        ready(self.state().read(from, below, bytes_max))
    }

    fn truncate_to(&self, to: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        ready(self.change(|state| state.truncate_to(to)))
    }

    fn reset_to(&self, at: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        ready(self.change(|state| {
            *state = State {
                origin: at,
                start: at,
                durable_end: at,
                ..State::default()
            };
            Ok(())
        }))
    }

    fn set_start(&self, start: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        ready(self.change(|state| {
            if start > state.end() {
                return Err(state.out_of_range(start));
            }
            if start > state.start {
                state.start = start;
                state.durable_end = state.durable_end.max(start);
                state.epochs.set_start(start);
            }
            Ok(())
        }))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), LogError>> {
        ready(self.change(|state| {
            state.durable_end = state.end();
            Ok(())
        }))
    }

    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<EpochEnd> {
        let state = self.state();
        state.epochs.end_of(asked, state.end())
    }

    fn offset_at_time(
        &self,
        timestamp: Timestamp,
        below: Offset,
    ) -> BoxFuture<'_, Result<Option<(Offset, Timestamp)>, LogError>> {
        ready(self.state().offset_at_time(timestamp, below))
    }

    fn newest_timestamp(&self) -> Option<(Offset, Timestamp)> {
        self.state()
            .retained()
            .fold(None, |held, batch| Some(newer(held, newest_in(batch))))
    }

    fn producers(&self) -> Vec<ProducerSummary> {
        self.state().producers.summaries()
    }

    fn size_bytes(&self) -> u64 {
        self.state()
            .retained()
            .map(|batch| batch.size() as u64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use weir_base::batch::BatchBuilder;

    use super::*;

    fn batch(records: usize) -> RecordBatch {
        (0..records)
            .fold(BatchBuilder::new(Timestamp(5)), |builder, _| {
                builder.record(None, Some(b"v"))
            })
            .build()
    }

    #[test]
    fn a_cut_takes_the_whole_batch_that_holds_the_offset() {
        let log = MemLog::new();
        log.append_leader(
            LeaderEpoch(1),
            Timestamp(0),
            vec![batch(2), batch(3)],
            FlushMode::Async,
        )
        .unwrap();
        assert_eq!(log.position().durable_end, Offset(0));
        log.change(|state| state.truncate_to(Offset(4))).unwrap();
        let position = log.position();
        assert_eq!((position.end, position.durable_end), (Offset(2), Offset(2)));
    }
}
