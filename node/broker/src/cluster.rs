//! The cluster as this node sees it.

use std::sync::Arc;

use tokio::sync::watch;
use weir_api::{ClusterApi, NotLeader};
use weir_base::image::ClusterImage;
use weir_base::{BoxFuture, NodeId, Timestamp, TopicPartition};

use crate::Broker;

impl ClusterApi for Broker {
    fn node(&self) -> NodeId {
        self.0.node
    }

    fn image(&self) -> Arc<ClusterImage> {
        self.0.metadata.image()
    }

    fn images(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.0.metadata.images()
    }

    fn controller(&self) -> Option<NodeId> {
        self.0.metadata.controller()
    }

    fn is_gone(&self, node: NodeId) -> bool {
        self.0.presence.is_gone(node)
    }

    fn sign_of_life(&self, nodes: Vec<NodeId>) -> BoxFuture<'static, ()> {
        Box::pin(Arc::clone(&self.0.presence).sign_of_life(nodes))
    }

    fn now(&self) -> Timestamp {
        self.0.env.clock.wall()
    }
}

impl Broker {
    /// Notes what the links tell of another node's process.
    pub fn set_gone(&self, node: NodeId, is_gone: bool) {
        self.0.presence.set_gone(node, is_gone);
    }

    /// Who leads `at` as far as the image knows; `None` if there is no such partition.
    pub(crate) fn leader_hint(&self, at: TopicPartition) -> Option<NotLeader> {
        let image = self.0.metadata.image();
        let record = image.partition(at)?;
        Some(NotLeader {
            leader: record.leader,
            epoch: record.leader_epoch,
        })
    }
}
