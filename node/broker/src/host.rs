//! Runs a replicated machine on its journal partition.
//!
//! ```text
//!            snapshot + replay               leads, all of the journal folded
//!   Loading ------------------> Following ---------------------------> Serving
//!      ^                          |   ^ nothing uncommitted was applied   |
//!      +--- else: rebuild --------+---+-------- epoch lost ---------------+
//!
//!   call -> mailbox -> decide + apply at predicted offsets -> pending batch
//!                        |                                      | one append in flight
//!                        +-> reply, parked at the end <- committed
//! ```
//!
//! Owns `Durable` and `Volatile` of one machine. A follower folds committed records as
//! they arrive, so a new leader serves as soon as the journal is ready. What must hold:
//!
//! - No reply, of a read either, leaves before everything it was decided on is committed.
//! - `Durable` of a host that does not serve is the fold of committed records alone.
//! - Only this host appends to the journal while it leads (the epoch's barrier aside, which
//!   is folded before it serves): every batch lands where it was predicted to, or the
//!   node stops, since its state would not be the fold of the journal.
//!
//! Called by the broker, once a journal replica. On a crash all of it is lost and comes
//! back from the journal; the snapshot only saves replaying it from the start. On losing
//! the epoch callers in wait get [`HostError::Indeterminate`]; there is no rollback code:
//! if something uncommitted was applied, the fold is built anew.
//!
//! Cost of a command: its share of one append. One batch is in flight and the next fills
//! meanwhile, so a journal does `commands waiting / commit latency` a second with at most
//! two commit latencies a command: at 1 ms and 1,000 callers, a million a second would
//! be bound by `decide`, not by the log. A second batch in flight would save one latency
//! under load and cost the case of a refused batch followed by an accepted one.

pub(crate) mod desk;
mod drive;
mod load;
pub(crate) mod outbox;
mod park;
mod snapshot;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use weir_base::machine::Machine;
use weir_base::{
    BoxFuture, Env, LeaderEpoch, Offset, RecordBatch, TopicPartition, env::TaskHandle,
};
use weir_coordinator::{GroupMachine, GroupRecord};

use desk::{Desk, NoParcel, Parcel};
use drive::Driver;
use snapshot::SnapshotName;

/// The journal of one machine: a replica of an internal partition.
pub(crate) trait Journal: Send + Sync {
    /// Appends in `epoch` and waits for the commit; gives the batch's first offset.
    /// Appends take effect in the order of the calls, from the call on, not from the
    /// first poll. A journal that no longer leads in exactly this epoch refuses with
    /// `NotLeader`. An append that was made and is not committed for want of replicas
    /// waits rather than fails.
    fn append(
        &self,
        epoch: LeaderEpoch,
        batch: RecordBatch,
    ) -> BoxFuture<'static, Result<Offset, JournalError>>;

    /// Reads whole committed batches from the one that holds `from` on, leaving out none
    /// that the log holds: at least one if there is any, else about `bytes_max`. Also on
    /// followers.
    fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<JournalChunk, JournalError>>;

    /// Whether this node, if it leads, may answer what needs no append: a deposed leader
    /// that has not heard of it may not, once its lease has run out (I10).
    fn may_answer(&self) -> bool;

    /// Follows where the journal stands. What it tells of an append may come a moment
    /// later than the append's own answer.
    fn state(&self) -> watch::Receiver<JournalState>;
}

/// Committed batches.
#[derive(Debug, Default)]
pub(crate) struct JournalChunk {
    /// Back to back; a batch may span two pieces.
    pub(crate) chunks: Vec<Bytes>,
    /// One past the last batch; what was asked for if there was none.
    pub(crate) end: Offset,
}

/// Where a journal replica stands; all of it at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct JournalState {
    /// The epoch in which this node leads, if it does.
    pub(crate) leading: Option<LeaderEpoch>,
    /// Whether a leader's high watermark has reached the start of its epoch.
    pub(crate) ready: bool,
    /// High watermark, as far as this replica holds the data.
    pub(crate) committed: Offset,
    /// First retained offset.
    pub(crate) log_start: Offset,
    /// Log end offset.
    pub(crate) end: Offset,
}

/// Why a journal did not append or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum JournalError {
    /// Not led here in that epoch; definitely not appended.
    #[error("journal is not led here in this epoch")]
    NotLeader,
    /// Definitely not appended; may be tried again.
    #[error("journal cannot append or read just now")]
    Retry,
    /// Appended or not; it will not be appended later than now.
    #[error("journal lost track of an append")]
    Indeterminate,
}

/// A machine whose records and state have bytes.
pub(crate) trait Journaled:
    Machine<Durable: Serialize + DeserializeOwned, Reply: 'static, Command: 'static> + 'static
{
    /// Names the machine and the version of its `Durable`'s form; a snapshot of another
    /// kind is ignored.
    const KIND: &'static str;
    /// What the machine may want read for it.
    type Want: Send + 'static;
    /// What it has written to other partitions.
    type Parcel: Parcel;
    /// What others may know of its state at any time, without asking.
    type Notice: Clone + Default + PartialEq + Send + Sync + 'static;

    /// A record's key and value.
    fn encode(record: &Self::Record) -> (Bytes, Option<Bytes>);

    /// The reverse.
    fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self::Record, String>;

    /// What it wants read since it was asked last. Asked after every turn of a serving
    /// machine; what is read comes back as a command.
    fn wants(_: &Self::Durable, _: &mut Self::Volatile) -> Vec<Self::Want> {
        Vec::new()
    }

    /// The first parcel of every lane, if that is not what `known` says. Asked of committed
    /// state alone: what is not on record for good must not leave.
    fn parcels(_: &Self::Durable, _known: &[Self::Parcel]) -> Option<Vec<Self::Parcel>> {
        None
    }

    /// Made of a serving machine's state, not all of which may be committed.
    fn notice(_: &Self::Durable) -> Self::Notice {
        Self::Notice::default()
    }
}

impl Journaled for GroupMachine {
    const KIND: &'static str = "groups-1";
    type Want = ();
    type Parcel = NoParcel;
    type Notice = ();

    fn encode(record: &GroupRecord) -> (Bytes, Option<Bytes>) {
        record.encode()
    }

    fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<GroupRecord, String> {
        GroupRecord::decode(key, value).map_err(|error| error.to_string())
    }
}

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HostError {
    /// This node does not lead the journal; nothing was done.
    #[error("this node does not lead the journal")]
    NotLeader,
    /// It leads as far as it knows, but its lease has run out (I10); nothing was done, and
    /// the machine goes on if the lease comes back.
    #[error("this node may not answer: its lease has run out")]
    NoLease,
    /// It leads, and still folds the journal; nothing was done.
    #[error("the journal is being loaded")]
    Loading,
    /// Leadership was lost meanwhile: done or not, both are possible.
    #[error("leadership was lost while the call was under way")]
    Indeterminate,
    /// The mailbox is full; nothing was done.
    #[error("too many calls are waiting")]
    Overloaded,
    /// The journal holds records this version cannot read; an operator must look.
    #[error("the journal cannot be read: {0}")]
    Unreadable(Arc<str>),
}

/// Settings of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostOptions {
    /// Calls waiting to be decided; more are refused with `Overloaded`.
    pub(crate) mailbox_max: usize,
    /// Replies waiting for a commit; above that no call is taken from the mailbox.
    pub(crate) parked_max: usize,
    /// Callers waiting for any reason, such as a join barrier; more are refused.
    pub(crate) callers_max: usize,
    /// A pending batch this large takes no more commands (one may exceed it).
    pub(crate) batch_bytes_max: usize,
    /// Bytes a replay reads at once and folds in one go, or one batch that is larger: little,
    /// so that the node's partitions follow their leaders meanwhile.
    pub(crate) read_bytes_max: usize,
    /// With more unread records than these a machine is behind: some hundredths of a second
    /// of work.
    pub(crate) unread_max: u64,
    /// Pause before a refused append or read is tried again.
    pub(crate) retry_after: Duration,
    /// A snapshot is due after this many bytes of records, or four times the size of the
    /// last one if that is more, so that snapshots cost a fixed share of the writing.
    pub(crate) snapshot_after_bytes: u64,
    /// An older snapshot is not read. Well below the time for which compaction keeps
    /// deletions (a day).
    pub(crate) snapshot_age_max: Duration,
    /// A larger snapshot file is not read.
    pub(crate) snapshot_bytes_max: u64,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            mailbox_max: 1024,
            parked_max: 16 * 1024,
            callers_max: 256 * 1024,
            batch_bytes_max: 1024 * 1024,
            read_bytes_max: 128 * 1024,
            unread_max: 10_000,
            retry_after: Duration::from_millis(50),
            snapshot_after_bytes: 8 * 1024 * 1024,
            snapshot_age_max: Duration::from_secs(12 * 3600),
            snapshot_bytes_max: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// One caller's wish and where its answer goes.
struct Call<M: Machine> {
    command: M::Command,
    reply: oneshot::Sender<Result<M::Reply, HostError>>,
}

/// A running machine. Dropping it ends its task; callers in wait get `Indeterminate`.
pub(crate) struct MachineHost<M: Journaled> {
    caller: Caller<M>,
    desk: Arc<Desk<M>>,
    is_behind: Arc<AtomicBool>,
    /// Aborted when dropped.
    _task: TaskHandle,
}

/// A way to a machine that does not keep it running.
pub(crate) struct Caller<M: Machine> {
    mailbox: mpsc::Sender<Call<M>>,
}

impl<M: Machine> Clone for Caller<M> {
    fn clone(&self) -> Self {
        let mailbox = self.mailbox.clone();
        Self { mailbox }
    }
}

impl<M: Journaled> MachineHost<M> {
    /// Starts a machine on its journal. `volatile` makes the state of a new leader, which
    /// is where the machine's options come in.
    pub(crate) fn start(
        env: &Env,
        journal: Arc<dyn Journal>,
        id: TopicPartition,
        options: HostOptions,
        volatile: impl Fn() -> M::Volatile + Send + 'static,
    ) -> Self {
        let (mailbox, calls) = mpsc::channel(options.mailbox_max);
        let desk = Arc::new(Desk::new());
        let is_behind = Arc::new(AtomicBool::new(true));
        let driver = Driver::<M>::new(
            env.clone(),
            (journal, Arc::clone(&desk), Arc::clone(&is_behind)),
            id,
            options,
            Box::new(volatile),
            calls,
        );
        Self {
            caller: Caller { mailbox },
            desk,
            is_behind,
            _task: env.tasks.spawn_owned("machine-host", driver.run()),
        }
    }

    /// Removes the snapshot of a journal whose replica left this node.
    pub(crate) async fn remove_snapshot(env: Env, id: TopicPartition) {
        SnapshotName::new(M::KIND, id).remove(&*env.disk).await;
    }

    /// Whether the task ended.
    #[cfg(test)]
    pub(crate) fn is_finished(&self) -> bool {
        self._task.is_finished()
    }

    /// Whether so much of the journal is still to be read that callers would wait for it if
    /// this node led it now.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// What the machine wants done outside.
    pub(crate) fn desk(&self) -> &Arc<Desk<M>> {
        &self.desk
    }

    /// For tasks that work for the machine.
    pub(crate) fn caller(&self) -> Caller<M> {
        self.caller.clone()
    }

    /// See [`Caller::call`].
    pub(crate) fn call(
        &self,
        command: M::Command,
    ) -> BoxFuture<'static, Result<M::Reply, HostError>> {
        self.caller.call(command)
    }
}

impl<M: Journaled> Caller<M> {
    /// Has a command carried out. The call counts from now on, not from the first poll.
    pub(crate) fn call(
        &self,
        command: M::Command,
    ) -> BoxFuture<'static, Result<M::Reply, HostError>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.mailbox.try_send(Call { command, reply });
        Box::pin(async move {
            match sent {
                Ok(()) => answer.await.unwrap_or(Err(HostError::Indeterminate)),
                Err(TrySendError::Full(_)) => Err(HostError::Overloaded),
                Err(TrySendError::Closed(_)) => Err(HostError::NotLeader),
            }
        })
    }
}
