//! The follower's end of a stream: one task a leader and shard, while any partition
//! follows there.
//!
//! What is to be said is kept by partition, newest only, so a slow link coalesces claims
//! instead of queueing them. When the stream breaks, every partition on it is told and
//! opens anew; the pause before the next attempt doubles up to a bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use weir_base::{NodeId, TopicPartition};
use weir_peer::{FrameSink, FrameSource, FrameStream, Service};

use super::{MESSAGES_MAX, ToFollower, ToLeader, decode_to_follower, encode_to_leader};
use crate::core::effect::{Open, Progress};
use crate::inbox::Inbox;
use crate::node::Node;

#[derive(Default)]
struct Pending {
    open: Option<Open>,
    progress: Option<Progress>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<TopicPartition, Arc<Inbox>>,
    pending: BTreeMap<TopicPartition, Pending>,
    is_running: bool,
}

/// The way to one leader, for one shard of the partitions.
pub(crate) struct Uplink {
    leader: NodeId,
    state: Mutex<State>,
    wake: Notify,
}

impl Uplink {
    pub(crate) fn new(leader: NodeId) -> Uplink {
        Uplink {
            leader,
            state: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a partition's data, which goes to `inbox`.
    pub(crate) fn open(
        self: &Arc<Self>,
        node: &Arc<Node>,
        at: TopicPartition,
        open: Open,
        inbox: &Arc<Inbox>,
    ) {
        let starts = {
            let mut state = self.state();
            state.partitions.insert(at, Arc::clone(inbox));
            let pending = Pending {
                open: Some(open),
                progress: None,
            };
            state.pending.insert(at, pending);
            !std::mem::replace(&mut state.is_running, true)
        };
        self.wake.notify_one();
        if starts {
            let (uplink, node) = (Arc::clone(self), Arc::clone(node));
            let tasks = node.env.tasks.clone();
            tasks.spawn("replication uplink", async move { uplink.run(&node).await });
        }
    }

    /// Claims a position.
    pub(crate) fn progress(&self, at: TopicPartition, progress: Progress) {
        self.state().pending.entry(at).or_default().progress = Some(progress);
        self.wake.notify_one();
    }

    /// A partition follows here no more; unless it was opened again, with another inbox.
    pub(crate) fn leave(&self, at: TopicPartition, inbox: &Arc<Inbox>) {
        let mut state = self.state();
        let known = state.partitions.get(&at);
        if known.is_some_and(|known| !Arc::ptr_eq(known, inbox)) {
            return;
        }
        state.partitions.remove(&at);
        state.pending.remove(&at);
        if state.partitions.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Whether nobody follows here.
    fn is_idle(&self, node: &Node) -> bool {
        self.state().partitions.is_empty() || node.is_closed()
    }

    /// As [`Uplink::is_idle`]; if so the task ends, and the next open starts another.
    fn ends(&self, node: &Node) -> bool {
        let mut state = self.state();
        state.is_running = !state.partitions.is_empty() && !node.is_closed();
        !state.is_running
    }

    async fn run(&self, node: &Node) {
        let options = &node.options;
        let mut pause = options.reconnect_backoff;
        while !self.ends(node) {
            let opening =
                node.peers
                    .open_stream(self.leader, Service::Replication, options.connect_deadline);
            match opening.await {
                Ok(stream) => {
                    let began = node.env.clock.now();
                    self.talk(node, stream).await;
                    if node.env.clock.now().since(began) > options.reconnect_backoff_max {
                        pause = options.reconnect_backoff;
                    }
                    self.tell_lost();
                }
                Err(error) => {
                    tracing::debug!(leader = %self.leader, %error, "no replication stream")
                }
            }
            let quarter = u64::try_from(pause.as_nanos() / 4).unwrap_or(0);
            let jitter = Duration::from_nanos(node.entropy.below(quarter));
            node.env.sleep(pause + jitter).await;
            pause = (pause * 2).min(options.reconnect_backoff_max);
        }
    }

    /// Everything said and unsaid on the stream is void: each partition opens anew.
    fn tell_lost(&self) {
        if weir_base::mutant!(L2) {
            return;
        }
        let inboxes: Vec<Arc<Inbox>> = {
            let mut state = self.state();
            state.pending.clear();
            state.partitions.values().cloned().collect()
        };
        for inbox in inboxes {
            inbox.lost(self.leader);
        }
    }

    async fn talk(&self, node: &Node, stream: FrameStream) {
        let FrameStream {
            mut sink,
            mut source,
        } = stream;
        tokio::select! {
            biased;
            () = node.closed() => {}
            () = self.listen(source.as_mut()) => {}
            () = self.speak(node, sink.as_mut()) => {}
        }
    }

    async fn listen(&self, source: &mut dyn FrameSource) {
        while let Ok(Some(frame)) = source.next().await {
            let Ok((message, batches)) = decode_to_follower(&frame) else {
                tracing::warn!(leader = %self.leader, "replication frame does not decode");
                return;
            };
            let (ToFollower::Data(at, _) | ToFollower::Answer(at, ..)) = &message;
            let Some(inbox) = self.state().partitions.get(at).cloned() else {
                continue;
            };
            match message {
                ToFollower::Data(_, header) => inbox.data(self.leader, header, batches),
                ToFollower::Answer(_, epoch, session, answer) => {
                    inbox.answer(epoch, session, answer);
                }
            }
        }
    }

    async fn speak(&self, node: &Node, sink: &mut dyn FrameSink) {
        loop {
            let messages = self.take();
            if !messages.is_empty() {
                if sink.send(vec![encode_to_leader(&messages)]).await.is_err() {
                    return;
                }
                continue;
            }
            if self.is_idle(node) {
                return;
            }
            self.wake.notified().await;
        }
    }

    fn take(&self) -> Vec<ToLeader> {
        let mut state = self.state();
        let mut messages = Vec::new();
        while messages.len() + 2 <= MESSAGES_MAX {
            let Some((at, pending)) = state.pending.pop_first() else {
                break;
            };
            messages.extend(pending.open.map(|open| ToLeader::Open(at, open)));
            messages.extend(pending.progress.map(|p| ToLeader::Progress(at, p)));
        }
        messages
    }
}
