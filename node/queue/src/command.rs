//! What a queue is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

use crate::filter::Filter;
use crate::ids::{EntryNumber, GroupName, GroupNumber, MemberName};
use crate::intake::TakeIn;
use crate::message::MessageFacts;
use crate::receipt::{HalfHandle, Receipt, ScheduleHandle};
use crate::record::Destination;
use crate::replay::ReplayCommand;
use crate::settings::{Capacity, GroupSettings, Target};

/// One wish of one caller. Each is answered once, by the [`QueueReply`](crate::QueueReply)
/// of the same name.
#[derive(Debug, Clone)]
pub enum QueueCommand {
    /// Makes the group if there is none; changes the settings of one that is there if
    /// `replace`, and leaves it as it is otherwise.
    EnsureGroup {
        /// The group.
        group: GroupName,
        /// Its settings.
        settings: GroupSettings,
        /// Where a new group begins: the host resolves "earliest", "latest" and times.
        start: Offset,
        /// Whether the settings of an existing group are replaced.
        replace: bool,
    },
    /// Asks for messages; waits for some as long as `wait`.
    Receive(Receive),
    /// Settles deliveries for good; a result each, in order.
    Ack {
        /// The group.
        group: GroupName,
        /// What to settle.
        receipts: Vec<Receipt>,
    },
    /// Returns a delivery: an ended attempt. The message comes again, or is dead-lettered
    /// if that was its last.
    Nack {
        /// The group.
        group: GroupName,
        /// What to return.
        receipt: Receipt,
        /// Pause before the next attempt; `None`: the group's backoff.
        delay: Option<Duration>,
        /// Why.
        cause: EndCause,
        /// In the consumer's words, for the attempt history; cut to 256 bytes.
        note: Option<Arc<str>>,
    },
    /// Extends a lease, from now on.
    Renew {
        /// The group.
        group: GroupName,
        /// Whose lease.
        receipt: Receipt,
        /// New rest of the lease.
        invisible: Duration,
    },
    /// Gives a message up: it goes to the group's dead letters, whatever its attempts.
    DeadLetter {
        /// The group.
        group: GroupName,
        /// What to give up.
        receipt: Receipt,
        /// Attempts that the consumer made of it by itself, this delivery's first one and
        /// those before it included: the letter says at least so many. 0: those counted here.
        attempts: u16,
        /// In the consumer's words.
        note: Option<Arc<str>>,
    },
    /// Moves a message to another partition and settles it, as one: replays from dead
    /// letters are this, so that a crash neither loses nor doubles one.
    Forward {
        /// The group.
        group: GroupName,
        /// What to move.
        receipt: Receipt,
        /// Where to.
        target: Target,
    },
    /// A client is gone: its leases end as attempts, its waiting calls are answered empty.
    Leave {
        /// Who.
        member: MemberName,
    },
    /// The answer to a [`Want`](crate::Want).
    Feed(Feed),
    /// Delivered offsets whose records the host did not find: final, counted as missing.
    Missing {
        /// The group.
        group: GroupName,
        /// Which deliveries.
        receipts: Vec<Receipt>,
    },
    /// Keeps a message until it is due, then appends it to the partition.
    Schedule(Schedule),
    /// Takes a delayed message back.
    Cancel {
        /// Which.
        handle: ScheduleHandle,
    },
    /// Pages through delayed messages in the order they are due.
    ListScheduled {
        /// Only behind this one.
        after: Option<(Timestamp, EntryNumber)>,
        /// Most lines, at most 1,000.
        limit: usize,
    },
    /// Takes delayed messages in that are in the log.
    TakeIn(TakeIn),
    /// Keeps a message that nobody sees until it is decided on.
    Prepare(Prepare),
    /// Decides on a half message. The first decision stands; repeating it is no error.
    Resolve {
        /// Which.
        handle: HalfHandle,
        /// How.
        decision: Decision,
        /// Who decides.
        source: DecisionSource,
    },
    /// A producer offers to be asked about half messages of its group; waits for some
    /// as long as `wait`.
    AwaitChecks {
        /// Who: [`QueueCommand::Leave`] ends the wait.
        member: MemberName,
        /// The producer group that it can answer for.
        producers: Arc<str>,
        /// Most halves in the answer.
        batch_max: usize,
        /// Answered empty then, but not before the machine's shortest wait is over. A span,
        /// as in [`Receive::wait`].
        wait: Duration,
    },
    /// A check reached nobody who could answer: it does not count, and the half message is
    /// asked about again in a moment.
    CheckMissed {
        /// Which.
        handle: HalfHandle,
    },
    /// Pages through half messages that are not decided, oldest first.
    ListHalf {
        /// Only behind this one.
        after: Option<EntryNumber>,
        /// Most lines, at most 1,000.
        limit: usize,
        /// Only those that are parked: asked about as often as allowed.
        parked: bool,
    },
    /// An outgoing batch is committed where it was to go.
    OutboxDone {
        /// Where.
        destination: Destination,
        /// Its first sequence number.
        sequence: u64,
    },
    /// An outgoing batch is refused where it was to go, and always will be: its messages are
    /// set aside.
    OutboxRefused {
        /// Where.
        destination: Destination,
        /// Its first sequence number.
        sequence: u64,
        /// Why.
        reason: Arc<str>,
        /// What was to be appended: a [`Payload`](crate::Payload), encoded, a message.
        payloads: Vec<Bytes>,
    },
    /// Pages through messages that are set aside, oldest first.
    ListAside {
        /// Only behind this one.
        after: Option<EntryNumber>,
        /// Most lines, at most 1,000.
        limit: usize,
    },
    /// Sends messages on that are set aside, at most 1,000 at once.
    SendAside {
        /// Which; none: all.
        numbers: Vec<EntryNumber>,
        /// Where to; `None`: where they were to go.
        to: Option<Target>,
    },
    /// Moves dead letters back where they came from.
    Replay(ReplayCommand),
    /// What there is to watch.
    Measure,
    /// Offsets at which a group found no record.
    Gaps {
        /// Which.
        group: GroupName,
    },
    /// One group: settings, position, counts.
    Describe {
        /// Which.
        group: GroupName,
    },
    /// All groups of the partition.
    ListGroups,
    /// Moves a group to an offset: messages before it are final, those from it on are
    /// delivered (again), with attempts counted from 1.
    Seek {
        /// The group.
        group: GroupName,
        /// The new position.
        to: Offset,
    },
    /// Forgets a group.
    DeleteGroup {
        /// Which.
        group: GroupName,
    },
    /// Holds groups with [`OnFull::DropOldest`](crate::OnFull::DropOldest) to their
    /// capacity.
    Trim {
        /// High watermark of the partition.
        end: Offset,
        /// The capacity of groups without one of their own.
        default: Option<Capacity>,
    },
    /// The topic has so many partitions now: rates are spread over them.
    Partitions {
        /// How many.
        count: u32,
    },
    /// Where a message stands with every group.
    TraceOf {
        /// The message.
        offset: Offset,
    },
    /// The conservation ledger of a group.
    Ledger {
        /// Which.
        group: GroupName,
        /// Offsets, in rising order, for each of which the final ones below it are counted.
        below: Vec<Offset>,
    },
}

/// Asks for messages.
#[derive(Debug, Clone)]
pub struct Receive {
    /// The group.
    pub group: GroupName,
    /// Who: its leases end when it leaves.
    pub member: MemberName,
    /// Most messages. With 0 the caller only watches: it is answered empty as soon as there
    /// is something to receive, which stays where it is.
    pub batch_max: usize,
    /// Lease; `None`: the group's.
    pub invisible: Option<Duration>,
    /// Answered empty then, though not before `wait_min` (50 ms). A span and no time: the
    /// machine's clock and the caller's part when the wall clock of their node is set anew.
    pub wait: Duration,
    /// The group's subscription, if the protocol tells it with each receive: a change is a
    /// change of the group's settings.
    pub filter: Option<Filter>,
    /// The same id brings the same messages again, as long as their leases are live.
    pub attempt_id: Option<Arc<str>>,
    /// Whether the broker renews the lease while the member is there.
    pub auto_renew: bool,
}

/// Facts about records the host has read for a group.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Of the [`Want`](crate::Want).
    pub group: GroupNumber,
    /// Of the want, too: an answer to an older want is left aside.
    pub from: Offset,
    /// In offset order, all within `from..end`.
    pub facts: Vec<MessageFacts>,
    /// Half-open ranges that hold no messages: control batches, aborted transactions,
    /// offsets that compaction took. Any other hole is a message that is missing.
    pub no_messages: Vec<(Offset, Offset)>,
    /// All below it was read; at most the high watermark. Equal to `from` if there is
    /// nothing yet: better answer later.
    pub end: Offset,
}

/// A message to be kept until it is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// When; a time that has passed means at once.
    pub deliver_at: Timestamp,
    /// A [`Payload`](crate::Payload), encoded.
    pub payload: Bytes,
    /// If given, a second message of this id (or business key) within the window is not
    /// taken.
    pub dedup: Option<Dedup>,
    /// The host's to fill in; without it no group's capacity is asked.
    pub room: Option<Room>,
}

/// Keeps a second message of the same id (or business key) out. One that was taken back or
/// rolled back does not count, for as long as that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// What must be equal: all bytes count.
    pub id: Bytes,
    /// For how long; `None`: as the machine's options say.
    pub window: Option<Duration>,
    /// What a repeat is told of this message beside its handle, at most 255 bytes: the message
    /// id where `id` is another.
    pub told: Option<Arc<str>>,
}

/// A message that nobody sees until it is decided on.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// A [`Payload`](crate::Payload), encoded.
    pub payload: Bytes,
    /// The group of producers that can be asked about it.
    pub producers: Arc<str>,
    /// When it is asked about first; `None`: the machine's default.
    pub check_after: Option<Duration>,
    /// As of a [`Schedule`].
    pub dedup: Option<Dedup>,
    /// The host's to fill in; without it no group's capacity is asked.
    pub room: Option<Room>,
}

/// What a message to be kept is held against, beside what the machine knows itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// End of the partition's log.
    pub end: Offset,
    /// The capacity of groups without one of their own.
    pub default: Option<Capacity>,
}

/// What becomes of a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It is appended to the partition.
    Commit,
    /// It never was.
    Rollback,
}

/// Who decides on a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecisionSource {
    /// Its producer, by itself.
    Producer,
    /// A producer that was asked.
    Check,
    /// An operator.
    Operator,
}

/// How an attempt ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    /// The consumer returned it.
    Nack,
    /// The consumer refused it for good.
    Rejected,
    /// The lease ran out.
    LeaseTimeout,
    /// The consumer went away, or the group's order began anew.
    Disconnected,
}

impl EndCause {
    /// One word for headers and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EndCause::Nack => "nack",
            EndCause::Rejected => "rejected",
            EndCause::LeaseTimeout => "lease-timeout",
            EndCause::Disconnected => "disconnected",
        }
    }
}

impl QueueCommand {
    /// The group it is about, if it is about one by name.
    #[must_use]
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            QueueCommand::Receive(receive) => Some(&receive.group),
            QueueCommand::EnsureGroup { group, .. }
            | QueueCommand::Ack { group, .. }
            | QueueCommand::Nack { group, .. }
            | QueueCommand::Renew { group, .. }
            | QueueCommand::DeadLetter { group, .. }
            | QueueCommand::Forward { group, .. }
            | QueueCommand::Missing { group, .. }
            | QueueCommand::Describe { group }
            | QueueCommand::Seek { group, .. }
            | QueueCommand::DeleteGroup { group }
            | QueueCommand::Gaps { group }
            | QueueCommand::Ledger { group, .. } => Some(group),
            QueueCommand::Leave { .. }
            | QueueCommand::Feed(_)
            | QueueCommand::Schedule(_)
            | QueueCommand::Cancel { .. }
            | QueueCommand::ListScheduled { .. }
            | QueueCommand::TakeIn(_)
            | QueueCommand::Prepare(_)
            | QueueCommand::Resolve { .. }
            | QueueCommand::AwaitChecks { .. }
            | QueueCommand::CheckMissed { .. }
            | QueueCommand::ListHalf { .. }
            | QueueCommand::OutboxDone { .. }
            | QueueCommand::OutboxRefused { .. }
            | QueueCommand::ListAside { .. }
            | QueueCommand::SendAside { .. }
            | QueueCommand::Replay(_)
            | QueueCommand::Measure
            | QueueCommand::ListGroups
            | QueueCommand::Trim { .. }
            | QueueCommand::Partitions { .. }
            | QueueCommand::TraceOf { .. } => None,
        }
    }
}
