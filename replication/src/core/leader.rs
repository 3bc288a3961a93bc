//! Leading one partition in one epoch.
//!
//! ```text
//! log start      LESO (epoch barrier)
//!    │ older epochs  │ this epoch
//!    └───────────────┴───────────────────▶ log end
//!         HW ─▶ least counted offset over the maximal ISR
//! ```
//! Below LESO a new leader's watermark may lag behind the true one, so until it reached
//! LESO the leader answers no offset queries (S-21).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weir_base::image::{FlushMode, ReplicationMode};
use weir_base::{LeaderEpoch, Monotonic, NodeEpoch, NodeId, Offset, Uuid};
use weir_storage::{EpochEnd, LogPosition};

use super::effect::{Answer, Effect, Effects, IsrAnswer, IsrProposal, Open, Progress, Session};
use super::in_sync::InSync;
use super::watermark::{counted, least};
use super::{Agreed, CoreOptions, divergence};

/// What the leader knows of one other replica.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    /// Which copy: one that was made anew on the same node has claimed nothing yet (S-06).
    id: Uuid,
    /// Its session, once its log was found to be a prefix of this one in this epoch.
    session: Option<Session>,
    /// Newest session heard of, matched or not.
    heard: Option<Session>,
    end: Offset,
    durable_end: Offset,
    /// Latest time at which it had all that the leader had.
    caught_up_at: Monotonic,
    /// Reaching this offset means: caught up at that time.
    goal: (Offset, Monotonic),
    /// Whether it claimed a position since it was last found too slow: one that is silent
    /// must not come back on the strength of an old claim.
    is_heard: bool,
}

impl Replica {
    fn new(id: Uuid, now: Monotonic, goal: Offset) -> Replica {
        Replica {
            id,
            session: None,
            heard: None,
            end: Offset::ZERO,
            durable_end: Offset::ZERO,
            caught_up_at: now,
            goal: (goal, now),
            is_heard: false,
        }
    }

    pub(crate) fn counted(&self, flush: FlushMode) -> Offset {
        counted(flush, self.end, self.durable_end)
    }

    /// Notes a claim of position; `leader_end` is where the leader's log ends now.
    fn place(
        &mut self,
        now: Monotonic,
        flush: FlushMode,
        (end, durable_end): (Offset, Offset),
        leader_end: Offset,
    ) {
        self.is_heard = true;
        self.end = end;
        self.durable_end = durable_end.min(end);
        let (goal, goal_at) = self.goal;
        let counted = self.counted(flush);
        if counted >= leader_end {
            self.caught_up_at = now;
            self.goal = (leader_end, now);
        } else if counted >= goal {
            self.caught_up_at = self.caught_up_at.max(goal_at);
            self.goal = (leader_end, now);
        }
    }
}

/// What leads know besides what every replica does.
pub(crate) struct Context<'a> {
    pub(crate) me: NodeId,
    pub(crate) options: &'a CoreOptions,
    pub(crate) agreed: &'a Agreed,
    pub(crate) position: LogPosition,
    pub(crate) high_watermark: &'a mut Offset,
}

impl Context<'_> {
    fn flush(&self) -> FlushMode {
        self.agreed.durability().flush
    }
}

/// A leader.
#[derive(Debug, Clone)]
pub(crate) struct Leader {
    epoch: LeaderEpoch,
    /// Leader-epoch start offset (LESO): where the barrier lies.
    start: Offset,
    isr: InSync,
    replicas: BTreeMap<NodeId, Replica>,
    /// Since when the watermark has not moved though the log goes beyond it.
    held_since: Option<Monotonic>,
    /// Appended groups above the watermark: end, bytes, time.
    unreplicated: VecDeque<(Offset, u64, Monotonic)>,
    unreplicated_bytes: u64,
    /// The flush barrier of a pending durability: every member must be durable to here.
    barrier: Option<Offset>,
}

/// Whether a leader may append now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not for writes that wait for the ISR: it is below min ISR.
    BelowMinIsr {
        /// ISR size.
        isr: u32,
        /// The floor.
        min_isr: u32,
    },
    /// Nothing for now: too much is acknowledged that only this replica holds.
    Stalled,
    /// Not a leader.
    NotLeader,
}

impl Leader {
    pub(crate) fn new(now: Monotonic, cx: &Context<'_>, out: &mut Effects) -> Leader {
        let epoch = cx.agreed.record.leader_epoch;
        let start = cx.position.end;
        let replicas = cx
            .agreed
            .others(cx.me)
            .map(|other| (other.node, Replica::new(other.id, now, start)))
            .collect();
        // Nothing was ever written where the eligible leader's log is empty, so there is
        // nothing to fence: clients find their first record at offset 0.
        let is_new = start == Offset::ZERO;
        if !is_new {
            out.push(Effect::AppendBarrier(epoch));
        }
        Leader {
            epoch,
            start,
            isr: InSync::committed(cx.agreed.isr()),
            replicas,
            held_since: None,
            unreplicated: VecDeque::new(),
            unreplicated_bytes: 0,
            // The barrier batch itself ends above `start`, so reaching it proves a flush
            // in this epoch.
            barrier: cx
                .agreed
                .record
                .pending_durability
                .map(|_| if is_new { start } else { start + 1 }),
        }
    }

    /// Whether the epoch's barrier is in a log that ends at `end`, or none is needed.
    pub(crate) fn has_begun(&self, end: Offset) -> bool {
        self.start == Offset::ZERO || end > self.start
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(crate) fn start(&self) -> Offset {
        self.start
    }

    pub(crate) fn isr(&self) -> &BTreeSet<NodeId> {
        self.isr.isr()
    }

    pub(crate) fn maximal(&self) -> &BTreeSet<NodeId> {
        self.isr.maximal()
    }

    pub(crate) fn unreplicated_bytes(&self) -> u64 {
        self.unreplicated_bytes
    }

    /// A follower's log end and durable end, if it was heard of in this epoch.
    pub(crate) fn replica_position(&self, node: NodeId) -> Option<(Offset, Offset)> {
        let replica = self.replicas.get(&node)?;
        replica.session?;
        Some((replica.end, replica.durable_end))
    }

    /// The record changed, but not who leads.
    pub(crate) fn on_record(&mut self, now: Monotonic, cx: &mut Context<'_>, out: &mut Effects) {
        let before = self.isr.isr().len();
        let isr = cx.agreed.isr();
        if isr != *self.isr.isr() {
            // Patience starts anew, or a set that was just changed would flap.
            self.held_since = self.held_since.map(|_| now);
            for node in isr.difference(self.isr.isr()) {
                if let Some(replica) = self.replicas.get_mut(node) {
                    replica.caught_up_at = now;
                    replica.goal = (cx.position.end, now);
                }
            }
        }
        self.isr = InSync::committed(isr);
        let record = &cx.agreed.record;
        self.replicas
            .retain(|node, known| record.replica(*node).is_some_and(|r| r.id == known.id));
        for other in cx.agreed.others(cx.me) {
            self.replicas
                .entry(other.node)
                .or_insert_with(|| Replica::new(other.id, now, cx.position.end));
        }
        self.barrier = match (cx.agreed.record.pending_durability, self.barrier) {
            (None, _) => None,
            (Some(_), Some(barrier)) => Some(barrier),
            (Some(_), None) => Some(cx.position.end),
        };
        let (isr, min_isr) = (self.isr.isr().len(), cx.agreed.min_isr());
        if isr < min_isr && isr < before {
            out.push(Effect::BelowMinIsr {
                isr: small(isr),
                min_isr: small(min_isr),
            });
        }
        self.settle(now, cx, out);
    }

    /// A group was appended.
    pub(crate) fn on_appended(
        &mut self,
        now: Monotonic,
        before: Offset,
        bytes: u64,
        cx: &mut Context<'_>,
        out: &mut Effects,
    ) {
        let end = cx.position.end;
        if end > before {
            for replica in self.replicas.values_mut() {
                if replica.counted(cx.flush()) >= before {
                    replica.caught_up_at = now;
                    replica.goal = (end, now);
                }
            }
            self.unreplicated.push_back((end, bytes, now));
            self.unreplicated_bytes += bytes;
        }
        self.settle(now, cx, out);
    }

    /// A follower wants to follow. `found` is this log's largest epoch not above
    /// `open.last_epoch`, and its end.
    pub(crate) fn on_open(
        &mut self,
        now: Monotonic,
        from: NodeId,
        open: &Open,
        found: Option<EpochEnd>,
        cx: &mut Context<'_>,
        out: &mut Effects,
    ) {
        let mut answer = |answer| {
            out.push(Effect::Answer {
                to: from,
                session: open.session,
                leader_epoch: self.epoch,
                answer,
            });
        };
        let known = cx.agreed.record.replica(from).map(|r| r.id) == Some(open.replica);
        let Some(replica) = self.replicas.get_mut(&from).filter(|_| known) else {
            return answer(Answer::Refused);
        };
        if open.leader_epoch != self.epoch {
            return answer(Answer::Refused);
        }
        if replica.heard.is_some_and(|heard| heard >= open.session) {
            return; // late: the follower itself gave that attempt up
        }
        replica.heard = Some(open.session);
        // What an older session claimed is void: the follower may have lost it since.
        replica.session = None;
        replica.end = Offset::ZERO;
        replica.durable_end = Offset::ZERO;
        if let Some(refusal) = divergence::judge(open, self.epoch, cx.position, found) {
            return answer(refusal);
        }
        replica.session = Some(open.session);
        let claimed = (open.end, open.durable_end);
        replica.place(now, cx.flush(), claimed, cx.position.end);
        out.push(Effect::Stream {
            to: from,
            session: open.session,
            from: open.end,
        });
        self.settle(now, cx, out);
    }

    /// A follower tells where it stands.
    pub(crate) fn on_progress(
        &mut self,
        now: Monotonic,
        from: NodeId,
        progress: &Progress,
        cx: &mut Context<'_>,
        out: &mut Effects,
    ) {
        let Some(replica) = self.replicas.get_mut(&from) else {
            return;
        };
        let current = progress.leader_epoch == self.epoch
            && replica.session == Some(progress.session)
            && progress.end <= cx.position.end;
        // Within a session positions only grow; anything else arrived late.
        if !current || progress.end < replica.end || progress.durable_end < replica.durable_end {
            return;
        }
        let claimed = (progress.end, progress.durable_end);
        replica.place(now, cx.flush(), claimed, cx.position.end);
        self.settle(now, cx, out);
    }

    /// The controller's answer to the proposal based on `partition_epoch`.
    pub(crate) fn on_isr_answer(
        &mut self,
        now: Monotonic,
        answer: IsrAnswer,
        cx: &mut Context<'_>,
        out: &mut Effects,
    ) {
        let fencing = proposal(cx, &self.replicas, self.epoch, self.isr.isr().clone());
        let backoff = cx.options.proposal_backoff;
        self.isr.on_answer(now, answer, backoff, || fencing);
        self.settle(now, cx, out);
    }

    /// Whether an append may be made.
    pub(crate) fn gate(&self, now: Monotonic, cx: &Context<'_>) -> Gate {
        match cx.agreed.durability().replication {
            ReplicationMode::Sync => {
                let (isr, min_isr) = (self.isr.isr().len(), cx.agreed.min_isr());
                if isr < min_isr {
                    return Gate::BelowMinIsr {
                        isr: small(isr),
                        min_isr: small(min_isr),
                    };
                }
            }
            ReplicationMode::Async => {
                let old = |(_, _, at): &(Offset, u64, Monotonic)| {
                    now.since(*at) > cx.options.unreplicated_age_max
                };
                if self.unreplicated_bytes >= cx.options.unreplicated_bytes_max
                    || self.unreplicated.front().is_some_and(old)
                {
                    return Gate::Stalled;
                }
            }
        }
        Gate::Open
    }

    /// Time passed, or the log became more durable.
    pub(crate) fn settle(&mut self, now: Monotonic, cx: &mut Context<'_>, out: &mut Effects) {
        self.advance(now, cx, out);
        if let Some(proposal) = self.isr.retry(now) {
            out.push(Effect::ProposeIsr(proposal));
        }
        if let Some(proposal) = self.wish(now, cx) {
            let stays = |node| proposal.isr.iter().any(|(member, _)| *member == node);
            for (node, replica) in &mut self.replicas {
                if self.isr.isr().contains(node) && !stays(*node) {
                    replica.is_heard = false;
                }
            }
            self.isr.propose(proposal.clone());
            out.push(Effect::ProposeIsr(proposal));
        }
    }

    fn advance(&mut self, now: Monotonic, cx: &mut Context<'_>, out: &mut Effects) {
        let least = least(
            cx.flush(),
            cx.me,
            cx.position,
            if weir_base::mutant!(M2) {
                self.isr.isr()
            } else {
                self.isr.maximal()
            },
            &self.replicas,
        );
        let enough = weir_base::mutant!(M4) || self.isr.isr().len() >= cx.agreed.min_isr();
        if enough && least > *cx.high_watermark {
            *cx.high_watermark = least;
            self.held_since = None;
            out.push(Effect::AdvanceHighWatermark(least));
            while let Some((end, bytes, _)) = self.unreplicated.front() {
                if *end > least {
                    break;
                }
                self.unreplicated_bytes -= bytes;
                self.unreplicated.pop_front();
            }
        }
        if *cx.high_watermark >= cx.position.end {
            self.held_since = None;
        } else {
            self.held_since.get_or_insert(now);
        }
    }

    /// The change of the record this leader would make now, if any.
    fn wish(&self, now: Monotonic, cx: &Context<'_>) -> Option<IsrProposal> {
        if !self.isr.is_free(now) {
            return None;
        }
        let isr = self.isr.isr();
        let mut wished: BTreeSet<NodeId> = isr.clone();
        wished.extend(self.returned(cx));
        if wished == *isr {
            let late = self.late(now, cx);
            wished.retain(|node| !late.contains(node));
        }
        let flushed = self.barrier_passed(cx);
        if wished == *isr && !flushed {
            return None;
        }
        let mut wish = proposal(cx, &self.replicas, self.epoch, wished);
        if flushed && wish.isr.len() == isr.len() {
            wish.durability = cx.agreed.record.pending_durability;
        }
        Some(wish)
    }

    /// Replicas outside the ISR that hold all it ever acknowledged. Having reached LESO
    /// in a session of this epoch proves it even while the watermark lags.
    fn returned<'a>(&'a self, cx: &'a Context<'_>) -> impl Iterator<Item = NodeId> + 'a {
        let floor = if weir_base::mutant!(M9) {
            *cx.high_watermark
        } else {
            self.start.max(*cx.high_watermark)
        };
        self.replicas
            .iter()
            .filter(move |(node, replica)| {
                !self.isr.isr().contains(node)
                    && replica.is_heard
                    && replica.session.is_some_and(|s| {
                        weir_base::mutant!(M3) || cx.agreed.may_join(**node, s.node_epoch)
                    })
                    && replica.counted(cx.flush()) >= floor
            })
            .map(|(node, _)| *node)
    }

    /// Members that are too far behind to be waited for.
    fn late(&self, now: Monotonic, cx: &Context<'_>) -> BTreeSet<NodeId> {
        let options = cx.options;
        let members = || {
            self.replicas
                .iter()
                .filter(|(node, _)| self.isr.isr().contains(node))
        };
        let mut late: BTreeSet<NodeId> = members()
            .filter(|(_, replica)| self.lags(replica, cx))
            .filter(|(_, replica)| now.since(replica.caught_up_at) > options.lag_max)
            .map(|(node, _)| *node)
            .collect();
        let held = self
            .held_since
            .is_some_and(|since| now.since(since) > options.hold_max);
        let spare = self
            .isr
            .isr()
            .len()
            .saturating_sub(late.len())
            .saturating_sub(cx.agreed.min_isr());
        let own = counted(cx.flush(), cx.position.end, cx.position.durable_end);
        if held && own > *cx.high_watermark && late.is_empty() {
            let holding = members()
                .filter(|(_, replica)| replica.counted(cx.flush()) <= *cx.high_watermark)
                .map(|(node, _)| *node);
            late.extend(holding.take(spare));
        }
        late
    }

    fn lags(&self, replica: &Replica, cx: &Context<'_>) -> bool {
        replica.counted(cx.flush()) < cx.position.end || replica.session.is_none()
    }

    fn barrier_passed(&self, cx: &Context<'_>) -> bool {
        self.barrier.is_some_and(|barrier| {
            *cx.high_watermark >= barrier
                && least(
                    FlushMode::Sync,
                    cx.me,
                    cx.position,
                    self.isr.maximal(),
                    &self.replicas,
                ) >= barrier
        })
    }

    /// When time alone may change something; `None` for an idle partition.
    pub(crate) fn next_wake(&self, now: Monotonic, cx: &Context<'_>) -> Option<Monotonic> {
        let soon = |at: Monotonic, after: Duration| at + after + Duration::from_nanos(1);
        let lagging = self
            .replicas
            .iter()
            .filter(|(node, replica)| self.isr.isr().contains(node) && self.lags(replica, cx))
            .map(|(_, replica)| soon(replica.caught_up_at, cx.options.lag_max));
        let spare = self.isr.isr().len() > cx.agreed.min_isr();
        let held = self
            .held_since
            .filter(|_| spare)
            .map(|at| soon(at, cx.options.hold_max));
        if !matches!(self.isr, InSync::Committed { .. }) {
            return self.isr.next_wake();
        }
        // What is due already had no effect when it was last looked at: something other
        // than time must happen first.
        let times = lagging.chain(held).chain(self.isr.next_wake());
        times.filter(|at| *at > now).min()
    }
}

/// `isr` as a proposal, each member with the boot its position was claimed in.
fn proposal(
    cx: &Context<'_>,
    replicas: &BTreeMap<NodeId, Replica>,
    leader_epoch: LeaderEpoch,
    isr: BTreeSet<NodeId>,
) -> IsrProposal {
    let epoch_of = |node: NodeId| -> NodeEpoch {
        let claimed = replicas
            .get(&node)
            .and_then(|replica| replica.session)
            .map(|session| session.node_epoch)
            .filter(|_| !weir_base::mutant!(M3));
        claimed
            .or_else(|| cx.agreed.node_epoch(node))
            .unwrap_or_default()
    };
    IsrProposal {
        leader_epoch,
        partition_epoch: cx.agreed.record.partition_epoch,
        isr: isr.into_iter().map(|node| (node, epoch_of(node))).collect(),
        durability: None,
    }
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
