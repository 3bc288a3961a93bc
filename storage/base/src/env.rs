//! The seams: everything outside the process that Weir depends on, as one cloneable
//! struct passed by constructor. `node/os` builds the real one, `sim` the simulated
//! one; no other crate names a socket, a file, a clock or a source of entropy.
//!
//! The seams are `dyn`: one dynamic call per *batch* is noise beside the write it
//! makes (decisions/0001).

mod clock;
mod disk;
mod entropy;
mod net;
mod tasks;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub use clock::Clock;
pub use disk::{CacheHint, Disk, DiskFile, OpenMode, WriteSource};
pub use entropy::Entropy;
pub use net::{ByteStream, Listener, Net};
pub use tasks::{Spawner, TaskControl, TaskHandle, Tasks};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a node may touch of the world.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness; fork it by name, so that a new user does not shift older streams.
    pub entropy: Entropy,
    /// The node's data directory.
    pub disk: Arc<dyn Disk>,
    /// TCP.
    pub net: Arc<dyn Net>,
    /// Supervised tasks.
    pub tasks: Tasks,
}

impl Env {
    /// Sleeps for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.clock.sleep_until(self.clock.now() + duration).await;
    }

    /// Runs `future` for at most `duration`; `None` if it did not finish and was dropped.
    /// The future is polled before the clock, so one that is ready always wins.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        let mut deadline = self.clock.sleep_until(self.clock.now() + duration);
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            deadline.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}
