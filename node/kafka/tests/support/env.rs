//! The seams over tokio and loopback TCP: enough of a machine for the fronts' tests.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_base::env::{Spawner, TaskControl};
use weir_base::{
    BoxFuture, ByteStream, Clock, Disk, DiskFile, Entropy, Env, Listener, Monotonic, Net, OpenMode,
    Tasks, Timestamp,
};

/// An environment with real time and loopback TCP, fixed entropy and no disk.
pub fn env() -> Env {
    Env {
        clock: Arc::new(RealClock::new()),
        entropy: Entropy::from_seed([7; 32]),
        disk: Arc::new(NoDisk),
        net: Arc::new(Loopback),
        tasks: Tasks::new(Arc::new(TokioTasks)),
    }
}

struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(i64::try_from(since.unwrap().as_millis()).unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

struct TokioTasks;

struct Task(tokio::task::JoinHandle<()>);

impl Spawner for TokioTasks {
    #[expect(clippy::disallowed_methods, reason = "this is the spawner")]
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        Box::new(Task(tokio::spawn(future)))
    }
}

impl TaskControl for Task {
    fn abort(&self) {
        self.0.abort();
    }
    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

struct Loopback;

struct TcpListener(tokio::net::TcpListener);

impl Net for Loopback {
    #[expect(clippy::disallowed_methods, reason = "this is the network")]
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            Ok(Box::new(TcpListener(listener)) as Box<dyn Listener>)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the network")]
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let parsed = host.parse().map(|ip| vec![SocketAddr::new(ip, port)]);
        Box::pin(async move { parsed.map_err(|_| io::ErrorKind::NotFound.into()) })
    }
}

impl Listener for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, remote) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, remote))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Fronts keep nothing on disk.
struct NoDisk;

fn unsupported<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
}

impl Disk for NoDisk {
    fn open(&self, _: &str, _: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        unsupported()
    }
    fn rename(&self, _: &str, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn remove_file(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn remove_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn list(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        unsupported()
    }
    fn sync_directory(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        unsupported()
    }
    fn boot_id(&self) -> String {
        "test".to_owned()
    }
}

/// Runs a test on a runtime of its own, and fails it if it hangs.
#[expect(clippy::disallowed_methods, reason = "a test that hangs must fail")]
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), test).await };
    runtime.block_on(limited).expect("test finished in time")
}
