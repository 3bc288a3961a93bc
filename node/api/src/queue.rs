//! Queues: per-message delivery, delays and half messages of one partition.
//!
//! Commands and replies are the queue machine's own (`crate::queues`). A command goes to
//! the machine of one partition, which is where the partition is led; what is delivered
//! stays in the partition's log and is read there.

use std::sync::Arc;
use std::time::Duration;

use weir_base::batch::{BATCH_HEADER_BYTES, Record};
use weir_base::{BoxFuture, NodeId, Offset, Timestamp, TopicId, TopicPartition};

use thiserror::Error;

use crate::NotLeader;
use crate::queues::trace::{Fact, Subject};
use crate::queues::{
    Cancelled, Check, Decision, DecisionSource, Delivery, EndCause, GroupName, GroupSettings,
    GroupView, HalfHandle, HalfLine, MemberName, Payload, Prepare, Prepared, QueueCommand,
    QueueError, QueueReply, Receipt, ReceiptError, Receive, ReplayCommand, ReplayReport, Returned,
    Schedule, ScheduleHandle, Scheduled,
};

/// Why a queue call could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueCallError {
    /// No such topic or partition.
    #[error("topic or partition does not exist")]
    UnknownPartition,
    /// Led elsewhere; nothing was done.
    #[error("this node does not lead the partition")]
    NotLeader(NotLeader),
    /// The queue's journal is being made, has no leader, or is not yet led where the
    /// partition is; nothing was done: retry.
    #[error("the partition's queue is not available just now")]
    NotAvailable,
    /// This node leads the queue and still replays its journal; nothing was done: retry.
    #[error("the partition's queue is loading")]
    Loading,
    /// Leadership was lost meanwhile: done or not, both are possible.
    #[error("the partition's leader moved while the call was under way")]
    Indeterminate,
    /// Too many calls wait on this partition's queue; nothing was done: retry.
    #[error("too many queue calls wait on this partition")]
    Overloaded,
    /// Nothing was ever received, delayed or prepared on this topic.
    #[error("the topic has no queue")]
    NoQueue,
    /// The name of the group's dead-letter topic would be none.
    #[error("group '{0}' can have no dead-letter topic: use letters, digits, '.', '_' and '-'")]
    IllegalGroupName(GroupName),
    /// The journal or the log holds what this version cannot read: an operator must look.
    #[error("the partition's queue cannot be read: {0}")]
    Unreadable(String),
    /// A message to be kept is larger than its topic allows.
    #[error("record batch of {size} bytes, the topic's max.message.bytes is {max}")]
    TooLarge {
        /// Size of the batch that it would be alone in.
        size: usize,
        /// The topic's limit.
        max: usize,
    },
    /// The queue refused.
    #[error(transparent)]
    Refused(#[from] QueueError),
}

/// How old the first record of a partition may be, with nothing removed before it, for a
/// new group to begin there ([`QueueApi::subscribe`]).
pub const YOUNG: Duration = Duration::from_secs(3_600);

/// Longest wait of [`QueueApi::receive_elsewhere`]: whoever leads next is asked after it.
pub const ELSEWHERE_WAIT_MAX: Duration = Duration::from_secs(1);

/// A check that another node's queue gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckElsewhere {
    /// The partition with the half message.
    pub at: TopicPartition,
    /// What it is decided by.
    pub handle: HalfHandle,
    /// The half message.
    pub payload: Payload,
}

/// What a consumer says of deliveries of one group and partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// They are settled for good.
    Ack(Vec<Receipt>),
    /// The attempt ended; the pause before the next, `None` for the group's backoff.
    Nack(Receipt, Option<Duration>),
    /// The lease lasts this long from now on.
    Renew(Receipt, Duration),
    /// It is given up, after so many attempts that the consumer made by itself.
    DeadLetter(Receipt, u16),
}

impl Settlement {
    /// What a queue is told.
    pub(crate) fn command(self, group: GroupName) -> QueueCommand {
        match self {
            Settlement::Ack(receipts) => QueueCommand::Ack { group, receipts },
            Settlement::Nack(receipt, delay) => QueueCommand::Nack {
                group,
                receipt,
                delay,
                cause: EndCause::Nack,
                note: None,
            },
            Settlement::Renew(receipt, invisible) => QueueCommand::Renew {
                group,
                receipt,
                invisible,
            },
            Settlement::DeadLetter(receipt, attempts) => QueueCommand::DeadLetter {
                group,
                receipt,
                attempts,
                note: None,
            },
        }
    }
}

/// The results in what a queue replied to a settlement.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else there is answers another question"
)]
pub(crate) fn settled(reply: QueueReply) -> Result<Vec<Result<(), ReceiptError>>, QueueCallError> {
    match reply {
        QueueReply::Ack(done) => return Ok(done?),
        QueueReply::Nack(done) => drop(done?),
        QueueReply::Renew(done) => drop(done?),
        QueueReply::DeadLetter(done) => done?,
        other => {
            tracing::error!(?other, "a queue answered another question");
            return Err(QueueCallError::Indeterminate);
        }
    }
    Ok(vec![Ok(())])
}

/// What comes of a call.
pub type QueueCall<T> = BoxFuture<'static, Result<T, QueueCallError>>;

/// The queues of this node. Calls and their answers in their own types:
/// [`dyn QueueApi`](trait.QueueApi.html#impl-dyn+QueueApi).
pub trait QueueApi: Send + Sync {
    /// Has a command carried out by the queue of `at`. Makes the topic's journals on
    /// first use where the command is one that begins something (`EnsureGroup`, `Receive`,
    /// `Schedule`, `Prepare`, `AwaitChecks`, the start of a replay). The reply leaves only when all it was
    /// decided on is committed, and is of the same name as the command. A call counts once
    /// its future was polled; dropping it later does not undo it.
    fn call(&self, at: TopicPartition, command: QueueCommand) -> QueueCall<QueueReply>;

    /// Takes a delayed message back wherever its partition is led, for clients that ask any
    /// node. Nothing was done on an error but [`QueueCallError::Indeterminate`], which
    /// comes after `timeout`, too; asking again gives the truth.
    fn cancel_forwarded(
        &self,
        at: TopicPartition,
        handle: ScheduleHandle,
        timeout: Duration,
    ) -> QueueCall<Cancelled>;

    /// Decides on a half message wherever its partition is led, as
    /// [`QueueApi::cancel_forwarded`]: success is the leader's word that it is decided so.
    fn resolve_forwarded(
        &self,
        at: TopicPartition,
        handle: HalfHandle,
        decision: Decision,
        source: DecisionSource,
        timeout: Duration,
    ) -> QueueCall<()>;

    /// Keeps a message until it is due wherever its partition is led: for messages of one id,
    /// which must come to one partition. As [`QueueApi::cancel_forwarded`]; after
    /// [`QueueCallError::Indeterminate`] the same message may be sent again if it has an id.
    fn schedule_forwarded(
        &self,
        at: TopicPartition,
        schedule: Schedule,
        timeout: Duration,
    ) -> QueueCall<Scheduled>;

    /// Keeps a half message wherever its partition is led, as
    /// [`QueueApi::schedule_forwarded`].
    fn prepare_forwarded(
        &self,
        at: TopicPartition,
        prepare: Prepare,
        timeout: Duration,
    ) -> QueueCall<Prepared>;

    /// Takes one check about a half message of `producers` from the first of the partitions
    /// `at` that has one, all of which `leader` leads. It counts as having reached somebody.
    /// The caller, a member of the same group as all others on its node, waits a moment where
    /// there are undecided half messages, and not at all where there are none.
    fn check_elsewhere(
        &self,
        leader: NodeId,
        at: Vec<TopicPartition>,
        member: MemberName,
        producers: Arc<str>,
        timeout: Duration,
    ) -> QueueCall<Option<CheckElsewhere>>;

    /// Says to `leader` that a check which it gave reached nobody.
    fn missed_elsewhere(
        &self,
        leader: NodeId,
        at: TopicPartition,
        handle: HalfHandle,
        timeout: Duration,
    ) -> QueueCall<()>;

    /// Asks `leader` for messages of the partition `at`, which bring their records along: for
    /// clients that know this node as its leader. Where it has not got the group it makes it, as
    /// [`QueueApi::subscribe`] does. At most [`ELSEWHERE_WAIT_MAX`] is waited, and
    /// nobody renews the leases: the leader cannot tell whether a member of another node lives.
    /// What is lost on the way comes again when its lease ends.
    fn receive_elsewhere(
        &self,
        leader: NodeId,
        at: TopicPartition,
        receive: Receive,
        settings: GroupSettings,
        timeout: Duration,
    ) -> QueueCall<Vec<(Delivery, Record)>>;

    /// Settles deliveries wherever their partition is led, a result each: clients settle where
    /// they received. After [`QueueCallError::Indeterminate`] asking again gives the truth.
    fn settle_forwarded(
        &self,
        at: TopicPartition,
        group: GroupName,
        settlement: Settlement,
        timeout: Duration,
    ) -> QueueCall<Vec<Result<(), ReceiptError>>>;

    /// Fixes where `group` begins at every partition of a topic, unless that was done
    /// before, and makes the group where this node leads; gives the settings in force.
    ///
    /// From its success on the group gets every message that is sent, whoever leads the
    /// message's partition and however late the group is made there (by this call, at a
    /// later leader). It begins at the beginning of a partition that has all its records
    /// and is [`YOUNG`], else at the end. While a partition has a leader that does not
    /// answer, a group that is new is [`QueueCallError::NotAvailable`] after `timeout`.
    fn subscribe(
        &self,
        topic: TopicId,
        group: GroupName,
        settings: GroupSettings,
        timeout: Duration,
    ) -> QueueCall<GroupSettings>;

    /// The records at `offsets` of a partition led here, in that order, compressed batches
    /// opened; `None` where there is none (any more). At most 64 MiB are read at once: what
    /// is behind that is left out of the answer, which then is shorter than `offsets`, but
    /// never empty.
    fn records(&self, at: TopicPartition, offsets: Vec<Offset>) -> QueueCall<Vec<Option<Record>>>;

    /// What the journal of a partition led here tells of one subject, oldest first: the
    /// records as far back as they are kept, each with its time. At most 256 MiB are read.
    fn story(&self, at: TopicPartition, subject: Subject) -> QueueCall<Vec<(Timestamp, Fact)>>;

    /// What the journal of a partition led here keeps of delayed or half messages
    /// (`payload_at` of a [`Check`], a `HalfLine`, a `ScheduledLine`); as
    /// [`QueueApi::records`] does.
    fn kept(&self, at: TopicPartition, places: Vec<Offset>) -> QueueCall<Vec<Option<Payload>>>;
}

/// Unpacks the reply of a command. Another reply than the command's own is a machine that
/// lost its mind: nothing can be told of what was done.
macro_rules! reply {
    ($self:ident, $at:ident, $command:expr, $pattern:pat => $result:expr) => {{
        let called = $self.call($at, $command);
        Box::pin(async move {
            match called.await? {
                $pattern => $result,
                other => {
                    tracing::error!(?other, "a queue answered another question");
                    Err(QueueCallError::Indeterminate)
                }
            }
        })
    }};
}

impl dyn QueueApi {
    /// Makes a group, or changes it if `replace`.
    pub fn ensure_group(
        &self,
        at: TopicPartition,
        group: GroupName,
        settings: GroupSettings,
        start: Offset,
        replace: bool,
    ) -> QueueCall<GroupView> {
        let command = QueueCommand::EnsureGroup {
            group,
            settings,
            start,
            replace,
        };
        reply!(self, at, command, QueueReply::EnsureGroup(done) => Ok(done?))
    }

    /// Asks for messages; empty when the wait was over.
    pub fn receive(&self, at: TopicPartition, receive: Receive) -> QueueCall<Vec<Delivery>> {
        let command = QueueCommand::Receive(receive);
        reply!(self, at, command, QueueReply::Receive(done) => Ok(done?))
    }

    /// Settles deliveries for good; a result each, in order.
    pub fn ack(
        &self,
        at: TopicPartition,
        group: GroupName,
        receipts: Vec<Receipt>,
    ) -> QueueCall<Vec<Result<(), ReceiptError>>> {
        let command = QueueCommand::Ack { group, receipts };
        reply!(self, at, command, QueueReply::Ack(done) => Ok(done?))
    }

    /// Returns a delivery as an ended attempt; `delay` of `None` is the group's backoff.
    pub fn nack(
        &self,
        at: TopicPartition,
        group: GroupName,
        receipt: Receipt,
        delay: Option<Duration>,
    ) -> QueueCall<Returned> {
        let command = QueueCommand::Nack {
            group,
            receipt,
            delay,
            cause: EndCause::Nack,
            note: None,
        };
        reply!(self, at, command, QueueReply::Nack(done) => Ok(done?))
    }

    /// Extends a lease from now on; gives its new end.
    pub fn renew(
        &self,
        at: TopicPartition,
        group: GroupName,
        receipt: Receipt,
        invisible: Duration,
    ) -> QueueCall<Timestamp> {
        let command = QueueCommand::Renew {
            group,
            receipt,
            invisible,
        };
        reply!(self, at, command, QueueReply::Renew(done) => Ok(done?))
    }

    /// Gives a message up, whatever its attempts; `attempts` are those that its consumer
    /// made by itself, 0 if it does not say.
    pub fn dead_letter(
        &self,
        at: TopicPartition,
        group: GroupName,
        receipt: Receipt,
        attempts: u16,
    ) -> QueueCall<()> {
        let command = QueueCommand::DeadLetter {
            group,
            receipt,
            attempts,
            note: None,
        };
        reply!(self, at, command, QueueReply::DeadLetter(done) => Ok(done?))
    }

    /// Settles deliveries of a partition led here, a result each.
    pub fn settle(
        &self,
        at: TopicPartition,
        group: GroupName,
        settlement: Settlement,
    ) -> QueueCall<Vec<Result<(), ReceiptError>>> {
        let called = self.call(at, settlement.command(group));
        Box::pin(async move { settled(called.await?) })
    }

    /// Reads what a partition that is led here leased. Records that are gone are left out, and
    /// reported to their queue.
    ///
    /// # Errors
    /// As [`QueueApi::records`]; what was leased then comes again when its lease ends.
    pub async fn read_leased(
        &self,
        at: TopicPartition,
        group: &GroupName,
        mut leased: Vec<Delivery>,
    ) -> Result<Vec<(Delivery, Record)>, QueueCallError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        while !leased.is_empty() {
            let offsets: Vec<Offset> = leased.iter().map(|delivery| delivery.offset).collect();
            let read = self.records(at, offsets).await?;
            // Never empty, but a loop must not rest on that.
            let done = read.len().clamp(1, leased.len());
            let records = read.into_iter().chain(std::iter::once(None));
            for (delivery, record) in leased.drain(..done).zip(records) {
                match record {
                    Some(record) => found.push((delivery, record)),
                    None => missing.push(delivery.receipt),
                }
            }
        }
        if !missing.is_empty() {
            let command = QueueCommand::Missing {
                group: group.clone(),
                receipts: missing,
            };
            self.call(at, command).await?;
        }
        Ok(found)
    }

    /// A client is gone: its leases end as attempts.
    pub fn leave(&self, at: TopicPartition, member: MemberName) -> QueueCall<()> {
        let command = QueueCommand::Leave { member };
        reply!(self, at, command, QueueReply::Leave => Ok(()))
    }

    /// Keeps a message until it is due.
    pub fn schedule(&self, at: TopicPartition, schedule: Schedule) -> QueueCall<Scheduled> {
        let command = QueueCommand::Schedule(schedule);
        reply!(self, at, command, QueueReply::Schedule(done) => Ok(done?))
    }

    /// Takes a delayed message back, and tells truthfully what became of it.
    pub fn cancel(&self, at: TopicPartition, handle: ScheduleHandle) -> QueueCall<Cancelled> {
        let command = QueueCommand::Cancel { handle };
        reply!(self, at, command, QueueReply::Cancel(done) => Ok(done?))
    }

    /// Keeps a message that nobody sees until it is decided on.
    pub fn prepare(&self, at: TopicPartition, prepare: Prepare) -> QueueCall<HalfHandle> {
        let command = QueueCommand::Prepare(prepare);
        reply!(self, at, command, QueueReply::Prepare(done) => Ok(done?.handle()))
    }

    /// Keeps a half message, or tells of the first one of its id.
    pub fn prepare_once(&self, at: TopicPartition, prepare: Prepare) -> QueueCall<Prepared> {
        let command = QueueCommand::Prepare(prepare);
        reply!(self, at, command, QueueReply::Prepare(done) => Ok(done?))
    }

    /// A check that the queue gave reached nobody: it does not count.
    pub fn check_missed(&self, at: TopicPartition, handle: HalfHandle) -> QueueCall<()> {
        let command = QueueCommand::CheckMissed { handle };
        reply!(self, at, command, QueueReply::CheckMissed(done) => Ok(done?))
    }

    /// Decides on a half message; the first decision stands.
    pub fn resolve(
        &self,
        at: TopicPartition,
        handle: HalfHandle,
        decision: Decision,
        source: DecisionSource,
    ) -> QueueCall<()> {
        let command = QueueCommand::Resolve {
            handle,
            decision,
            source,
        };
        reply!(self, at, command, QueueReply::Resolve(done) => Ok(done?))
    }

    /// Offers to be asked about half messages; empty when the wait was over.
    pub fn await_checks(
        &self,
        at: TopicPartition,
        member: MemberName,
        producers: Arc<str>,
        batch_max: usize,
        wait: Duration,
    ) -> QueueCall<Vec<Check>> {
        let command = QueueCommand::AwaitChecks {
            member,
            producers,
            batch_max,
            wait,
        };
        reply!(self, at, command, QueueReply::AwaitChecks(checks) => Ok(checks))
    }

    /// Undecided half messages, oldest first.
    pub fn list_half(
        &self,
        at: TopicPartition,
        limit: usize,
        parked: bool,
    ) -> QueueCall<Vec<HalfLine>> {
        let command = QueueCommand::ListHalf {
            after: None,
            limit,
            parked,
        };
        reply!(self, at, command, QueueReply::ListHalf(lines) => Ok(lines))
    }

    /// Begins, changes or lists replays of dead letters.
    pub fn replay(&self, at: TopicPartition, command: ReplayCommand) -> QueueCall<ReplayReport> {
        let command = QueueCommand::Replay(command);
        reply!(self, at, command, QueueReply::Replay(done) => Ok(done?))
    }

    /// All groups of the partition.
    pub fn list_groups(&self, at: TopicPartition) -> QueueCall<Vec<GroupView>> {
        let command = QueueCommand::ListGroups;
        reply!(self, at, command, QueueReply::ListGroups(groups) => Ok(groups))
    }

    /// Moves a group to an offset.
    pub fn seek(&self, at: TopicPartition, group: GroupName, to: Offset) -> QueueCall<()> {
        let command = QueueCommand::Seek { group, to };
        reply!(self, at, command, QueueReply::Seek(done) => Ok(done?))
    }
}

/// The topic that a group's dead letters go to unless its settings say otherwise.
#[must_use]
pub fn dead_letter_topic(group: &str) -> String {
    format!("dlq.{group}")
}

/// Holds a message that is to be kept to the limit of its topic, as one that is appended at
/// once: it will be.
///
/// # Errors
/// [`QueueCallError::TooLarge`].
pub fn check_size(command: &QueueCommand, batch_bytes_max: usize) -> Result<(), QueueCallError> {
    let (QueueCommand::Schedule(Schedule { payload, .. })
    | QueueCommand::Prepare(Prepare { payload, .. })) = command
    else {
        return Ok(());
    };
    // A batch takes less than twice what the journal's form does, and its own header.
    if payload.len() * 2 + BATCH_HEADER_BYTES <= batch_bytes_max {
        return Ok(());
    }
    let size = Payload::decode(payload).map_or(payload.len(), |payload| payload.batch_bytes());
    if size > batch_bytes_max {
        let max = batch_bytes_max;
        return Err(QueueCallError::TooLarge { size, max });
    }
    Ok(())
}

/// Whether a command begins something, so that it makes the queue it is for.
#[must_use]
pub fn begins(command: &QueueCommand) -> bool {
    match command {
        QueueCommand::EnsureGroup { .. }
        | QueueCommand::Receive(_)
        | QueueCommand::Schedule(_)
        | QueueCommand::Prepare(_)
        | QueueCommand::AwaitChecks { .. }
        | QueueCommand::Replay(ReplayCommand::Start(_)) => true,
        QueueCommand::Ack { .. }
        | QueueCommand::Nack { .. }
        | QueueCommand::Renew { .. }
        | QueueCommand::DeadLetter { .. }
        | QueueCommand::Forward { .. }
        | QueueCommand::Leave { .. }
        | QueueCommand::Feed(_)
        | QueueCommand::Missing { .. }
        | QueueCommand::Cancel { .. }
        | QueueCommand::ListScheduled { .. }
        | QueueCommand::TakeIn(_)
        | QueueCommand::Resolve { .. }
        | QueueCommand::CheckMissed { .. }
        | QueueCommand::ListHalf { .. }
        | QueueCommand::OutboxDone { .. }
        | QueueCommand::OutboxRefused { .. }
        | QueueCommand::ListAside { .. }
        | QueueCommand::SendAside { .. }
        | QueueCommand::Replay(ReplayCommand::Change { .. } | ReplayCommand::List { .. })
        | QueueCommand::Measure
        | QueueCommand::Gaps { .. }
        | QueueCommand::Describe { .. }
        | QueueCommand::ListGroups
        | QueueCommand::Seek { .. }
        | QueueCommand::DeleteGroup { .. }
        | QueueCommand::Trim { .. }
        | QueueCommand::Partitions { .. }
        | QueueCommand::TraceOf { .. }
        | QueueCommand::Ledger { .. } => false,
    }
}
