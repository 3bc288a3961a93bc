//! Tasks on the host's single thread.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::task::AbortHandle;
use weir_base::env::{Spawner, TaskControl};
use weir_base::{BoxFuture, NodeId};

use crate::trace::Trace;

/// Starts tasks on the runtime of the host that it is called in. They end with the
/// host's crash. A panic goes on record by name and ends the run.
pub struct SimSpawner {
    node: NodeId,
    trace: Trace,
}

impl SimSpawner {
    /// A spawner for `node`.
    #[must_use]
    pub fn new(node: NodeId, trace: Trace) -> Self {
        Self { node, trace }
    }
}

impl Spawner for SimSpawner {
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulator's spawner is where its tasks start"
    )]
    fn spawn(
        &self,
        name: &'static str,
        mut future: BoxFuture<'static, ()>,
    ) -> Box<dyn TaskControl> {
        let (node, trace) = (self.node, self.trace.clone());
        let task = tokio::spawn(poll_fn(move |cx| {
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))).unwrap_or_else(|panic| {
                trace.note(&node, format_args!("task {name} panicked"));
                tracing::error!(%node, task = name, "task panicked");
                resume_unwind(panic)
            })
        }));
        Box::new(SimTask(task.abort_handle()))
    }
}

struct SimTask(AbortHandle);

impl TaskControl for SimTask {
    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}
