//! Tasks on the host's single thread.
//!
//! tokio drops the tasks of a crashed host in an order that depends on their ids, which
//! are counted for the whole process: another simulation in it, or an earlier one, would
//! change who says farewell first. So a node's tasks are dropped here, in the order they
//! were started, as soon as tokio drops the first.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::task::AbortHandle;
use weir_base::env::{Spawner, TaskControl};
use weir_base::{BoxFuture, NodeId};

use crate::trace::Trace;

/// Starts tasks on the runtime of the host that it is called in. They end with the
/// host's crash. A panic goes on record by name and ends the run.
pub struct SimSpawner {
    node: NodeId,
    trace: Trace,
    live: Arc<Live>,
}

impl SimSpawner {
    /// A spawner for one run of `node`.
    #[must_use]
    pub fn new(node: NodeId, trace: Trace) -> Self {
        Self {
            node,
            trace,
            live: Arc::default(),
        }
    }
}

impl SimSpawner {
    /// Runs `close` when the host crashes, after all tasks are gone: what a kernel does
    /// for a dead process, whatever the process still held in circles.
    pub fn at_crash(&self, close: impl FnOnce() + Send + 'static) {
        self.live.lock().at_crash.push(Box::new(close));
    }
}

impl Spawner for SimSpawner {
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulator's spawner is where its tasks start"
    )]
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl> {
        let slot = Arc::new(Slot {
            future: Mutex::new(Some(future)),
            is_aborted: AtomicBool::new(false),
        });
        let runner = Runner {
            node: self.node,
            name,
            trace: self.trace.clone(),
            id: self.live.enter(&slot),
            slot: Arc::clone(&slot),
            live: Arc::clone(&self.live),
        };
        let tokio = tokio::spawn(runner).abort_handle();
        Box::new(SimTask { slot, tokio })
    }
}

struct SimTask {
    slot: Arc<Slot>,
    tokio: AbortHandle,
}

impl TaskControl for SimTask {
    fn abort(&self) {
        self.slot.is_aborted.store(true, Ordering::Relaxed);
        self.tokio.abort();
    }

    fn is_finished(&self) -> bool {
        self.tokio.is_finished()
    }
}

/// A task's future, until it ended or was dropped.
struct Slot {
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    is_aborted: AtomicBool,
}

impl Slot {
    fn clear(&self) {
        // Locked only while it is polled, and then it is not being dropped.
        let future = self.future.try_lock().ok().and_then(|mut f| f.take());
        drop(future);
    }
}

/// The tasks of one run of a node that did not end yet, in the order they started.
#[derive(Default)]
struct Live(Mutex<LiveState>);

#[derive(Default)]
struct LiveState {
    slots: BTreeMap<u64, Arc<Slot>>,
    next_id: u64,
    at_crash: Vec<Box<dyn FnOnce() + Send>>,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, LiveState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, slot: &Arc<Slot>) -> u64 {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.slots.insert(id, Arc::clone(slot));
        id
    }

    /// Drops every task in order; what they start meanwhile as well.
    fn crash(&self) {
        loop {
            let first = self.lock().slots.pop_first();
            match first {
                Some((_, slot)) => slot.clear(),
                None => break,
            }
        }
        let at_crash = std::mem::take(&mut self.lock().at_crash);
        for close in at_crash {
            close();
        }
    }
}

/// What tokio is given in place of the future.
struct Runner {
    node: NodeId,
    name: &'static str,
    trace: Trace,
    id: u64,
    slot: Arc<Slot>,
    live: Arc<Live>,
}

impl Runner {
    fn end(&self) {
        let slot = self.live.lock().slots.remove(&self.id);
        if let Some(slot) = slot {
            slot.clear();
        }
    }
}

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut future = self
            .slot
            .future
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let polled = match future.as_mut() {
            Some(future) => catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))),
            None => Ok(Poll::Ready(())),
        };
        drop(future);
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                self.end();
                Poll::Ready(())
            }
            Err(panic) => {
                let (node, name) = (self.node, self.name);
                self.trace.note(&node, format_args!("task {name} panicked"));
                tracing::error!(%node, task = name, "task panicked");
                resume_unwind(panic)
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.slot.is_aborted.load(Ordering::Relaxed) {
            self.end();
        } else if self.live.lock().slots.contains_key(&self.id) {
            // Neither ended nor aborted: the host crashes.
            self.live.crash();
        }
    }
}
