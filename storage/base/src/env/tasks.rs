//! Named, supervised tasks: none is detached, and a panic stops the node.

use std::future::Future;
use std::sync::Arc;

use super::BoxFuture;

/// Starts tasks. Implemented by the host; a task that panics stops the whole node,
/// because what it guarded is in an unknown state.
pub trait Spawner: Send + Sync {
    /// Runs `future` under `name`, which shows in logs and panics.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn TaskControl>;
}

/// A running task.
pub trait TaskControl: Send + Sync {
    /// Drops the task at its next suspension point.
    fn abort(&self);

    /// Whether it ended.
    fn is_finished(&self) -> bool;
}

/// The way to start tasks.
#[derive(Clone)]
pub struct Tasks(Arc<dyn Spawner>);

impl Tasks {
    /// Tasks run by `spawner`.
    #[must_use]
    pub fn new(spawner: Arc<dyn Spawner>) -> Self {
        Self(spawner)
    }

    /// Starts a task that runs until it ends or the node stops.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(name, Box::pin(future)));
    }

    /// Starts a task that is aborted when the handle is dropped.
    #[must_use]
    pub fn spawn_owned(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        TaskHandle(self.0.spawn(name, Box::pin(future)))
    }
}

/// Owns a task: dropping it aborts the task.
pub struct TaskHandle(Box<dyn TaskControl>);

impl TaskHandle {
    /// Whether it ended by itself.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}
