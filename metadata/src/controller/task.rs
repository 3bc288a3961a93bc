//! The controller's task: the shell around the planners, on every voter.
//!
//! Works only while this node leads the metadata group: confirms that with a majority,
//! then plans requests, silence and refused probes on the newest image and proposes
//! the commands, all that waited in one log entry. One entry is under way at a time, so
//! a plan always sees everything decided before it.
//!
//! Pushes back: a full mailbox answers `Overloaded`. On crash or lost leadership:
//! sessions die with the term of office, what waited is answered `NotController`, what
//! was proposed `Unknown`. Gossip and hints enter here only as reasons to probe.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weir_base::image::{ClusterImage, NodeRecord, NodeState};
use weir_base::{Entropy, Env, Monotonic, NodeEpoch, NodeId};
use weir_peer::{Peers, Service};

use super::plan::plan;
use super::sessions::Sessions;
use super::{elect, fence, reassign};
use crate::apply::apply_item;
use crate::ask::{Answer, Ask, Heartbeat};
use crate::command::{Command, Item, Outcome, Proposal, Refusal};
use crate::image_store::ImageStore;
use crate::options::MetadataOptions;
use crate::probe;
use crate::raft::{Group, ProposeError};

/// Most requests planned into one log entry.
const BATCH_MAX: usize = 256;
/// An idle controller commits an empty entry this often: nodes that apply none for
/// 5 s know that the group is not well (S-33).
const NO_OP_PERIOD: Duration = Duration::from_secs(2);
/// Leaderships given back to preferred leaders at once.
const REBALANCE_MAX: usize = 1000;

enum Mail {
    Ask(Ask, oneshot::Sender<Answer>),
    /// Proven: this boot's process is gone.
    Gone(NodeId, NodeEpoch),
    /// A fenced node was heard of.
    Look,
}

/// What lasts for one term of office.
struct Office {
    sessions: Sessions,
    probing: BTreeSet<NodeId>,
    /// Boots that said good-bye: late heartbeats do not bring them back.
    left: BTreeSet<(NodeId, NodeEpoch)>,
}

/// See the module.
pub(crate) struct Controller {
    env: Env,
    entropy: Entropy,
    peers: Peers,
    me: NodeId,
    group: Arc<Group>,
    store: Arc<ImageStore>,
    options: MetadataOptions,
    mailbox: mpsc::Sender<Mail>,
    office: Mutex<Option<Office>>,
}

/// An item to propose and who waits for it.
type Pending = (Item, Option<oneshot::Sender<Answer>>);

impl Controller {
    /// Starts the task.
    pub(crate) fn start(
        env: Env,
        peers: Peers,
        me: NodeId,
        group: Arc<Group>,
        store: Arc<ImageStore>,
        options: MetadataOptions,
    ) -> Arc<Self> {
        let (mailbox, rx) = mpsc::channel(options.requests_max);
        let controller = Arc::new(Self {
            entropy: env.entropy.fork("controller"),
            env,
            peers,
            me,
            group,
            store,
            options,
            mailbox,
            office: Mutex::new(None),
        });
        let task = controller.clone();
        controller
            .env
            .tasks
            .spawn("controller", async move { task.run(rx).await });
        controller
    }

    fn office(&self) -> MutexGuard<'_, Option<Office>> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_controller(&self) -> Answer {
        let leader = self.group.standing().borrow().leader;
        Answer::NotController(leader.filter(|leader| *leader != self.me))
    }

    /// Answers one request, asked by `from`.
    pub(crate) async fn handle(self: Arc<Self>, from: NodeId, ask: Ask) -> Answer {
        if !ask.is_from(from) {
            let said = format!("node {from} speaks for another node");
            return Answer::Refused(Refusal::InvalidRequest(said));
        }
        if self.office().is_none() {
            return self.not_controller();
        }
        if let Ask::Heartbeat(heartbeat) = ask {
            self.on_heartbeat(heartbeat)
        } else if let Ask::Suspect {
            node,
            epoch,
            refused,
        } = ask
        {
            self.suspect(node, epoch, refused.then_some(from));
            self.seen(Outcome::Done)
        } else {
            self.queue(ask).await
        }
    }

    fn seen(&self, outcome: Outcome) -> Answer {
        Answer::Done {
            index: self.store.image().version,
            outcome,
        }
    }

    async fn queue(&self, ask: Ask) -> Answer {
        let (tx, rx) = oneshot::channel();
        match self.mailbox.try_send(Mail::Ask(ask, tx)) {
            Ok(()) => rx
                .await
                .unwrap_or_else(|_| Answer::Unknown("the controller stopped".to_owned())),
            Err(_) => Answer::Overloaded,
        }
    }

    fn on_heartbeat(&self, heartbeat: Heartbeat) -> Answer {
        let image = self.store.image();
        let Some(node) = image.nodes.get(&heartbeat.node) else {
            return Answer::Refused(Refusal::UnknownNode(heartbeat.node));
        };
        if node.epoch != heartbeat.epoch {
            return Answer::Refused(Refusal::StaleNodeEpoch {
                id: node.id,
                sent: heartbeat.epoch,
                current: node.epoch,
            });
        }
        match self.office().as_mut() {
            Some(office) => office.sessions.on_heartbeat(
                self.env.clock.now(),
                heartbeat.node,
                heartbeat.epoch,
                heartbeat.applied,
                Duration::from_millis(u64::from(heartbeat.fsync_age_ms)),
            ),
            None => return self.not_controller(),
        }
        if !node.is_active() {
            // A full mailbox is busy and looks again at its next tick.
            drop(self.mailbox.try_send(Mail::Look));
        }
        self.seen(Outcome::Done)
    }

    /// Probes a node's control port, here and from others; fences it if it is refused
    /// by two (or here alone, if nobody else is left to ask).
    pub(crate) fn suspect(
        self: &Arc<Self>,
        node: NodeId,
        epoch: NodeEpoch,
        witness: Option<NodeId>,
    ) {
        let image = self.store.image();
        let Some(record) = image.nodes.get(&node) else {
            return;
        };
        if node == self.me || record.epoch != epoch || !record.is_active() {
            return;
        }
        let is_first = |office: &mut Office| office.probing.insert(node);
        if !self.office().as_mut().is_some_and(is_first) {
            return;
        }
        let controller = self.clone();
        let address = record.peer_address.clone();
        self.env.tasks.spawn("probe", async move {
            let is_gone = controller.is_gone(&image, node, &address, witness).await;
            if let Some(office) = controller.office().as_mut() {
                office.probing.remove(&node);
            }
            if is_gone {
                tracing::info!(%node, "its control port is refused: the process is gone");
                drop(controller.mailbox.send(Mail::Gone(node, epoch)).await);
            }
        });
    }

    async fn is_gone(
        &self,
        image: &ClusterImage,
        node: NodeId,
        address: &str,
        witness: Option<NodeId>,
    ) -> bool {
        let mut others = self.witnesses(image, node).into_iter();
        let here = probe::is_refused(&self.env, address, self.options.probe_deadline);
        let (first, second) = (others.next(), others.next());
        let nobody_else = first.is_none();
        let asked_already = witness.is_some_and(|witness| witness != self.me);
        let (here, first, second) = tokio::join!(
            here,
            self.opinion(first.filter(|_| !asked_already), node),
            self.opinion(second.filter(|_| !asked_already), node)
        );
        here && (asked_already || nobody_else || first || second)
    }

    /// Active nodes that were heard of lately, but for this one and the suspect.
    fn witnesses(&self, image: &ClusterImage, suspect: NodeId) -> Vec<NodeId> {
        let now = self.env.clock.now();
        let office = self.office();
        image
            .nodes
            .values()
            .filter(|n| n.is_active() && n.id != suspect && n.id != self.me)
            .filter(|n| {
                office.as_ref().is_some_and(|office| {
                    let silence = office.sessions.silence(now, n.id, n.epoch);
                    silence <= self.options.session
                })
            })
            .map(|n| n.id)
            .collect()
    }

    async fn opinion(&self, of: Option<NodeId>, node: NodeId) -> bool {
        let Some(of) = of else { return false };
        let Ok(body) = postcard::to_stdvec(&Ask::Probe(node)) else {
            return false;
        };
        let deadline = self.options.probe_deadline * 2;
        let answer = self
            .peers
            .request(of, Service::Controller, body.into(), deadline)
            .await;
        answer.is_ok_and(|bytes| postcard::from_bytes::<Answer>(&bytes) == Ok(Answer::Probed(true)))
    }

    async fn run(self: Arc<Self>, mut rx: mpsc::Receiver<Mail>) {
        let mut standing = self.group.standing();
        loop {
            let leads = standing.borrow_and_update().leads;
            match leads {
                Some(term) if self.group.ensure_linearizable().await => {
                    self.lead(term, &mut rx).await;
                    *self.office() = None;
                    self.turn_away(&mut rx);
                }
                // Believes to lead and cannot confirm it: not now, or not any more.
                Some(_) => self.env.sleep(self.options.raft_heartbeat).await,
                None => {
                    if standing.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Answers what was not begun.
    fn turn_away(&self, rx: &mut mpsc::Receiver<Mail>) {
        while let Ok(mail) = rx.try_recv() {
            if let Mail::Ask(_, reply) = mail {
                // The asker may be gone.
                drop(reply.send(self.not_controller()));
            }
        }
    }

    /// One term of office; ends when the leadership does or cannot be confirmed.
    async fn lead(self: &Arc<Self>, term: u64, rx: &mut mpsc::Receiver<Mail>) {
        let now = self.env.clock.now();
        *self.office() = Some(Office {
            sessions: Sessions::new(now),
            probing: BTreeSet::new(),
            left: BTreeSet::new(),
        });
        tracing::info!(node = %self.me, term, "leads the metadata group");
        let mut standing = self.group.standing();
        let mut clock = Clock {
            tick: now,
            no_op: now,
            rebalance: now + self.options.rebalance,
        };
        self.probe_everyone();
        loop {
            let batch = tokio::select! {
                biased;
                _ = standing.changed() => {
                    if standing.borrow_and_update().leads != Some(term) {
                        return;
                    }
                    continue;
                }
                mail = rx.recv() => match mail {
                    Some(mail) => self.plan_mail(mail, rx),
                    None => return,
                },
                () = self.env.clock.sleep_until(clock.tick) => self.plan_tick(&mut clock),
            };
            if !batch.is_empty() {
                clock.no_op = self.env.clock.now() + NO_OP_PERIOD;
                if !self.commit(batch).await {
                    return;
                }
            }
        }
    }

    /// A new controller knows no sessions, but a refused port needs none.
    fn probe_everyone(self: &Arc<Self>) {
        for node in self.store.image().nodes.values() {
            self.suspect(node.id, node.epoch, None);
        }
    }

    /// Plans a request and all that wait behind it.
    fn plan_mail(&self, first: Mail, rx: &mut mpsc::Receiver<Mail>) -> Vec<Pending> {
        let mut draft = Draft::new(&self.store.image());
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(mail) = next.take() {
            self.plan_one(&mut draft, mail);
            taken += 1;
            if taken < BATCH_MAX {
                next = rx.try_recv().ok();
            }
        }
        draft.items
    }

    fn plan_one(&self, draft: &mut Draft, mail: Mail) {
        match mail {
            Mail::Ask(ask, reply) => self.plan_ask(draft, &ask, reply),
            Mail::Gone(node, epoch) => {
                let is_same = |n: &NodeRecord| n.epoch == epoch;
                if draft.image.nodes.get(&node).is_some_and(is_same) {
                    self.plan_fence(draft, node);
                }
            }
            Mail::Look => self.plan_unfence(draft),
        }
    }

    fn plan_ask(&self, draft: &mut Draft, ask: &Ask, reply: oneshot::Sender<Answer>) {
        let answer = match plan(&draft.image, ask, self.entropy.uuid()) {
            Err(refusal) => Answer::Refused(refusal),
            Ok(item) if item.is_empty() => self.seen(Outcome::Done),
            Ok(item) if is_validation(ask) => match Draft::new(&draft.image).add(item, None) {
                Ok(outcome) => self.seen(outcome),
                Err(refusal) => Answer::Refused(refusal),
            },
            Ok(item) => {
                if let Ask::Leave { node, epoch } = ask
                    && let Some(office) = self.office().as_mut()
                {
                    office.left.insert((*node, *epoch));
                    office.sessions.forget(*node);
                }
                let (Ask::AlterPartition(_) | Ask::Reassign { .. }) = ask else {
                    draft.add_or_answer(item, reply);
                    return;
                };
                let at = match &item[..] {
                    [Command::AlterPartition(proposal)] => Some(proposal.at),
                    [Command::StartReassignment { at, .. }] => Some(*at),
                    _ => None,
                };
                draft.add_or_answer(item, reply);
                // What just caught up may end a move.
                let next = at.map(|at| reassign::plan_progress(&draft.image, at));
                draft.add_own(next.unwrap_or_default());
                return;
            }
        };
        // The asker may be gone.
        drop(reply.send(answer));
    }

    fn plan_fence(&self, draft: &mut Draft, node: NodeId) {
        if let Some(office) = self.office().as_mut() {
            office.sessions.forget(node);
        }
        let item = fence::plan_fence(&draft.image, node);
        draft.add_own(item);
    }

    /// Lets in every fenced node that lives and has applied its own registration.
    fn plan_unfence(&self, draft: &mut Draft) {
        let now = self.env.clock.now();
        let ready: Vec<NodeId> = match self.office().as_ref() {
            None => return,
            Some(office) => draft
                .image
                .nodes
                .values()
                .filter(|n| !n.is_active() && !office.left.contains(&(n.id, n.epoch)))
                .filter(|n| {
                    let limit = self.options.session;
                    let own = n.epoch.0;
                    office.sessions.is_caught_up(now, n.id, n.epoch, own, limit)
                })
                .map(|n| n.id)
                .collect(),
        };
        for node in ready {
            let item = fence::plan_unfence(&draft.image, node);
            draft.add_own(item);
        }
    }

    /// What time brings: silence, stragglers, the peace-time duties.
    fn plan_tick(self: &Arc<Self>, clock: &mut Clock) -> Vec<Pending> {
        let now = self.env.clock.now();
        clock.tick = now + self.options.heartbeat / 2;
        let image = self.store.image();
        let mut draft = Draft::new(&image);
        if image.cluster_id.is_none() {
            let cluster_id = self.entropy.uuid();
            draft.add_own(vec![Command::FormCluster { cluster_id }]);
        }
        for node in image.nodes.values().filter(|n| n.is_active()) {
            let silence = match self.office().as_ref() {
                Some(office) => office.sessions.silence(now, node.id, node.epoch),
                None => Duration::ZERO,
            };
            if silence >= self.options.session {
                tracing::info!(node = %node.id, ?silence, "fenced for silence");
                self.plan_fence(&mut draft, node.id);
            } else if silence >= self.options.heartbeat * 2 {
                self.suspect(node.id, node.epoch, None);
            }
            if node.state == NodeState::Draining {
                let item = fence::plan_drain(&draft.image, node.id);
                draft.add_own(item);
            }
        }
        self.plan_unfence(&mut draft);
        if now >= clock.rebalance {
            clock.rebalance = now + self.options.rebalance;
            self.plan_peace(&mut draft);
        }
        if now >= clock.no_op && draft.items.is_empty() {
            draft.items.push((Item::new(), None));
        }
        draft.items
    }

    /// Moves that could end, preferred leaders that could lead.
    fn plan_peace(&self, draft: &mut Draft) {
        let moving: Vec<Command> = draft
            .image
            .partitions()
            .flat_map(|(at, _)| reassign::plan_progress(&draft.image, at))
            .collect();
        for command in moving {
            draft.add_own(vec![command]);
        }
        let item = elect::plan_rebalance(&draft.image, REBALANCE_MAX);
        draft.add_own(item);
    }

    /// Proposes a batch and answers its askers. `false` if the outcome is not known:
    /// then nothing more may be planned before leadership is confirmed again.
    async fn commit(&self, batch: Vec<Pending>) -> bool {
        let (items, replies): (Vec<Item>, Vec<_>) = batch.into_iter().unzip();
        // An empty item stands for the no-op.
        let items = items.into_iter().filter(|item| !item.is_empty()).collect();
        let proposal = self.group.propose(Proposal { items });
        let limit = self.options.election_max * 2;
        let result = self.env.timeout(limit, proposal).await;
        let answer: Box<dyn Fn(usize) -> Answer + Send> = match &result {
            Some(Ok((index, results))) => Box::new(|position| match results.get(position) {
                Some(Ok(outcome)) => Answer::Done {
                    index: *index,
                    outcome: outcome.clone(),
                },
                Some(Err(refusal)) => Answer::Refused(refusal.clone()),
                None => Answer::Unknown("the entry was applied twice".to_owned()),
            }),
            Some(Err(ProposeError::NotLeader(leader))) => {
                Box::new(|_| Answer::NotController(*leader))
            }
            Some(Err(ProposeError::Stopped(why))) => Box::new(|_| Answer::Unknown(why.clone())),
            None => Box::new(|_| Answer::Unknown("no majority answered".to_owned())),
        };
        for (position, reply) in replies.into_iter().enumerate() {
            if let Some(reply) = reply {
                // The asker may be gone.
                drop(reply.send(answer(position)));
            }
        }
        matches!(result, Some(Ok(_)))
    }

    /// How long a node's oldest fsync lasts, as it told this controller.
    pub(crate) fn fsync_age(&self, node: NodeId) -> Duration {
        self.office()
            .as_ref()
            .map_or(Duration::ZERO, |office| office.sessions.fsync_age(node))
    }
}

fn is_validation(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::CreateTopic {
            validate_only: true,
            ..
        } | Ask::CreatePartitions {
            validate_only: true,
            ..
        } | Ask::AlterConfigs {
            validate_only: true,
            ..
        }
    )
}

/// When the next duties are due.
struct Clock {
    tick: Monotonic,
    no_op: Monotonic,
    rebalance: Monotonic,
}

/// The image as it will be once all planned items are committed.
struct Draft {
    image: ClusterImage,
    serial: u16,
    items: Vec<Pending>,
}

impl Draft {
    fn new(image: &ClusterImage) -> Self {
        Self {
            image: image.clone(),
            serial: 0,
            items: Vec::new(),
        }
    }

    fn add(
        &mut self,
        item: Item,
        reply: Option<oneshot::Sender<Answer>>,
    ) -> Result<Outcome, Refusal> {
        let index = self.image.version + 1;
        let outcome = apply_item(&mut self.image, index, &mut self.serial, &item)?;
        self.items.push((item, reply));
        Ok(outcome)
    }

    fn add_or_answer(&mut self, item: Item, reply: oneshot::Sender<Answer>) {
        let index = self.image.version + 1;
        match apply_item(&mut self.image, index, &mut self.serial, &item) {
            Ok(_) => self.items.push((item, Some(reply))),
            // The asker may be gone.
            Err(refusal) => drop(reply.send(Answer::Refused(refusal))),
        }
    }

    /// An item of the controller's own. Planned on this very draft, it cannot be
    /// refused but by a bug, which must not stop the controller from the rest.
    fn add_own(&mut self, item: Item) {
        if !item.is_empty()
            && let Err(refusal) = self.add(item, None)
        {
            tracing::error!(%refusal, "the controller refused its own plan");
        }
    }
}
