//! A partition of an internal topic as the journal of a hosted machine.

use std::time::Duration;

use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::{BoxFuture, Env, LeaderEpoch, Offset, RecordBatch};
use weir_replication::{AppendError, PartitionHandle, PartitionView, ReadError};

use crate::host::{Journal, JournalChunk, JournalError, JournalState};

/// How long an append may wait for its replicas before leadership decides. Long: the
/// host wants "committed" or "lost", and a journal without replicas has nothing else to do.
const COMMIT_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The journal over one replica.
pub(crate) struct PartitionJournal {
    partition: PartitionHandle,
    states: watch::Receiver<JournalState>,
    _follow: TaskHandle,
}

impl PartitionJournal {
    pub(crate) fn new(env: &Env, partition: PartitionHandle) -> Self {
        let mut views = partition.views();
        let first = journal_state(&views.borrow_and_update());
        let (sender, states) = watch::channel(first);
        let follow = env.tasks.spawn_owned("journal-state", async move {
            while views.changed().await.is_ok() {
                let state = journal_state(&views.borrow_and_update());
                sender.send_if_modified(|old| std::mem::replace(old, state) != state);
            }
        });
        Self {
            partition,
            states,
            _follow: follow,
        }
    }
}

impl Journal for PartitionJournal {
    fn append(
        &self,
        epoch: LeaderEpoch,
        batch: RecordBatch,
    ) -> BoxFuture<'static, Result<Offset, JournalError>> {
        let appended = self.partition.append_in_epoch(epoch, batch, COMMIT_WAIT);
        Box::pin(async move {
            appended
                .await
                .map(|done| done.base)
                .map_err(|error| match error {
                AppendError::NotLeader(_) | AppendError::Closed => JournalError::NotLeader,
                AppendError::NotEnoughReplicas { .. }
                | AppendError::Overloaded
                | AppendError::DiskFull => JournalError::Retry,
                AppendError::LeadershipLost(_)
                | AppendError::NotEnoughReplicasAfterAppend { .. }
                | AppendError::TimedOut(_)
                // A journal's batches carry no producer: this cannot be.
                | AppendError::Sequence(_)
                | AppendError::Storage(_) => JournalError::Indeterminate,
            })
        })
    }

    fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<JournalChunk, JournalError>> {
        let partition = self.partition.clone();
        Box::pin(async move {
            match partition.read(from, bytes_max).await {
                Ok(fetched) => Ok(JournalChunk {
                    chunks: fetched.chunk.chunks,
                    end: fetched.chunk.end,
                }),
                Err(ReadError::Closed) => Err(JournalError::NotLeader),
                Err(
                    ReadError::OutOfRange { .. } | ReadError::NotLeader(_) | ReadError::Storage(_),
                ) => Err(JournalError::Retry),
            }
        })
    }

    fn state(&self) -> watch::Receiver<JournalState> {
        self.states.clone()
    }
}

fn journal_state(view: &PartitionView) -> JournalState {
    JournalState {
        leading: view.is_leader.then_some(view.leader_epoch),
        ready: view.is_ready,
        committed: view.high_watermark.min(view.log_end),
        log_start: view.log_start,
        end: view.log_end,
    }
}
