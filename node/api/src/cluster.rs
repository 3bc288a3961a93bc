//! The cluster as this node sees it.

use std::sync::Arc;

use tokio::sync::watch;
use weir_base::image::ClusterImage;
use weir_base::{BoxFuture, NodeId, Timestamp};

/// The image and this node's place in it.
pub trait ClusterApi: Send + Sync {
    /// This node.
    fn node(&self) -> NodeId;

    /// The newest image applied here.
    fn image(&self) -> Arc<ClusterImage>;

    /// Follows the image.
    fn images(&self) -> watch::Receiver<Arc<ClusterImage>>;

    /// The leader of the metadata group, if known.
    fn controller(&self) -> Option<NodeId>;

    /// Whether this node has proof that `node`'s process ended. A hint, ahead of the
    /// controller's word by the time that an election takes: clients that are told "no
    /// leader" ask again at once, those told of a dead one wait until it does not answer.
    fn is_gone(&self, node: NodeId) -> bool {
        let _unused = node;
        false
    }

    /// Asks `nodes` whether they are there, for some tens of milliseconds at most:
    /// afterwards [`ClusterApi::is_gone`] also knows of those whose process ended just
    /// before the call. Takes a round trip while all is well.
    fn sign_of_life(&self, nodes: Vec<NodeId>) -> BoxFuture<'static, ()> {
        drop(nodes);
        Box::pin(std::future::ready(()))
    }

    /// The wall clock.
    fn now(&self) -> Timestamp;
}
