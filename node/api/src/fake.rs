//! A whole cluster in memory, for testing fronts: deterministic, one node that is real
//! and any number that only exist in the image.
//!
//! It keeps the waist's contract (order of appends, idempotence, epochs, long polls,
//! committed group state) and none of its durability: a crash loses everything. Tests
//! steer it: [`FakeBroker::set_leader`], [`FakeBroker::hold_acks`].

mod admin;
mod configs;
mod groups;
mod log;
mod partition;
mod queues;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use weir_base::image::{
    ClusterImage, Durability, Endpoint, NodeRecord, NodeState, PartitionRecord, Replica,
    TopicRecord,
};
use weir_base::{
    BoxFuture, Entropy, Env, LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, Timestamp,
    TopicId, TopicPartition,
};

use crate::queues::QueueOptions;
use crate::{Api, ClusterApi};
use partition::FakePartition;

/// An in-memory broker. Clones share it.
#[derive(Clone)]
pub struct FakeBroker(Arc<Inner>);

struct Inner {
    env: Env,
    entropy: Entropy,
    node: NodeId,
    image: watch::Sender<Arc<ClusterImage>>,
    /// Grows with every append, deletion or change of leader: wakes long polls.
    changes: watch::Sender<u64>,
    held: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<TopicPartition, FakePartition>,
    next_producer_id: i64,
    groups: groups::FakeGroups,
    /// Nodes whose process ended, and those of them that this is known of.
    ended: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    queues: BTreeMap<TopicPartition, queues::FakeQueue>,
    /// Partitions whose copy here is of no use.
    failed: BTreeSet<TopicPartition>,
    /// Partitions whose queue does not answer for now.
    silent: BTreeSet<TopicPartition>,
    queue_options: QueueOptions,
    /// Where groups begin at each partition of a topic.
    starts: BTreeMap<(TopicId, Arc<str>), Vec<Offset>>,
    /// Who coordinates all groups, if not this node.
    coordinator: Option<NodeId>,
}

impl FakeBroker {
    /// A cluster of one node, number 1, without topics.
    #[must_use]
    pub fn new(env: &Env) -> FakeBroker {
        let entropy = env.entropy.fork("fake-broker");
        let node = NodeId(1);
        let image = ClusterImage {
            version: 1,
            cluster_id: Some(entropy.uuid()),
            ..ClusterImage::default()
        };
        let broker = FakeBroker(Arc::new(Inner {
            env: env.clone(),
            entropy,
            node,
            image: watch::Sender::new(Arc::new(image)),
            changes: watch::Sender::new(0),
            held: watch::Sender::new(false),
            state: Mutex::default(),
        }));
        broker.add_node(node, BTreeMap::new());
        broker
    }

    /// What a front is given.
    #[must_use]
    pub fn api(&self) -> Api {
        Api {
            log: Arc::new(self.clone()),
            groups: Arc::new(self.clone()),
            queues: Arc::new(self.clone()),
            admin: Arc::new(self.clone()),
            cluster: Arc::new(self.clone()),
        }
    }

    /// Adds a node to the image, or replaces it.
    pub fn add_node(&self, id: NodeId, endpoints: BTreeMap<String, Endpoint>) {
        let storage = self.0.entropy.uuid();
        self.change_image(|image| {
            image.nodes.insert(
                id,
                NodeRecord {
                    id,
                    name: format!("node-{id}"),
                    storage,
                    epoch: NodeEpoch(image.version),
                    state: NodeState::Active,
                    peer_address: String::new(),
                    endpoints,
                    rack: None,
                },
            );
        });
    }

    /// Tells where clients reach this node's front `name`.
    pub fn advertise(&self, name: &str, host: &str, port: u16) {
        let node = self.0.node;
        let endpoint = Endpoint {
            host: host.to_owned(),
            port,
        };
        self.change_image(|image| {
            if let Some(node) = image.nodes.get_mut(&node) {
                node.endpoints.insert(name.to_owned(), endpoint);
            }
        });
    }

    /// Elects `leader` in a partition, with a new epoch. Unknown partitions are left alone.
    pub fn set_leader(&self, topic: &str, partition: usize, leader: Option<NodeId>) {
        self.change_image(|image| {
            if let Some(topic) = image.topics.get_mut(topic)
                && let Some(partition) = Arc::make_mut(topic).partitions.get_mut(partition)
            {
                partition.leader = leader;
                partition.leader_epoch = partition.leader_epoch.next();
                partition.partition_epoch = partition.partition_epoch.next();
            }
        });
        self.wake_readers();
    }

    /// Takes this node's copy of a partition out of service, as bad data does: the image may
    /// go on to name this node as its leader.
    pub fn fail_copy(&self, at: TopicPartition) {
        self.state().failed.insert(at);
    }

    /// Whether the queue of a partition answers that it cannot, as one without its quorum.
    pub fn silence_queue(&self, at: TopicPartition, is_silent: bool) {
        let mut state = self.state();
        match is_silent {
            true => state.silent.insert(at),
            false => state.silent.remove(&at),
        };
    }

    /// While held, appends are stored but not acknowledged; they complete when released.
    pub fn hold_acks(&self, hold: bool) {
        self.0.held.send_replace(hold);
    }

    /// Bounds and times of queues that are made from now on.
    pub fn set_queue_options(&self, options: QueueOptions) {
        self.state().queue_options = options;
    }

    /// Takes the stored batch that holds `offset` away, as damage does.
    pub fn lose(&self, at: TopicPartition, offset: Offset) {
        let mut state = self.state();
        state.partitions.entry(at).or_default().lose(offset);
    }

    /// Ends a node's process. Nobody knows until it is asked for a sign of life.
    pub fn end_process(&self, node: NodeId) {
        self.state().ended.insert(node);
    }

    /// Makes `node` the coordinator of all groups.
    pub fn set_coordinator(&self, node: NodeId) {
        self.state().coordinator = Some(node);
    }

    fn coordinator_node(&self) -> NodeId {
        self.state().coordinator.unwrap_or(self.0.node)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_image(&self, change: impl FnOnce(&mut ClusterImage)) {
        self.0.image.send_modify(|shared| {
            let image = Arc::make_mut(shared);
            image.version += 1;
            change(image);
        });
    }

    fn wake_readers(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// Puts a topic into the image whose partitions all lie on `nodes`.
    fn install_topic(
        &self,
        name: &str,
        internal: bool,
        configs: BTreeMap<String, String>,
        assignment: &[Vec<NodeId>],
    ) -> TopicId {
        let id = self.0.entropy.uuid();
        let partitions = assignment.iter().map(|nodes| self.new_partition(nodes));
        let topic = TopicRecord {
            id,
            name: name.into(),
            internal,
            configs,
            partitions: partitions.collect(),
        };
        self.change_image(|image| {
            image.topic_names.insert(id, topic.name.clone());
            image.topics.insert(topic.name.clone(), Arc::new(topic));
        });
        id
    }

    fn new_partition(&self, nodes: &[NodeId]) -> PartitionRecord {
        let replicas = nodes.iter().map(|node| Replica {
            node: *node,
            id: self.0.entropy.uuid(),
        });
        let mut isr = nodes.to_vec();
        isr.sort_unstable();
        PartitionRecord {
            replicas: replicas.collect(),
            leader: nodes.first().copied(),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            isr,
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            suspects: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            min_isr: 1,
            durability: Durability::default(),
            pending_durability: None,
        }
    }
}

impl ClusterApi for FakeBroker {
    fn node(&self) -> NodeId {
        self.0.node
    }

    fn image(&self) -> Arc<ClusterImage> {
        self.0.image.borrow().clone()
    }

    fn images(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.0.image.subscribe()
    }

    fn controller(&self) -> Option<NodeId> {
        Some(self.0.node)
    }

    fn is_gone(&self, node: NodeId) -> bool {
        self.state().gone.contains(&node)
    }

    fn sign_of_life(&self, nodes: Vec<NodeId>) -> BoxFuture<'static, ()> {
        let broker = self.clone();
        Box::pin(async move {
            let mut state = broker.state();
            let silent: Vec<NodeId> = nodes
                .into_iter()
                .filter(|node| state.ended.contains(node))
                .collect();
            state.gone.extend(silent);
        })
    }

    fn now(&self) -> Timestamp {
        self.0.env.clock.wall()
    }
}
