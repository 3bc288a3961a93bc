//! One look at a cluster: what each running node believes, as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_base::image::{ClusterImage, FlushMode, PartitionRecord, ReplicationMode};
use weir_base::{
    LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId,
    TopicPartition, Uuid,
};
use weir_replication::PartitionHandle;

use crate::plan::SHIFTING;
use crate::whole_node::Insides;

/// Epochs of a log that a look takes in, from the newest down.
const EPOCHS: usize = 4;

/// A producer that a log knows of: its newest epoch and its last sequence.
pub(crate) type ProducerSeen = (ProducerId, ProducerEpoch, i32);

/// Everything that was seen at one time.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) nodes: BTreeMap<NodeId, NodeSeen>,
    /// The newest image that any node ever had.
    pub(crate) newest: Arc<ClusterImage>,
}

/// One running node.
#[derive(Clone, Default)]
pub(crate) struct NodeSeen {
    /// Which run of it.
    pub(crate) start: u64,
    pub(crate) directory: Uuid,
    /// Its epoch, once the cluster knows of this run.
    pub(crate) registered: Option<NodeEpoch>,
    /// The term of the metadata group that a voter is in, and whom it gave its vote in it.
    pub(crate) vote: Option<(u64, Option<NodeId>)>,
    pub(crate) image: Arc<ClusterImage>,
    pub(crate) replicas: BTreeMap<TopicPartition, Arc<ReplicaSeen>>,
}

/// One replica as its node sees it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ReplicaSeen {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) partition_epoch: PartitionEpoch,
    pub(crate) is_leader: bool,
    pub(crate) is_ready: bool,
    pub(crate) is_failed: bool,
    /// Leads for certain, and is ready.
    pub(crate) may_answer: bool,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) isr: Arc<[NodeId]>,
    /// Epochs in the log and where each ended, newest first.
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    pub(crate) log_start: Offset,
    /// The epoch that wrote last and where the log ends, at the time of `producers`: the
    /// ends above may be older.
    pub(crate) tail: Option<(LeaderEpoch, Offset)>,
    pub(crate) producers: Vec<ProducerSeen>,
}

impl Seen {
    /// Looks at every node that runs; `before` is what was seen last.
    pub(crate) fn look(insides: &Insides, before: &Self) -> Self {
        let mut nodes = BTreeMap::new();
        let mut newest = Arc::clone(&before.newest);
        for (node, inside) in insides.lock().iter() {
            let image = inside.api.cluster.image();
            if image.version > newest.version {
                newest = Arc::clone(&image);
            }
            let replicas = inside.broker.replicas();
            let known = before.nodes.get(node);
            let known = known.filter(|known| known.start == inside.start);
            let replicas = replicas.iter().map(|handle| {
                let at = handle.at();
                (at, seen(handle, known.and_then(|of| of.replicas.get(&at))))
            });
            let seen = NodeSeen {
                start: inside.start,
                directory: inside.directory,
                registered: *inside.metadata.node_epoch().borrow(),
                vote: inside
                    .metadata
                    .raft_progress()
                    .map(|at| (at.term, at.voted_for)),
                image,
                replicas: replicas.collect(),
            };
            nodes.insert(*node, seen);
        }
        Self { nodes, newest }
    }

    /// Partitions of the newest image that never lose anything: sync flush and sync
    /// replication, and never another mode.
    pub(crate) fn strict(&self) -> impl Iterator<Item = (TopicPartition, &PartitionRecord)> {
        self.replicated(FlushMode::Sync)
    }

    /// Those with sync replication and this flush, and never another mode.
    pub(crate) fn replicated(
        &self,
        flush: FlushMode,
    ) -> impl Iterator<Item = (TopicPartition, &PartitionRecord)> {
        self.newest.partitions().filter(move |(at, record)| {
            let name = self.newest.topic_names.get(&at.topic);
            let mode = record.durability;
            name.is_some_and(|name| **name != *SHIFTING)
                && mode.flush == flush
                && mode.replication == ReplicationMode::Sync
        })
    }

    /// The replicas of a partition on nodes that run.
    pub(crate) fn replicas(
        &self,
        at: TopicPartition,
    ) -> impl Iterator<Item = (NodeId, &ReplicaSeen)> {
        self.nodes
            .iter()
            .filter_map(move |(node, seen)| Some((*node, &**seen.replicas.get(&at)?)))
    }
}

/// Most replicas are as they were at the look before.
fn seen(handle: &PartitionHandle, known: Option<&Arc<ReplicaSeen>>) -> Arc<ReplicaSeen> {
    let view = handle.view();
    let tail = handle.end_of_epoch(LeaderEpoch(u32::MAX));
    let mut now = ReplicaSeen {
        leader_epoch: view.leader_epoch,
        partition_epoch: view.partition_epoch,
        is_leader: view.is_leader,
        is_ready: view.is_ready,
        is_failed: view.is_failed,
        may_answer: handle.may_answer(),
        high_watermark: view.high_watermark,
        log_end: view.log_end,
        durable_end: view.durable_end,
        isr: view.isr,
        log_start: view.log_start,
        tail: tail.map(|tail| (tail.epoch, tail.end)),
        epochs: Vec::new(),
        producers: Vec::new(),
    };
    if let Some(known) = known.filter(|known| now.is_as(known)) {
        return Arc::clone(known);
    }
    let mut asked = Some(view.leader_epoch);
    while let Some(epoch) = asked
        && now.epochs.len() < EPOCHS
        && let Some(found) = handle.end_of_epoch(epoch)
    {
        now.epochs.push((found.epoch, found.end));
        asked = found.epoch.0.checked_sub(1).map(LeaderEpoch);
    }
    let producers = handle.producers().into_iter();
    now.producers = producers
        .map(|known| (known.id, known.epoch, known.last_sequence))
        .collect();
    Arc::new(now)
}

impl ReplicaSeen {
    /// Whether it is as another was, but for what follows from where its log ends.
    fn is_as(&self, other: &Self) -> bool {
        // Named one by one, so that no field is forgotten.
        let Self {
            leader_epoch,
            partition_epoch,
            is_leader,
            is_ready,
            is_failed,
            may_answer,
            high_watermark,
            log_end,
            durable_end,
            isr,
            epochs: _,
            log_start,
            tail,
            producers: _,
        } = self;
        (*leader_epoch, *partition_epoch) == (other.leader_epoch, other.partition_epoch)
            && (*is_leader, *is_ready) == (other.is_leader, other.is_ready)
            && (*is_failed, *may_answer) == (other.is_failed, other.may_answer)
            && (*high_watermark, *log_end) == (other.high_watermark, other.log_end)
            && (*durable_end, *log_start) == (other.durable_end, other.log_start)
            && (tail, isr) == (&other.tail, &other.isr)
    }
}
