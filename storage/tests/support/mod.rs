//! An environment for tests and benches: tokio's clock, tokio's tasks, any disk.
#![allow(dead_code, unreachable_pub, reason = "each user needs a part of it")]
#![expect(clippy::disallowed_methods, reason = "this is where the seams end")]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weir_base::env::{Spawner, TaskControl};
use weir_base::{
    BoxFuture, ByteStream, Clock, Disk, Entropy, Env, Listener, Monotonic, Net, Tasks, Timestamp,
    TopicPartition, Uuid,
};

pub struct TokioClock(Instant);

impl TokioClock {
    pub fn start() -> Arc<TokioClock> {
        Arc::new(TokioClock(Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        let millis = i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(1_700_000_000_000 + millis)
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(
            self.0 + Duration::from_nanos(at.0),
        ))
    }
}

struct TokioSpawner;

struct TokioTask(tokio::task::JoinHandle<()>);

impl Spawner for TokioSpawner {
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        Box::new(TokioTask(tokio::spawn(future)))
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

struct NoNet;

impl Net for NoNet {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// An environment on `disk`; equal seeds give equal randomness.
pub fn env(disk: Arc<dyn Disk>, seed: u8) -> Env {
    Env {
        clock: TokioClock::start(),
        entropy: Entropy::from_seed([seed; 32]),
        disk,
        net: Arc::new(NoNet),
        tasks: Tasks::new(Arc::new(TokioSpawner)),
    }
}

/// The partition numbered `index` of a fixed topic.
pub fn partition(index: u32) -> TopicPartition {
    TopicPartition::new(Uuid([9; 16]), index)
}
