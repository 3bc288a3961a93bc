//! What async targets run in: one thread, tokio's paused clock, a disk in memory, and
//! connections that are handed over instead of made.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, UnhandledPanic};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use weir_base::env::{Spawner, TaskControl};
use weir_base::{
    BoxFuture, ByteStream, Clock, Disk, Entropy, Env, Listener, Monotonic, Net, Tasks, Timestamp,
};
use weir_storage::SimDisk;

use crate::env::EPOCH;

/// The longest that anything may take, in simulated time.
const HANGS: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs `target` to its end.
///
/// # Panics
/// If it or a task it started does, or if it waits for longer than a simulated day.
#[expect(
    clippy::disallowed_methods,
    reason = "tokio's clock is the simulated one here"
)]
pub(super) fn run<F: Future<Output = ()>>(target: impl FnOnce(World) -> F) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .unhandled_panic(UnhandledPanic::ShutdownRuntime)
        .build()
        .expect("a runtime without I/O needs nothing of the machine");
    let ended = runtime.block_on(async {
        let target = target(World::new());
        tokio::time::timeout(HANGS, target).await
    });
    assert!(ended.is_ok(), "still waiting after {HANGS:?}");
}

/// The seams of one target's run.
pub(super) struct World {
    entropy: Entropy,
    disk: SimDisk,
    clock: Arc<PausedClock>,
    calls: Arc<Calls>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "where the paused clock begins")]
    fn new() -> World {
        let entropy = Entropy::from_seed([0xf2; 32]);
        World {
            disk: SimDisk::new(&entropy),
            entropy,
            clock: Arc::new(PausedClock(Instant::now())),
            calls: Arc::default(),
        }
    }

    /// The disk, as nobody's.
    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The seams of the next process on the disk.
    pub(super) fn env(&self, process: &str) -> Env {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.handle(None));
        Env {
            clock: self.clock.clone(),
            entropy: self.entropy.fork(process),
            disk,
            net: self.calls.clone(),
            tasks: Tasks::new(Arc::new(TokioSpawner)),
        }
    }

    /// Connects `stream` to whoever listens.
    ///
    /// # Panics
    /// If nobody does.
    pub(super) fn call(&self, stream: impl ByteStream + 'static) {
        let listener = self.calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = listener.as_ref().expect("somebody listens");
        assert!(listener.send(Box::new(stream)).is_ok(), "nobody accepts");
    }
}

struct PausedClock(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "this is the seam, on simulated time"
)]
impl Clock for PausedClock {
    fn now(&self) -> Monotonic {
        Monotonic::default() + self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        EPOCH + self.0.elapsed()
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

struct TokioSpawner;

struct TokioTask(AbortHandle);

impl Spawner for TokioSpawner {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        Box::new(TokioTask(tokio::spawn(future).abort_handle()))
    }
}

impl TaskControl for TokioTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

type Stream = Box<dyn ByteStream>;

/// The one listener there may be.
#[derive(Default)]
struct Calls(Mutex<Option<mpsc::UnboundedSender<Stream>>>);

const ADDRESS: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    9092,
);

impl Net for Calls {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let listener = Calling(tokio::sync::Mutex::new(receiver));
        Box::pin(async { Ok(Box::new(listener) as Box<dyn Listener>) })
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

struct Calling(tokio::sync::Mutex<mpsc::UnboundedReceiver<Stream>>);

impl Listener for Calling {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok((stream, ADDRESS)),
                None => std::future::pending().await,
            }
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(ADDRESS)
    }
}
