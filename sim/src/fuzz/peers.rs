//! Replication frames, at both ends of a stream.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use weir_base::image::{Durability, NodeRecord, NodeState, PartitionRecord, Replica};
use weir_base::limits::PEER_FRAME_BYTES_MAX;
use weir_base::{
    BoxFuture, Env, LeaderEpoch, NodeEpoch, NodeId, PartitionEpoch, TopicPartition, Uuid,
};
use weir_peer::{FrameSink, FrameSource, FrameStream, PeerClient, PeerError, Service};
use weir_replication::{
    AckLevel, IsrAgreement, IsrChange, IsrRefusal, ReplicaEvent, Replication, ReplicationOptions,
};
use weir_storage::{MemLog, contract};

use super::storage::AT;
use super::world::{self, World};

const LEADER: NodeId = NodeId(1);
const FOLLOWER: NodeId = NodeId(2);
const EPOCH: LeaderEpoch = LeaderEpoch(1);
/// How long the sender of frames stays after its last.
const STAYS: Duration = Duration::from_secs(5);

/// Frames as they are on a stream, a little-endian `u32` and that many bytes: a leader
/// gets them from its follower, and a follower from its leader.
///
/// # Panics
/// If either does, or its positions end up out of order.
pub fn peer_frame(data: &[u8]) {
    let frames = split(data);
    world::run(|world| both_ends(world, frames));
}

async fn both_ends(world: World, frames: VecDeque<Bytes>) {
    let env = world.env("nodes");
    let leader = node(&env, LEADER, Arc::new(Streams::default()));
    let handle = leader.partition(AT).expect("just opened");
    let produced = handle.append(contract::batch(3), AckLevel::Leader, STAYS);
    assert!(produced.await.is_ok());
    let from_follower = stream(&env, frames.clone(), None);
    leader.service().on_stream(FOLLOWER, from_follower).await;

    let streams = Streams::default();
    streams.give(stream(&env, frames, None));
    let follower = node(&env, FOLLOWER, Arc::new(streams));
    env.sleep(STAYS * 2).await;
    for node in [leader, follower] {
        let view = node.partition(AT).expect("still open").view();
        assert!(view.log_start <= view.log_end);
        assert!(view.high_watermark <= view.log_end);
        node.shut_down();
    }
}

/// The frames in `data`, up to the first that is cut or longer than the link lets pass.
fn split(mut data: &[u8]) -> VecDeque<Bytes> {
    let mut frames = VecDeque::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((frame, rest)) = rest.split_at_checked(length) else {
            break;
        };
        if length > PEER_FRAME_BYTES_MAX {
            break;
        }
        frames.push_back(Bytes::copy_from_slice(frame));
        data = rest;
    }
    frames
}

/// A node of two with one replica, in an epoch in which [`LEADER`] leads.
fn node(env: &Env, me: NodeId, peers: Arc<Streams>) -> Replication {
    let options = ReplicationOptions::default();
    let node = Replication::start(env.clone(), me, peers, Arc::new(Nobody), options);
    let replica = |id: NodeId| Replica {
        node: id,
        id: Uuid([u8::try_from(id.0).unwrap_or(0); 16]),
    };
    let record = PartitionRecord {
        replicas: vec![replica(LEADER), replica(FOLLOWER)],
        leader: Some(LEADER),
        leader_epoch: EPOCH,
        partition_epoch: PartitionEpoch(1),
        isr: vec![LEADER, FOLLOWER],
        elr: vec![],
        last_known_elr: vec![],
        suspects: vec![],
        adding: vec![],
        removing: vec![],
        min_isr: 1,
        durability: Durability::default(),
        pending_durability: None,
    };
    let registered = |id: NodeId| NodeRecord {
        id,
        name: id.to_string(),
        storage: Uuid([7; 16]),
        epoch: NodeEpoch(u64::from(id.0)),
        state: NodeState::Active,
        peer_address: String::new(),
        endpoints: BTreeMap::new(),
        rack: None,
    };
    let nodes: BTreeMap<_, _> = [LEADER, FOLLOWER]
        .into_iter()
        .map(|id| (id, registered(id)))
        .collect();
    node.open(AT, replica(me).id, Arc::new(MemLog::new()));
    node.apply(AT, &record, &nodes);
    node
}

/// A controller that never answers.
struct Nobody;

impl IsrAgreement for Nobody {
    fn propose(&self, _: IsrChange) -> BoxFuture<'static, Result<PartitionRecord, IsrRefusal>> {
        let refusal = IsrRefusal::Unanswered("nobody is there".to_owned());
        Box::pin(std::future::ready(Err(refusal)))
    }

    fn on_event(&self, _: ReplicaEvent) {}

    fn leader_epoch(&self, _: TopicPartition) -> Option<LeaderEpoch> {
        Some(EPOCH)
    }
}

type Recorded = Arc<Mutex<Vec<Bytes>>>;

fn stream(env: &Env, frames: VecDeque<Bytes>, record: Option<Recorded>) -> FrameStream {
    FrameStream {
        sink: Box::new(Sink { to: None, record }),
        source: Box::new(Source {
            env: env.clone(),
            frames,
            more: None,
        }),
    }
}

/// Gives the frames there are, then those that come; if none can, ends after a while.
struct Source {
    env: Env,
    frames: VecDeque<Bytes>,
    more: Option<UnboundedReceiver<Bytes>>,
}

impl FrameSource for Source {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            match &mut self.more {
                Some(more) => Ok(more.recv().await),
                None => {
                    self.env.sleep(STAYS).await;
                    Ok(None)
                }
            }
        })
    }
}

/// Sends on and records.
struct Sink {
    to: Option<UnboundedSender<Bytes>>,
    record: Option<Recorded>,
}

impl FrameSink for Sink {
    fn send(&mut self, chunks: Vec<Bytes>) -> BoxFuture<'_, Result<(), PeerError>> {
        let frame = Bytes::from(chunks.concat());
        if let Some(record) = &self.record {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.push(frame.clone());
        }
        let gone = |_| PeerError::Frame("the other end is gone".to_owned());
        let sent = match &self.to {
            Some(to) => to.send(frame).map_err(gone),
            None => Ok(()),
        };
        Box::pin(std::future::ready(sent))
    }
}

/// Peers that can be reached as often as streams were given.
#[derive(Default)]
struct Streams(Mutex<VecDeque<FrameStream>>);

impl Streams {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<FrameStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, stream: FrameStream) {
        self.lock().push_back(stream);
    }
}

fn unreachable<T: Send + 'static>(node: NodeId) -> BoxFuture<'static, Result<T, PeerError>> {
    let detail = "nobody is there".to_owned();
    let error = PeerError::Unreachable { node, detail };
    Box::pin(std::future::ready(Err(error)))
}

impl PeerClient for Streams {
    fn request(
        &self,
        to: NodeId,
        _: Service,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        unreachable(to)
    }

    fn open_stream(
        &self,
        to: NodeId,
        _: Service,
        _: Duration,
    ) -> BoxFuture<'static, Result<FrameStream, PeerError>> {
        match self.lock().pop_front() {
            Some(stream) => Box::pin(std::future::ready(Ok(stream))),
            None => unreachable(to),
        }
    }

    fn send_datagram(&self, _: NodeId, _: Service, _: Bytes) {}

    fn set_address(&self, _: NodeId, _: SocketAddr) {}
}

/// What a follower and a leader say to each other, each as an input of [`peer_frame`].
pub(super) fn conversation() -> [Vec<u8>; 2] {
    let [said_up, said_down] = [Recorded::default(), Recorded::default()];
    let records = [Arc::clone(&said_up), Arc::clone(&said_down)];
    world::run(|world| async move {
        let env = world.env("nodes");
        let leader = node(&env, LEADER, Arc::new(Streams::default()));
        let handle = leader.partition(AT).expect("just opened");
        let produced = handle.append(contract::batch(3), AckLevel::Leader, STAYS);
        assert!(produced.await.is_ok());
        let (up, down) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let end = |to, more, record| FrameStream {
            sink: Box::new(Sink {
                to: Some(to),
                record: Some(record),
            }),
            source: Box::new(Source {
                env: env.clone(),
                frames: VecDeque::new(),
                more: Some(more),
            }),
        };
        let streams = Streams::default();
        streams.give(end(up.0, down.1, said_up));
        let theirs = end(down.0, up.1, said_down);
        let serve = leader.service().on_stream(FOLLOWER, theirs);
        env.tasks.spawn("leader", serve);
        let follower = node(&env, FOLLOWER, Arc::new(streams));
        for _ in 0..3 {
            env.sleep(Duration::from_millis(50)).await;
            let produced = handle.append(contract::batch(2), AckLevel::All, STAYS);
            assert!(produced.await.is_ok());
        }
        follower.shut_down();
        leader.shut_down();
    });
    records.map(|record| {
        let frames = record.lock().unwrap_or_else(PoisonError::into_inner);
        join(&frames)
    })
}

fn join(frames: &[Bytes]) -> Vec<u8> {
    let mut data = Vec::new();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(frame);
    }
    data
}
