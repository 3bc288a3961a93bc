//! Which nodes' processes are there: what the links tell, and a question to the nodes.
//!
//! A client that lost its leader asks another node for the new one within a millisecond,
//! sooner than that node's link notices. So before such a question is answered the
//! leaders it is about are asked for a sign of life: one that answers is there, one that
//! does not is given the few milliseconds in which a dead process is told by its kernel.
//! These are hints (I10 rests on epochs and leases); a crash loses nothing.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use weir_base::{BoxFuture, Env, NodeId};
use weir_peer::{Peers, Service};

/// How long a node is given to answer, or its kernel to answer for it. On one network
/// both take a few milliseconds; a machine that is off says nothing for ever.
const SIGN_WAIT: Duration = Duration::from_millis(50);

/// What one node knows of the others' processes.
pub(crate) struct Presence {
    env: Env,
    peers: Peers,
    /// Nodes whose process is known to have ended, until they are back.
    gone: watch::Sender<BTreeSet<NodeId>>,
}

impl Presence {
    pub(crate) fn new(env: Env, peers: Peers) -> Arc<Presence> {
        Arc::new(Presence {
            env,
            peers,
            gone: watch::Sender::default(),
        })
    }

    pub(crate) fn set_gone(&self, node: NodeId, is_gone: bool) {
        self.gone.send_if_modified(|gone| {
            if is_gone {
                gone.insert(node)
            } else {
                gone.remove(&node)
            }
        });
    }

    pub(crate) fn is_gone(&self, node: NodeId) -> bool {
        self.gone.borrow().contains(&node)
    }

    /// Completes when each of `nodes` has answered or is known to be gone, or the wait is over.
    pub(crate) async fn sign_of_life(self: Arc<Self>, nodes: Vec<NodeId>) {
        let asking = nodes.into_iter().map(|node| {
            let presence = Arc::clone(&self);
            Box::pin(async move { presence.ask(node).await }) as BoxFuture<'static, ()>
        });
        let mut asking: Vec<BoxFuture<'static, ()>> = asking.collect();
        let all = poll_fn(|cx| {
            asking.retain_mut(|one| one.as_mut().poll(cx).is_pending());
            if asking.is_empty() {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        // Who said nothing by then is neither here nor gone.
        let _in_time: Option<()> = self.env.timeout(SIGN_WAIT, all).await;
    }

    async fn ask(&self, node: NodeId) {
        let mut gone = self.gone.subscribe();
        let told = async {
            let known = gone.wait_for(|gone| gone.contains(&node)).await;
            drop(known);
        };
        let answered = async {
            let question = Bytes::new();
            let answer = self
                .peers
                .request(node, Service::Broker, question, SIGN_WAIT)
                .await;
            if answer.is_err() {
                // The link may be down because the process is: the news is on its way.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = told => {}
            () = answered => {}
        }
    }
}

#[cfg(test)]
mod tests;
