//! What follows from the image on every node: the others' addresses for the peer link,
//! and a TCP connection to each one's control port.
//!
//! Nothing is ever said on that connection. The kernel of a machine whose process is
//! killed closes it within a millisecond, long before QUIC or a heartbeat would notice.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use weir_base::env::TaskHandle;
use weir_base::{Env, NodeEpoch, NodeId};
use weir_peer::Peers;

use super::{Inner, Metadata};
use crate::probe;

/// Between two tries to connect to a control port.
const RECONNECT: Duration = Duration::from_millis(500);

/// Starts following the image.
pub(super) fn start(metadata: &Metadata, voters: BTreeMap<NodeId, String>) {
    let task = run(metadata.clone(), voters);
    metadata.inner().env.tasks.spawn("metadata-watch", task);
}

/// A node to look after.
struct Watched {
    address: String,
    epoch: NodeEpoch,
    /// Holds the connection's task.
    _task: TaskHandle,
}

async fn run(metadata: Metadata, voters: BTreeMap<NodeId, String>) {
    let inner = metadata.inner().clone();
    let mut images = metadata.images();
    let mut watched: BTreeMap<NodeId, Watched> = BTreeMap::new();
    // Before there is an image, the voters are known by configuration.
    for (id, address) in voters {
        watch(&inner, &mut watched, id, &address, NodeEpoch(0));
    }
    loop {
        let image = images.borrow_and_update().clone();
        if image.version > 0 {
            metadata.lock().applied = inner.env.clock.now();
        }
        for (id, node) in &image.nodes {
            watch(&inner, &mut watched, *id, &node.peer_address, node.epoch);
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

fn watch(
    inner: &Arc<Inner>,
    watched: &mut BTreeMap<NodeId, Watched>,
    id: NodeId,
    address: &str,
    epoch: NodeEpoch,
) {
    let known = watched.get(&id);
    let is_watched = known.is_some_and(|w| w.epoch == epoch && w.address == address);
    if id == inner.me.id || is_watched {
        return;
    }
    let task = hold(
        inner.env.clone(),
        inner.peers.clone(),
        Arc::downgrade(inner),
        id,
        address.to_owned(),
    );
    let watching = Watched {
        address: address.to_owned(),
        epoch,
        _task: inner.env.tasks.spawn_owned("watch-node", task),
    };
    watched.insert(id, watching);
}

/// Keeps a connection to one node's control port, and suspects the node when it ends.
/// Looks its address up again each time: names may move.
async fn hold(env: Env, peers: Peers, metadata: Weak<Inner>, node: NodeId, address: String) {
    let mut told = None;
    loop {
        let connect = async {
            let found = probe::resolve(&env, &address).await?;
            if told != Some(found) {
                told = Some(found);
                peers.set_address(node, found);
            }
            env.net.connect(found).await
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
