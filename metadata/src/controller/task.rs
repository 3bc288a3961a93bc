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

mod draft;
mod planning;
mod probing;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weir_base::{Entropy, Env, Monotonic, NodeEpoch, NodeId};
use weir_peer::Peers;

use super::inspect::LogEnds;
use super::sessions::Sessions;
use super::slow::{DiskFacts, SlowDisks};
use crate::ask::{Answer, Ask, Heartbeat};
use crate::command::{Item, Outcome, Proposal, Refusal};
use crate::image_store::ImageStore;
use crate::options::MetadataOptions;
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
    /// Boots whose fencing is decided and perhaps not applied yet: they get no lease.
    fencing: BTreeSet<(NodeId, NodeEpoch)>,
    log_ends: LogEnds,
    slow: SlowDisks,
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
        // The answer is a lease, for what the asker leads in this image and in later ones:
        // a fenced node's counts from when it is active. Whoever lost touch with its majority
        // may be controller no more, and another may be about to fence the asker (I10).
        let (true, Some(acknowledged)) = (self.group.is_in_touch(), self.group.acknowledged())
        else {
            return Answer::NotController(None);
        };
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
        let boot = (node.id, node.epoch);
        match self.office().as_mut() {
            // The lease would outlive the leaderships it is for (I10).
            Some(office) if node.is_active() && office.fencing.contains(&boot) => {
                return Answer::NotController(None);
            }
            Some(office) => office.sessions.on_heartbeat(
                self.env.clock.now(),
                heartbeat.node,
                heartbeat.epoch,
                heartbeat.applied,
                DiskFacts {
                    fsync_age: Duration::from_millis(u64::from(heartbeat.fsync_age_ms)),
                    fsync_p99: heartbeat
                        .fsync_p99_us
                        .map(|micros| Duration::from_micros(u64::from(micros))),
                    reads_journals: heartbeat.reads_journals,
                },
            ),
            None => return self.not_controller(),
        }
        if !node.is_active() {
            // A full mailbox is busy and looks again at its next tick.
            drop(self.mailbox.try_send(Mail::Look));
        }
        // Another controller may have been elected since a majority answered, by voters that
        // forgot what they granted this one: it counts a session from then on.
        let stale = self.env.clock.now().since(acknowledged).as_millis();
        self.seen(Outcome::Lease {
            stale_ms: u32::try_from(stale).unwrap_or(u32::MAX),
        })
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
                // The group stopped while it led.
                Some(_) if standing.has_changed().is_err() => return,
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
            fencing: BTreeSet::new(),
            log_ends: LogEnds::default(),
            slow: SlowDisks::default(),
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
                changed = standing.changed() => {
                    // An error means that the group stopped, and it would be one at once
                    // at every turn of this loop.
                    if changed.is_err() || standing.borrow_and_update().leads != Some(term) {
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

/// When the next duties are due.
struct Clock {
    tick: Monotonic,
    no_op: Monotonic,
    rebalance: Monotonic,
}
