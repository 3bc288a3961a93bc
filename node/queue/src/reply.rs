//! What a queue answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

use crate::aside::AsideLine;
use crate::error::{QueueError, ReceiptError};
use crate::ids::{GroupName, GroupNumber};
use crate::receipt::{HalfHandle, Receipt, ScheduleHandle};
use crate::record::{Counts, Delays, StoredAttempts};
use crate::replay::ReplayReport;
use crate::settings::GroupSettings;

/// The answer to a [`QueueCommand`](crate::QueueCommand) of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the commands'")]
pub enum QueueReply {
    EnsureGroup(Result<GroupView, QueueError>),
    /// Empty when the wait was over.
    Receive(Result<Vec<Delivery>, QueueError>),
    /// One result a receipt, in order.
    Ack(Result<Vec<Result<(), ReceiptError>>, QueueError>),
    Nack(Result<Returned, QueueError>),
    /// When the lease ends now.
    Renew(Result<Timestamp, QueueError>),
    DeadLetter(Result<(), QueueError>),
    Forward(Result<(), QueueError>),
    Leave,
    /// Whether the facts were of use, or an answer to an older want.
    Feed(bool),
    Missing(Result<(), QueueError>),
    Schedule(Result<Scheduled, QueueError>),
    Cancel(Result<Cancelled, QueueError>),
    ListScheduled(Vec<ScheduledLine>),
    /// Where the host is to go on.
    TakeIn(Offset),
    Prepare(Result<Prepared, QueueError>),
    Resolve(Result<(), QueueError>),
    /// Empty when the wait was over.
    AwaitChecks(Vec<Check>),
    CheckMissed(Result<(), QueueError>),
    ListHalf(Vec<HalfLine>),
    OutboxDone(Result<(), QueueError>),
    OutboxRefused(Result<(), QueueError>),
    ListAside(Vec<AsideLine>),
    /// How many.
    SendAside(Result<u64, QueueError>),
    Replay(Result<ReplayReport, QueueError>),
    Measure(QueueMeasure),
    /// First offset and how many, oldest first; at most [`GAPS_MAX`](crate::GAPS_MAX) are
    /// remembered by place.
    Gaps(Result<Vec<(Offset, u64)>, QueueError>),
    Describe(Result<GroupView, QueueError>),
    ListGroups(Vec<GroupView>),
    Seek(Result<(), QueueError>),
    DeleteGroup(Result<(), QueueError>),
    /// How many messages were dropped.
    Trim(u64),
    Partitions,
    /// One line a group.
    TraceOf(Vec<(GroupName, Standing)>),
    Ledger(Result<Books, QueueError>),
}

/// The conservation ledger of a group, as of one turn: nothing of it is older than the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// Where the group began: nothing below it is counted.
    pub start: Offset,
    /// How messages ended, by the hour in which they were stored; 0 is what is older than
    /// the ledger reaches back.
    pub hours: Vec<(u32, Counts)>,
    /// Final offsets; equal to the totals of `hours`, always.
    pub finished: u64,
    /// Of them, those below each of the offsets that were asked for.
    pub finished_below: Vec<u64>,
}

/// A message handed out. Its record is in the partition's log, at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Where it is.
    pub offset: Offset,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// Settles it.
    pub receipt: Receipt,
    /// When the lease ends.
    pub invisible_until: Timestamp,
}

/// What became of a message that was returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// It comes again, not before this time.
    Retry(Timestamp),
    /// That was its last attempt.
    DeadLettered,
}

/// What became of a message to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduled {
    /// It is kept and will be delivered.
    Kept(ScheduleHandle),
    /// One of the same id was taken within the window: this one was not.
    Duplicate {
        /// Of the first one, unless that was a half message.
        handle: Option<ScheduleHandle>,
        /// What the first one left for its repeats ([`Dedup::told`](crate::Dedup)).
        told: Option<Arc<str>>,
    },
}

/// What became of a half message to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// It is kept.
    Kept(HalfHandle),
    /// One of the same id was taken within the window: this one was not.
    Duplicate {
        /// Of the first one.
        handle: HalfHandle,
        /// As of [`Scheduled::Duplicate`].
        told: Option<Arc<str>>,
    },
}

impl Prepared {
    /// What it is decided by.
    #[must_use]
    pub fn handle(&self) -> HalfHandle {
        match self {
            Prepared::Kept(handle) | Prepared::Duplicate { handle, .. } => *handle,
        }
    }
}

/// The truth about a delayed message that was to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It will not be delivered; also when it was cancelled before.
    Cancelled,
    /// It was or is being delivered.
    AlreadyFired,
    /// It was due or cancelled longer ago than is remembered.
    Unknown,
}

/// A delayed message, listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledLine {
    /// Names it.
    pub handle: ScheduleHandle,
    /// Where its [`Payload`](crate::Payload) is, in the journal.
    pub payload_at: Offset,
}

/// A half message to be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Names it.
    pub handle: HalfHandle,
    /// Where its [`Payload`](crate::Payload) is, in the journal.
    pub payload_at: Offset,
    /// How often it was asked about, this time included.
    pub check: u16,
}

/// A half message, listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfLine {
    /// Names it.
    pub handle: HalfHandle,
    /// The group of producers that can be asked about it.
    pub producers: Arc<str>,
    /// Where its [`Payload`](crate::Payload) is, in the journal.
    pub payload_at: Offset,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// How often it was asked about.
    pub checks: u16,
    /// Whether it was asked about as often as allowed, and now waits for an operator or a
    /// late producer.
    pub parked: bool,
}

/// A group, as admins see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub group: GroupName,
    /// Its number on this journal.
    pub number: GroupNumber,
    /// Its settings.
    pub settings: GroupSettings,
    /// All below is final.
    pub cursor: Offset,
    /// Final messages above the cursor.
    pub finished_above: u64,
    /// Delivered and not settled.
    pub in_flight: usize,
    /// Waiting for a retry.
    pub retrying: usize,
    /// Read ahead and not delivered, those behind one in their message group included.
    pub ready: usize,
    /// Receives that wait.
    pub waiting: usize,
    /// Members with leases or waiting receives.
    pub members: usize,
    /// When it is forgotten, should nobody ask for messages until then.
    pub expires_at: Option<Timestamp>,
    /// Totals of the ledger's hours.
    pub counts: Counts,
}

/// What there is to watch of one partition's queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueMeasure {
    /// Its groups.
    pub groups: Vec<GroupMeasure>,
    /// Delayed messages.
    pub scheduled: u64,
    /// Half messages that nobody decided on.
    pub halves: u64,
    /// Of them, those that are asked about no more.
    pub halves_parked: u64,
    /// Messages on their way elsewhere.
    pub outgoing: u64,
    /// Messages that were refused elsewhere, and wait for an operator.
    pub aside: u64,
    /// What became of all delayed messages so far.
    pub delays: Delays,
    /// Delayed messages that were due, and are not known to be in the log yet.
    pub releasing: u64,
}

/// What there is to watch of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMeasure {
    /// Its name.
    pub group: GroupName,
    /// The first offset that is not final.
    pub position: Offset,
    /// Final messages above it.
    pub finished_above: u64,
    /// Delivered and not settled.
    pub in_flight: u64,
    /// Waiting for a retry, or for their time.
    pub retrying: u64,
    /// Totals of its ledger.
    pub counts: Counts,
}

/// Where a message stands with one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Before the group's beginning, or above what it has read.
    NotReached,
    /// Final: acknowledged, dead-lettered, filtered out, dropped.
    Final,
    /// Read ahead.
    Ready,
    /// Behind another of its message group.
    Queued,
    /// Delivered and not settled.
    InFlight {
        /// To whom.
        member: Arc<str>,
        /// Which attempt.
        attempt: u16,
        /// When the lease ends.
        until: Timestamp,
    },
    /// Waits for a retry.
    Retrying(StoredAttempts),
}
