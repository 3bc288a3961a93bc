//! Cores on toy logs, a network that loses, doubles and reorders, and a controller.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::image::{Durability, FlushMode, PartitionRecord, Replica};
use weir_base::{LeaderEpoch, Monotonic, NodeEpoch, NodeId, Offset, PartitionEpoch, Uuid};
use weir_replication::core::effect::{
    Answer, DataHeader, Effect, IsrAnswer, IsrProposal, Open, Progress, Session,
};
use weir_replication::core::{Core, CoreOptions, Gate, NodeFacts, Verdict};
use weir_storage::{EpochEnd, LogPosition};

use crate::checks::{Entry, History, NodeView, View, Violation};

/// What a world is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) nodes: u32,
    pub(crate) min_isr: u32,
    pub(crate) durability: Durability,
}

#[derive(Debug, Clone, Default)]
struct ToyLog {
    entries: Vec<Entry>,
    durable: usize,
}

impl ToyLog {
    fn position(&self) -> LogPosition {
        LogPosition {
            start: Offset::ZERO,
            durable_end: offset(self.durable),
            end: offset(self.entries.len()),
            last_epoch: LeaderEpoch(self.entries.last().map_or(0, |e| e.epoch)),
        }
    }

    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<EpochEnd> {
        let older = self.entries.iter().take_while(|e| e.epoch <= asked.0);
        let (count, epoch) = older.fold((0, None), |(n, _), e| (n + 1, Some(e.epoch)));
        Some(EpochEnd {
            epoch: LeaderEpoch(epoch?),
            end: offset(count),
        })
    }

    fn truncate(&mut self, to: Offset) {
        self.entries.truncate(index(to));
        self.durable = self.entries.len(); // a cut is durable on return
    }
}

#[derive(Debug, Clone)]
struct Node {
    core: Option<Core>,
    log: ToyLog,
    /// As the controller registered it, and its process.
    epoch: NodeEpoch,
    started: u64,
    /// Registered as unclean at the next start.
    lost: bool,
    /// The copy it holds, and how many it opened.
    replica: Uuid,
    opened: u64,
    /// Where the leader's shell stands with each follower.
    cursors: BTreeMap<NodeId, (Session, usize)>,
}

#[derive(Debug, Clone)]
enum Body {
    Open(Open),
    Progress(Progress),
    Data(DataHeader, usize, Vec<Entry>),
    Answer(LeaderEpoch, Session, Answer),
    Propose(IsrProposal),
    Verdict(PartitionEpoch, IsrAnswer, Option<PartitionRecord>),
}

#[derive(Debug, Clone)]
struct Envelope {
    from: NodeId,
    to: NodeId,
    /// The receiver's start: a connection does not outlive its process.
    started: u64,
    body: Body,
}

/// Something that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Append(NodeId),
    Flush(NodeId),
    /// The leader sends a follower its next entries.
    Push(NodeId, NodeId),
    Deliver(usize),
    Double(usize),
    Lose(usize),
    /// A node hears the newest record.
    Publish(NodeId),
    /// A follower's link breaks.
    Break(NodeId),
    Wait(Duration),
    Kill(NodeId),
    /// A registration whose answer was lost is carried out late: the process lives on,
    /// and is one that the controller takes for newer.
    Renew(NodeId),
    /// Kill, and this many unsynced entries survive.
    PowerLoss(NodeId, usize),
    Start(NodeId),
    Fence(NodeId),
    Elect(NodeId),
    SetDurability(Durability),
    /// A copy's data is bad and the controller agrees: nobody counts on it any more. Its
    /// node begins it anew, in the same boot, when it hears of that from another leader.
    Resign(NodeId),
}

const CONTROLLER: NodeId = NodeId(0);
const WIRE_MAX: usize = 16;

/// Everything.
#[derive(Debug, Clone)]
pub(crate) struct World {
    setup: Setup,
    nodes: BTreeMap<NodeId, Node>,
    record: PartitionRecord,
    active: BTreeMap<NodeId, bool>,
    wire: Vec<Envelope>,
    now: Monotonic,
    boots: u64,
    values: u64,
    pub(crate) history: History,
}

impl World {
    /// All nodes up, node 1 leads in epoch 1, all in sync, nothing delivered yet.
    pub(crate) fn new(setup: Setup) -> World {
        let ids: Vec<NodeId> = (1..=setup.nodes).map(NodeId).collect();
        let record = PartitionRecord {
            replicas: ids
                .iter()
                .map(|node| Replica {
                    node: *node,
                    id: Uuid([u8::try_from(node.0).unwrap(); 16]),
                })
                .collect(),
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            isr: ids.clone(),
            elr: vec![],
            last_known_elr: vec![],
            suspects: vec![],
            adding: vec![],
            removing: vec![],
            min_isr: setup.min_isr,
            durability: setup.durability,
            pending_durability: None,
        };
        let node = |id: &NodeId| {
            let node = Node {
                core: None,
                log: ToyLog::default(),
                epoch: NodeEpoch(u64::from(id.0)),
                started: 0,
                lost: false,
                replica: Uuid::ZERO,
                opened: 0,
                cursors: BTreeMap::new(),
            };
            (*id, node)
        };
        let mut world = World {
            setup,
            nodes: ids.iter().map(node).collect(),
            record,
            active: ids.iter().map(|id| (*id, true)).collect(),
            wire: vec![],
            now: Monotonic(1),
            boots: 100,
            values: 0,
            history: History::default(),
        };
        for id in ids {
            world.boot(id);
            world.publish(id);
        }
        world
    }

    fn boot(&mut self, id: NodeId) {
        let replica = self.record.replica(id).unwrap().id;
        let node = self.nodes.get_mut(&id).unwrap();
        let options = CoreOptions::default();
        node.replica = replica;
        node.opened += 1;
        let core = Core::new(id, replica, node.log.position(), options);
        node.core = Some(core.with_sessions_above(node.opened << 32));
        node.cursors.clear();
    }

    fn facts(&self) -> BTreeMap<NodeId, NodeFacts> {
        let fact = |(id, node): (&NodeId, &Node)| {
            let active = self.active[id];
            (
                *id,
                NodeFacts {
                    epoch: node.epoch,
                    active,
                },
            )
        };
        self.nodes.iter().map(fact).collect()
    }

    /// What can happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = vec![];
        for (id, node) in &self.nodes {
            let Some(core) = &node.core else {
                actions.push(Action::Start(*id));
                continue;
            };
            if core.gate(self.now) == Gate::Open && node.log.entries.len() < 40 {
                actions.push(Action::Append(*id));
            }
            if node.log.durable < node.log.entries.len() {
                actions.push(Action::Flush(*id));
            }
            for (to, (_, next)) in &node.cursors {
                if core.leads().is_some() {
                    let news = *next < node.log.entries.len();
                    actions.push(Action::Push(*id, *to));
                    actions.extend(news.then_some(Action::Push(*id, *to)));
                }
            }
            if self.stale(core) {
                actions.push(Action::Publish(*id));
            }
            actions.push(Action::Break(*id));
            actions.push(Action::Kill(*id));
            actions.push(Action::Renew(*id));
            actions.push(Action::PowerLoss(*id, 0));
            actions.push(Action::PowerLoss(*id, 1));
            actions.push(Action::Fence(*id));
            actions.push(Action::Elect(*id));
            actions.push(Action::Resign(*id));
        }
        for at in 0..self.wire.len() {
            actions.extend([Action::Deliver(at), Action::Lose(at)]);
            // A proposal is one request with one answer: neither can come twice.
            let body = &self.wire[at].body;
            if !matches!(body, Body::Propose(_) | Body::Verdict(..)) {
                actions.push(Action::Double(at));
            }
        }
        actions.extend([50, 500, 4_000].map(|ms| Action::Wait(Duration::from_millis(ms))));
        actions.extend([FlushMode::Sync, FlushMode::Async].map(|flush| {
            Action::SetDurability(Durability {
                flush,
                replication: self.setup.durability.replication,
            })
        }));
        actions
    }

    fn stale(&self, core: &Core) -> bool {
        core.record()
            .is_none_or(|known| known.partition_epoch < self.record.partition_epoch)
    }

    /// Lets `action` happen and checks every invariant.
    pub(crate) fn step(&mut self, action: Action) -> Result<(), Violation> {
        self.act(action);
        let view = self.view();
        self.history.observe(&view)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Append(id) => self.append(id),
            Action::Flush(id) => self.flush(id),
            Action::Push(from, to) => self.push(from, to),
            Action::Deliver(at) => {
                let envelope = self.wire.remove(at);
                self.deliver(envelope);
            }
            Action::Double(at) => {
                let envelope = self.wire[at].clone();
                self.deliver(envelope);
            }
            Action::Lose(at) => {
                let envelope = self.wire.remove(at);
                // The caller of the controller has a deadline.
                if let Body::Propose(proposal) = envelope.body {
                    self.lost_proposal(envelope.from, proposal.partition_epoch);
                } else if let Body::Verdict(epoch, ..) = envelope.body {
                    self.lost_proposal(envelope.to, epoch);
                }
            }
            Action::Publish(id) => self.publish(id),
            Action::Break(id) => self.input(id, |core, _, now, out| core.on_lost(now, out)),
            Action::Wait(time) => {
                self.now = self.now + time;
                let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
                for id in ids {
                    self.input(id, |core, _, now, out| core.on_tick(now, out));
                }
            }
            Action::Kill(id) => self.nodes.get_mut(&id).unwrap().core = None,
            Action::PowerLoss(id, keep) => {
                let node = self.nodes.get_mut(&id).unwrap();
                node.core = None;
                let log = &mut node.log;
                node.lost |= log.durable + keep < log.entries.len();
                log.entries.truncate(log.durable + keep);
                log.durable = log.durable.min(log.entries.len());
            }
            Action::Renew(id) => self.renew(id),
            Action::Start(id) => self.start(id),
            Action::Fence(id) => self.fence(id),
            Action::Elect(id) => {
                let electable = self.record.isr.contains(&id) || self.record.elr.contains(&id);
                if self.active[&id] && electable {
                    self.elect(Some(id));
                }
            }
            Action::SetDurability(durability) => self.set_durability(durability),
            Action::Resign(id) => self.resign(id),
        }
    }

    fn lost_proposal(&mut self, id: NodeId, epoch: PartitionEpoch) {
        self.input(id, |core, _, now, out| {
            core.on_isr_answer(now, epoch, IsrAnswer::Unknown, out);
        });
    }

    /// Gives a running core an input and carries its effects out.
    fn input(
        &mut self,
        id: NodeId,
        input: impl FnOnce(&mut Core, &mut ToyLog, Monotonic, &mut Vec<Effect>),
    ) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let Some(core) = &mut node.core else { return };
        let mut effects = vec![];
        input(core, &mut node.log, now, &mut effects);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::AppendBarrier(_) => self.append(id),
            Effect::ProposeIsr(proposal) => self.send(id, CONTROLLER, Body::Propose(proposal)),
            Effect::Stream { to, session, from } => {
                let node = self.nodes.get_mut(&id).unwrap();
                node.cursors.insert(to, (session, index(from)));
                self.push(id, to);
            }
            Effect::Answer {
                to,
                session,
                leader_epoch,
                answer,
            } => {
                self.send(id, to, Body::Answer(leader_epoch, session, answer));
            }
            Effect::Open { to, open } => self.send(id, to, Body::Open(open)),
            Effect::Progress { to, progress } => self.send(id, to, Body::Progress(progress)),
            Effect::TruncateTo { to, .. } => self.input(id, |core, log, now, out| {
                log.truncate(to);
                core.on_position(now, log.position(), out);
            }),
            Effect::ResetTo(at) => {
                assert_eq!(at, Offset::ZERO, "toy logs keep everything");
                self.carry_out(
                    id,
                    Effect::TruncateTo {
                        to: at,
                        acknowledged: 0,
                    },
                );
            }
            Effect::LeadershipLost => self.nodes.get_mut(&id).unwrap().cursors.clear(),
            Effect::LeadershipRefused(epoch) => panic!("{id} was elected again in {epoch}"),
            Effect::SetStart(_) => panic!("toy logs keep everything"),
            Effect::AdvanceHighWatermark(_) | Effect::BelowMinIsr { .. } => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, body: Body) {
        let started = self.nodes.get(&to).map_or(0, |node| node.started);
        if self.wire.len() >= WIRE_MAX {
            self.act(Action::Lose(0));
        }
        self.wire.push(Envelope {
            from,
            to,
            started,
            body,
        });
    }

    fn append(&mut self, id: NodeId) {
        self.values += 1;
        let value = self.values;
        self.input(id, |core, log, now, out| {
            if let Some(epoch) = core.leads() {
                let epoch = epoch.0;
                log.entries.push(Entry { epoch, value });
                core.on_appended(now, log.position(), 1, out);
            }
        });
    }

    fn flush(&mut self, id: NodeId) {
        self.input(id, |core, log, now, out| {
            log.durable = log.entries.len();
            core.on_position(now, log.position(), out);
        });
    }

    fn push(&mut self, from: NodeId, to: NodeId) {
        let node = self.nodes.get_mut(&from).unwrap();
        let Some(core) = &node.core else { return };
        let Some((session, next)) = node.cursors.get_mut(&to) else {
            return;
        };
        let header = DataHeader {
            leader_epoch: core.leads().unwrap_or_default(),
            session: *session,
            high_watermark: core.high_watermark(),
            log_start: Offset::ZERO,
        };
        let base = *next;
        let entries: Vec<Entry> = node
            .log
            .entries
            .iter()
            .skip(base)
            .take(2)
            .copied()
            .collect();
        *next += entries.len();
        self.send(from, to, Body::Data(header, base, entries));
    }

    fn deliver(&mut self, envelope: Envelope) {
        let Envelope {
            from,
            to,
            started,
            body,
        } = envelope;
        if to == CONTROLLER {
            if let Body::Propose(proposal) = body {
                self.on_proposal(from, proposal);
            }
            return;
        }
        if self.nodes[&to].started != started {
            return;
        }
        match body {
            Body::Open(open) => self.input(to, |core, log, now, out| {
                core.on_open(now, from, &open, log.end_of_epoch(open.last_epoch), out);
            }),
            Body::Progress(progress) => self.input(to, |core, _, now, out| {
                core.on_progress(now, from, &progress, out);
            }),
            Body::Data(header, base, entries) => self.input(to, |core, log, now, out| {
                let end = base + entries.len();
                let range = (base < end).then_some((offset(base), offset(end)));
                if core.on_data(now, &header, range, out) == Verdict::Append && range.is_some() {
                    // The log refuses what does not continue it.
                    if base == log.entries.len() {
                        log.entries.extend(entries);
                        core.on_position(now, log.position(), out);
                    } else {
                        core.on_lost(now, out);
                    }
                }
            }),
            Body::Answer(epoch, session, answer) => self.input(to, |core, log, now, out| {
                let own = match answer {
                    Answer::Diverging { epoch, .. } => log.end_of_epoch(epoch),
                    Answer::Reset { .. } | Answer::Refused => None,
                };
                core.on_answer(now, epoch, session, answer, own, out);
            }),
            Body::Verdict(epoch, answer, record) => {
                let facts = self.facts();
                self.input(to, |core, _, now, out| {
                    if let Some(record) = &record {
                        core.on_record(now, record, &facts, out);
                    }
                    core.on_isr_answer(now, epoch, answer, out);
                });
            }
            Body::Propose(_) => {}
        }
    }

    fn publish(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let renewed = self.record.replica(id).unwrap().id != node.replica;
        if renewed && node.core.is_some() {
            if self.record.leader.is_none_or(|leader| leader == id) {
                return;
            }
            node.log = ToyLog::default();
            self.boot(id);
        }
        let (record, facts) = (self.record.clone(), self.facts());
        self.input(id, |core, _, now, out| {
            core.on_record(now, &record, &facts, out)
        });
    }

    pub(crate) fn view(&self) -> View {
        let node = |(id, node): (&NodeId, &Node)| {
            let core = node.core.as_ref();
            let record = core.and_then(Core::record);
            let watermark = core.map_or(0, |core| index(core.high_watermark()));
            NodeView {
                id: *id,
                running: core.is_some(),
                log: node.log.entries.clone(),
                durable: node.log.durable,
                high_watermark: watermark,
                leader_epoch: record.map_or(0, |r| r.leader_epoch.0),
                partition_epoch: record.map_or(0, |r| r.partition_epoch.0),
                leads: core.and_then(Core::leads).map(|e| e.0),
                ready: core.is_some_and(Core::is_ready),
                in_sync: core
                    .and_then(Core::in_sync)
                    .map(|(isr, maximal)| (isr.clone(), maximal.clone())),
            }
        };
        View {
            nodes: self.nodes.iter().map(node).collect(),
            record: self.record.clone(),
        }
    }
}

/// The controller: its rules are metadata's, at their plainest.
impl World {
    fn change(&mut self, change: impl FnOnce(&mut PartitionRecord)) {
        let record = &mut self.record;
        change(record);
        record.isr.sort_unstable();
        record.elr.sort_unstable();
        if record.isr.len() >= usize::try_from(record.min_isr).unwrap() {
            record.elr.clear();
        }
        record.partition_epoch = record.partition_epoch.next();
    }

    fn on_proposal(&mut self, from: NodeId, proposal: IsrProposal) {
        let record = &self.record;
        let current = record.leader == Some(from)
            && record.leader_epoch == proposal.leader_epoch
            && record.partition_epoch == proposal.partition_epoch;
        let facts = self.facts();
        let eligible = proposal
            .isr
            .iter()
            .all(|(node, epoch)| facts[node].active && facts[node].epoch == *epoch);
        let asked = proposal.partition_epoch;
        let verdict = if !current {
            Body::Verdict(asked, IsrAnswer::Unknown, None)
        } else if !eligible {
            Body::Verdict(asked, IsrAnswer::Refused, None)
        } else {
            let isr: Vec<NodeId> = proposal.isr.iter().map(|(node, _)| *node).collect();
            self.change(|record| {
                if let Some(durability) = proposal.durability {
                    record.durability = durability;
                    record.pending_durability = None;
                }
                record
                    .elr
                    .extend(record.isr.iter().filter(|n| !isr.contains(n)));
                record.elr.retain(|node| !isr.contains(node));
                record.isr = isr;
            });
            Body::Verdict(asked, IsrAnswer::Agreed, Some(self.record.clone()))
        };
        self.send(CONTROLLER, from, verdict);
    }

    fn fence(&mut self, id: NodeId) {
        self.active.insert(id, false);
        let was_leader = self.record.leader == Some(id);
        if self.record.isr.contains(&id) {
            self.change(|record| {
                record.isr.retain(|node| *node != id);
                record.elr.push(id);
            });
        }
        if was_leader {
            self.elect(None);
        }
    }

    fn resign(&mut self, id: NodeId) {
        let members = self.record.isr.iter().chain(&self.record.elr);
        if !members.into_iter().any(|node| *node != id) {
            return; // the last copy stays
        }
        self.boots += 1;
        let serial = u8::try_from(self.boots % 251).unwrap();
        self.change(|record| {
            record.isr.retain(|node| *node != id);
            record.elr.retain(|node| *node != id);
            let copy = record.replicas.iter_mut().find(|r| r.node == id).unwrap();
            copy.id.0[1] = serial;
        });
        if self.record.leader == Some(id) {
            self.elect(None);
        }
        self.input(id, |core, _, _, out| core.on_failed(out));
    }

    fn elect(&mut self, wanted: Option<NodeId>) {
        let pick = |from: &[NodeId]| from.iter().copied().find(|node| self.active[node]);
        let leader = wanted
            .or_else(|| pick(&self.record.isr))
            .or_else(|| pick(&self.record.elr));
        self.change(|record| {
            record.leader = leader;
            record.leader_epoch = record.leader_epoch.next();
            if let Some(leader) = leader.filter(|leader| !record.isr.contains(leader)) {
                record.elr.retain(|node| *node != leader);
                record.isr.push(leader);
            }
        });
    }

    /// A node boots: registers, loses what an unclean start forfeits, and follows.
    fn start(&mut self, id: NodeId) {
        self.boots += 1;
        let node = self.nodes.get_mut(&id).unwrap();
        node.epoch = NodeEpoch(self.boots);
        node.started = self.boots;
        let unclean = std::mem::take(&mut node.lost);
        // An append that survived the power loss is scanned and synced by recovery.
        node.log.durable = node.log.entries.len();
        let forfeits = unclean && self.record.durability.flush == FlushMode::Async;
        if forfeits {
            self.change(|record| {
                record.isr.retain(|node| *node != id);
                record.elr.retain(|node| *node != id);
            });
        }
        self.active.insert(id, true);
        if self.record.leader.is_none() || self.record.leader == Some(id) {
            self.elect(None);
        }
        self.boot(id);
    }

    /// As at a start, the controller counts on nothing that was promised before; but
    /// nothing was lost.
    fn renew(&mut self, id: NodeId) {
        self.boots += 1;
        self.fence(id);
        self.nodes.get_mut(&id).unwrap().epoch = NodeEpoch(self.boots);
        self.active.insert(id, true);
        if self.record.leader.is_none() {
            self.elect(None);
        }
    }

    fn set_durability(&mut self, durability: Durability) {
        let stronger = durability.flush == FlushMode::Sync;
        if durability == self.record.durability && self.record.pending_durability.is_none() {
            return;
        }
        self.change(|record| {
            if stronger && record.durability.flush == FlushMode::Async {
                record.pending_durability = Some(durability);
            } else {
                record.durability = durability;
                record.pending_durability = None;
            }
        });
    }

    /// Faults off: everything runs, is heard and flushed, until nothing changes any more.
    pub(crate) fn heal(&mut self) -> Result<(), Violation> {
        // A stream that lost a frame is a broken stream.
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.step(Action::Break(id))?;
        }
        let mut appended = false;
        for _ in 0..100 {
            if appended && self.is_healthy() {
                break;
            }
            let serves = self.is_healthy();
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                if self.nodes[&id].core.is_none() {
                    self.step(Action::Start(id))?;
                }
                if !self.active[&id] {
                    self.active.insert(id, true);
                    if self.record.leader.is_none() {
                        self.elect(None);
                    }
                }
                self.step(Action::Publish(id))?;
                if serves && self.record.leader == Some(id) {
                    self.step(Action::Append(id))?;
                    appended = true;
                }
                self.step(Action::Flush(id))?;
                let cursors = self.nodes[&id].cursors.clone();
                for to in cursors.keys() {
                    self.step(Action::Push(id, *to))?;
                }
            }
            for turn in 0.. {
                assert!(turn < 1_000, "endless talk: {:#?}", self.wire);
                if self.wire.is_empty() {
                    break;
                }
                self.step(Action::Deliver(0))?;
            }
            self.step(Action::Wait(Duration::from_millis(300)))?;
        }
        Ok(())
    }

    /// Whether the partition serves: a leader that is ready, all replicas in sync and alike.
    pub(crate) fn is_healthy(&self) -> bool {
        let view = self.view();
        let leader = view
            .nodes
            .iter()
            .find(|node| node.leads == Some(view.record.leader_epoch.0));
        leader.is_some_and(|leader| {
            leader.ready
                && view.record.isr.len() == view.nodes.len()
                && view.record.pending_durability.is_none()
                && view
                    .nodes
                    .iter()
                    .all(|node| node.log == leader.log && node.high_watermark == leader.log.len())
        })
    }

    /// Whether anybody is left who may lead: unclean power losses can use all up.
    pub(crate) fn is_recoverable(&self) -> bool {
        !self.record.isr.is_empty() || !self.record.elr.is_empty()
    }

    pub(crate) fn record(&self) -> &PartitionRecord {
        &self.record
    }
}

fn offset(index: usize) -> Offset {
    Offset(index as u64)
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).unwrap()
}
