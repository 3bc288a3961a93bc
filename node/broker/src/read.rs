//! The way of a read: from the waist to the partition, bounded by the high watermark.
//!
//! A read that finds too little waits here for any of its partitions to move, and then
//! reads again: no per-partition queue of parked fetches exists, so an idle consumer
//! costs one task parked on its partitions' views and nothing else.
//!
//! That nothing is behind the high watermark is for a leader with its node's lease to say
//! (I10). What is committed anybody may read; but a reader that an old leader keeps waiting
//! at its end asks nobody else, and misses all that another acknowledges.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio::sync::watch;
use weir_api::log::{Read, ReadOk, ReadOutcome, ReadPartition};
use weir_api::{NotLeader, ReadError};
use weir_base::{LeaderEpoch, Offset, TopicPartition};
use weir_replication::{PartitionHandle, PartitionView, ReadError as Failure};

use crate::Broker;

impl Broker {
    /// Reads until enough is there, an error is, or the time is up.
    pub(crate) async fn read_waiting(self, request: Read) -> Vec<ReadOutcome> {
        let clock = self.0.env.clock.clone();
        let deadline = clock.now() + request.wait_max;
        loop {
            // Views are taken before reading, so that a change in between wakes at once.
            let views = self.watch_all(&request);
            let (mut outcomes, bytes, failed) = self.read_once(&request).await;
            let out_of_time = clock.now() >= deadline;
            if out_of_time {
                self.doubt_ends(&request, &mut outcomes);
            }
            if failed || out_of_time || bytes >= request.bytes_min || views.is_empty() {
                return outcomes;
            }
            tokio::select! {
                biased;
                () = any_moves(views) => {}
                () = clock.sleep_until(deadline) => {}
            }
        }
    }

    /// Sends readers elsewhere that waited in vain at an end that may be none. Not before
    /// their time is up: a lease comes back, and they would ask again at once.
    fn doubt_ends(&self, request: &Read, outcomes: &mut [ReadOutcome]) {
        for (wanted, outcome) in request.partitions.iter().zip(outcomes) {
            let is_at_end = outcome.result.as_ref().is_ok_and(|ok| {
                ok.bytes == 0 && ok.diverging.is_none() && wanted.from >= ok.high_watermark
            });
            let Some(partition) = self.0.replication.partition(wanted.at) else {
                continue;
            };
            if is_at_end && !partition.is_sure_to_lead() {
                outcome.result = Err(ReadError::NotLeader(NotLeader {
                    leader: None,
                    epoch: partition.view().leader_epoch,
                }));
            }
        }
    }

    async fn read_once(&self, request: &Read) -> (Vec<ReadOutcome>, usize, bool) {
        let mut budget = request.bytes_max;
        let mut total = 0;
        let mut failed = false;
        let mut outcomes = Vec::with_capacity(request.partitions.len());
        for wanted in &request.partitions {
            // The first batch of the whole answer is given even if it is over the limit.
            let limit = if total == 0 { budget.max(1) } else { budget };
            let result = self.read_partition(wanted, limit).await;
            match &result {
                Ok(ok) => {
                    total += ok.bytes;
                    budget = budget.saturating_sub(ok.bytes);
                    failed |= ok.diverging.is_some();
                }
                Err(_) => failed = true,
            }
            outcomes.push(ReadOutcome {
                at: wanted.at,
                result,
            });
        }
        (outcomes, total, failed)
    }

    async fn read_partition(
        &self,
        wanted: &ReadPartition,
        budget: usize,
    ) -> Result<ReadOk, ReadError> {
        let (partition, view) = self.led(wanted.at, wanted.leader_epoch)?;
        if let Some(last) = wanted.last_fetched_epoch
            && let Some(diverging) = diverges(&partition, last, wanted.from)
        {
            return Ok(ReadOk {
                high_watermark: view.high_watermark,
                log_start: view.log_start,
                diverging: Some(diverging),
                ..ReadOk::default()
            });
        }
        let out_of_range = ReadError::OutOfRange {
            asked: wanted.from,
            start: view.log_start,
            end: view.high_watermark,
        };
        if wanted.from > view.log_end && !partition.may_answer() {
            // Others may lead and have more: a reader that believes it is beyond the end
            // would begin anew somewhere else (S-11).
            return Err(ReadError::NotLeader(NotLeader {
                leader: None,
                epoch: view.leader_epoch,
            }));
        }
        if wanted.from < view.log_start || wanted.from > view.log_end {
            return Err(out_of_range);
        }
        let mut ok = ReadOk {
            high_watermark: view.high_watermark,
            log_start: view.log_start,
            ..ReadOk::default()
        };
        if budget > 0 && wanted.from < view.high_watermark {
            let limit = wanted.bytes_max.min(budget);
            match partition.read(wanted.from, limit).await {
                Ok(fetched) => {
                    ok.bytes = fetched.chunk.bytes;
                    ok.chunks = fetched.chunk.chunks;
                    ok.high_watermark = fetched.high_watermark;
                    ok.log_start = fetched.log_start;
                }
                Err(failure) => return Err(read_error(failure)),
            }
        }
        Ok(ok)
    }

    /// The partition if this node leads it and agrees with the client on the epoch.
    pub(crate) fn led(
        &self,
        at: TopicPartition,
        known: Option<LeaderEpoch>,
    ) -> Result<(PartitionHandle, PartitionView), ReadError> {
        let hint = || self.leader_hint(at).ok_or(ReadError::UnknownPartition);
        let Some(partition) = self.0.replication.partition(at) else {
            return Err(ReadError::NotLeader(hint()?));
        };
        let view = partition.view();
        let current = NotLeader {
            leader: view.leader,
            epoch: view.leader_epoch,
        };
        match known {
            Some(known) if known < view.leader_epoch => {
                return Err(ReadError::FencedEpoch(current));
            }
            Some(known) if known > view.leader_epoch => return Err(ReadError::UnknownEpoch),
            Some(_) | None => {}
        }
        if view.is_leader {
            Ok((partition, view))
        } else {
            Err(ReadError::NotLeader(current))
        }
    }

    fn watch_all(&self, request: &Read) -> Vec<(watch::Receiver<PartitionView>, Offset)> {
        let partitions = request.partitions.iter();
        partitions
            .filter_map(|wanted| {
                Some((
                    self.0.replication.partition(wanted.at)?.views(),
                    wanted.from,
                ))
            })
            .collect()
    }
}

/// Replication's words as the waist's.
pub(crate) fn read_error(failure: Failure) -> ReadError {
    match failure {
        Failure::OutOfRange { asked, start, end } => ReadError::OutOfRange { asked, start, end },
        Failure::NotLeader(known) => ReadError::NotLeader(NotLeader {
            leader: known.leader,
            epoch: known.epoch,
        }),
        Failure::Storage(_) => ReadError::Storage,
        Failure::Closed => ReadError::UnknownPartition,
    }
}

/// Where the log ended for the client's last epoch, if that lies before what it has.
fn diverges(
    partition: &PartitionHandle,
    last: LeaderEpoch,
    from: Offset,
) -> Option<(LeaderEpoch, Offset)> {
    let found = partition.end_of_epoch(last)?;
    (found.epoch < last || found.end < from).then_some((found.epoch, found.end))
}

/// Completes when one of the partitions has more than its reader read up to, or is no
/// longer led here.
async fn any_moves(views: Vec<(watch::Receiver<PartitionView>, Offset)>) {
    let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = views
        .into_iter()
        .map(|(mut receiver, from)| {
            let seen = receiver.borrow().high_watermark;
            let mark = seen.max(from);
            Box::pin(async move {
                // An error means that the partition was closed: that, too, is a move.
                drop(
                    receiver
                        .wait_for(|v| v.high_watermark > mark || !v.is_leader)
                        .await,
                );
            }) as Pin<Box<dyn Future<Output = ()> + Send>>
        })
        .collect();
    std::future::poll_fn(|cx| {
        if moves
            .iter_mut()
            .any(|moved| moved.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
