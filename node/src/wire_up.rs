//! From options to a running node: which room gets what, and in which order they start
//! and stop.
//!
//! Start, each step standing on those before it: console (so that health can be asked),
//! storage, links, metadata, broker, fronts, registration. Stop is the reverse: drain
//! leadership, close the fronts, leave, stop replication, close the logs cleanly.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::OnceCell;
use weir_api::console::Health;
use weir_api::{ClusterApi, Front, FrontContext, MetricsSource};
use weir_base::image::Endpoint;
use weir_base::{Env, Monotonic, NodeId, Uuid};
use weir_broker::{Broker, BrokerOptions};
use weir_console::{Console, HealthSource};
use weir_kafka::KafkaFront;
use weir_metadata::{DiskFacts, Metadata, MetadataError, NodeFacts};
use weir_peer::{LinkEvent, NodeIdentity, PeerNode, QuicEnv, Service};
use weir_rocketmq::RocketmqFront;
use weir_storage::{StartKind, Storage};

use crate::measure::{NodeMetrics, Space};
use crate::options::{HostPort, NodeOptions};

/// How often facts that nobody pushes (lease, fsync age) are carried between rooms.
const FACTS_INTERVAL: Duration = Duration::from_millis(100);
/// The same until the first lease is there: what this node leads waits for it.
const FIRST_LEASE_INTERVAL: Duration = Duration::from_millis(5);
/// How long leaving the cluster may take after leadership has moved.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// A node that runs.
pub struct RunningNode {
    node: NodeId,
    console: Console,
    storage: Arc<Storage>,
    links: PeerNode,
    metadata: Metadata,
    broker: Broker,
    kafka: KafkaFront,
    rocketmq: RocketmqFront,
    drain_wait: Duration,
    voters: BTreeSet<NodeId>,
    env: Env,
}

/// Why a node could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("{key} = \"{address}\": {error}{remedy}")]
    Listen {
        /// The option.
        key: &'static str,
        /// Its value.
        address: String,
        /// What the machine said.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The data directory cannot be used.
    #[error("node.data: {0}")]
    Storage(#[from] weir_storage::StorageError),
    /// The links between nodes cannot start.
    #[error("peer: {0}")]
    Links(weir_peer::StartError),
    /// The metadata group cannot start.
    #[error("metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The Kafka front cannot start.
    #[error("kafka: {0}")]
    Kafka(weir_kafka::OptionsError),
    /// The RocketMQ front cannot start.
    #[error("rocketmq: {0}")]
    Rocketmq(weir_rocketmq::OptionsError),
}

impl StartError {
    /// An address that could not be listened on, with its remedy.
    #[must_use]
    pub fn listen(key: &'static str, address: impl ToString, error: io::Error) -> Self {
        let remedies = [
            (
                io::ErrorKind::AddrInUse,
                "; stop what uses it, or choose another port",
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                "; choose an address that this machine has",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "; choose a port above 1023, or grant the right",
            ),
        ];
        let remedy = remedies.into_iter().find(|(kind, _)| *kind == error.kind());
        let remedy = remedy.map_or("", |(_, remedy)| remedy);
        StartError::Listen {
            key,
            address: address.to_string(),
            error,
            remedy,
        }
    }
}

/// Starts a node; `tls` is what clients that encrypt are shown. It is asked whether it is
/// ready over its admin API.
///
/// # Errors
/// What keeps it from starting.
pub async fn start_node(
    options: &NodeOptions,
    env: &Env,
    quic: Arc<dyn QuicEnv>,
    identity: NodeIdentity,
    tls: Option<Arc<ServerConfig>>,
) -> Result<RunningNode, StartError> {
    let me = NodeId(options.node.id);
    let health = Arc::new(NodeHealth::new(me));
    let console = Console::start(env, &options.console_options(), health.clone())
        .await
        .map_err(|error| StartError::listen("admin.listen", options.admin.listen, error))?;

    let storage = Arc::new(Storage::open(env.clone(), options.storage_options()).await?);
    stop_when_lost(env, &storage);

    let (peers, links) = PeerNode::start(
        env,
        &*quic,
        me,
        identity,
        options.peer.listen,
        Vec::new(),
        options.peer_options(),
    )
    .await
    .map_err(|error| match error {
        weir_peer::StartError::Listen { address, error } => {
            StartError::listen("peer.listen", address, error)
        }
        error @ (weir_peer::StartError::Options(_)
        | weir_peer::StartError::Identity(_)
        | weir_peer::StartError::Mismatch { .. }) => StartError::Links(error),
    })?;

    let facts = node_facts(options, storage.identity(), storage.start_kind());
    let voters = voters(options, &facts);
    let voter_ids: BTreeSet<NodeId> = voters.keys().copied().collect();
    // The group's log is part of how fast the directory is (S-47).
    let timed = Env {
        disk: storage.timed_disk(),
        ..env.clone()
    };
    let (metadata, services) = Metadata::start(
        timed,
        peers.clone(),
        facts,
        voters,
        options.metadata_options(),
    )
    .await?;
    for (service, handler) in services {
        links.register(service, handler);
    }

    let broker_options = BrokerOptions {
        groups: options.group_options(),
        queues: options.queue_options(),
        replication: options.replication_options(),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(
        env.clone(),
        me,
        Arc::clone(&storage),
        metadata.clone(),
        peers,
        &broker_options,
    );
    // None before the controller has answered a heartbeat: a process that stops right after
    // it registered would hold one for ever (I10).
    broker.set_lease(Monotonic(0));
    links.register(Service::Replication, broker.replication_service());
    links.register(Service::Broker, broker.broker_service());

    let context = FrontContext {
        env: env.clone(),
        api: broker.api(),
    };
    let kafka = KafkaFront::start(context.clone(), options.kafka_options())
        .await
        .map_err(|error| match error {
            weir_kafka::StartError::Listen { address, error } => {
                StartError::listen("kafka.listen", address, error)
            }
            weir_kafka::StartError::Options(error) => StartError::Kafka(error),
        })?;
    let rocketmq = RocketmqFront::start(context, options.rocketmq_options(tls))
        .await
        .map_err(|error| match error {
            weir_rocketmq::StartError::Listen { address, error } => {
                StartError::listen("rocketmq.listen", address, error)
            }
            weir_rocketmq::StartError::Options(error) => StartError::Rocketmq(error),
        })?;
    let space = Arc::new(Space::default());
    let watching = Arc::clone(&space).watch(env.clone(), Arc::clone(&storage));
    env.tasks.spawn("disk-space", watching);
    let rooms = NodeMetrics {
        storage: Arc::clone(&storage),
        metadata: metadata.clone(),
        space: Arc::clone(&space),
    };
    let metrics: Vec<Arc<dyn MetricsSource>> =
        vec![Arc::new(broker.clone()), kafka.metrics(), Arc::new(rooms)];
    console.attach(broker.api(), metrics);

    env.tasks.spawn(
        "link-events",
        follow_links(links.link_events(), metadata.clone(), broker.clone()),
    );
    env.tasks.spawn(
        "facts",
        carry_facts(
            env.clone(),
            Arc::clone(&storage),
            metadata.clone(),
            broker.clone(),
        ),
    );
    health.attach(metadata.clone(), broker.clone());
    let registering = (metadata.clone(), health, Arc::clone(&storage));
    env.tasks.spawn("registration", async move {
        let (metadata, health, storage) = registering;
        match metadata.register().await {
            Ok(epoch) => {
                tracing::info!(%epoch, "registered");
                if let Err(error) = storage.start_told().await {
                    tracing::error!(%error, "not noted that the cluster knows of this start");
                }
                health.registered.store(true, Ordering::Release);
            }
            // Refused for good: the operator must act, and the error names how.
            Err(error) => health.refuse(error.to_string()),
        }
    });
    Ok(RunningNode {
        node: me,
        console,
        storage,
        links,
        metadata,
        broker,
        kafka,
        rocketmq,
        drain_wait: options.node.stop_timeout / 3,
        voters: voter_ids,
        env: env.clone(),
    })
}

impl RunningNode {
    /// Moves leadership away, lets requests under way finish, closes the logs.
    pub async fn drain_and_stop(self) {
        if self.someone_else_serves() {
            match self.metadata.drain(self.drain_wait).await {
                Ok(0) => {}
                Ok(left) => tracing::warn!(left, "stopping while leading: nobody else can"),
                Err(error) => tracing::warn!(%error, "leadership was not moved away"),
            }
        }
        tokio::join!(self.kafka.drain(), self.rocketmq.drain());
        self.broker.set_lease(Monotonic(0));
        tokio::select! {
            biased;
            left = self.metadata.leave(LEAVE_WAIT) => if let Err(error) = left {
                tracing::warn!(%error, "left without saying so");
            },
            () = self.until_nobody_can_agree() => {
                tracing::info!("the cluster stops: nobody is left to tell");
            }
        }
        self.broker.shut_down();
        self.metadata.shutdown().await;
        if let Err(error) = self.storage.shutdown_clean().await {
            tracing::error!(%error, "logs not closed cleanly: the next start recovers");
        }
        self.links.shutdown().await;
        self.console.stop().await;
    }

    /// Whether there is anybody who could take over leadership: worth waiting for.
    fn someone_else_serves(&self) -> bool {
        let image = self.broker.image();
        let mut nodes = image.nodes.values();
        nodes.any(|node| node.id != self.node && node.is_active())
    }

    /// Completes when fewer voters than a majority are there: nothing is agreed any more.
    async fn until_nobody_can_agree(&self) {
        loop {
            let image = self.broker.image();
            let is_there = |voter: &&NodeId| {
                let active = image.nodes.get(voter).is_some_and(|node| node.is_active());
                **voter == self.node || active && !self.broker.is_gone(**voter)
            };
            let there = self.voters.iter().filter(is_there).count();
            if there * 2 <= self.voters.len() {
                return;
            }
            self.env.sleep(FACTS_INTERVAL).await;
        }
    }

    /// This node's part in the metadata, for tests that look inside.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Which data directory it runs on, for tests that look inside.
    #[must_use]
    pub fn directory(&self) -> Uuid {
        self.storage.identity()
    }

    /// The broker, for tests that look inside.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
}

fn node_facts(options: &NodeOptions, storage: Uuid, start_kind: StartKind) -> NodeFacts {
    let endpoint = |advertised: &Option<HostPort>, listen: std::net::SocketAddr| match advertised {
        Some(told) => Endpoint {
            host: told.host.clone(),
            port: told.port,
        },
        None => Endpoint {
            host: listen.ip().to_string(),
            port: listen.port(),
        },
    };
    let kafka = endpoint(&options.kafka.advertised, options.kafka.listen);
    let rocketmq = endpoint(&options.rocketmq.advertised, options.rocketmq.listen);
    let admin = endpoint(&options.admin.advertised, options.admin.listen);
    let peer_address = options.peer.advertised.as_ref();
    NodeFacts {
        id: NodeId(options.node.id),
        name: options.display_name(),
        storage,
        peer_address: peer_address
            .map_or_else(|| options.peer.listen.to_string(), ToString::to_string),
        endpoints: [("kafka", kafka), ("rocketmq", rocketmq), ("admin", admin)]
            .map(|(front, endpoint)| (front.to_owned(), endpoint))
            .into(),
        rack: options.node.rack.clone(),
        start_kind: match start_kind {
            StartKind::Fresh | StartKind::Clean => weir_metadata::StartKind::Clean,
            StartKind::ProcessCrash => weir_metadata::StartKind::SameBoot,
            StartKind::Unclean => weir_metadata::StartKind::Unclean,
            StartKind::TailSuspect => weir_metadata::StartKind::TailSuspect,
        },
    }
}

/// The founding voters; a node without a list is a cluster of its own.
fn voters(options: &NodeOptions, me: &NodeFacts) -> BTreeMap<NodeId, String> {
    let told = options.metadata.voters.iter();
    let mut voters: BTreeMap<_, _> = told
        .map(|voter| (NodeId(voter.node), voter.address.to_string()))
        .collect();
    if voters.is_empty() {
        voters.insert(me.id, me.peer_address.clone());
    }
    voters
}

/// A failed data directory stops the node: its replicas must be led elsewhere (S-41).
fn stop_when_lost(env: &Env, storage: &Storage) {
    let mut failure = storage.failure();
    env.tasks.spawn("storage-failure", async move {
        if let Ok(lost) = failure.wait_for(Option::is_some).await {
            panic!("the data directory failed and is not used again: {lost:?}");
        }
    });
}

/// Carries the links' hints: a lost link makes a suspect, a refused one is gone.
async fn follow_links(
    mut events: tokio::sync::broadcast::Receiver<LinkEvent>,
    metadata: Metadata,
    broker: Broker,
) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match events.recv().await {
            Ok(LinkEvent::Down { node, refused, .. }) => {
                broker.set_gone(node, refused);
                metadata.suspect(node);
            }
            Ok(LinkEvent::Up(node)) => broker.set_gone(node, false),
            // What was missed is not known: believe the image alone.
            Err(RecvError::Lagged(_)) => {
                for node in broker.image().nodes.keys() {
                    broker.set_gone(*node, false);
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Carries what is asked for rather than told: how slow the disk is, and how long this
/// node may act as leader.
async fn carry_facts(env: Env, storage: Arc<Storage>, metadata: Metadata, broker: Broker) {
    let mut interval = FIRST_LEASE_INTERVAL;
    loop {
        env.sleep(interval).await;
        metadata.report_disk(DiskFacts {
            fsync_age: storage.fsync_age(),
            fsync_p99: storage.fsync_p99(),
            reads_journals: broker.reads_journals(),
        });
        let until = metadata.lease_until();
        broker.set_lease(until.unwrap_or(Monotonic(0)));
        if until.is_some() {
            interval = FACTS_INTERVAL;
        }
    }
}

struct NodeHealth {
    node: NodeId,
    registered: AtomicBool,
    rooms: OnceCell<(Metadata, Broker)>,
    refused: OnceCell<String>,
}

impl NodeHealth {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            registered: AtomicBool::new(false),
            rooms: OnceCell::new(),
            refused: OnceCell::new(),
        }
    }

    fn attach(&self, metadata: Metadata, broker: Broker) {
        drop(self.rooms.set((metadata, broker)));
    }

    fn refuse(&self, why: String) {
        tracing::error!(%why, "the cluster refuses this node");
        drop(self.refused.set(why));
    }

    fn reasons(&self) -> Vec<String> {
        if let Some(why) = self.refused.get() {
            return vec![why.clone()];
        }
        let Some((metadata, broker)) = self.rooms.get() else {
            return vec!["starting".to_owned()];
        };
        let mut reasons = Vec::new();
        let image = broker.image();
        if !self.registered.load(Ordering::Acquire) {
            reasons.push("not registered with the cluster yet".to_owned());
        } else if !image
            .nodes
            .get(&self.node)
            .is_some_and(|node| node.is_active())
        {
            reasons.push("fenced: not caught up with the cluster, or not heard of".to_owned());
        }
        if metadata.controller().is_none() {
            reasons.push("no leader of the metadata group is known".to_owned());
        }
        let health = metadata.health();
        if !health.is_healthy {
            let age = health.applied_age;
            reasons.push(format!("no metadata change was applied for {age:?}"));
        }
        reasons
    }
}

impl HealthSource for NodeHealth {
    fn health(&self) -> Health {
        let reasons = self.reasons();
        Health {
            ready: reasons.is_empty(),
            node: self.node.0,
            reasons,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_the_advertised_addresses_and_the_rack() {
        let mut options = NodeOptions::default();
        options.node.id = 4;
        options.node.rack = Some("north".to_owned());
        let facts = |options: &NodeOptions| node_facts(options, Uuid([4; 16]), StartKind::Clean);
        let plain = facts(&options);
        let kafka = &plain.endpoints["kafka"];
        let port = options.kafka.listen.port();
        assert_eq!((kafka.host.as_str(), kafka.port), ("127.0.0.1", port));
        assert_eq!(plain.peer_address, options.peer.listen.to_string());

        let told = |port| {
            Some(HostPort {
                host: "outside.example".to_owned(),
                port,
            })
        };
        options.kafka.advertised = told(1);
        options.rocketmq.advertised = told(2);
        options.admin.advertised = told(3);
        options.peer.advertised = told(4);
        let facts = facts(&options);
        for (front, port) in [("kafka", 1), ("rocketmq", 2), ("admin", 3)] {
            let endpoint = &facts.endpoints[front];
            let told = (endpoint.host.as_str(), endpoint.port);
            assert_eq!(told, ("outside.example", port));
        }
        assert_eq!(facts.peer_address, "outside.example:4");
        assert_eq!(
            (facts.id, facts.rack.as_deref()),
            (NodeId(4), Some("north"))
        );
    }
}
