//! The task of one partition's replica: the only one that writes its log.
//!
//! It drains its inbox into one group, appends the group at once, hands the same bytes to
//! every follower's stream, lets the core decide, and carries the core's effects out. An
//! idle partition's task sleeps without a timer.
//!
//! ```text
//! producers ─▶ inbox ─▶ group ─▶ log append ──▶ WAL fsync ──▶ durable end ─┐
//!                               └▶ outlets ─▶ followers ─▶ progress ───────┴▶ core ─▶ HW ─▶ acks
//! ```
//!
//! Cost of an acknowledged group of `n` batches and `b` bytes, sync flush, sync
//! replication, three replicas; all of it is paid once a group, however many producers:
//!
//! | where | fsyncs | copies of `b` | messages |
//! |---|---|---|---|
//! | leader | 1, shared with all partitions (WAL) | WAL + page cache; 1 more of bodies <= 2 KiB | 1 frame a follower |
//! | each follower | 1, shared likewise | 1 out of packets, WAL + page cache | 1 claim, with the fsync |
//!
//! Latency: max(leader fsync, one way + follower append and fsync + one way), so one
//! round trip and about one fsync. The watermark reaches followers with the next frame,
//! or in a frame of some 50 bytes of its own at once if there is none. Async flush drops
//! the fsyncs from the path; async replication the round trip.
//!
//! On a crash the task's state is gone: waiting producers time out (indeterminate), the
//! log recovers by itself, followers open anew.

mod effects;
mod handle;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_base::image::{FlushMode, ReplicationMode};
use weir_base::{
    BoxFuture, CacheHint, FaultClass, LeaderEpoch, Monotonic, NodeId, Offset, RecordBatch,
    TopicPartition, Uuid,
};
use weir_storage::{AppendOutcome, LogError, LogPosition, PartitionLog};

pub use handle::{Fetched, PartitionHandle, PartitionView};

use crate::agreement::{IsrRefusal, ReplicaEvent};
use crate::core::effect::{Answer, Effect, Effects, IsrAnswer, Session};
use crate::core::{Core, Gate, Verdict};
use crate::error::{AppendError, KnownLeader, ReadError};
use crate::inbox::{AckLevel, Append, Data, Inbox, Work};
use crate::node::Node;
use crate::stream::outlet::{Outlet, Piece, Standing};
use crate::waiters::{Appended, Reply, Waiters, answer};

/// A replica's task.
pub(crate) struct Partition {
    at: TopicPartition,
    node: Arc<Node>,
    log: Arc<dyn PartitionLog>,
    positions: watch::Receiver<LogPosition>,
    inbox: Arc<Inbox>,
    core: Core,
    effects: VecDeque<Effect>,
    /// Waiting for the high watermark,
    replicated: Waiters,
    /// ... or for this log's durable end.
    flushed: Waiters,
    /// Streams to followers that asked, and those that are served.
    outlets: BTreeMap<NodeId, Arc<Outlet>>,
    followers: BTreeMap<NodeId, (Session, Arc<Outlet>)>,
    followed: Option<NodeId>,
    views: watch::Sender<PartitionView>,
    alarm: Option<(Monotonic, BoxFuture<'static, ()>)>,
    deferred: Option<Deferred>,
}

/// An effect that the log has no space for: tried again while the epoch lasts.
struct Deferred {
    effect: Effect,
    epoch: LeaderEpoch,
    at: Monotonic,
}

/// Pause before an effect is tried again that the log had no space for.
const SPACE_PAUSE: Duration = Duration::from_secs(1);

impl Partition {
    /// A task for a recovered log, and the handle to it.
    pub(crate) fn new(
        node: Arc<Node>,
        at: TopicPartition,
        replica: Uuid,
        log: Arc<dyn PartitionLog>,
    ) -> (Partition, PartitionHandle) {
        let positions = log.positions();
        let core = Core::new(node.me, replica, log.position(), node.options.core)
            .with_sessions_above(node.next_sessions());
        let inbox = Arc::new(Inbox::new(node.options));
        let views = watch::Sender::new(handle::view(&core, None));
        let handle = PartitionHandle::new(
            at,
            Arc::clone(&node),
            Arc::clone(&inbox),
            Arc::clone(&log),
            views.subscribe(),
        );
        let partition = Partition {
            at,
            node,
            log,
            positions,
            inbox,
            core,
            effects: VecDeque::new(),
            replicated: Waiters::default(),
            flushed: Waiters::default(),
            outlets: BTreeMap::new(),
            followers: BTreeMap::new(),
            followed: None,
            views,
            alarm: None,
            deferred: None,
        };
        (partition, handle)
    }

    /// Runs until the inbox is closed.
    pub(crate) async fn run(mut self) {
        loop {
            let held = self.core.gate(self.now()) == Gate::Stalled;
            let Some(work) = self.inbox.take(held) else {
                break;
            };
            self.on_work(work).await;
            self.publish();
            if !held || self.core.gate(self.now()) == Gate::Stalled {
                self.rest().await;
            }
        }
        self.end();
    }

    fn now(&self) -> Monotonic {
        self.node.env.clock.now()
    }

    /// Waits for work, a moved log, or the time the core asked for.
    async fn rest(&mut self) {
        self.set_alarm();
        let alarm = async {
            match &mut self.alarm {
                Some((_, alarm)) => alarm.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.inbox.wake.notified() => {}
            moved = self.positions.changed() => {
                if moved.is_err() {
                    self.inbox.fail(LogError::Closed);
                }
            }
            () = alarm => self.alarm = None,
        }
    }

    /// An armed alarm is left alone unless it would be late: it may ring for nothing.
    fn set_alarm(&mut self) {
        let now = self.now();
        let wakes = [
            self.core.next_wake(now),
            self.deferred.as_ref().map(|deferred| deferred.at),
        ];
        match wakes.into_iter().flatten().min() {
            None => self.alarm = None,
            Some(at) => {
                if self.alarm.as_ref().is_none_or(|(armed, _)| at < *armed) {
                    self.alarm = Some((at, self.node.env.clock.sleep_until(at)));
                }
            }
        }
    }

    /// Gives the core an input, then carries out what it wants.
    async fn input(&mut self, input: impl FnOnce(&mut Core, Monotonic, &mut Effects)) {
        let mut effects = Effects::new();
        let now = self.now();
        input(&mut self.core, now, &mut effects);
        self.effects.extend(effects);
        self.carry_out().await;
    }

    async fn on_work(&mut self, work: Work) {
        if let Some(error) = work.failure {
            self.on_log_error(&error).await;
        }
        if let Some((record, nodes)) = work.record {
            self.input(|core, now, out| core.on_record(now, &record, &nodes, out))
                .await;
        }
        if let Some((epoch, verdict)) = work.isr_answer {
            self.on_isr_answer(epoch, verdict).await;
        }
        let followed = self.core.leader_followed();
        if followed.is_some_and(|leader| work.lost.contains(&leader)) {
            self.input(|core, now, out| core.on_lost(now, out)).await;
        }
        for (epoch, session, verdict) in work.answers {
            let own = match verdict {
                Answer::Diverging { epoch, .. } => self.log.end_of_epoch(epoch),
                Answer::Reset { .. } | Answer::Refused => None,
            };
            self.input(|core, now, out| {
                core.on_answer(now, epoch, session, verdict, own, out);
            })
            .await;
        }
        self.on_data(work.data).await;
        for (from, (open, outlet)) in work.opens {
            self.outlets.insert(from, outlet);
            let found = self.log.end_of_epoch(open.last_epoch);
            self.input(|core, now, out| core.on_open(now, from, &open, found, out))
                .await;
        }
        for (from, progress) in work.progress {
            self.input(|core, now, out| core.on_progress(now, from, &progress, out))
                .await;
        }
        self.on_appends(work.appends).await;
        for (to, reply) in work.starts {
            let raised = self.raise_start(to).await;
            drop(reply.send(raised));
        }
        self.on_moved().await;
        self.retry_deferred().await;
        self.input(|core, now, out| core.on_tick(now, out)).await;
    }

    /// The log may have become more durable, or lost its oldest part to retention.
    async fn on_moved(&mut self) {
        let before = self.core.position();
        self.positions.mark_unchanged();
        let position = self.log.position();
        if position == before {
            return;
        }
        self.input(|core, now, out| core.on_position(now, position, out))
            .await;
        self.release();
        if position.start != before.start {
            self.offer(None);
        }
    }

    async fn on_isr_answer(
        &mut self,
        epoch: weir_base::PartitionEpoch,
        verdict: Result<weir_base::image::PartitionRecord, IsrRefusal>,
    ) {
        let told = match verdict {
            Ok(record) => {
                let nodes = self.core.nodes().cloned().unwrap_or_default();
                self.input(|core, now, out| core.on_record(now, &record, &nodes, out))
                    .await;
                IsrAnswer::Agreed
            }
            Err(IsrRefusal::Ineligible(why)) => {
                tracing::debug!(partition = %self.at, why, "ISR proposal refused");
                IsrAnswer::Refused
            }
            Err(IsrRefusal::Stale | IsrRefusal::Unanswered(_)) => IsrAnswer::Unknown,
        };
        self.input(|core, now, out| core.on_isr_answer(now, epoch, told, out))
            .await;
    }

    /// Follower: appends all the frames that came as one group.
    async fn on_data(&mut self, frames: VecDeque<Data>) {
        let mut group: Vec<RecordBatch> = Vec::new();
        let mut effects = Effects::new();
        for Data { header, batches } in frames {
            let Ok(batches) = RecordBatch::parse_all(batches) else {
                tracing::warn!(partition = %self.at, "leader sent bytes that are no batches");
                let now = self.now();
                self.core.on_lost(now, &mut effects);
                break;
            };
            let range = batches
                .first()
                .zip(batches.last())
                .map(|(first, last)| (first.base_offset(), last.end_offset()));
            let now = self.now();
            if self.core.on_data(now, &header, range, &mut effects) == Verdict::Append {
                group.extend(batches);
            }
        }
        if !group.is_empty() {
            let now = self.node.env.clock.wall();
            let flush = self.core.durability().flush;
            // Who is out of sync is sent what others serve, and have served.
            let hint = match self.core.is_in_sync() {
                true => CacheHint::Keep,
                false => CacheHint::Drop,
            };
            let written = self.log.append_as_follower(now, group, flush, hint).await;
            if let Err(error) = written {
                tracing::warn!(partition = %self.at, %error, "batches from the leader not appended");
                let now = self.now();
                self.core.on_lost(now, &mut effects);
                self.on_log_error(&error).await;
            }
            let (now, position) = (self.now(), self.log.position());
            self.core.on_position(now, position, &mut effects);
        }
        self.effects.extend(effects);
        self.carry_out().await;
    }

    /// Leader: appends what producers brought as one group.
    async fn on_appends(&mut self, appends: VecDeque<Append>) {
        if appends.is_empty() {
            return;
        }
        let gate = self.core.gate(self.now());
        let durability = self.core.durability();
        let lease = durability.replication == ReplicationMode::Sync
            || self.is_sure_to_lead()
            || weir_base::mutant!(M21);
        let mut batches = Vec::with_capacity(appends.len());
        let mut callers = Vec::with_capacity(appends.len());
        let current = self.core.leader_epoch();
        for append in appends {
            let Append {
                batch,
                wait,
                epoch,
                reply,
            } = append;
            let refusal = match (gate, wait) {
                _ if reply.is_closed() => continue, // nobody waits: never appended
                _ if self.core.is_failed() => Some(AppendError::Storage(LogError::Closed)),
                (Gate::NotLeader, _) => Some(AppendError::NotLeader(self.known_leader())),
                _ if epoch.is_some_and(|wanted| wanted != current) => {
                    Some(AppendError::NotLeader(self.known_leader()))
                }
                (Gate::BelowMinIsr { isr, min_isr }, AckLevel::All | AckLevel::Committed) => {
                    Some(AppendError::NotEnoughReplicas { isr, min_isr })
                }
                (Gate::Stalled, _) => Some(AppendError::Overloaded),
                (Gate::Open | Gate::BelowMinIsr { .. }, _) if !lease => {
                    Some(AppendError::NotLeader(self.known_leader()))
                }
                (Gate::Open | Gate::BelowMinIsr { .. }, _) => None,
            };
            match refusal {
                Some(error) => answer(reply, Err(error)),
                None => {
                    batches.push(batch);
                    callers.push((wait, reply));
                }
            }
        }
        if batches.is_empty() {
            return;
        }
        match self.append(batches, durability.flush).await {
            Ok(outcomes) => {
                for (outcome, (wait, reply)) in outcomes.into_iter().zip(callers) {
                    self.await_outcome(outcome, wait, reply);
                }
                self.release();
            }
            Err(error) => {
                let told = match &error {
                    LogError::DiskFull => AppendError::DiskFull,
                    LogError::OutOfRange { .. }
                    | LogError::Discontinuous { .. }
                    | LogError::Malformed(_)
                    | LogError::Corrupt { .. }
                    | LogError::DiskLost(_)
                    | LogError::Closed => AppendError::Storage(error.clone()),
                };
                for (_, reply) in callers {
                    answer(reply, Err(told.clone()));
                }
                self.on_log_error(&error).await;
            }
        }
    }

    /// Leader: one append to the log, sent to the followers and told to the core.
    async fn append(
        &mut self,
        batches: Vec<RecordBatch>,
        flush: FlushMode,
    ) -> Result<Vec<AppendOutcome>, LogError> {
        let epoch = self.core.leader_epoch();
        let now = self.node.env.clock.wall();
        let outcomes = self
            .log
            .append_as_leader(epoch, now, batches, flush)
            .await?;
        let stamped: Vec<RecordBatch> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                AppendOutcome::Appended { batch, .. } => Some(batch.clone()),
                AppendOutcome::Duplicate { .. } | AppendOutcome::Refused(_) => None,
            })
            .collect();
        let bytes: usize = stamped.iter().map(RecordBatch::size).sum();
        let position = self.log.position();
        self.offer(Piece::of(&stamped).as_ref());
        let mut effects = Effects::new();
        let now = self.now();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.core.on_appended(now, position, bytes, &mut effects);
        self.effects.extend(effects);
        Ok(outcomes)
    }

    /// Puts a caller where its answer will come from.
    fn await_outcome(&mut self, outcome: AppendOutcome, wait: AckLevel, reply: Reply) {
        let (base, end) = match outcome {
            AppendOutcome::Appended { base, end, .. } | AppendOutcome::Duplicate { base, end } => {
                (base, end)
            }
            AppendOutcome::Refused(error) => {
                return answer(reply, Err(AppendError::Sequence(error)));
            }
        };
        let durability = self.core.durability();
        let alone = match wait {
            AckLevel::None | AckLevel::Leader => true,
            AckLevel::All => durability.replication == ReplicationMode::Async,
            AckLevel::Committed => false,
        };
        if !alone {
            self.replicated.wait(base, end, reply);
        } else if wait == AckLevel::None || durability.flush == FlushMode::Async {
            let log_start = self.core.position().start;
            answer(
                reply,
                Ok(Appended {
                    base,
                    end,
                    log_start,
                }),
            );
        } else {
            self.flushed.wait(base, end, reply);
        }
    }

    /// Answers all whose time has come.
    fn release(&mut self) {
        let position = self.core.position();
        if self.core.durability().replication == ReplicationMode::Async
            && !self.is_sure_to_lead()
            && !weir_base::mutant!(M21)
        {
            // Another leader may serve already: no acknowledgement of this one alone (I10).
            let error = AppendError::LeadershipLost(self.known_leader());
            self.flushed.fail(&error);
        }
        self.replicated
            .complete(self.core.high_watermark(), position.start);
        self.flushed.complete(position.durable_end, position.start);
    }

    /// Tells every follower's stream where the log stands, and what was just appended.
    fn offer(&self, piece: Option<&Piece>) {
        let standing = self.standing();
        for (session, outlet) in self.followers.values() {
            outlet.offer(self.at, *session, standing, piece);
        }
    }

    fn standing(&self) -> Standing {
        let position = self.log.position();
        Standing {
            high_watermark: self.core.high_watermark(),
            log_start: position.start,
            end: position.end,
            flush: self.core.durability().flush,
        }
    }

    async fn raise_start(&mut self, to: Offset) -> Result<Offset, ReadError> {
        let position = self.log.position();
        if self.core.leads().is_none() {
            return Err(ReadError::NotLeader(self.known_leader()));
        }
        let end = self.core.high_watermark();
        if to > end {
            return Err(ReadError::OutOfRange {
                asked: to,
                start: position.start,
                end,
            });
        }
        if to > position.start {
            self.log.set_start(to).await.map_err(ReadError::Storage)?;
            self.on_moved().await;
        }
        Ok(self.log.position().start)
    }

    /// Whether, if it leads, nobody else does (I10).
    fn is_sure_to_lead(&self) -> bool {
        self.node.is_sure_to_lead(self.at, self.core.leader_epoch())
    }

    fn known_leader(&self) -> KnownLeader {
        KnownLeader {
            leader: self.core.record().and_then(|record| record.leader),
            epoch: self.core.leader_epoch(),
        }
    }

    /// Takes the replica out if its data or its disk is bad.
    async fn on_log_error(&mut self, error: &LogError) {
        match error.class() {
            FaultClass::Rejected | FaultClass::Retry => return,
            FaultClass::Quarantine | FaultClass::DiskLost | FaultClass::Stop => {}
        }
        if self.core.is_failed() {
            return;
        }
        tracing::error!(partition = %self.at, %error, "replica failed");
        let told = AppendError::Storage(error.clone());
        self.replicated.fail(&told);
        self.flushed.fail(&told);
        self.node.agreement.on_event(ReplicaEvent::Failed {
            at: self.at,
            error: error.clone(),
        });
        self.input(|core, _, out| core.on_failed(out)).await;
    }

    fn publish(&self) {
        self.views.send_if_modified(|view| {
            let next = handle::view(&self.core, Some(view));
            let is_news = next != *view;
            *view = next;
            is_news
        });
    }

    /// The replica was closed: nobody is left waiting.
    fn end(mut self) {
        self.replicated.fail(&AppendError::Closed);
        self.flushed.fail(&AppendError::Closed);
        self.inbox.drain();
        self.stop_serving();
        if let Some(leader) = self.followed.take() {
            self.node
                .uplink(leader, self.at)
                .leave(self.at, &self.inbox);
        }
    }

    fn stop_serving(&mut self) {
        for (session, outlet) in std::mem::take(&mut self.followers).into_values() {
            outlet.stop(self.at, session);
        }
        self.outlets.clear();
    }
}
