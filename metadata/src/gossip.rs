//! Gossip: who is there, and who seems not to be.
//!
//! SWIM (foca) over datagrams of the peer link. What it finds is a hint and no more: a
//! node that seems down is suspected, which makes somebody *probe* its control port;
//! an address of a node that the image does not know is told to the peer link. Gossip
//! holds no way to change the image: [`Hints`] is all that comes out of it.
//!
//! Datagrams may be lost, doubled, late or forged by a member; the worst they can cause
//! is a needless probe. The mailbox is bounded and drops what does not fit.

pub(crate) mod core;

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use weir_base::{BoxFuture, NodeId};
use weir_peer::{FrameStream, PeerError, PeerService, Service};

use self::core::{Core, Hints, Member};
use crate::client::{Inner, Metadata};
use crate::probe;

/// Datagrams waiting to be read; more are dropped.
const MAILBOX: usize = 256;
/// How often a node that knows nobody calls on the voters.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// The way into the gossip task.
pub(crate) struct Gossip {
    mailbox: mpsc::Sender<(NodeId, Bytes)>,
}

impl Gossip {
    /// Starts the task.
    pub(crate) fn start(metadata: &Metadata) -> Self {
        let (mailbox, rx) = mpsc::channel(MAILBOX);
        let inner = metadata.inner();
        let task = run(std::sync::Arc::downgrade(inner), rx);
        inner.env.tasks.spawn("gossip", task);
        Self { mailbox }
    }
}

async fn run(metadata: Weak<Inner>, mut rx: mpsc::Receiver<(NodeId, Bytes)>) {
    let Some(inner) = metadata.upgrade() else {
        return;
    };
    let env = inner.env.clone();
    // A later start of this node wins over an earlier one.
    let generation = u64::try_from(env.clock.wall().0).unwrap_or(0);
    let me = Member {
        id: inner.me.id.0,
        generation,
        address: inner.me.peer_address.clone(),
    };
    let entropy = env.entropy.fork("gossip");
    let mut core = Core::new(me, inner.options.gossip_period, entropy);
    drop(inner);
    let mut announce = env.clock.now();
    loop {
        let now = env.clock.now();
        let mut hints = Hints::default();
        if now >= announce {
            announce = now + ANNOUNCE;
            if core.is_alone() {
                let Some(inner) = metadata.upgrade() else {
                    return;
                };
                for voter in inner.voters.iter().filter(|v| **v != inner.me.id) {
                    core.announce(now, *voter, &mut hints);
                }
            }
        }
        core.on_time(now, &mut hints);
        if !act(&metadata, hints).await {
            return;
        }
        let wake = core.next_deadline().map_or(announce, |at| at.min(announce));
        tokio::select! {
            biased;
            datagram = rx.recv() => match datagram {
                Some((from, bytes)) => {
                    let mut hints = Hints::default();
                    core.on_datagram(env.clock.now(), from, &bytes, &mut hints);
                    if !act(&metadata, hints).await {
                        return;
                    }
                }
                None => return,
            },
            () = env.clock.sleep_until(wake) => {}
        }
    }
}

/// Sends, and passes the hints on. `false` when the node is gone.
async fn act(metadata: &Weak<Inner>, hints: Hints) -> bool {
    let Some(inner) = metadata.upgrade() else {
        return false;
    };
    for (to, bytes) in hints.sends {
        inner.peers.send_datagram(to, Service::Gossip, bytes);
    }
    for (node, address) in hints.up {
        let is_known = inner.store.image().nodes.contains_key(&node);
        if !is_known && let Ok(found) = probe::resolve(&inner.env, &address).await {
            inner.peers.set_address(node, found);
        }
    }
    for node in hints.down {
        Metadata::of(inner.clone()).suspect(node);
    }
    true
}

/// Gossip's side of the peer link.
pub(crate) struct GossipService(pub(crate) Gossip);

impl PeerService for GossipService {
    fn on_request(&self, from: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async move {
            Err(PeerError::Refused {
                node: from,
                detail: "gossip has no requests".to_owned(),
            })
        })
    }

    fn on_stream(&self, _: NodeId, stream: FrameStream) -> BoxFuture<'static, ()> {
        drop(stream);
        Box::pin(async {})
    }

    fn on_datagram(&self, from: NodeId, body: Bytes) {
        // Full: as if the network had lost it.
        drop(self.0.mailbox.try_send((from, body)));
    }
}
