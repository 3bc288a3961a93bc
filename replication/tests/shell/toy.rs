//! A toy cluster: nodes in one runtime with paused time, channels for streams, logs in
//! memory that outlive their node, and a controller that obeys the rules of metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use weir_base::batch::BatchBuilder;
use weir_base::env::{Spawner, TaskControl};
use weir_base::image::{Durability, NodeRecord, NodeState, PartitionRecord, Replica};
use weir_base::{
    BoxFuture, ByteStream, Clock, Disk, DiskFile, Entropy, Env, LeaderEpoch, Listener, Monotonic,
    Net, NodeEpoch, NodeId, Offset, OpenMode, PartitionEpoch, RecordBatch, Tasks, Timestamp,
    TopicPartition, Uuid,
};
use weir_peer::{FrameSink, FrameSource, FrameStream, PeerClient, PeerError, PeerService, Service};
use weir_replication::{
    AckLevel, AppendError, Appended, IsrAgreement, IsrChange, IsrRefusal, PartitionHandle,
    ReplicaEvent, Replication, ReplicationOptions,
};
use weir_storage::PartitionLog;
use weir_storage::mem::MemLog;

pub(crate) const AT: TopicPartition = TopicPartition {
    topic: Uuid([1; 16]),
    index: weir_base::PartitionIndex(0),
};

/// Counts how often anybody asked to be woken: an idle node must not.
#[derive(Default)]
pub(crate) struct TokioClock {
    start: Mutex<Option<tokio::time::Instant>>,
    pub(crate) alarms: AtomicU64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's clock is the seam itself"
)]
impl Clock for TokioClock {
    fn now(&self) -> Monotonic {
        let now = tokio::time::Instant::now();
        let start = *self.start.lock().unwrap().get_or_insert(now);
        Monotonic(u64::try_from((now - start).as_nanos()).unwrap())
    }

    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(self.now().0 / 1_000_000).unwrap())
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        self.alarms.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        Box::pin(tokio::time::sleep(at.since(now)))
    }
}

struct TokioSpawner;

#[expect(
    clippy::disallowed_methods,
    reason = "the test's tasks are the seam itself"
)]
impl Spawner for TokioSpawner {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        struct Control(tokio::task::JoinHandle<()>);
        impl TaskControl for Control {
            fn abort(&self) {
                self.0.abort();
            }
            fn is_finished(&self) -> bool {
                self.0.is_finished()
            }
        }
        Box::new(Control(tokio::spawn(future)))
    }
}

/// Replication reaches disk and TCP only through logs and peers.
struct Absent;

fn absent<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
}

impl Disk for Absent {
    fn open(&self, _: &str, _: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        absent()
    }
    fn rename(&self, _: &str, _: &str) -> BoxFuture<'static, io::Result<()>> {
        absent()
    }
    fn remove_file(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        absent()
    }
    fn remove_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        absent()
    }
    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        absent()
    }
    fn list(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        absent()
    }
    fn sync_directory(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        absent()
    }
    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        absent()
    }
    fn boot_id(&self) -> String {
        String::new()
    }
}

impl Net for Absent {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        absent()
    }
    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        absent()
    }
    fn resolve(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        absent()
    }
}

/// Pairs that cannot talk, and how often each was cut: no stream outlives a cut.
#[derive(Debug, Default)]
struct Cuts {
    now: BTreeSet<(NodeId, NodeId)>,
    count: BTreeMap<(NodeId, NodeId), u64>,
}

impl Cuts {
    fn count(&self, pair: (NodeId, NodeId)) -> u64 {
        self.count.get(&pair).copied().unwrap_or(0)
    }
}

/// The network: who serves, and which pairs cannot talk.
#[derive(Default)]
pub(crate) struct Wires {
    services: Mutex<BTreeMap<NodeId, Arc<dyn PeerService>>>,
    cut: watch::Sender<Cuts>,
    /// Frames that arrived anywhere, and their bytes.
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Wires {
    fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
        (a.min(b), a.max(b))
    }

    pub(crate) fn cut(&self, a: u32, b: u32) {
        let pair = Self::pair(NodeId(a), NodeId(b));
        self.cut.send_modify(|cut| {
            cut.now.insert(pair);
            *cut.count.entry(pair).or_default() += 1;
        });
    }

    /// Cuts for an instant.
    fn drop_streams(&self, a: u32, b: u32) {
        let pair = Self::pair(NodeId(a), NodeId(b));
        self.cut
            .send_modify(|cut| *cut.count.entry(pair).or_default() += 1);
    }

    pub(crate) fn heal(&self) {
        self.cut.send_modify(|cut| cut.now.clear());
    }
}

struct ToyPeers {
    me: NodeId,
    env: Env,
    wires: Arc<Wires>,
}

struct Half {
    peer: NodeId,
    pair: (NodeId, NodeId),
    cut: watch::Receiver<Cuts>,
    cuts: u64,
}

impl Half {
    fn lost(&self) -> PeerError {
        PeerError::Lost {
            node: self.peer,
            detail: "cut".to_owned(),
        }
    }

    async fn broken(&mut self) {
        let (pair, cuts) = (self.pair, self.cuts);
        drop(self.cut.wait_for(|cut| cut.count(pair) > cuts).await);
    }
}

struct ToySink(Half, mpsc::Sender<Bytes>);
struct ToySource(Half, mpsc::Receiver<Bytes>, Arc<Wires>);

impl FrameSink for ToySink {
    fn send(&mut self, chunks: Vec<Bytes>) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            let frame = Bytes::from(chunks.concat());
            tokio::select! {
                biased;
                () = self.0.broken() => Err(self.0.lost()),
                sent = self.1.send(frame) => sent.map_err(|_| self.0.lost()),
            }
        })
    }
}

impl FrameSource for ToySource {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = self.0.broken() => Err(self.0.lost()),
                frame = self.1.recv() => {
                    if let Some(frame) = &frame {
                        self.2.frames.fetch_add(1, Ordering::Relaxed);
                        self.2.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
                    }
                    Ok(frame)
                }
            }
        })
    }
}

impl PeerClient for ToyPeers {
    fn request(
        &self,
        to: NodeId,
        _: Service,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let refused = PeerError::Refused {
            node: to,
            detail: "streams only".to_owned(),
        };
        Box::pin(std::future::ready(Err(refused)))
    }

    fn open_stream(
        &self,
        to: NodeId,
        _: Service,
        _: Duration,
    ) -> BoxFuture<'static, Result<FrameStream, PeerError>> {
        let pair = Wires::pair(self.me, to);
        let service = self.wires.services.lock().unwrap().get(&to).cloned();
        let service = service.filter(|_| !self.wires.cut.borrow().now.contains(&pair));
        let Some(service) = service else {
            return Box::pin(std::future::ready(Err(PeerError::Unreachable {
                node: to,
                detail: "down or cut".to_owned(),
            })));
        };
        let (up, down) = (mpsc::channel(8), mpsc::channel(8));
        let half = |peer| Half {
            peer,
            pair,
            cut: self.wires.cut.subscribe(),
            cuts: self.wires.cut.borrow().count(pair),
        };
        let stream = |peer, tx, rx| FrameStream {
            sink: Box::new(ToySink(half(peer), tx)),
            source: Box::new(ToySource(half(peer), rx, Arc::clone(&self.wires))),
        };
        let theirs = stream(self.me, down.0, up.1);
        self.env
            .tasks
            .spawn("toy stream", service.on_stream(self.me, theirs));
        Box::pin(std::future::ready(Ok(stream(to, up.0, down.1))))
    }

    fn send_datagram(&self, _: NodeId, _: Service, _: Bytes) {}

    fn set_address(&self, _: NodeId, _: SocketAddr) {}
}

/// The controller and all that the nodes share.
pub(crate) struct Cluster {
    pub(crate) wires: Arc<Wires>,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) events: Mutex<Vec<ReplicaEvent>>,
    /// Proposals are lost while this is set.
    pub(crate) deaf: Mutex<bool>,
    /// Nodes whose replica is busy: their image grows, it is handed nothing.
    pub(crate) busy: Mutex<BTreeSet<NodeId>>,
    options: ReplicationOptions,
    record: Mutex<PartitionRecord>,
    /// The newest leader epoch that each node heard of.
    heard: Mutex<BTreeMap<NodeId, LeaderEpoch>>,
    nodes: Mutex<BTreeMap<NodeId, NodeRecord>>,
    running: Mutex<BTreeMap<NodeId, Replication>>,
    logs: Mutex<BTreeMap<NodeId, Arc<dyn PartitionLog>>>,
    boots: AtomicU64,
    env: Env,
}

struct Agreement(std::sync::Weak<Cluster>, NodeId);

impl IsrAgreement for Agreement {
    fn propose(
        &self,
        change: IsrChange,
    ) -> BoxFuture<'static, Result<PartitionRecord, IsrRefusal>> {
        let cluster = self.0.upgrade().unwrap();
        Box::pin(async move { cluster.on_proposal(&change) })
    }

    fn on_event(&self, event: ReplicaEvent) {
        let cluster = self.0.upgrade().unwrap();
        cluster.events.lock().unwrap().push(event);
    }

    fn leader_epoch(&self, _: TopicPartition) -> Option<LeaderEpoch> {
        let cluster = self.0.upgrade()?;
        let heard = cluster.heard.lock().unwrap();
        heard.get(&self.1).copied()
    }
}

impl Cluster {
    /// `count` nodes with empty logs, node 1 the leader, all in sync.
    pub(crate) fn start(
        count: u32,
        min_isr: u32,
        durability: Durability,
        options: ReplicationOptions,
    ) -> Arc<Cluster> {
        let clock = Arc::new(TokioClock::default());
        let env = Env {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Entropy::from_seed([9; 32]),
            disk: Arc::new(Absent),
            net: Arc::new(Absent),
            tasks: Tasks::new(Arc::new(TokioSpawner)),
        };
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let replicas = ids.iter().map(|id| Replica {
            node: *id,
            id: Uuid([u8::try_from(id.0).unwrap(); 16]),
        });
        let record = PartitionRecord {
            replicas: replicas.collect(),
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            isr: ids.clone(),
            elr: vec![],
            last_known_elr: vec![],
            suspects: vec![],
            adding: vec![],
            removing: vec![],
            min_isr,
            durability,
            pending_durability: None,
        };
        let cluster = Arc::new(Cluster {
            wires: Arc::default(),
            clock,
            events: Mutex::default(),
            deaf: Mutex::default(),
            busy: Mutex::default(),
            options,
            record: Mutex::new(record),
            heard: Mutex::default(),
            nodes: Mutex::default(),
            running: Mutex::default(),
            logs: Mutex::default(),
            boots: AtomicU64::new(1),
            env,
        });
        for id in ids {
            cluster.set_log(id.0, Arc::new(MemLog::new()));
            cluster.boot(id.0);
        }
        cluster
    }

    pub(crate) fn set_log(&self, id: u32, log: Arc<dyn PartitionLog>) {
        self.logs.lock().unwrap().insert(NodeId(id), log);
    }

    pub(crate) fn log(&self, id: u32) -> Arc<dyn PartitionLog> {
        Arc::clone(&self.logs.lock().unwrap()[&NodeId(id)])
    }

    /// Starts a node on the log it has; registering ends what it led.
    pub(crate) fn boot(self: &Arc<Self>, id: u32) {
        let node = NodeId(id);
        let registered = NodeRecord {
            id: node,
            name: id.to_string(),
            storage: Uuid([7; 16]),
            epoch: NodeEpoch(self.boots.fetch_add(1, Ordering::Relaxed)),
            state: NodeState::Active,
            peer_address: String::new(),
            endpoints: BTreeMap::new(),
            rack: None,
        };
        let first = self
            .nodes
            .lock()
            .unwrap()
            .insert(node, registered)
            .is_none();
        if !first && self.record().leader == Some(node) {
            self.elect(id);
        }
        let peers = Arc::new(ToyPeers {
            me: node,
            env: self.env.clone(),
            wires: Arc::clone(&self.wires),
        });
        let agreement = Arc::new(Agreement(Arc::downgrade(self), node));
        let replication =
            Replication::start(self.env.clone(), node, peers, agreement, self.options);
        let service = replication.service();
        self.wires.services.lock().unwrap().insert(node, service);
        let replica = self.record().replica(node).unwrap().id;
        replication.open(AT, replica, self.log(id));
        self.running.lock().unwrap().insert(node, replication);
        self.publish();
    }

    /// Kills a node: its log stays.
    pub(crate) fn kill(&self, id: u32) {
        let node = NodeId(id);
        self.wires.services.lock().unwrap().remove(&node);
        let replication = self.running.lock().unwrap().remove(&node).unwrap();
        replication.shut_down();
        for other in self.nodes.lock().unwrap().keys() {
            self.wires.drop_streams(id, other.0);
        }
    }

    /// The controller fences a node: out of ISR and leadership.
    pub(crate) fn fence(&self, id: u32) {
        let node = NodeId(id);
        self.nodes.lock().unwrap().get_mut(&node).unwrap().state = NodeState::Fenced;
        let was_leader = self.record().leader == Some(node);
        self.change(|record| {
            if record.isr.contains(&node) {
                record.isr.retain(|member| *member != node);
                record.elr.push(node);
            }
        });
        if was_leader {
            let next = *self.record().isr.first().expect("somebody is in sync");
            self.elect(next.0);
        }
    }

    pub(crate) fn unfence(&self, id: u32) {
        self.nodes
            .lock()
            .unwrap()
            .get_mut(&NodeId(id))
            .unwrap()
            .state = NodeState::Active;
        self.publish();
    }

    pub(crate) fn elect(&self, id: u32) {
        let leader = NodeId(id);
        self.change(|record| {
            assert!(record.isr.contains(&leader), "elections are clean");
            record.leader = Some(leader);
            record.leader_epoch = record.leader_epoch.next();
        });
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut PartitionRecord)) {
        {
            let mut record = self.record.lock().unwrap();
            change(&mut record);
            record.partition_epoch = record.partition_epoch.next();
            if record.isr.len() >= usize::try_from(record.min_isr).unwrap() {
                record.elr.clear();
            }
        }
        self.publish();
    }

    pub(crate) fn record(&self) -> PartitionRecord {
        self.record.lock().unwrap().clone()
    }

    pub(crate) fn publish(&self) {
        let (record, nodes) = (self.record(), self.nodes.lock().unwrap().clone());
        for (id, replication) in self.running.lock().unwrap().iter() {
            // Who is cut off from node 0, the controller, hears nothing.
            if self.is_cut_off(*id) {
                continue;
            }
            self.heard.lock().unwrap().insert(*id, record.leader_epoch);
            if !self.busy.lock().unwrap().contains(id) {
                replication.apply(AT, &record, &nodes);
            }
        }
    }

    fn is_cut_off(&self, id: NodeId) -> bool {
        self.wires.cut.borrow().now.contains(&(NodeId(0), id))
    }

    fn on_proposal(&self, change: &IsrChange) -> Result<PartitionRecord, IsrRefusal> {
        let cut = self.is_cut_off(change.leader);
        if cut || *self.deaf.lock().unwrap() {
            return Err(IsrRefusal::Unanswered("deaf".to_owned()));
        }
        let record = self.record();
        if record.leader != Some(change.leader)
            || record.leader_epoch != change.leader_epoch
            || record.partition_epoch != change.partition_epoch
        {
            return Err(IsrRefusal::Stale);
        }
        for (node, epoch) in &change.isr {
            let known = self.nodes.lock().unwrap()[node].clone();
            if known.epoch != *epoch || !known.is_active() {
                return Err(IsrRefusal::Ineligible(format!("node {node}")));
            }
        }
        let isr: Vec<NodeId> = change.isr.iter().map(|(node, _)| *node).collect();
        self.change(|record| {
            if let Some(durability) = change.durability {
                record.durability = durability;
                record.pending_durability = None;
            }
            let dropped = record.isr.iter().filter(|n| !isr.contains(n));
            record.elr.extend(dropped.copied().collect::<Vec<_>>());
            record.elr.retain(|node| !isr.contains(node));
            record.isr.clone_from(&isr);
        });
        Ok(self.record())
    }

    pub(crate) fn is_running(&self, id: u32) -> bool {
        self.running.lock().unwrap().contains_key(&NodeId(id))
    }

    pub(crate) fn handle(&self, id: u32) -> PartitionHandle {
        let running = self.running.lock().unwrap();
        running[&NodeId(id)].partition(AT).unwrap()
    }

    pub(crate) fn replication(&self, id: u32) -> Replication {
        self.running.lock().unwrap()[&NodeId(id)].clone()
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        self.env.sleep(time).await;
    }

    /// Waits, at most a (simulated) minute, until `holds` of a node's view.
    pub(crate) async fn until(
        &self,
        id: u32,
        holds: impl Fn(&weir_replication::PartitionView) -> bool,
    ) {
        let handle = self.handle(id);
        let mut views = handle.views();
        let wait = async { views.wait_for(|view| holds(view)).await.is_ok() };
        let held = self.env.timeout(Duration::from_secs(60), wait).await;
        assert_eq!(held, Some(true), "node {id}: {:?}", handle.view());
    }

    pub(crate) async fn until_ready(&self, id: u32) {
        self.until(id, |view| view.is_ready).await;
    }

    pub(crate) async fn until_in_sync(&self, id: u32, count: usize) {
        self.until(id, |view| view.isr.len() == count).await;
    }

    pub(crate) async fn produce(&self, id: u32, text: &str) -> Result<Appended, AppendError> {
        self.handle(id)
            .append(batch(text), AckLevel::All, Duration::from_secs(30))
            .await
    }

    /// Values below the watermark of a node, with their offsets, without control records.
    pub(crate) async fn values(&self, id: u32) -> Vec<(u64, String)> {
        let handle = self.handle(id);
        let mut values = vec![];
        let mut from = handle.view().log_start;
        loop {
            let fetched = handle.read(from, 1 << 20).await.unwrap();
            if fetched.chunk.bytes == 0 {
                return values;
            }
            from = fetched.chunk.end;
            let bytes: Bytes = fetched.chunk.chunks.concat().into();
            for batch in RecordBatch::parse_all(bytes).unwrap() {
                if !batch.header().attributes.is_control() {
                    for record in batch.records().unwrap() {
                        let value = record.value.unwrap();
                        let text = String::from_utf8(value.to_vec()).unwrap();
                        values.push((record.offset.0, text));
                    }
                }
            }
        }
    }

    /// Waits until all `ids` show the leader's log end as committed, and compares logs.
    pub(crate) async fn assert_alike(&self, leader: u32, ids: &[u32]) {
        self.until(leader, |view| view.high_watermark == view.log_end)
            .await;
        let end = self.handle(leader).view().log_end;
        let expected = self.values(leader).await;
        for id in ids {
            self.until(*id, |view| {
                view.high_watermark == end && view.log_end == end
            })
            .await;
            assert_eq!(self.values(*id).await, expected, "node {id}");
        }
    }
}

pub(crate) fn batch(text: &str) -> RecordBatch {
    BatchBuilder::new(Timestamp(1))
        .record(None, Some(text.as_bytes()))
        .build()
}

pub(crate) fn offset(appended: &Result<Appended, AppendError>) -> Offset {
    appended.as_ref().expect("acknowledged").base
}
