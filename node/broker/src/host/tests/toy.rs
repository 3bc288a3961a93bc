//! A journal, a machine and an environment small enough to hold in the head.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use weir_base::batch::BatchBuilder;
use weir_base::env::{Spawner, TaskControl};
use weir_base::machine::{Decision, Machine, Token};
use weir_base::{
    BoxFuture, ByteStream, Clock, Disk, DiskFile, Entropy, Env, LeaderEpoch, Listener, Monotonic,
    Net, Offset, OpenMode, RecordBatch, Tasks, Timestamp, TopicPartition, Uuid,
};

use crate::host::desk::NoParcel;
use crate::host::{
    HostError, HostOptions, Journal, JournalChunk, JournalError, JournalState, Journaled,
    MachineHost,
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds numbers up.
pub(in crate::host) enum Adder {}

#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::host) struct Sum {
    /// What was added, where.
    pub(in crate::host) added: Vec<(Offset, u64)>,
}

impl Sum {
    pub(in crate::host) fn total(&self) -> u64 {
        self.added.iter().map(|(_, number)| number).sum()
    }
}

#[derive(Debug)]
pub(in crate::host) enum Command {
    /// One record each; the reply is the sum after all.
    Add(Vec<u64>),
    /// The reply is the state.
    Read,
    /// The reply is the state after so long.
    ReadAfter(Duration),
}

impl Machine for Adder {
    type Durable = Sum;
    type Volatile = BTreeMap<(Timestamp, Token), ()>;
    type Command = Command;
    type Record = u64;
    type Reply = Sum;

    fn decide(
        durable: &Sum,
        timers: &mut Self::Volatile,
        now: Timestamp,
        token: Token,
        command: Command,
        out: &mut Decision<u64, Sum>,
    ) {
        match command {
            Command::Add(numbers) => {
                let sum = durable.total() + numbers.iter().sum::<u64>();
                out.records = numbers;
                let added = vec![(Offset::ZERO, sum)];
                out.replies.push((token, Sum { added }));
            }
            Command::Read => out.replies.push((token, durable.clone())),
            Command::ReadAfter(time) => {
                timers.insert((now + time, token), ());
            }
        }
    }

    fn apply(durable: &mut Sum, at: Offset, record: &u64) {
        durable.added.push((at, *record));
    }

    fn on_tick(
        durable: &Sum,
        timers: &mut Self::Volatile,
        now: Timestamp,
        out: &mut Decision<u64, Sum>,
    ) {
        while let Some(entry) = timers.first_entry() {
            let (at, token) = *entry.key();
            if at > now {
                return;
            }
            entry.remove();
            out.replies.push((token, durable.clone()));
        }
    }

    fn next_deadline(_: &Sum, timers: &Self::Volatile) -> Option<Timestamp> {
        timers.first_key_value().map(|((at, _), ())| *at)
    }
}

impl Journaled for Adder {
    const KIND: &'static str = "adder";
    type Want = ();
    type Parcel = NoParcel;
    type Notice = ();

    fn encode(record: &u64) -> (Bytes, Option<Bytes>) {
        (
            Bytes::new(),
            Some(Bytes::copy_from_slice(&record.to_be_bytes())),
        )
    }

    fn decode(_: Option<&[u8]>, value: Option<&[u8]>) -> Result<u64, String> {
        let value = value.and_then(|value| value.try_into().ok());
        value
            .map(u64::from_be_bytes)
            .ok_or_else(|| "not a number".to_owned())
    }
}

/// An append to be committed: its base, its end, who waits.
type Waiter = (
    Offset,
    Offset,
    oneshot::Sender<Result<Offset, JournalError>>,
);

/// One log that several nodes hold, one of which leads.
pub(in crate::host) struct Cluster {
    log: Vec<RecordBatch>,
    committed: Offset,
    epoch: LeaderEpoch,
    leader: Option<usize>,
    ready: bool,
    states: Vec<watch::Sender<JournalState>>,
    waiting: Vec<Waiter>,
    /// Whether the leader's lease holds.
    pub(in crate::host) lease: bool,
    /// Answers the next appends get; with `true` the batch is appended all the same.
    pub(in crate::host) refusals: VecDeque<(JournalError, bool)>,
    /// Where reads began.
    pub(in crate::host) reads: Vec<Offset>,
}

#[derive(Clone)]
pub(in crate::host) struct Shared(Arc<Mutex<Cluster>>);

impl Shared {
    pub(in crate::host) fn new(nodes: usize) -> Self {
        let states = (0..nodes).map(|_| watch::channel(JournalState::default()).0);
        Self(Arc::new(Mutex::new(Cluster {
            log: Vec::new(),
            committed: Offset::ZERO,
            epoch: LeaderEpoch(0),
            leader: None,
            ready: false,
            states: states.collect(),
            waiting: Vec::new(),
            lease: true,
            refusals: VecDeque::new(),
            reads: Vec::new(),
        })))
    }

    pub(in crate::host) fn get(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.0)
    }

    pub(in crate::host) fn journal(&self, node: usize) -> Arc<dyn Journal> {
        Arc::new(ToyJournal {
            cluster: self.clone(),
            node,
        })
    }
}

impl Cluster {
    pub(in crate::host) fn end(&self) -> Offset {
        self.log
            .last()
            .map_or(Offset::ZERO, RecordBatch::end_offset)
    }

    pub(in crate::host) fn leader(&self) -> Option<usize> {
        self.leader
    }

    fn publish(&self) {
        for (node, state) in self.states.iter().enumerate() {
            state.send_replace(JournalState {
                leading: (self.leader == Some(node)).then_some(self.epoch),
                ready: self.ready,
                committed: self.committed,
                log_start: Offset::ZERO,
                end: self.end(),
            });
        }
    }

    pub(in crate::host) fn push(&mut self, batch: &RecordBatch) -> Offset {
        let base = self.end();
        self.log.push(batch.clone().stamped(base, self.epoch));
        base
    }

    /// Commits the first `batches` of what is not committed.
    pub(in crate::host) fn commit(&mut self, batches: usize) {
        let committed = self.committed;
        let mut open = self
            .log
            .iter()
            .filter(|batch| batch.base_offset() >= committed);
        if let Some(last) = open.by_ref().take(batches).last() {
            self.committed = last.end_offset();
        }
        let committed = self.committed;
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, end, _)| *end <= committed);
        self.waiting = waiting;
        let done: Vec<_> = done;
        for (base, _, waiter) in done {
            // A host that crashed does not wait any more.
            waiter.send(Ok(base)).ok();
        }
        self.ready |= committed == self.end();
        self.publish();
    }

    pub(in crate::host) fn commit_all(&mut self) {
        self.commit(usize::MAX);
    }

    /// A new epoch under `node`, which has all or only the committed part of the log.
    /// Its barrier is not committed yet.
    pub(in crate::host) fn elect(&mut self, node: usize, suffix_survives: bool) {
        for (_, _, waiter) in self.waiting.drain(..) {
            waiter.send(Err(JournalError::Indeterminate)).ok();
        }
        if !suffix_survives {
            let committed = self.committed;
            self.log.retain(|batch| batch.end_offset() <= committed);
        }
        self.epoch = self.epoch.next();
        self.leader = Some(node);
        self.ready = false;
        let barrier = BatchBuilder::new(Timestamp(0))
            .control()
            .record(Some(b"barrier"), None);
        self.push(&barrier.build());
        self.publish();
    }

    /// As `elect`, with the barrier committed.
    pub(in crate::host) fn lead(&mut self, node: usize, suffix_survives: bool) {
        self.elect(node, suffix_survives);
        self.commit_all();
    }

    /// What a machine must hold: every number in the log below `below`.
    pub(in crate::host) fn fold(&self, below: Offset) -> Sum {
        let data = self
            .log
            .iter()
            .filter(|batch| !batch.header().attributes.is_control());
        let records = data.flat_map(|batch| batch.records().unwrap_or_default());
        let added = records
            .filter(|record| record.offset < below)
            .map(|record| {
                let number = Adder::decode(None, record.value.as_deref());
                (record.offset, number.unwrap_or_default())
            });
        Sum {
            added: added.collect(),
        }
    }

    pub(in crate::host) fn committed(&self) -> Sum {
        self.fold(self.committed)
    }
}

struct ToyJournal {
    cluster: Shared,
    node: usize,
}

impl Journal for ToyJournal {
    fn append(
        &self,
        epoch: LeaderEpoch,
        batch: RecordBatch,
    ) -> BoxFuture<'static, Result<Offset, JournalError>> {
        let mut cluster = self.cluster.get();
        if cluster.leader != Some(self.node) || cluster.epoch != epoch {
            return Box::pin(async { Err(JournalError::NotLeader) });
        }
        if let Some((error, appended)) = cluster.refusals.pop_front() {
            if appended {
                cluster.push(&batch);
                cluster.publish();
            }
            return Box::pin(async move { Err(error) });
        }
        let base = cluster.push(&batch);
        let end = cluster.end();
        let (waiter, wait) = oneshot::channel();
        cluster.waiting.push((base, end, waiter));
        cluster.publish();
        Box::pin(async move { wait.await.unwrap_or(Err(JournalError::Indeterminate)) })
    }

    fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<JournalChunk, JournalError>> {
        let mut cluster = self.cluster.get();
        cluster.reads.push(from);
        let mut chunk = JournalChunk {
            chunks: Vec::new(),
            end: from,
        };
        let mut bytes = 0;
        let committed = cluster.committed;
        let wanted = cluster
            .log
            .iter()
            .filter(|batch| batch.end_offset() > from && batch.end_offset() <= committed);
        for batch in wanted {
            let whole = batch.to_bytes();
            if bytes > 0 && bytes + whole.len() > bytes_max {
                break;
            }
            bytes += whole.len();
            // In two pieces, cut inside the header.
            chunk.chunks.extend([whole.slice(..20), whole.slice(20..)]);
            chunk.end = batch.end_offset();
        }
        Box::pin(async move { Ok(chunk) })
    }

    fn may_answer(&self) -> bool {
        self.cluster.get().lease
    }

    fn state(&self) -> watch::Receiver<JournalState> {
        let cluster = self.cluster.get();
        cluster.publish();
        cluster.states[self.node].subscribe()
    }
}

/// A clock that moves when told to.
pub(in crate::host) struct HandClock {
    now: watch::Sender<Monotonic>,
    wall: Mutex<Timestamp>,
}

impl HandClock {
    pub(in crate::host) fn pass(&self, time: Duration) {
        self.now.send_modify(|now| *now = *now + time);
    }

    pub(in crate::host) fn set_wall(&self, wall: Timestamp) {
        *lock(&self.wall) = wall;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Monotonic {
        *self.now.borrow()
    }

    fn wall(&self) -> Timestamp {
        *lock(&self.wall)
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// Files in memory, all durable at once.
#[derive(Clone, Default)]
pub(in crate::host) struct MemoryDisk(pub(in crate::host) Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl MemoryDisk {
    pub(in crate::host) fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        lock(&self.0)
    }
}

fn done<T: Send + 'static>(value: io::Result<T>) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async move { value })
}

impl Disk for MemoryDisk {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        let mut files = self.files();
        if mode == OpenMode::Existing && !files.contains_key(path) {
            return done(Err(io::ErrorKind::NotFound.into()));
        }
        files.entry(path.to_owned()).or_default();
        let file = MemoryFile(self.clone(), path.to_owned());
        done(Ok(Arc::new(file) as Arc<dyn DiskFile>))
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        let mut files = self.files();
        let Some(file) = files.remove(from) else {
            return done(Err(io::ErrorKind::NotFound.into()));
        };
        files.insert(to.to_owned(), file);
        done(Ok(()))
    }

    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        let removed = self.files().remove(path);
        done(
            removed
                .map(drop)
                .ok_or_else(|| io::ErrorKind::NotFound.into()),
        )
    }

    fn remove_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        done(Err(io::ErrorKind::Unsupported.into()))
    }

    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        done(Ok(()))
    }

    fn list(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        done(Err(io::ErrorKind::Unsupported.into()))
    }

    fn sync_directory(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        done(Ok(()))
    }

    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        done(Err(io::ErrorKind::Unsupported.into()))
    }

    fn boot_id(&self) -> String {
        String::new()
    }
}

struct MemoryFile(MemoryDisk, String);

impl MemoryFile {
    fn change<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> io::Result<T> {
        let mut files = self.0.files();
        let file = files.get_mut(&self.1);
        file.map(change)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        done(self.change(|file| {
            file.truncate(usize::try_from(offset).unwrap_or(0));
            chunks.iter().for_each(|chunk| file.extend(chunk));
        }))
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.write_at(offset, chunks)
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        done(self.change(|file| {
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(file.len());
            let end = start.saturating_add(len).min(file.len());
            Bytes::copy_from_slice(&file[start..end])
        }))
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        done(Ok(()))
    }

    fn allocate(&self, _: u64) -> BoxFuture<'static, io::Result<()>> {
        done(Ok(()))
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        done(self.change(|file| file.resize(usize::try_from(len).unwrap_or(0), 0)))
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        done(self.change(|file| file.len() as u64))
    }
}

struct NoNet;

impl Net for NoNet {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        done(Err(io::ErrorKind::Unsupported.into()))
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        done(Err(io::ErrorKind::Unsupported.into()))
    }

    fn resolve(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        done(Err(io::ErrorKind::Unsupported.into()))
    }
}

struct LocalTasks;

impl Spawner for LocalTasks {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is what env.tasks is in a test"
    )]
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        Box::new(LocalTask(tokio::spawn(future)))
    }
}

struct LocalTask(tokio::task::JoinHandle<()>);

impl TaskControl for LocalTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// A node: its clock, its disk, and its host while it runs.
pub(in crate::host) struct Node<M: Journaled = Adder> {
    pub(in crate::host) clock: Arc<HandClock>,
    pub(in crate::host) disk: MemoryDisk,
    pub(in crate::host) options: HostOptions,
    host: Option<MachineHost<M>>,
    journal: Arc<dyn Journal>,
}

impl<M: Journaled> Node<M> {
    pub(in crate::host) fn new(cluster: &Shared, node: usize) -> Self {
        let mut new = Self {
            clock: Arc::new(HandClock {
                now: watch::channel(Monotonic(0)).0,
                wall: Mutex::new(Timestamp(1_000_000)),
            }),
            disk: MemoryDisk::default(),
            options: HostOptions::default(),
            host: None,
            journal: cluster.journal(node),
        };
        new.start();
        new
    }

    /// Starts its host, again if it ran: a crash that only the disk survives.
    pub(in crate::host) fn start(&mut self) {
        self.host = None;
        let (env, id) = (self.env(), self.id());
        let options = self.options.clone();
        self.host = Some(MachineHost::start(
            &env,
            self.journal.clone(),
            id,
            options,
            M::Volatile::default,
        ));
    }

    pub(in crate::host) fn env(&self) -> Env {
        Env {
            clock: self.clock.clone(),
            entropy: Entropy::from_seed([1; 32]),
            disk: Arc::new(self.disk.clone()),
            net: Arc::new(NoNet),
            tasks: Tasks::new(Arc::new(LocalTasks)),
        }
    }

    pub(in crate::host) fn id(&self) -> TopicPartition {
        TopicPartition::new(Uuid([3; 16]), 7)
    }

    pub(in crate::host) fn host(&self) -> &MachineHost<M> {
        self.host.as_ref().expect("the host runs")
    }

    pub(in crate::host) fn has_failed(&self) -> bool {
        self.host.as_ref().is_some_and(MachineHost::is_finished)
    }

    pub(in crate::host) fn call(&self, command: M::Command) -> Answer<M::Reply> {
        let host = self.host.as_ref().expect("the host runs");
        Answer(host.call(command))
    }
}

impl Node {
    pub(in crate::host) fn add(&self, number: u64) -> Answer<Sum> {
        self.call(Command::Add(vec![number]))
    }

    pub(in crate::host) fn read(&self) -> Answer<Sum> {
        self.call(Command::Read)
    }
}

/// An answer to come.
pub(in crate::host) struct Answer<R>(BoxFuture<'static, Result<R, HostError>>);

impl<R> Answer<R> {
    /// The answer, if it is there by now.
    pub(in crate::host) async fn now(&mut self) -> Option<Result<R, HostError>> {
        settle().await;
        let mut answer = None;
        std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(result) = self.0.as_mut().poll(context) {
                answer = Some(result);
            }
            std::task::Poll::Ready(())
        })
        .await;
        answer
    }
}

impl Answer<Sum> {
    /// The sum in an answer that must be there.
    pub(in crate::host) async fn sum(mut self) -> Result<u64, HostError> {
        let answer = self.now().await.expect("no answer yet");
        answer.map(|sum| sum.total())
    }
}

/// Lets all tasks run until they wait: the runtime has one thread, and no task here
/// needs more turns than this to come to rest.
pub(in crate::host) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
