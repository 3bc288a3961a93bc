//! What follows from the image on every node: addresses of the others, and a TCP
//! connection to each one's control port.
//!
//! Nothing is ever said on that connection. The kernel of a machine whose process is
//! killed closes it within a millisecond, long before QUIC or a heartbeat would notice.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use weir_base::env::TaskHandle;
use weir_base::{Env, NodeEpoch, NodeId};
use weir_peer::Peers;

use super::{Inner, Metadata};
use crate::probe;

/// Between two tries to connect to a control port.
const RECONNECT: Duration = Duration::from_millis(500);

/// Tells the peer link where a node listens, if its address can be looked up.
pub(super) async fn tell_address(env: &Env, peers: &Peers, node: NodeId, address: &str) {
    match probe::resolve(env, address).await {
        Ok(found) => peers.set_address(node, found),
        Err(error) => tracing::warn!(%node, address, %error, "address cannot be looked up"),
    }
}

/// Starts following the image.
pub(super) fn start(metadata: &Metadata) {
    let task = metadata.clone();
    let env = metadata.inner().env.clone();
    env.tasks
        .spawn("metadata-watch", async move { run(task).await });
}

struct Watched {
    address: String,
    epoch: NodeEpoch,
    /// Holds the connection's task.
    _task: TaskHandle,
}

async fn run(metadata: Metadata) {
    let inner = metadata.inner().clone();
    let mut images = metadata.images();
    let mut watched: BTreeMap<NodeId, Watched> = BTreeMap::new();
    loop {
        let image = images.borrow_and_update().clone();
        if image.version > 0 {
            metadata.lock().applied = inner.env.clock.now();
        }
        for (id, node) in image.nodes.iter().filter(|(id, _)| **id != inner.me.id) {
            let known = watched.get(id);
            if known.is_some_and(|w| w.epoch == node.epoch && w.address == node.peer_address) {
                continue;
            }
            if known.is_none_or(|w| w.address != node.peer_address) {
                tell_address(&inner.env, &inner.peers, *id, &node.peer_address).await;
            }
            let connection = hold(
                inner.env.clone(),
                std::sync::Arc::downgrade(&inner),
                *id,
                node.peer_address.clone(),
            );
            let watching = Watched {
                address: node.peer_address.clone(),
                epoch: node.epoch,
                _task: inner.env.tasks.spawn_owned("watch-node", connection),
            };
            watched.insert(*id, watching);
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps a connection to one node's control port, and suspects the node when it ends.
async fn hold(env: Env, metadata: Weak<Inner>, node: NodeId, address: String) {
    loop {
        let connect = async {
            let address = probe::resolve(&env, &address).await?;
            env.net.connect(address).await
        };
        if let Some(Ok(mut connection)) = env.timeout(RECONNECT, connect).await {
            let mut byte = [0];
            // Ends, one way or the other, with the other process.
            while connection.read(&mut byte).await.is_ok_and(|read| read > 0) {}
            match metadata.upgrade() {
                Some(inner) => Metadata(inner).suspect(node),
                None => return,
            }
        }
        env.sleep(RECONNECT).await;
    }
}
