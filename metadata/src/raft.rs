//! The metadata group: openraft behind the few words the rest of the crate needs.
//!
//! Owns the group's membership in openraft, its files and its service on the peer
//! link. Everything above says `propose`, `ensure_linearizable`, `leader`: a move to
//! another openraft touches this room alone. I1 (one leader per term) rests on
//! openraft and on `log_store`. What a restarted leader believes of itself counts for
//! nothing before `ensure_linearizable` (it reports itself leader of its old term).
//!
//! On crash: votes and entries that were answered for are on disk; a storage error
//! stops openraft for good, and the node with it.

pub(crate) mod frame;
pub(crate) mod log_store;
pub(crate) mod machine;
mod network;
pub(crate) mod runtime;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, Fatal, RaftError};
use openraft::{Config, Raft, ServerState, SnapshotPolicy, Vote};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::{BoxFuture, Entropy, Env, Monotonic, NodeId, Uuid};
use weir_peer::{FrameStream, PeerError, PeerService, Peers};

use crate::client::RaftProgress;
use crate::command::{ItemResult, Proposal};
use crate::image_store::ImageStore;
use crate::options::MetadataOptions;
use log_store::LogStore;
use machine::StateMachine;
use network::{Envelope, Links, Network, Request, Response};

openraft::declare_raft_types!(
    /// openraft's types here.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = openraft::EmptyNode,
        SnapshotData = io::Cursor<Vec<u8>>,
        AsyncRuntime = runtime::EnvRuntime,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Node = openraft::EmptyNode;

/// What applying an entry gave: one result an item, none for openraft's own entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied(pub(crate) Vec<ItemResult>);

/// Time from one voter's turn to stand to the next one's: enough to ask all others.
const ELECTION_TURN: Duration = Duration::from_millis(20);
/// Time from the turns of all to the next ones; doubles from round to round.
const ELECTION_ROUND: Duration = Duration::from_millis(100);

/// openraft's ids are ours, widened.
pub(crate) fn node_id(id: u64) -> NodeId {
    NodeId(u32::try_from(id).unwrap_or(u32::MAX))
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ProposeError {
    /// Definitely not in the log.
    #[error("this node does not lead the metadata group")]
    NotLeader(Option<NodeId>),
    /// May be in the log.
    #[error("the metadata group stopped here: {0}")]
    Stopped(String),
}

/// Where this node stands in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// The leader this voter follows, or is, as far as it knows.
    pub(crate) leader: Option<NodeId>,
    /// Whether this node believes to lead, and in which term.
    pub(crate) leads: Option<u64>,
}

/// A voter's part in the group.
pub(crate) struct Group {
    env: Env,
    entropy: Entropy,
    me: NodeId,
    raft: Raft<TypeConfig>,
    /// What was on the disk at the start; openraft tells nothing before its first step.
    first_vote: Option<Vote<u64>>,
    links: Links,
    voters: BTreeSet<NodeId>,
    /// When this voter last heard from a leader.
    heard: Arc<Mutex<Monotonic>>,
    /// How often its vote went to another in this life, with what is being decided.
    granted: AtomicU64,
    /// When, leading, it last asked something that a majority answered; `None` before that:
    /// clocks begin with the process, and a restarted leader leads at once.
    acknowledged: Arc<Mutex<Option<Monotonic>>>,
    standing: watch::Receiver<Standing>,
    options: MetadataOptions,
    _watcher: TaskHandle,
}

impl Group {
    /// Opens the files and joins, or with the others forms, the group of `voters`.
    ///
    /// # Errors
    /// The disk's; `InvalidData` for damaged files.
    pub(crate) async fn start(
        env: Env,
        peers: Peers,
        me: NodeId,
        storage: Uuid,
        voters: BTreeSet<NodeId>,
        store: Arc<ImageStore>,
        options: MetadataOptions,
    ) -> io::Result<Arc<Self>> {
        let entropy = env.entropy.fork("raft");
        let links = Links {
            peers,
            storage,
            store: store.clone(),
        };
        let log = LogStore::open(env.disk.clone()).await?;
        let first_vote = log.vote();
        let machine = StateMachine::open(env.disk.clone(), store).await?;
        let config = config(&options)
            .validate()
            .map(Arc::new)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let network = Network(links.clone());
        let raft = runtime::scope(
            &env,
            &entropy,
            Raft::new(u64::from(me.0), config, network, log, machine),
        )
        .await
        .map_err(io::Error::other)?;
        let acknowledged = Arc::new(Mutex::new(None));
        let (standing, _watcher) = watch_standing(&env, &raft, Arc::clone(&acknowledged));
        let heard = Arc::new(Mutex::new(env.clock.now()));
        let group = Arc::new(Self {
            env,
            entropy,
            me,
            raft,
            first_vote,
            links,
            voters,
            heard,
            granted: AtomicU64::new(0),
            acknowledged,
            standing,
            options,
            _watcher,
        });
        if group.voters.first() == Some(&me) {
            let forming = group.clone();
            group.env.tasks.spawn("raft-form", async move {
                forming.form().await;
            });
        }
        Ok(group)
    }

    /// Forms the group, once in its life: the lowest voter does it when all others
    /// answered that they belong to none. If one does, this node lost its disk, and
    /// forming anew would split the cluster.
    async fn form(&self) {
        loop {
            let known = self.scope(self.raft.is_initialized()).await;
            if known.unwrap_or(true) {
                return;
            }
            let mut free = true;
            for voter in self.voters.iter().filter(|voter| **voter != self.me) {
                let asked = self
                    .links
                    .call(
                        *voter,
                        Request::IsInitialized,
                        self.options.request_deadline,
                    )
                    .await;
                free &= matches!(asked, Ok(Response::IsInitialized(false)));
            }
            if free {
                let members: BTreeMap<u64, Node> = self
                    .voters
                    .iter()
                    .map(|voter| (u64::from(voter.0), Node::new()))
                    .collect();
                if let Err(error) = self.scope(self.raft.initialize(members)).await {
                    tracing::warn!(%error, "the metadata group was not formed");
                }
            }
            self.env.sleep(self.options.election_min).await;
        }
    }

    async fn scope<F: Future>(&self, future: F) -> F::Output {
        runtime::scope(&self.env, &self.entropy, future).await
    }

    /// Commits a proposal: its entry's index and the result of every item.
    ///
    /// # Errors
    /// [`ProposeError`] says whether it may be in the log. There is no deadline here:
    /// an isolated leader never answers, and the caller who gives up does not know.
    pub(crate) async fn propose(
        &self,
        proposal: Proposal,
    ) -> Result<(u64, Vec<ItemResult>), ProposeError> {
        match self.scope(self.raft.client_write(proposal)).await {
            Ok(written) => Ok((written.log_id.index, written.data.0)),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(ProposeError::NotLeader(to.leader_id.map(node_id)))
            }
            Err(RaftError::APIError(error @ ClientWriteError::ChangeMembershipError(_))) => {
                Err(ProposeError::Stopped(error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(ProposeError::Stopped(error.to_string())),
        }
    }

    /// Completes once a majority confirmed this node as leader and everything in its log
    /// is applied here. `false` if it leads no more, or the deadline passed.
    ///
    /// What was committed before is not enough: a leader that restarts in its old term, or
    /// gave up waiting for a proposal, still has entries that will be committed, and whoever
    /// plans must know what they decide.
    pub(crate) async fn ensure_linearizable(&self) -> bool {
        let asked = async {
            let confirmed = self.scope(self.raft.ensure_linearizable()).await;
            confirmed.is_ok() && self.applied_all().await
        };
        let deadline = self.options.election_max;
        self.env.timeout(deadline, asked).await == Some(true)
    }

    /// Completes once what is in the log now is applied; `false` if the group stopped.
    async fn applied_all(&self) -> bool {
        let mut metrics = self.raft.metrics();
        let last = metrics.borrow().last_log_index;
        let applied = metrics.wait_for(|now| now.last_applied.map(|at| at.index) >= last);
        applied.await.is_ok()
    }

    /// The configured voters.
    pub(crate) fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// Follows who leads.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// The vote, the last entry of the log and the last one applied.
    ///
    /// The vote is the one on disk. openraft's `current_term` runs ahead of it while it is
    /// written, and stays there if that fails: nobody else was told of such a term.
    pub(crate) fn progress(&self) -> RaftProgress {
        let metrics = self.raft.metrics().borrow().clone();
        let votes = [Some(metrics.vote), self.first_vote].into_iter().flatten();
        let votes = votes.map(|vote| (vote.leader_id.term, vote.leader_id.voted_for()));
        let (term, voted_for) = votes.max().unwrap_or_default();
        RaftProgress {
            term,
            voted_for: voted_for.map(node_id),
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |at| at.index),
        }
    }

    /// Whether what this voter has is fresh: it follows a leader, or leads with a
    /// majority that answered lately.
    pub(crate) fn is_in_touch(&self) -> bool {
        let metrics = self.raft.metrics().borrow().clone();
        let is_fresh = |at: Monotonic| self.env.clock.now().since(at) <= self.options.election_max;
        match metrics.state {
            // Not by the age that openraft told last: it does not grow while nobody tells,
            // as in a process that was stopped for a while.
            ServerState::Leader => self.acknowledged().is_some_and(is_fresh),
            ServerState::Follower => metrics.current_leader.is_some() && is_fresh(self.heard()),
            ServerState::Candidate | ServerState::Learner | ServerState::Shutdown => false,
        }
    }

    /// When, leading, it last asked something that a majority answered: nobody else led then.
    pub(crate) fn acknowledged(&self) -> Option<Monotonic> {
        *self
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> Monotonic {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader's process is gone for certain, as every voter finds out by itself: stands
    /// for election at once. A wrong guess costs one election.
    ///
    /// A voter refuses its vote while the leader's lease runs, unless it stood itself. Of
    /// those who stand in one term the highest id wins (openraft's votes are ordered by term
    /// and id), so voters take turns from the lowest id on: who is last gets the votes of
    /// all before it, or one of them had a majority already. Where one noticed too late for
    /// its turn they stand again after a while, less and less often, until the lease has run
    /// out: where no majority lives each round is for nothing.
    ///
    /// Whoever's vote went to another since its last turn lets one pass: that one leads by
    /// then, or is about to, and would be deposed at once by who stands against it.
    pub(crate) async fn leader_is_gone(&self, leader: NodeId) {
        let heard = self.heard();
        let jitter = Duration::from_millis(self.entropy.below(100));
        let end = heard + self.options.election_max + self.options.raft_heartbeat + jitter;
        let before = |voter: &&NodeId| **voter < self.me && **voter != leader;
        let turn = u32::try_from(self.voters.iter().filter(before).count()).unwrap_or(0);
        let mut granted = self.granted();
        self.env.sleep(ELECTION_TURN * turn).await;
        let mut standing = self.standing.clone();
        let is_led = |now: &Standing| now.leader.is_some_and(|other| other != leader);
        let mut round = ELECTION_ROUND;
        // With a vote given to another it knows no leader.
        let mut passes = standing.borrow().leader != Some(leader);
        while self.heard() == heard && !is_led(&standing.borrow()) {
            let before = std::mem::replace(&mut granted, self.granted());
            if !passes && granted <= before {
                self.stand().await;
            }
            passes = false;
            let left = end - self.env.clock.now();
            if left.is_zero() {
                return;
            }
            let replaced = standing.wait_for(is_led);
            let waiting = self.env.timeout(left.min(round), replaced);
            if waiting.await.is_some() {
                return;
            }
            round *= 2;
        }
    }

    fn granted(&self) -> u64 {
        self.granted.load(Ordering::Acquire)
    }

    async fn stand(&self) {
        if let Err(error) = self.scope(self.raft.trigger().elect()).await {
            tracing::warn!(%error, "cannot stand for election");
        }
    }

    /// Leaves openraft. Files are complete at every moment; this only ends its tasks.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.scope(self.raft.shutdown()).await {
            tracing::warn!(%error, "the metadata group did not stop cleanly");
        }
    }

    /// Makes a snapshot now and drops the log behind it as the policy says.
    pub(crate) async fn snapshot(&self) {
        if let Err(error) = self.scope(self.raft.trigger().snapshot()).await {
            tracing::warn!(%error, "no snapshot of the metadata");
        }
    }

    async fn serve(self: Arc<Self>, from: NodeId, body: Bytes) -> Result<Bytes, PeerError> {
        let refuse = |detail: String| PeerError::Refused {
            node: self.me,
            detail,
        };
        let envelope: Envelope<Request> =
            postcard::from_bytes(&body).map_err(|e| refuse(e.to_string()))?;
        if !self.voters.contains(&from) || self.links.is_impostor(from, envelope.storage) {
            return Err(refuse(format!(
                "node {from} is no voter of this group with this data directory"
            )));
        }
        let is_meant = envelope.to.is_none_or(|known| known == self.links.storage);
        if !is_meant && !weir_base::mutant!(M25) {
            return Err(refuse(format!(
                "node {} is known to the group by another data directory: bring it back, or give \
                 this node an id that was never used",
                self.me
            )));
        }
        let answer = self
            .scope(self.answer(envelope.body))
            .await
            .map_err(|e| refuse(e.to_string()))?;
        let envelope = Envelope {
            storage: self.links.storage,
            to: None,
            body: answer,
        };
        postcard::to_stdvec(&envelope)
            .map(Bytes::from)
            .map_err(|e| refuse(e.to_string()))
    }

    async fn answer(&self, request: Request) -> Result<Response, RaftError<u64>> {
        Ok(match request {
            Request::Append(rpc) => {
                let leader = rpc.vote;
                let response = self.raft.append_entries(rpc).await?;
                // Refused calls of an old leader are no sign of life of the present one.
                if self.raft.metrics().borrow().vote == leader {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) =
                        self.env.clock.now();
                }
                Response::Append(response)
            }
            Request::Vote(rpc) => {
                // From now on: it may be granted before it is on the disk and told.
                self.granted.fetch_add(1, Ordering::AcqRel);
                let response = self.raft.vote(rpc).await?;
                if !response.vote_granted {
                    self.granted.fetch_sub(1, Ordering::AcqRel);
                }
                Response::Vote(response)
            }
            Request::Snapshot { vote, meta, image } => {
                let snapshot = openraft::Snapshot {
                    meta,
                    snapshot: Box::new(io::Cursor::new(image.to_vec())),
                };
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                Response::Snapshot(installed.map_err(RaftError::Fatal)?)
            }
            Request::IsInitialized => {
                let known = self.raft.is_initialized().await;
                Response::IsInitialized(known.map_err(RaftError::Fatal)?)
            }
        })
    }
}

/// Turns openraft's metrics into [`Standing`]. A group that died of its storage takes
/// the node with it: a voter without a working log must not look alive.
fn watch_standing(
    env: &Env,
    raft: &Raft<TypeConfig>,
    acknowledged: Arc<Mutex<Option<Monotonic>>>,
) -> (watch::Receiver<Standing>, TaskHandle) {
    let clock = Arc::clone(&env.clock);
    let mut metrics = raft.metrics();
    let (tx, rx) = watch::channel(Standing::default());
    let task = env.tasks.spawn_owned("raft-standing", async move {
        loop {
            let now = metrics.borrow_and_update().clone();
            match now.running_state {
                Ok(()) => {}
                Err(Fatal::Stopped) => return,
                Err(error @ (Fatal::StorageError(_) | Fatal::Panicked)) => {
                    panic!("the metadata group failed, this node must stop: {error}")
                }
            }
            if let Some(millis) = now.millis_since_quorum_ack {
                let at = clock.now().before(Duration::from_millis(millis));
                *acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
            }
            let leads = (now.state == ServerState::Leader).then_some(now.current_term);
            let standing = Standing {
                leader: now.current_leader.map(node_id),
                leads,
            };
            tx.send_if_modified(|old| std::mem::replace(old, standing) != standing);
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    (rx, task)
}

fn config(options: &MetadataOptions) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (mut least, mut most) = (options.election_min, options.election_max);
    if weir_base::mutant!(L1) {
        // openraft takes the longest timeout for the lease too.
        let tick = Duration::from_millis(1);
        (least, most) = (
            options.raft_heartbeat + tick,
            options.raft_heartbeat + tick * 2,
        );
    }
    Config {
        cluster_name: "weir".to_owned(),
        election_timeout_min: millis(least),
        election_timeout_max: millis(most),
        heartbeat_interval: millis(options.raft_heartbeat),
        install_snapshot_timeout: millis(options.snapshot_deadline),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: options.snapshot_every / 5,
        // A follower this far behind gets the snapshot.
        replication_lag_threshold: options.snapshot_every,
        ..Config::default()
    }
}

/// The group's side of the peer link.
pub(crate) struct RaftService(pub(crate) Arc<Group>);

impl PeerService for RaftService {
    fn on_request(
        &self,
        from: NodeId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(self.0.clone().serve(from, body))
    }

    fn on_stream(&self, _: NodeId, stream: FrameStream) -> BoxFuture<'static, ()> {
        // Raft uses no streams; dropping one tells the peer.
        drop(stream);
        Box::pin(async {})
    }

    fn on_datagram(&self, _: NodeId, _: Bytes) {}
}

#[cfg(test)]
mod tests;
