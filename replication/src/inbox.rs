//! What waits for a partition's task.
//!
//! Everything that can be coalesced is: of a follower's claims, of records and of answers
//! only the newest counts. Appends and data are queues; appends are bounded by the
//! options and pushed back to the producer as `Overloaded`, data by the window that the
//! leader keeps (a leader that ignores it loses the session).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use weir_base::image::PartitionRecord;
use weir_base::limits::PEER_FRAME_BYTES_MAX;
use weir_base::{LeaderEpoch, NodeId, Offset, PartitionEpoch, RecordBatch};
use weir_storage::LogError;

use crate::agreement::IsrRefusal;
use crate::core::NodeFacts;
use crate::core::effect::{Answer, DataHeader, Open, Progress, Session};
use crate::error::{AppendError, ReadError};
use crate::options::ReplicationOptions;
use crate::stream::outlet::Outlet;
use crate::waiters::{Reply, answer};

/// Whom an append waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckLevel {
    /// Nobody: answered once the leader's log took it.
    None,
    /// The leader alone, as durably as the topic's flush mode says.
    Leader,
    /// What the topic's durability says.
    All,
    /// The high watermark, whatever the topic's replication mode: no clean change of leader
    /// takes it back. For what is forgotten elsewhere once it is here.
    Committed,
}

/// One append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) batch: RecordBatch,
    pub(crate) wait: AckLevel,
    /// The one leader epoch in which it may be appended, if the caller says.
    pub(crate) epoch: Option<LeaderEpoch>,
    pub(crate) reply: Reply,
}

/// A frame of data from the leader.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) header: DataHeader,
    pub(crate) batches: Bytes,
}

/// Everything that waits, by kind; each is to be handled in the order of the fields.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) failure: Option<LogError>,
    pub(crate) record: Option<(PartitionRecord, BTreeMap<NodeId, NodeFacts>)>,
    pub(crate) isr_answer: Option<(PartitionEpoch, Result<PartitionRecord, IsrRefusal>)>,
    /// The links to these leaders broke.
    pub(crate) lost: BTreeSet<NodeId>,
    pub(crate) answers: VecDeque<(LeaderEpoch, Session, Answer)>,
    pub(crate) data: VecDeque<Data>,
    pub(crate) opens: BTreeMap<NodeId, (Open, Arc<Outlet>)>,
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    pub(crate) starts: Vec<(Offset, oneshot::Sender<Result<Offset, ReadError>>)>,
    pub(crate) appends: VecDeque<Append>,
    append_bytes: usize,
    data_bytes: usize,
}

/// A partition's inbox.
pub(crate) struct Inbox {
    state: Mutex<(Work, bool)>,
    pub(crate) wake: Notify,
    options: ReplicationOptions,
}

/// Raises of the log start that may wait.
const STARTS_MAX: usize = 64;
/// Answers of leaders that may wait; all but those of the current session are void.
const ANSWERS_MAX: usize = 16;

impl Inbox {
    pub(crate) fn new(options: ReplicationOptions) -> Inbox {
        Inbox {
            state: Mutex::default(),
            wake: Notify::new(),
            options,
        }
    }

    fn state(&self) -> MutexGuard<'_, (Work, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut Work)) {
        {
            let mut state = self.state();
            if state.1 {
                return;
            }
            put(&mut state.0);
        }
        self.wake.notify_one();
    }

    /// Queues an append, or answers it at once.
    pub(crate) fn append(&self, append: Append) {
        let bytes = append.batch.size();
        let refusal = {
            let mut state = self.state();
            let (work, is_closed) = &mut *state;
            let full = work.appends.len() >= self.options.append_queue_len_max
                || (work.append_bytes > 0
                    && work.append_bytes + bytes > self.options.append_queue_bytes_max);
            if *is_closed {
                Some((append, AppendError::Closed))
            } else if full {
                Some((append, AppendError::Overloaded))
            } else {
                work.append_bytes += bytes;
                work.appends.push_back(append);
                None
            }
        };
        match refusal {
            Some((append, error)) => answer(append.reply, Err(error)),
            None => self.wake.notify_one(),
        }
    }

    pub(crate) fn record(&self, record: PartitionRecord, nodes: BTreeMap<NodeId, NodeFacts>) {
        self.put(|work| {
            let older = work
                .record
                .as_ref()
                .is_none_or(|(known, _)| known.partition_epoch <= record.partition_epoch);
            if older {
                work.record = Some((record, nodes));
            }
        });
    }

    /// A proposal that a newer record overtook is answered too, and may be answered last:
    /// the leader waits for the answer to the newest, so that one stays.
    pub(crate) fn isr_answer(
        &self,
        epoch: PartitionEpoch,
        answer: Result<PartitionRecord, IsrRefusal>,
    ) {
        self.put(|work| {
            let known = work.isr_answer.as_ref();
            if known.is_none_or(|(known, _)| *known <= epoch) {
                work.isr_answer = Some((epoch, answer));
            }
        });
    }

    pub(crate) fn open(&self, from: NodeId, open: Open, outlet: Arc<Outlet>) {
        self.put(|work| {
            let known = work.opens.get(&from);
            if known.is_none_or(|(known, _)| known.session < open.session) {
                work.opens.insert(from, (open, outlet));
            }
        });
    }

    pub(crate) fn progress(&self, from: NodeId, progress: Progress) {
        self.put(|work| {
            let known = work.progress.get(&from);
            if known.is_none_or(|known| known.session <= progress.session) {
                work.progress.insert(from, progress);
            }
        });
    }

    pub(crate) fn data(&self, from: NodeId, header: DataHeader, batches: Bytes) {
        let limit = 2 * self.options.window_bytes + PEER_FRAME_BYTES_MAX;
        self.put(|work| {
            work.data_bytes += batches.len();
            if work.data_bytes > limit {
                work.data.clear();
                work.data_bytes = 0;
                work.lost.insert(from);
            } else {
                work.data.push_back(Data { header, batches });
            }
        });
    }

    pub(crate) fn answer(&self, epoch: LeaderEpoch, session: Session, answer: Answer) {
        self.put(|work| {
            if work.answers.len() >= ANSWERS_MAX {
                work.answers.pop_front();
            }
            work.answers.push_back((epoch, session, answer));
        });
    }

    pub(crate) fn lost(&self, leader: NodeId) {
        self.put(|work| {
            work.lost.insert(leader);
        });
    }

    pub(crate) fn fail(&self, error: LogError) {
        self.put(|work| {
            work.failure.get_or_insert(error);
        });
    }

    pub(crate) fn raise_start(
        &self,
        to: Offset,
        reply: oneshot::Sender<Result<Offset, ReadError>>,
    ) {
        self.put(|work| {
            // A dropped sender answers `Closed`.
            if work.starts.len() < STARTS_MAX {
                work.starts.push((to, reply));
            }
        });
    }

    /// Ends the task once it looks here next; `None` from [`Inbox::take`] says so.
    pub(crate) fn close(&self) {
        self.state().1 = true;
        self.wake.notify_one();
    }

    /// Takes what waits: of the appends a group's worth, or none while they are `held`.
    /// `None` once closed.
    pub(crate) fn take(&self, held: bool) -> Option<Work> {
        let mut state = self.state();
        if state.1 {
            return None;
        }
        let mut work = std::mem::take(&mut state.0);
        let mut group = VecDeque::new();
        let mut bytes = 0;
        while let Some(size) = work.appends.front().map(|append| append.batch.size()) {
            if held || (bytes > 0 && bytes + size > self.options.group_bytes_max) {
                break;
            }
            bytes += size;
            group.extend(work.appends.pop_front());
        }
        let rest = &mut state.0;
        rest.append_bytes = work.append_bytes.saturating_sub(bytes);
        rest.appends = std::mem::replace(&mut work.appends, group);
        if !rest.appends.is_empty() && !held {
            self.wake.notify_one();
        }
        Some(work)
    }

    /// Refuses what is left after the end.
    pub(crate) fn drain(&self) {
        let work = std::mem::take(&mut self.state().0);
        for append in work.appends {
            answer(append.reply, Err(AppendError::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(ReplicationOptions::default())
    }

    #[test]
    fn an_answer_that_was_overtaken_does_not_displace_the_one_that_is_waited_for() {
        let ineligible = || Err(IsrRefusal::Ineligible("not yet".to_owned()));
        for stale_comes_last in [false, true] {
            let inbox = inbox();
            let mut answers = [
                (PartitionEpoch(17), Err(IsrRefusal::Stale)),
                (PartitionEpoch(19), ineligible()),
            ];
            if stale_comes_last {
                answers.reverse();
            }
            for (epoch, answer) in answers {
                inbox.isr_answer(epoch, answer);
            }
            let kept = inbox.take(false).and_then(|work| work.isr_answer);
            assert_eq!(kept, Some((PartitionEpoch(19), ineligible())));
        }
    }

    #[test]
    fn every_link_that_broke_is_told_of() {
        let inbox = inbox();
        for leader in [NodeId(2), NodeId(1)] {
            inbox.lost(leader);
        }
        let lost = inbox.take(false).map(|work| work.lost);
        assert_eq!(lost, Some(BTreeSet::from([NodeId(1), NodeId(2)])));
    }
}
