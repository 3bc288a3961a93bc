//! The data path of the fake: every append is committed at once, unless held.

use std::time::Duration;

use weir_base::limits::BATCH_BYTES_MAX_DEFAULT;
use weir_base::{BoxFuture, LeaderEpoch, Offset, RecordBatch, TopicPartition};

use super::{FakeBroker, State};
use crate::log::{
    Acks, ActiveProducer, Appended, FoundOffset, LogApi, OffsetQuery, Read, ReadOk, ReadOutcome,
    ReadPartition,
};
use crate::{AppendError, ClusterApi, NotLeader, ReadError};

impl FakeBroker {
    /// The epoch this node leads `at` in, or who does.
    pub(super) fn lead(&self, at: TopicPartition) -> Option<Result<LeaderEpoch, NotLeader>> {
        let image = self.image();
        let partition = image.partition(at)?;
        let epoch = partition.leader_epoch;
        let is_mine = partition.leader == Some(self.node());
        Some(if is_mine && !self.state().failed.contains(&at) {
            Ok(epoch)
        } else {
            Err(NotLeader {
                leader: partition.leader,
                epoch,
            })
        })
    }

    /// As [`FakeBroker::lead`], also checking the epoch that the client believes in.
    fn lead_as(
        &self,
        at: TopicPartition,
        believed: Option<LeaderEpoch>,
    ) -> Result<LeaderEpoch, ReadError> {
        let epoch = self
            .lead(at)
            .ok_or(ReadError::UnknownPartition)?
            .map_err(ReadError::NotLeader)?;
        match believed {
            Some(older) if older < epoch => Err(ReadError::FencedEpoch(NotLeader {
                leader: Some(self.node()),
                epoch,
            })),
            Some(newer) if newer > epoch => Err(ReadError::UnknownEpoch),
            _ => Ok(epoch),
        }
    }

    fn append_now(&self, to: TopicPartition, batch: RecordBatch) -> Result<Appended, AppendError> {
        let epoch = self
            .lead(to)
            .ok_or(AppendError::UnknownPartition)?
            .map_err(AppendError::NotLeader)?;
        self.append_in(epoch, to, batch)
    }

    /// Other nodes exist in the image alone: what is carried to them lands here.
    fn append_wherever(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
    ) -> Result<Appended, AppendError> {
        let epoch = match self.lead(to).ok_or(AppendError::UnknownPartition)? {
            Ok(epoch) => epoch,
            Err(NotLeader {
                leader: Some(_),
                epoch,
            }) => epoch,
            Err(nobody) => return Err(AppendError::NotLeader(nobody)),
        };
        self.append_in(epoch, to, batch)
    }

    /// The largest batch that a topic takes from clients.
    pub(super) fn batch_bytes_max(&self, at: TopicPartition) -> usize {
        let image = self.image();
        let told = image
            .topic(at.topic)
            .and_then(|topic| topic.configs.get("max.message.bytes")?.parse().ok());
        told.unwrap_or(BATCH_BYTES_MAX_DEFAULT as usize)
    }

    fn append_in(
        &self,
        epoch: LeaderEpoch,
        to: TopicPartition,
        batch: RecordBatch,
    ) -> Result<Appended, AppendError> {
        let (size, max) = (batch.size(), self.batch_bytes_max(to));
        if size > max {
            return Err(AppendError::TooLarge { size, max });
        }
        let append_time = batch.header().attributes.is_log_append_time();
        let append_time = append_time.then_some(batch.header().max_timestamp);
        let mut state = self.state();
        let partition = state.partitions.entry(to).or_default();
        let base = partition.append(batch, epoch)?;
        Ok(Appended {
            base,
            log_start: partition.start,
            append_time,
        })
    }

    fn read_now(&self, request: &Read) -> (Vec<ReadOutcome>, bool) {
        let mut outcomes = Vec::with_capacity(request.partitions.len());
        let (mut bytes, mut failed) = (0usize, false);
        for part in &request.partitions {
            let left = request.bytes_max.saturating_sub(bytes);
            let result = self.read_partition(part, left, bytes == 0);
            match &result {
                Ok(read) => {
                    bytes += read.bytes;
                    failed |= read.diverging.is_some();
                }
                Err(_) => failed = true,
            }
            outcomes.push(ReadOutcome {
                at: part.at,
                result,
            });
        }
        (outcomes, failed || bytes >= request.bytes_min)
    }

    fn read_partition(
        &self,
        part: &ReadPartition,
        left: usize,
        first: bool,
    ) -> Result<ReadOk, ReadError> {
        let epoch = self.lead_as(part.at, part.leader_epoch)?;
        let mut state = self.state();
        let log = state.partitions.entry(part.at).or_default();
        let mut read = ReadOk {
            high_watermark: log.end(),
            log_start: log.start,
            ..ReadOk::default()
        };
        if let Some(last) = part.last_fetched_epoch {
            let found = log.end_of_epoch(last, epoch).unwrap_or_default();
            if found.0 < last || found.1 < part.from {
                read.diverging = Some(found);
                return Ok(read);
            }
        }
        if part.from < log.start || part.from > log.end() {
            return Err(ReadError::OutOfRange {
                asked: part.from,
                start: log.start,
                end: log.end(),
            });
        }
        for batch in log.read(part.from, left.min(part.bytes_max), first) {
            read.bytes += batch.size();
            read.chunks.extend(batch.chunks());
        }
        Ok(read)
    }
}

impl FakeBroker {
    /// Gives `result` when acknowledgements are not held.
    fn acknowledge(
        &self,
        result: Result<Appended, AppendError>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        self.wake_readers();
        let mut held = self.0.held.subscribe();
        if result.is_err() || !*held.borrow() {
            return Box::pin(std::future::ready(result));
        }
        let env = self.0.env.clone();
        Box::pin(async move {
            let released = env.timeout(timeout, held.wait_for(|held| !*held)).await;
            released.map_or(Err(AppendError::TimedOut(timeout)), |_| result)
        })
    }
}

impl LogApi for FakeBroker {
    fn append(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        _acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let result = self.append_now(to, batch);
        self.acknowledge(result, timeout)
    }

    fn append_forwarded(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        _acks: Acks,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let result = self.append_wherever(to, batch);
        self.acknowledge(result, timeout)
    }

    fn read(&self, request: Read) -> BoxFuture<'static, Vec<ReadOutcome>> {
        let broker = self.clone();
        Box::pin(async move {
            let deadline = broker.0.env.clock.now() + request.wait_max;
            let mut changes = broker.0.changes.subscribe();
            loop {
                changes.mark_unchanged();
                let (outcomes, enough) = broker.read_now(&request);
                let left = deadline.since(broker.0.env.clock.now());
                if enough || left.is_zero() {
                    return outcomes;
                }
                // The sender lives in `broker`: only time can end the wait otherwise.
                let _woken = broker.0.env.timeout(left, changes.changed()).await;
            }
        })
    }

    fn offset(
        &self,
        at: TopicPartition,
        query: OffsetQuery,
        leader_epoch: Option<LeaderEpoch>,
    ) -> BoxFuture<'static, Result<FoundOffset, ReadError>> {
        let result = self.lead_as(at, leader_epoch).map(|current| {
            let mut state = self.state();
            let log = state.partitions.entry(at).or_default();
            let plain = |offset| FoundOffset {
                offset: Some(offset),
                timestamp: None,
                leader_epoch: current,
            };
            let record = |found: Option<(Offset, _, LeaderEpoch)>| FoundOffset {
                offset: found.map(|f| f.0),
                timestamp: found.map(|f| f.1),
                leader_epoch: found.map_or(current, |f| f.2),
            };
            match query {
                OffsetQuery::Earliest => plain(log.start),
                OffsetQuery::Latest => plain(log.end()),
                OffsetQuery::MaxTimestamp => record(log.newest()),
                OffsetQuery::AtTime(time) => record(log.at_time(time)),
            }
        });
        Box::pin(std::future::ready(result))
    }

    fn end_of_epoch(
        &self,
        at: TopicPartition,
        asked: LeaderEpoch,
        leader_epoch: Option<LeaderEpoch>,
    ) -> BoxFuture<'static, Result<Option<(LeaderEpoch, Offset)>, ReadError>> {
        let result = self.lead_as(at, leader_epoch).map(|current| {
            let mut state = self.state();
            let log = state.partitions.entry(at).or_default();
            log.end_of_epoch(asked, current)
        });
        Box::pin(std::future::ready(result))
    }

    fn delete_records(
        &self,
        at: TopicPartition,
        before: Option<Offset>,
    ) -> BoxFuture<'static, Result<Offset, ReadError>> {
        let result = self.lead_as(at, None).and_then(|_| {
            let mut state = self.state();
            let log = state.partitions.entry(at).or_default();
            let before = before.unwrap_or_else(|| log.end());
            if before > log.end() {
                return Err(ReadError::OutOfRange {
                    asked: before,
                    start: log.start,
                    end: log.end(),
                });
            }
            log.delete_before(before);
            Ok(log.start)
        });
        self.wake_readers();
        Box::pin(std::future::ready(result))
    }

    fn producers(&self, at: TopicPartition) -> Result<Vec<ActiveProducer>, ReadError> {
        self.lead_as(at, None)?;
        let state = self.state();
        let log = state.partitions.get(&at);
        Ok(log.map(|log| log.active_producers()).unwrap_or_default())
    }

    fn replica_sizes(&self) -> Vec<(TopicPartition, u64, u64)> {
        let image = self.image();
        let state: &State = &self.state();
        let held = image
            .partitions()
            .filter(|(_, p)| p.has_replica(self.0.node));
        let sizes = held.map(|(at, _)| {
            let log = state.partitions.get(&at);
            let bytes = log.map_or(0, |log| log.bytes_from(log.start));
            (at, u64::try_from(bytes).unwrap_or(u64::MAX), 0)
        });
        sizes.collect()
    }
}
