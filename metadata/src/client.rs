//! [`Metadata`]: this node's handle on the cluster's metadata.
//!
//! Owns the wiring (group or feed, controller, gossip) and the way from a
//! call to the controller and back: find it, ask, wait until the answer's entry is
//! applied here. Called by the broker and the composition root. What is definitely not
//! done and what may have been done are different errors, always.
//!
//! On crash: nothing here is durable; see `raft` for the rest.

mod admin;
mod asking;
mod membership;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use weir_base::image::{ClusterImage, Endpoint};
use weir_base::{Env, Monotonic, NodeEpoch, NodeId, Uuid};
use weir_peer::{PeerService, Peers, Service};

pub use admin::IsrChange;

use crate::command::{Refusal, Registration, StartKind};
use crate::controller::slow::DiskFacts;
use crate::controller::task::Controller;
use crate::feed;
use crate::gossip::{Gossip, GossipService};
use crate::image_store::ImageStore;
use crate::options::MetadataOptions;
use crate::raft::{Group, RaftService};
use crate::service::ControllerService;

/// What a node knows of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its configured id.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Its data directory.
    pub storage: Uuid,
    /// Where other nodes reach it over QUIC, `host:port`; its control port has the
    /// same number on TCP.
    pub peer_address: String,
    /// Where clients reach its fronts, by front name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Its rack, if told.
    pub rack: Option<String>,
    /// How it was started, and the starts before it that the cluster was not told of.
    pub start_kind: StartKind,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Definitely not done; the same call fails again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Definitely not done: no controller could be reached in time.
    #[error("no controller can be reached: {0}")]
    Unavailable(String),
    /// May have been done.
    #[error("no answer within {0:?}; it may have been done")]
    TimedOut(Duration),
    /// The node's own files or ports: it cannot start.
    #[error("metadata cannot start: {0}")]
    Start(String),
}

/// Why an ISR proposal was not accepted: `Refused` is final for this proposal (read the
/// image again), all else may be repeated as it is.
pub type AlterRefused = MetadataError;

/// How well this node knows the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Since this node last applied an entry of the metadata log. An idle controller
    /// commits one every 2 s.
    pub applied_age: Duration,
    /// Whether that was within 5 s.
    pub is_healthy: bool,
    /// How long this node's oldest fsync lasts, as the controller was told.
    pub fsync_age: Duration,
}

/// How far a voter is in the metadata group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftProgress {
    /// The term it is in, as it is on its disk: before that nobody is told of it.
    pub term: u64,
    /// Whom it gave its vote in that term.
    pub voted_for: Option<NodeId>,
    /// The last entry of its log; 0 before the first.
    pub last: u64,
    /// The last entry it applied; 0 before the first.
    pub applied: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Metadata(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) peers: Peers,
    pub(crate) me: NodeFacts,
    pub(crate) voters: Vec<NodeId>,
    pub(crate) options: MetadataOptions,
    pub(crate) store: Arc<ImageStore>,
    pub(crate) group: Option<Arc<Group>>,
    pub(crate) controller: Option<Arc<Controller>>,
    /// The controller as the feed tells an observer.
    pub(crate) told: watch::Receiver<Option<NodeId>>,
    /// This boot's epoch, once registered.
    pub(crate) epoch: watch::Sender<Option<NodeEpoch>>,
    pub(crate) state: Mutex<State>,
}

/// Small things under one lock, never held across a wait.
pub(crate) struct State {
    /// When the last acknowledged heartbeat was sent, or before that by as much as what its
    /// controller knew of its own office was old.
    pub(crate) lease: Option<Monotonic>,
    /// When an entry was last applied.
    pub(crate) applied: Monotonic,
    /// Nodes being probed.
    pub(crate) suspects: BTreeSet<NodeId>,
    pub(crate) disk: DiskFacts,
    pub(crate) beating: bool,
    pub(crate) left: bool,
}

impl Metadata {
    /// Starts this node's part: a voter joins the group (the lowest forms it, once, when
    /// all others answer), any other node follows a voter. Gives the services to
    /// register on the peer link. `register` comes next.
    ///
    /// # Errors
    /// [`MetadataError::Start`]: bad options, damaged files.
    pub async fn start(
        env: Env,
        peers: Peers,
        me: NodeFacts,
        voters: BTreeMap<NodeId, String>,
        options: MetadataOptions,
    ) -> Result<(Self, Vec<(Service, Arc<dyn PeerService>)>), MetadataError> {
        options.validate().map_err(MetadataError::Start)?;
        if ![1, 3, 5].contains(&voters.len()) {
            let count = voters.len();
            let said = format!("{count} voters: there must be 1, 3 or 5");
            return Err(MetadataError::Start(said));
        }
        let failed = |error: std::io::Error| MetadataError::Start(error.to_string());
        let store = Arc::new(ImageStore::new());
        let ids: BTreeSet<NodeId> = voters.keys().copied().collect();
        let (tell, told) = watch::channel(None);
        let (mut group, mut controller) = (None, None);
        if ids.contains(&me.id) {
            let joined = Group::start(
                env.clone(),
                peers.clone(),
                me.id,
                me.storage,
                ids.clone(),
                store.clone(),
                options.clone(),
            )
            .await
            .map_err(failed)?;
            controller = Some(Controller::start(
                env.clone(),
                peers.clone(),
                me.id,
                joined.clone(),
                store.clone(),
                options.clone(),
            ));
            group = Some(joined);
        } else {
            env.tasks.spawn(
                "metadata-feed",
                feed::follow(
                    env.clone(),
                    peers.clone(),
                    me.id,
                    ids.iter().copied().collect(),
                    store.clone(),
                    options.clone(),
                    tell,
                ),
            );
        }
        let state = State {
            lease: None,
            applied: env.clock.now(),
            suspects: BTreeSet::new(),
            disk: DiskFacts::default(),
            beating: false,
            left: false,
        };
        let metadata = Self(Arc::new(Inner {
            env,
            peers,
            me,
            voters: ids.into_iter().collect(),
            options,
            store,
            group,
            controller,
            told,
            epoch: watch::Sender::new(None),
            state: Mutex::new(state),
        }));
        watching::start(&metadata, voters);
        let services = metadata.services();
        Ok((metadata, services))
    }

    fn services(&self) -> Vec<(Service, Arc<dyn PeerService>)> {
        let gossip = Gossip::start(self);
        let mut services: Vec<(Service, Arc<dyn PeerService>)> = vec![
            (
                Service::Controller,
                Arc::new(ControllerService(self.clone())),
            ),
            (Service::Gossip, Arc::new(GossipService(gossip))),
        ];
        if let Some(group) = &self.0.group {
            services.push((Service::Raft, Arc::new(RaftService(group.clone()))));
        }
        services
    }

    /// The newest image applied here.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.0.store.image()
    }

    /// Follows the image. Images may be skipped, never reordered.
    #[must_use]
    pub fn images(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.0.store.images()
    }

    /// The leader of the metadata group, as far as is known here. A hint: only the
    /// group itself knows.
    #[must_use]
    pub fn controller(&self) -> Option<NodeId> {
        match &self.0.group {
            Some(group) => group.standing().borrow().leader,
            None => *self.0.told.borrow(),
        }
    }

    /// This boot's epoch, once registered; follows a repeated registration.
    #[must_use]
    pub fn node_epoch(&self) -> watch::Receiver<Option<NodeEpoch>> {
        self.0.epoch.subscribe()
    }

    /// Until when this node may act as leader without asking (acks of async
    /// replication, end-offset answers, timers): 0.7 of a session from when the last
    /// acknowledged heartbeat was *sent*, less the age of what its controller knew of its own
    /// office. A controller elected since then waits for a whole session. `None` before the
    /// first.
    ///
    /// For what this node leads in [`Metadata::image`] alone: that is at least as new as the
    /// image that its controller had, in which the node may have been fenced.
    #[must_use]
    pub fn lease_until(&self) -> Option<Monotonic> {
        let sent = self.lock().lease?;
        Some(sent + self.0.options.session.mul_f32(0.7))
    }

    /// How well this node knows the cluster.
    #[must_use]
    pub fn health(&self) -> Health {
        let applied_age = self.0.env.clock.now().since(self.lock().applied);
        let fsync_age = match &self.0.controller {
            Some(controller) => controller.fsync_age(self.0.me.id),
            None => self.lock().disk.fsync_age,
        };
        Health {
            applied_age,
            is_healthy: applied_age <= Duration::from_secs(5),
            fsync_age,
        }
    }

    /// How far this voter is in the group's log; `None` on a node that is none.
    #[must_use]
    pub fn raft_progress(&self) -> Option<RaftProgress> {
        Some(self.0.group.as_ref()?.progress())
    }

    /// Tells how fast this node's disk is; carried by heartbeats.
    pub fn report_disk(&self, facts: DiskFacts) {
        self.lock().disk = facts;
    }

    /// Makes a snapshot of the metadata now, on a voter.
    pub async fn snapshot(&self) {
        if let Some(group) = &self.0.group {
            group.snapshot().await;
        }
    }

    /// Ends this node's part in the group; the process ends next.
    pub async fn shutdown(&self) {
        if let Some(group) = &self.0.group {
            group.shutdown().await;
        }
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn registration(&self, start: StartKind) -> Registration {
        let me = &self.0.me;
        Registration {
            id: me.id,
            name: me.name.clone(),
            storage: me.storage,
            peer_address: me.peer_address.clone(),
            endpoints: me.endpoints.clone(),
            rack: me.rack.clone(),
            start,
        }
    }
}

#[cfg(test)]
mod tests;
