//! One replica of one partition, decided purely: epochs, ISR, high watermark, truncation.
//!
//! Owns: who leads as far as this node knows, what every follower claimed, the known
//! high watermark. No I/O, no clock, no task: inputs carry the time and the log's
//! position, effects say what to do ([`effect`]). Called by `partition.rs`, and by the
//! model test on toy logs and a toy network.
//!
//! Always true: I1 and I9 (epochs fence, never fall), I3 (the watermark of a leader never
//! falls), I5 (the watermark counts the maximal ISR), I8 (nothing above it is readable).
//! On a crash everything here is lost and rebuilt: the log gives position and epochs, the
//! image gives the record, sessions give positions; the watermark restarts at the log
//! start and rises with the first quorum of the ISR.
//!
//! Precondition (I2): a record that makes this node leader is given only if the leader
//! epoch began after this node's boot was registered. A log that already holds batches of
//! the epoch shows a breach, and the leadership is refused.

mod divergence;
pub mod effect;
mod follower;
mod in_sync;
mod leader;
mod watermark;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_base::image::{Durability, PartitionRecord, Replica, ReplicationMode};
use weir_base::{LeaderEpoch, Monotonic, NodeEpoch, NodeId, Offset, PartitionEpoch, Uuid};
use weir_storage::{EpochEnd, LogPosition};

use effect::{Answer, DataHeader, Effect, Effects, IsrAnswer, Open, Progress, Session};
use follower::Follower;
pub use follower::Verdict;
pub use leader::Gate;
use leader::{Context, Leader};

/// What tunes the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreOptions {
    /// A member that was not caught up for this long leaves the ISR.
    pub lag_max: Duration,
    /// One that holds the watermark back for this long leaves it while others are enough.
    pub hold_max: Duration,
    /// Pause before a proposal is made again; doubles up to 32 times this.
    pub proposal_backoff: Duration,
    /// Pause before a refused follower asks again.
    pub open_backoff: Duration,
    /// A follower asks again if nobody answered for this long.
    pub open_timeout: Duration,
    /// Asynchronous replication: writes stall with this many bytes above the watermark,
    pub unreplicated_bytes_max: u64,
    /// ... or with any that are older than this.
    pub unreplicated_age_max: Duration,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            lag_max: Duration::from_secs(10),
            hold_max: Duration::from_secs(2),
            proposal_backoff: Duration::from_millis(100),
            open_backoff: Duration::from_millis(50),
            open_timeout: Duration::from_secs(3),
            unreplicated_bytes_max: 64 * 1024 * 1024,
            unreplicated_age_max: Duration::from_secs(1),
        }
    }
}

/// What the image tells of a node that holds a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its registered boot.
    pub epoch: NodeEpoch,
    /// Whether it may join an ISR: neither fenced nor draining.
    pub active: bool,
}

/// The partition as agreed on, as far as this node knows.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(crate) record: PartitionRecord,
    pub(crate) nodes: BTreeMap<NodeId, NodeFacts>,
}

impl Agreed {
    fn isr(&self) -> BTreeSet<NodeId> {
        self.record.isr.iter().copied().collect()
    }

    fn others(&self, me: NodeId) -> impl Iterator<Item = Replica> + '_ {
        let replicas = self.record.replicas.iter().copied();
        replicas.filter(move |replica| replica.node != me)
    }

    fn min_isr(&self) -> usize {
        usize::try_from(self.record.min_isr).unwrap_or(usize::MAX)
    }

    /// In force, or asked for and stronger: a change to a stronger durability is obeyed
    /// at once and promised once its barrier has passed.
    fn durability(&self) -> Durability {
        let record = &self.record;
        record
            .pending_durability
            .map_or(record.durability, |pending| {
                watermark::stronger(record.durability, pending)
            })
    }

    fn node_epoch(&self, node: NodeId) -> Option<NodeEpoch> {
        self.nodes.get(&node).map(|facts| facts.epoch)
    }

    /// Whether the controller would take `node`, as of the boot its session claims.
    fn may_join(&self, node: NodeId, claimed: NodeEpoch) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|facts| facts.active && facts.epoch == claimed)
    }
}

/// What this replica is just now.
#[derive(Debug, Clone)]
enum Role {
    /// No leader to follow, or no replica of the partition.
    Idle,
    Follower(Follower),
    Leader(Leader),
    /// Holds bad data or lost its disk: takes part in nothing.
    Failed,
}

/// One replica of one partition.
#[derive(Debug, Clone)]
pub struct Core {
    me: NodeId,
    replica: Uuid,
    options: CoreOptions,
    agreed: Option<Agreed>,
    position: LogPosition,
    high_watermark: Offset,
    sessions: u64,
    role: Role,
}

impl Core {
    /// A replica with a recovered log that knows of no record yet.
    #[must_use]
    pub fn new(me: NodeId, replica: Uuid, position: LogPosition, options: CoreOptions) -> Core {
        Core {
            me,
            replica,
            options,
            agreed: None,
            position,
            high_watermark: position.start,
            sessions: 0,
            role: Role::Idle,
        }
    }

    /// Has the sessions of this replica begin above `number`: a replica that is opened
    /// again in the same boot must not be taken for late messages of its former self.
    #[must_use]
    pub fn with_sessions_above(mut self, number: u64) -> Core {
        self.sessions = number;
        self
    }

    /// The newest record of the image. One with a lower partition epoch is ignored, one
    /// with the same only refreshes `nodes`.
    pub fn on_record(
        &mut self,
        now: Monotonic,
        record: &PartitionRecord,
        nodes: &BTreeMap<NodeId, NodeFacts>,
        out: &mut Effects,
    ) {
        let fresh = self
            .agreed
            .as_ref()
            .is_none_or(|agreed| record.partition_epoch > agreed.record.partition_epoch);
        if let Some(agreed) = &mut self.agreed {
            if record.partition_epoch < agreed.record.partition_epoch {
                return;
            }
            agreed.nodes.clone_from(nodes);
            assert!(
                record.leader_epoch >= agreed.record.leader_epoch,
                "I9: leader epoch fell from {} to {}",
                agreed.record.leader_epoch,
                record.leader_epoch
            );
        }
        if !fresh {
            self.follow_registration(now, out);
            return self.settle(now, out);
        }
        let before = self
            .agreed
            .replace(Agreed {
                record: record.clone(),
                nodes: nodes.clone(),
            })
            .map(|agreed| agreed.record);
        let mine = record.replica(self.me).map(|r| r.id) == Some(self.replica);
        let same_reign = before.is_some_and(|before| {
            (before.leader, before.leader_epoch) == (record.leader, record.leader_epoch)
                && (before.replica(self.me).map(|r| r.id) == Some(self.replica)) == mine
        });
        if !same_reign {
            return self.on_reign(now, mine, out);
        }
        self.follow_registration(now, out);
        if let Some((leader, mut cx)) = self.leading() {
            leader.on_record(now, &mut cx, out);
        }
    }

    /// Follower: claims anew if the session names a registration that is no longer this
    /// node's. One whose answer was lost may be carried out long after the next; what is
    /// claimed under the old epoch counts for nothing at the controller (S-05), and a
    /// session's epoch never changes.
    fn follow_registration(&mut self, now: Monotonic, out: &mut Effects) {
        let (Role::Follower(follower), Some(agreed)) = (&self.role, &self.agreed) else {
            return;
        };
        let registered = agreed.node_epoch(self.me).unwrap_or_default();
        if !follower.is_cutting() && follower.session.node_epoch != registered {
            self.open(now, out);
        }
    }

    /// Another leader or another epoch.
    fn on_reign(&mut self, now: Monotonic, mine: bool, out: &mut Effects) {
        let (leader, epoch) = match &self.agreed {
            Some(agreed) => (agreed.record.leader, agreed.record.leader_epoch),
            None => return,
        };
        match &self.role {
            Role::Leader(_) => out.push(Effect::LeadershipLost),
            Role::Failed => return,
            Role::Idle | Role::Follower(_) => {}
        }
        self.role = Role::Idle;
        match leader.filter(|_| mine) {
            None => {}
            Some(leader) if leader == self.me => self.lead(now, epoch, out),
            Some(leader) => {
                self.role = Role::Follower(Follower::new(leader, epoch));
                if weir_base::mutant!(M1) {
                    return out.push(Effect::TruncateTo {
                        to: self.high_watermark,
                        acknowledged: 0,
                    });
                }
                self.open(now, out);
            }
        }
    }

    fn lead(&mut self, now: Monotonic, epoch: LeaderEpoch, out: &mut Effects) {
        if self.position.last_epoch >= epoch {
            return out.push(Effect::LeadershipRefused(epoch));
        }
        let Some(agreed) = &self.agreed else { return };
        let cx = Context {
            me: self.me,
            options: &self.options,
            agreed,
            position: self.position,
            high_watermark: &mut self.high_watermark,
        };
        self.role = Role::Leader(Leader::new(now, &cx, out));
    }

    /// Leader: a group of `bytes` was appended; the log now stands at `position`.
    pub fn on_appended(
        &mut self,
        now: Monotonic,
        position: LogPosition,
        bytes: u64,
        out: &mut Effects,
    ) {
        let before = self.position.end;
        self.position = position;
        if let Some((leader, mut cx)) = self.leading() {
            leader.on_appended(now, before, bytes, &mut cx, out);
        }
    }

    /// The log moved: became durable, grew by a follower's append, was cut or reset.
    pub fn on_position(&mut self, now: Monotonic, position: LogPosition, out: &mut Effects) {
        self.position = position;
        let Some(flush) = self.agreed.as_ref().map(|a| a.durability().flush) else {
            return;
        };
        match &mut self.role {
            Role::Follower(follower) if follower.is_cutting() => {
                // Only data that no ISR acknowledged is cut in a clean election; after an
                // unclean one the watermark follows the log down.
                self.high_watermark = self
                    .high_watermark
                    .clamp(position.start, position.end.max(position.start));
                self.open(now, out);
            }
            Role::Follower(follower) => {
                follower.tell(position, flush, out);
                self.follow_watermark(out);
            }
            Role::Leader(_) => self.settle(now, out),
            Role::Idle | Role::Failed => {}
        }
    }

    /// Leader: `from` wants to follow. `found` is `end_of_epoch(open.last_epoch)` of the log.
    pub fn on_open(
        &mut self,
        now: Monotonic,
        from: NodeId,
        open: &Open,
        found: Option<EpochEnd>,
        out: &mut Effects,
    ) {
        let known = self.leader_epoch();
        match self.leading() {
            Some((leader, mut cx)) => leader.on_open(now, from, open, found, &mut cx, out),
            None => out.push(Effect::Answer {
                to: from,
                session: open.session,
                leader_epoch: known,
                answer: Answer::Refused,
            }),
        }
    }

    /// Leader: `from` tells where it stands.
    pub fn on_progress(
        &mut self,
        now: Monotonic,
        from: NodeId,
        progress: &Progress,
        out: &mut Effects,
    ) {
        if let Some((leader, mut cx)) = self.leading() {
            leader.on_progress(now, from, progress, &mut cx, out);
        }
    }

    /// Leader: the controller's answer to the proposal that was based on
    /// `partition_epoch`. A new record goes to [`Core::on_record`] first.
    pub fn on_isr_answer(
        &mut self,
        now: Monotonic,
        partition_epoch: PartitionEpoch,
        answer: IsrAnswer,
        out: &mut Effects,
    ) {
        if let Some((leader, mut cx)) = self.leading()
            && cx.agreed.record.partition_epoch == partition_epoch
        {
            leader.on_isr_answer(now, answer, &mut cx, out);
        }
    }

    /// Follower: a frame from the leader whose batches cover `range`.
    pub fn on_data(
        &mut self,
        now: Monotonic,
        header: &DataHeader,
        range: Option<(Offset, Offset)>,
        out: &mut Effects,
    ) -> Verdict {
        let (position, end) = (self.position, self.position.end);
        let flush = self.durability().flush;
        let Role::Follower(follower) = &mut self.role else {
            return Verdict::Ignore;
        };
        let current = follower.is_current(header.leader_epoch, header.session);
        match follower.on_data(header, range, end) {
            Ok(verdict) => {
                let within = self.position.start < header.log_start && header.log_start <= end;
                if current && within {
                    out.push(Effect::SetStart(header.log_start));
                }
                // What became durable while the request was under way.
                follower.tell(position, flush, out);
                self.follow_watermark(out);
                verdict
            }
            Err(follower::Gap) => {
                self.open(now, out);
                Verdict::Ignore
            }
        }
    }

    /// Follower: the leader's answer to an open. `own` is `end_of_epoch` of this log for
    /// the epoch that a diverging answer names.
    pub fn on_answer(
        &mut self,
        now: Monotonic,
        leader_epoch: LeaderEpoch,
        session: Session,
        answer: Answer,
        own: Option<EpochEnd>,
        out: &mut Effects,
    ) {
        let asynchronous = self
            .agreed
            .as_ref()
            .is_some_and(|a| a.record.durability.replication == ReplicationMode::Async);
        let position = self.position;
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        // A refusal may name another epoch: that is its point.
        if session != follower.session
            || (leader_epoch != follower.epoch && answer != Answer::Refused)
        {
            return;
        }
        match answer {
            Answer::Refused => follower.on_refused(now, &self.options),
            Answer::Diverging { epoch, end } => {
                let to = divergence::cut(EpochEnd { epoch, end }, own, position);
                follower.on_cut();
                out.push(Effect::TruncateTo {
                    to,
                    acknowledged: if asynchronous { position.end - to } else { 0 },
                });
            }
            Answer::Reset { start } => {
                follower.on_cut();
                out.push(Effect::ResetTo(start));
            }
        }
    }

    /// Follower: the link to the leader broke, or a frame could not be appended.
    pub fn on_lost(&mut self, now: Monotonic, out: &mut Effects) {
        if matches!(&self.role, Role::Follower(f) if !f.is_cutting()) {
            self.open(now, out);
        }
    }

    /// The time [`Core::next_wake`] named has come.
    pub fn on_tick(&mut self, now: Monotonic, out: &mut Effects) {
        match &self.role {
            Role::Leader(_) => self.settle(now, out),
            Role::Follower(follower) if follower.is_due(now, &self.options) => self.open(now, out),
            Role::Follower(_) | Role::Idle | Role::Failed => {}
        }
    }

    /// This replica's data is bad or its disk is gone: lead and follow no more.
    pub fn on_failed(&mut self, out: &mut Effects) {
        if matches!(self.role, Role::Leader(_)) {
            out.push(Effect::LeadershipLost);
        }
        self.role = Role::Failed;
    }

    /// When to call [`Core::on_tick`]; `None` while time changes nothing.
    #[must_use]
    pub fn next_wake(&self, now: Monotonic) -> Option<Monotonic> {
        match &self.role {
            Role::Leader(leader) => {
                let cx = Context {
                    me: self.me,
                    options: &self.options,
                    agreed: self.agreed.as_ref()?,
                    position: self.position,
                    high_watermark: &mut { self.high_watermark },
                };
                leader.next_wake(now, &cx)
            }
            Role::Follower(follower) => follower.next_wake(&self.options),
            Role::Idle | Role::Failed => None,
        }
    }

    fn leading(&mut self) -> Option<(&mut Leader, Context<'_>)> {
        let Role::Leader(leader) = &mut self.role else {
            return None;
        };
        let cx = Context {
            me: self.me,
            options: &self.options,
            agreed: self.agreed.as_ref()?,
            position: self.position,
            high_watermark: &mut self.high_watermark,
        };
        Some((leader, cx))
    }

    fn settle(&mut self, now: Monotonic, out: &mut Effects) {
        if let Some((leader, mut cx)) = self.leading() {
            leader.settle(now, &mut cx, out);
        }
    }

    /// Follower: raises the watermark to what leader and log end allow.
    fn follow_watermark(&mut self, out: &mut Effects) {
        if let Role::Follower(follower) = &self.role {
            let to = follower.high_watermark(self.position);
            if to > self.high_watermark {
                self.high_watermark = to;
                out.push(Effect::AdvanceHighWatermark(to));
            }
        }
    }

    /// Follower: asks the leader in a new session.
    fn open(&mut self, now: Monotonic, out: &mut Effects) {
        self.sessions += 1;
        let node_epoch = self
            .agreed
            .as_ref()
            .and_then(|agreed| agreed.node_epoch(self.me))
            .unwrap_or_default();
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        let open = Open {
            leader_epoch: follower.epoch,
            session: Session {
                node_epoch,
                number: self.sessions,
            },
            replica: self.replica,
            start: self.position.start,
            end: self.position.end,
            durable_end: self.position.durable_end,
            last_epoch: self.position.last_epoch,
        };
        follower.open(now, open, out);
    }
}

/// What others may know of it.
impl Core {
    /// The newest leader epoch known.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.agreed
            .as_ref()
            .map(|agreed| agreed.record.leader_epoch)
            .unwrap_or_default()
    }

    /// The newest record known.
    #[must_use]
    pub fn record(&self) -> Option<&PartitionRecord> {
        self.agreed.as_ref().map(|agreed| &agreed.record)
    }

    /// What is known of the partition's nodes.
    #[must_use]
    pub fn nodes(&self) -> Option<&BTreeMap<NodeId, NodeFacts>> {
        self.agreed.as_ref().map(|agreed| &agreed.nodes)
    }

    /// End of what is known to be committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Where the log stood at the last input.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// The durability obeyed: the one in force, or a stronger one that is pending.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.agreed
            .as_ref()
            .map(Agreed::durability)
            .unwrap_or_default()
    }

    /// The epoch this replica leads in.
    #[must_use]
    pub fn leads(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Leader(leader) => Some(leader.epoch()),
            Role::Follower(_) | Role::Idle | Role::Failed => None,
        }
    }

    /// Whether it leads and knows all that earlier leaders committed (HW >= LESO), with
    /// the epoch's barrier in the log.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => {
                weir_base::mutant!(M10)
                    || self.high_watermark >= leader.start() && leader.has_begun(self.position.end)
            }
            Role::Follower(_) | Role::Idle | Role::Failed => false,
        }
    }

    /// The session this replica follows in, once data flows.
    #[must_use]
    pub fn follows(&self) -> Option<(NodeId, Session)> {
        match &self.role {
            Role::Follower(follower) => follower
                .is_streaming()
                .then_some((follower.leader, follower.session)),
            Role::Leader(_) | Role::Idle | Role::Failed => None,
        }
    }

    /// Whom this replica follows or tries to.
    #[must_use]
    pub fn leader_followed(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => Some(follower.leader),
            Role::Leader(_) | Role::Idle | Role::Failed => None,
        }
    }

    /// Whether it was taken out by [`Core::on_failed`].
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self.role, Role::Failed)
    }

    /// Whether the newest record that is known has this replica in the ISR.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        let record = self.record();
        record.is_some_and(|record| record.isr.contains(&self.me))
    }

    /// A leader's agreed and maximal ISR.
    #[must_use]
    pub fn in_sync(&self) -> Option<(&BTreeSet<NodeId>, &BTreeSet<NodeId>)> {
        match &self.role {
            Role::Leader(leader) => Some((leader.isr(), leader.maximal())),
            Role::Follower(_) | Role::Idle | Role::Failed => None,
        }
    }

    /// Leader: bytes above the high watermark.
    #[must_use]
    pub fn unreplicated_bytes(&self) -> u64 {
        match &self.role {
            Role::Leader(leader) => leader.unreplicated_bytes(),
            Role::Follower(_) | Role::Idle | Role::Failed => 0,
        }
    }

    /// Leader: log end and durable end that a follower claimed in this epoch.
    #[must_use]
    pub fn replica_position(&self, node: NodeId) -> Option<(Offset, Offset)> {
        match &self.role {
            Role::Leader(leader) => leader.replica_position(node),
            Role::Follower(_) | Role::Idle | Role::Failed => None,
        }
    }

    /// Whether an append may be made now.
    #[must_use]
    pub fn gate(&self, now: Monotonic) -> Gate {
        match (&self.role, &self.agreed) {
            (Role::Leader(leader), Some(agreed)) => leader.gate(
                now,
                &Context {
                    me: self.me,
                    options: &self.options,
                    agreed,
                    position: self.position,
                    high_watermark: &mut { self.high_watermark },
                },
            ),
            _ => Gate::NotLeader,
        }
    }
}
