//! Supervised tokio tasks.
//!
//! A panic is caught where it happens, named, and handed to the hook, which by default
//! aborts the process. Shutdown drops every task and waits until the last is gone, so
//! that no task touches the disk after the composition root closed it.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use weir_base::BoxFuture;
use weir_base::env::{Spawner, TaskControl};

/// Told the name and the message of a task that panicked.
pub type PanicHook = Arc<dyn Fn(&'static str, &str) + Send + Sync>;

/// Starts tasks on the tokio runtime it was made in.
pub struct OsSpawner {
    runtime: Handle,
    live: Arc<Live>,
    on_panic: PanicHook,
}

impl OsSpawner {
    /// A spawner that tells `on_panic` of every panic.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    #[must_use]
    pub fn new(on_panic: PanicHook) -> Self {
        Self {
            runtime: Handle::current(),
            live: Arc::new(Live::default()),
            on_panic,
        }
    }

    /// A spawner that aborts the process on a panic.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    #[must_use]
    pub fn aborting() -> Self {
        Self::new(Arc::new(|_, _| std::process::abort()))
    }

    /// Drops every task at its next suspension point, lets no new one run, and returns
    /// when all are gone. Must not be called from one of its own tasks.
    pub async fn shutdown(&self) {
        let mut count = self.live.count.subscribe();
        let aborts: Vec<AbortHandle> = {
            let mut state = self.live.lock();
            state.closing = true;
            state
                .tasks
                .values()
                .filter_map(|task| task.abort.clone())
                .collect()
        };
        for abort in aborts {
            abort.abort();
        }
        // The sender lives in `self`, so this ends only at zero.
        if count.wait_for(|count| *count == 0).await.is_err() {
            tracing::error!("task count lost");
        }
    }

    /// Names of the running tasks, oldest first: what a stuck shutdown waits for.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        self.live.lock().tasks.values().map(|t| t.name).collect()
    }
}

impl Spawner for OsSpawner {
    fn spawn(
        &self,
        name: &'static str,
        mut future: BoxFuture<'static, ()>,
    ) -> Box<dyn TaskControl> {
        let id = self.live.enter(name);
        // Inside the future, so that it also leaves when the task is dropped unpolled.
        let leave = Leave(Arc::clone(&self.live), id);
        let on_panic = Arc::clone(&self.on_panic);
        let task = self.runtime.spawn(async move {
            let _leave = leave;
            poll_fn(
                move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(poll) => poll,
                    Err(panic) => {
                        let message = panic_message(panic.as_ref());
                        tracing::error!(task = name, message, "task panicked");
                        on_panic(name, message);
                        Poll::Ready(())
                    }
                },
            )
            .await;
        });
        let abort = task.abort_handle();
        self.live.started(id, &abort);
        Box::new(OsTask(abort))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

struct OsTask(AbortHandle);

impl TaskControl for OsTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// The tasks that are not gone yet.
struct Live {
    state: Mutex<LiveState>,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct LiveState {
    tasks: BTreeMap<u64, LiveTask>,
    next_id: u64,
    closing: bool,
}

struct LiveTask {
    name: &'static str,
    /// Set right after the start; a task can be gone before that.
    abort: Option<AbortHandle>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, name: &'static str) -> u64 {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.tasks.insert(id, LiveTask { name, abort: None });
        self.count.send_replace(state.tasks.len());
        id
    }

    fn started(&self, id: u64, abort: &AbortHandle) {
        let mut state = self.lock();
        let closing = state.closing;
        if let Some(task) = state.tasks.get_mut(&id) {
            task.abort = Some(abort.clone());
        }
        drop(state);
        if closing {
            abort.abort();
        }
    }

    fn leave(&self, id: u64) {
        let mut state = self.lock();
        state.tasks.remove(&id);
        self.count.send_replace(state.tasks.len());
    }
}

struct Leave(Arc<Live>, u64);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;
    use weir_base::Tasks;

    #[tokio::test]
    async fn a_panic_is_named() {
        let (told, mut heard) = mpsc::unbounded_channel();
        let spawner = Arc::new(OsSpawner::new(Arc::new(move |name, message: &str| {
            told.send((name, message.to_owned())).unwrap();
        })));
        let number = 7;
        Tasks::new(spawner).spawn("bad", async move { panic!("number {number}") });
        assert_eq!(heard.recv().await, Some(("bad", "number 7".to_owned())));
    }

    #[tokio::test]
    async fn shutdown_drops_every_task_and_lets_no_new_one_run() {
        let spawner = Arc::new(OsSpawner::aborting());
        let tasks = Tasks::new(Arc::clone(&spawner) as Arc<dyn Spawner>);
        let (held, mut dropped) = mpsc::channel::<()>(1);
        tasks.spawn("waits", async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(spawner.running(), ["waits"]);
        spawner.shutdown().await;
        assert_eq!(dropped.recv().await, None);
        tasks.spawn("late", std::future::pending());
        spawner.shutdown().await;
        assert!(spawner.running().is_empty());
    }

    #[tokio::test]
    async fn an_owned_task_ends_with_its_handle() {
        let tasks = Tasks::new(Arc::new(OsSpawner::aborting()));
        let (held, mut dropped) = mpsc::channel::<()>(1);
        let handle = tasks.spawn_owned("owned", async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert!(!handle.is_finished());
        drop(handle);
        assert_eq!(dropped.recv().await, None);
    }
}
