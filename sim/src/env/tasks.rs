//! Tasks on the host's single thread.
//!
//! tokio drops the tasks of a crashed host in an order that depends on their ids, which
//! are counted for the whole process: another simulation in it, or an earlier one, would
//! change who says farewell first. So a node's tasks are dropped here, in the order they
//! were started, as soon as tokio drops the first.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;
use weir_base::env::{Spawner, TaskControl};
use weir_base::{BoxFuture, NodeId};

use crate::trace::Trace;

/// Starts tasks on the runtime of the host that it is called in. They end with the
/// host's crash. A panic goes on record by name and ends the run, or, where panics are
/// contained, only the process: none of its tasks runs again.
pub struct SimSpawner {
    node: NodeId,
    trace: Trace,
    live: Arc<Live>,
    contains_panics: bool,
}

impl SimSpawner {
    /// A spawner for one run of `node`.
    #[must_use]
    pub fn new(node: NodeId, trace: Trace) -> Self {
        Self {
            node,
            trace,
            live: Arc::default(),
            contains_panics: false,
        }
    }

    /// From now on a panic ends the process alone, and [`SimSpawner::death`] tells why.
    #[must_use]
    pub fn containing_panics(mut self) -> Self {
        self.contains_panics = true;
        self
    }

    /// Why the process ended by itself, if it did.
    #[must_use]
    pub fn death(&self) -> Option<String> {
        self.live.lock().death.clone()
    }

    /// Ends the process by itself: no task runs again. The first reason counts.
    pub fn die(&self, why: String) {
        self.live.lock().death.get_or_insert(why);
    }

    /// Stops all tasks where they are, as SIGSTOP does; time and the kernel go on.
    pub fn pause(&self) {
        self.live.lock().is_paused = true;
    }

    /// Lets paused tasks go on.
    pub fn resume(&self) {
        let parked = {
            let mut state = self.live.lock();
            state.is_paused = false;
            std::mem::take(&mut state.parked)
        };
        parked.into_iter().for_each(Waker::wake);
    }

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
            contains_panics: self.contains_panics,
        };
        let tokio = tokio::spawn(runner).abort_handle();
        Box::new(SimTask { slot, tokio })
    }
}

thread_local! {
    /// Whose task runs: a run has a thread of its own.
    static RUNNING: Cell<Option<NodeId>> = const { Cell::new(None) };
}

/// The node whose task runs now, or is being dropped; `None` outside of tasks.
pub(crate) fn running_node() -> Option<NodeId> {
    RUNNING.get()
}

/// Until it is dropped, a node's task runs.
struct Running {
    before: Option<NodeId>,
}

impl Running {
    fn of(node: NodeId) -> Self {
        Self {
            before: RUNNING.replace(Some(node)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.before);
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
    death: Option<String>,
    is_paused: bool,
    /// Tasks that were woken during the pause.
    parked: Vec<Waker>,
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

    /// Whether tasks run now; one that may not is woken when it may again.
    fn runs(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.is_paused {
            state.parked.push(cx.waker().clone());
        }
        !state.is_paused && state.death.is_none()
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
    contains_panics: bool,
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
        if !self.live.runs(cx) {
            return Poll::Pending;
        }
        let _running = Running::of(self.node);
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
                if !self.contains_panics {
                    resume_unwind(panic)
                }
                let why = format!("task {name} panicked: {}", message(&*panic));
                self.live.lock().death.get_or_insert(why);
                Poll::Pending
            }
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _running = Running::of(self.node);
        if self.slot.is_aborted.load(Ordering::Relaxed) {
            self.end();
        } else if self.live.lock().slots.contains_key(&self.id) {
            // Neither ended nor aborted: the host crashes.
            self.live.crash();
        }
    }
}
