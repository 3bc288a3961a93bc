//! Replication on one node: its replicas, and the streams between them and their peers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use weir_base::image::{NodeRecord, NodeState, PartitionRecord};
use weir_base::{BoxFuture, Env, Monotonic, NodeId, TopicPartition, Uuid};
use weir_peer::{FrameStream, PeerError, PeerService, Peers};
use weir_storage::PartitionLog;

use crate::agreement::IsrAgreement;
use crate::core::NodeFacts;
use crate::node::Node;
use crate::options::ReplicationOptions;
use crate::partition::{Partition, PartitionHandle};
use crate::stream::serve::serve;

/// All replicas of a node. One per node; clones share it.
#[derive(Clone)]
pub struct Replication(Arc<Node>);

impl Replication {
    /// Starts with no replica.
    #[must_use]
    pub fn start(
        env: Env,
        node: NodeId,
        peers: Peers,
        agreement: Arc<dyn IsrAgreement>,
        options: ReplicationOptions,
    ) -> Replication {
        Replication(Arc::new(Node::new(env, node, peers, agreement, options)))
    }

    /// To be registered for [`weir_peer::Service::Replication`].
    #[must_use]
    pub fn service(&self) -> Arc<dyn PeerService> {
        Arc::new(Service(Arc::clone(&self.0)))
    }

    /// Takes over a replica with its recovered log. It waits for its record; one that was
    /// open is closed first. The log must have no other writer from here on.
    pub fn open(&self, at: TopicPartition, replica: Uuid, log: Arc<dyn PartitionLog>) {
        let (partition, handle) = Partition::new(Arc::clone(&self.0), at, replica, log);
        let before = {
            let mut partitions = self
                .0
                .partitions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            partitions.insert(at, handle)
        };
        if let Some(before) = before {
            before.inbox().close();
        }
        self.0
            .env
            .tasks
            .spawn("replication partition", partition.run());
    }

    /// Hands a replica its newest record, with the nodes of the same image. A record with
    /// a lower partition epoch than one seen before is ignored; the same one again only
    /// refreshes what is known of the nodes, so call this too when a node of the
    /// partition registered, was fenced or became active.
    ///
    /// Precondition (I2): this node's current boot is registered in that image, and its
    /// registration ended every leader epoch it led in before.
    pub fn apply(
        &self,
        at: TopicPartition,
        record: &PartitionRecord,
        nodes: &BTreeMap<NodeId, NodeRecord>,
    ) {
        let Some(inbox) = self.0.inbox(at) else {
            return;
        };
        let facts = record
            .replicas
            .iter()
            .filter_map(|replica| nodes.get(&replica.node))
            .map(|node| {
                let facts = NodeFacts {
                    epoch: node.epoch,
                    active: node.state == NodeState::Active,
                };
                (node.id, facts)
            })
            .collect();
        inbox.record(record.clone(), facts);
    }

    /// Lets go of a replica: what waits there is answered `Closed`. Its log is free once
    /// the last clone of its handle's log is dropped.
    pub fn close(&self, at: TopicPartition) {
        let handle = {
            let mut partitions = self
                .0
                .partitions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            partitions.remove(&at)
        };
        if let Some(handle) = handle {
            handle.inbox().close();
        }
    }

    /// A replica on this node.
    #[must_use]
    pub fn partition(&self, at: TopicPartition) -> Option<PartitionHandle> {
        self.0.handle(at)
    }

    /// All replicas on this node, in order.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionHandle> {
        let partitions = self
            .0
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.values().cloned().collect()
    }

    /// Until when this node may act as leader without asking (I10); until the first call
    /// there is no limit. Safety of acknowledgements under sync replication does not
    /// need it; those under async replication, and offset answers, do.
    pub fn set_lease(&self, until: Monotonic) {
        self.0.set_lease(until);
    }

    /// Offsets that fail-overs cut from this node's asynchronously replicated logs since
    /// the start, and that may have been acknowledged (`weir_acked_truncated_total`).
    #[must_use]
    pub fn acknowledged_cut(&self) -> u64 {
        self.0.acknowledged_cut()
    }

    /// Closes all replicas and ends all tasks.
    pub fn shut_down(&self) {
        self.0.close();
    }
}

/// The receiving side.
struct Service(Arc<Node>);

impl PeerService for Service {
    fn on_request(
        &self,
        _from: NodeId,
        _body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let node = self.0.me;
        Box::pin(std::future::ready(Err(PeerError::Refused {
            node,
            detail: "replication is served on streams only".to_owned(),
        })))
    }

    fn on_stream(&self, from: NodeId, stream: FrameStream) -> BoxFuture<'static, ()> {
        Box::pin(serve(Arc::clone(&self.0), from, stream))
    }

    fn on_datagram(&self, _from: NodeId, _body: Bytes) {}
}
