//! One process' worth of nodes on tokio's paused clock.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_base::env::{Spawner, TaskControl};
use weir_base::{
    BoxFuture, ByteStream, Clock, Entropy, Env, Listener, Monotonic, Net, Tasks, Timestamp,
};

use super::disk::MemoryDisk;
use super::net::ToyTcp;

struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now(&self) -> Monotonic {
        let passed = tokio::time::Instant::now() - self.0;
        Monotonic(u64::try_from(passed.as_nanos()).unwrap())
    }

    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(self.now().0 / 1_000_000).unwrap())
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(
            self.0 + Duration::from_nanos(at.0),
        ))
    }
}

/// Starts tasks and can stop them all, as a killed process does.
#[derive(Default)]
pub(crate) struct Process {
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
    dead: AtomicBool,
}

struct Control(tokio::task::AbortHandle);

impl TaskControl for Control {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Spawner for Process {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        let task = tokio::spawn(future).abort_handle();
        if self.dead.load(Ordering::SeqCst) {
            task.abort();
        }
        let mut tasks = self.tasks.lock().unwrap();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        Box::new(Control(task))
    }
}

impl Process {
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

struct NoNet;

fn unsupported<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    Box::pin(std::future::ready(Err(io::Error::from(
        io::ErrorKind::Unsupported,
    ))))
}

impl Net for NoNet {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        unsupported()
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        unsupported()
    }

    fn resolve(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        unsupported()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub(crate) fn env(seed: u8, disk: &MemoryDisk, process: &Arc<Process>, tcp: Option<ToyTcp>) -> Env {
    let net: Arc<dyn Net> = match tcp {
        Some(tcp) => Arc::new(tcp),
        None => Arc::new(NoNet),
    };
    Env {
        clock: Arc::new(TokioClock(tokio::time::Instant::now())),
        entropy: Entropy::from_seed([seed; 32]),
        disk: Arc::new(disk.clone()),
        net,
        tasks: Tasks::new(process.clone()),
    }
}
