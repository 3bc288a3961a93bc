//! What the journal tells of one message: its biography, record by record.
//!
//! The host reads the journal from as far back as it is kept whole and shows each record;
//! what compaction took is not told. Where the message stands now is the machine's to
//! say ([`QueueCommand::TraceOf`](crate::QueueCommand::TraceOf)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use weir_base::{Offset, Timestamp};

use crate::command::{Decision, EndCause};
use crate::envelope::{Message, Payload};
use crate::ids::{EntryNumber, GroupName, GroupNumber};
use crate::record::{BLOCK_OFFSETS, Destination, OutgoingMessage, QueueRecord, StoredAttempts};

/// Whose biography.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A message of the partition.
    Message(Offset),
    /// A delayed, half or undeliverable message, by its number: the one in its handle.
    Entry(EntryNumber),
    /// All of these with this id, key or message group: tells their numbers alone.
    Named(Arc<str>),
}

/// One thing that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// An attempt ended without success.
    AttemptEnded {
        /// Of which group.
        group: GroupName,
        /// How many ended.
        ended: u16,
        /// How this one did.
        cause: EndCause,
        /// In the consumer's words.
        note: Option<Arc<str>>,
        /// Not again before this time; `None`: it was the last.
        next_at: Option<Timestamp>,
    },
    /// It is final for a group: acknowledged, unless another fact says more.
    Final(GroupName),
    /// A seek made it pending again.
    PendingAgain(GroupName),
    /// A group gave it up; the copy goes there.
    DeadLettered(GroupName, Destination),
    /// It was moved there.
    Forwarded(Destination),
    /// A dead letter, it was moved back there.
    Replayed(Destination),
    /// It is kept until then.
    Kept(Timestamp),
    /// It was taken back.
    Cancelled,
    /// It goes to the partition, in the batch of this sequence number.
    Released(u64),
    /// The batch is committed in the partition.
    Appended,
    /// A half message of these producers.
    Prepared(Arc<str>),
    /// Its producers were asked, so many times by now.
    Asked(u16),
    /// It is asked about no more.
    Parked,
    /// It was decided.
    Decided(Decision),
    /// It was refused there, for this reason, and waits for an operator.
    SetAside(Destination, Arc<str>),
    /// A message of the wanted name has this number.
    Entry(EntryNumber),
}

impl Fact {
    /// Until when the message waits from then on, if it does.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Fact::Kept(until) => Some(*until),
            Fact::AttemptEnded { next_at, .. } => *next_at,
            Fact::Final(_)
            | Fact::PendingAgain(_)
            | Fact::DeadLettered(..)
            | Fact::Forwarded(_)
            | Fact::Replayed(_)
            | Fact::Cancelled
            | Fact::Released(_)
            | Fact::Appended
            | Fact::Prepared(_)
            | Fact::Asked(_)
            | Fact::Parked
            | Fact::Decided(_)
            | Fact::SetAside(..)
            | Fact::Entry(_) => None,
        }
    }

    /// Where the message, or its copy, goes.
    #[must_use]
    pub fn destination(&self) -> Option<&Destination> {
        match self {
            Fact::DeadLettered(_, to)
            | Fact::Forwarded(to)
            | Fact::Replayed(to)
            | Fact::SetAside(to, _) => Some(to),
            Fact::AttemptEnded { .. }
            | Fact::Final(_)
            | Fact::PendingAgain(_)
            | Fact::Kept(_)
            | Fact::Cancelled
            | Fact::Released(_)
            | Fact::Appended
            | Fact::Prepared(_)
            | Fact::Asked(_)
            | Fact::Parked
            | Fact::Decided(_)
            | Fact::Entry(_) => None,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |to: &Destination| match to {
            Destination::Here | Destination::Copies => "its partition".to_owned(),
            Destination::There(to) => format!("{}-{}", to.topic, to.partition),
        };
        match self {
            Fact::AttemptEnded {
                group,
                ended,
                cause,
                note,
                ..
            } => {
                write!(f, "attempt {ended} of {group} ended: {}", cause.name())?;
                note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
            }
            Fact::Final(group) => write!(f, "final for {group}"),
            Fact::PendingAgain(group) => write!(f, "pending again for {group}"),
            Fact::DeadLettered(group, to) => write!(f, "{group} gave it up, to {}", place(to)),
            Fact::Forwarded(to) => write!(f, "moved to {}", place(to)),
            Fact::Replayed(to) => write!(f, "replayed to {}", place(to)),
            Fact::Kept(_) => write!(f, "kept"),
            Fact::Cancelled => write!(f, "taken back"),
            Fact::Released(_) => write!(f, "released"),
            Fact::Appended => write!(f, "appended"),
            Fact::Prepared(producers) => write!(f, "prepared by {producers}"),
            Fact::Asked(checks) => write!(f, "asked about, {checks} times by now"),
            Fact::Parked => write!(f, "parked"),
            Fact::Decided(Decision::Commit) => write!(f, "committed"),
            Fact::Decided(Decision::Rollback) => write!(f, "rolled back"),
            Fact::SetAside(to, reason) => {
                write!(f, "set aside, refused by {}: {reason}", place(to))
            }
            Fact::Entry(number) => write!(f, "number {}", number.0),
        }
    }
}

/// Reads a journal for one subject.
#[derive(Debug)]
pub struct Trace {
    subject: Subject,
    names: BTreeMap<GroupNumber, GroupName>,
    /// Groups for which it is final.
    finals: BTreeSet<GroupNumber>,
    /// Whether its going elsewhere was told.
    departed: bool,
    /// Its number as a delayed message, if it is in the log as one.
    taken_in: Option<EntryNumber>,
    /// Sequence number of the batch that it goes with.
    released: Option<u64>,
}

impl Trace {
    /// Nothing read yet.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        Self {
            subject,
            names: BTreeMap::new(),
            finals: BTreeSet::new(),
            departed: false,
            taken_in: None,
            released: None,
        }
    }

    /// What the next record of the journal tells.
    pub fn read(&mut self, record: &QueueRecord) -> Vec<Fact> {
        if let QueueRecord::Group {
            group,
            value: Some(value),
        } = record
        {
            self.names.insert(value.number, group.clone());
        }
        match &self.subject {
            Subject::Message(offset) => {
                let offset = *offset;
                let mut facts = self.of_message(offset, record);
                if let QueueRecord::Scheduled {
                    number,
                    logged: Some(at),
                    payload: Some(_),
                    ..
                } = record
                    && *at == offset
                {
                    self.taken_in = Some(*number);
                }
                let taken_in = self.taken_in;
                facts.extend(taken_in.and_then(|number| self.of_entry(number, record)));
                facts
            }
            Subject::Entry(number) => self.of_entry(*number, record).into_iter().collect(),
            Subject::Named(name) => named(name, record).into_iter().collect(),
        }
    }

    fn name(&self, group: GroupNumber) -> GroupName {
        let unnamed = || format!("group number {}", group.0).into();
        self.names.get(&group).cloned().unwrap_or_else(unnamed)
    }

    fn of_message(&mut self, offset: Offset, record: &QueueRecord) -> Vec<Fact> {
        let place = offset.0 / BLOCK_OFFSETS;
        match record {
            QueueRecord::Attempts {
                group,
                offset: at,
                value: Some(attempts),
            } if *at == offset => {
                let next_at = Some(attempts.next_at);
                let fact = ended(self.name(*group), attempts, next_at);
                fact.into_iter().collect()
            }
            QueueRecord::Block {
                group,
                block,
                value: Some(value),
            } if *block == place => self.now_final(*group, value.holds(offset)),
            QueueRecord::Cursor {
                group,
                block: Some(block),
            } if *block > place => self.now_final(*group, true),
            // The cursor was behind it already, or came back by a seek: then the block's
            // own record, if there is one, follows.
            QueueRecord::Cursor { group, .. } if self.finals.contains(group) => {
                self.now_final(*group, false)
            }
            QueueRecord::Departing {
                destination,
                value: Some(going),
                ..
            } => {
                let told = departure(offset, destination, &going.message);
                self.departed |= !told.is_empty();
                told
            }
            // Told already, unless compaction took the record of its departure.
            QueueRecord::Outgoing {
                destination,
                value: Some(batch),
                ..
            } if !self.departed => {
                let messages = batch.messages.iter();
                messages
                    .flat_map(|message| departure(offset, destination, message))
                    .collect()
            }
            QueueRecord::Reign(_)
            | QueueRecord::Group { .. }
            | QueueRecord::Cursor { .. }
            | QueueRecord::Block { .. }
            | QueueRecord::Attempts { .. }
            | QueueRecord::Ledger { .. }
            | QueueRecord::Gap { .. }
            | QueueRecord::Version { .. }
            | QueueRecord::Scheduled { .. }
            | QueueRecord::Cancelled { .. }
            | QueueRecord::Dedup { .. }
            | QueueRecord::Half { .. }
            | QueueRecord::HalfChecks { .. }
            | QueueRecord::Decided { .. }
            | QueueRecord::Outgoing { .. }
            | QueueRecord::Sequence { .. }
            | QueueRecord::Departing { .. }
            | QueueRecord::Replay { .. }
            | QueueRecord::MovedBack { .. }
            | QueueRecord::Aside { .. }
            | QueueRecord::Delays(_)
            | QueueRecord::TakenIn { .. } => Vec::new(),
        }
    }

    fn now_final(&mut self, group: GroupNumber, is_final: bool) -> Vec<Fact> {
        let changed = if is_final {
            self.finals.insert(group)
        } else {
            self.finals.remove(&group)
        };
        let name = self.name(group);
        match (changed, is_final) {
            (false, _) => Vec::new(),
            (true, true) => vec![Fact::Final(name)],
            (true, false) => vec![Fact::PendingAgain(name)],
        }
    }

    fn of_entry(&mut self, entry: EntryNumber, record: &QueueRecord) -> Option<Fact> {
        match record {
            QueueRecord::Scheduled {
                number,
                deliver_at,
                payload: Some(_),
                ..
            } if *number == entry => Some(Fact::Kept(*deliver_at)),
            QueueRecord::Cancelled {
                number,
                until: Some(_),
            } if *number == entry => Some(Fact::Cancelled),
            QueueRecord::Half {
                number,
                value: Some(half),
            } if *number == entry => Some(Fact::Prepared(half.producers.clone())),
            QueueRecord::HalfChecks {
                number,
                value: Some(checks),
            } if *number == entry => Some(if checks.parked {
                Fact::Parked
            } else {
                Fact::Asked(checks.checks)
            }),
            QueueRecord::Decided {
                number,
                value: Some(value),
            } if *number == entry => Some(Fact::Decided(value.decision)),
            QueueRecord::Aside {
                number,
                value: Some(aside),
            } if *number == entry => Some(Fact::SetAside(
                aside.destination.clone(),
                aside.reason.clone(),
            )),
            QueueRecord::Departing {
                destination,
                value: Some(going),
                ..
            } => {
                let is_ours = |message: &OutgoingMessage| match message {
                    OutgoingMessage::Aside { number, .. } => *number == entry,
                    OutgoingMessage::Released { .. }
                    | OutgoingMessage::Committed { .. }
                    | OutgoingMessage::DeadLetter { .. }
                    | OutgoingMessage::Forwarded { .. }
                    | OutgoingMessage::Replayed { .. } => false,
                };
                is_ours(&going.message).then(|| Fact::Forwarded(destination.clone()))
            }
            QueueRecord::Outgoing {
                destination: Destination::Here | Destination::Copies,
                sequence,
                value,
            } => match value {
                Some(batch) => {
                    let has = |message: &OutgoingMessage| match message {
                        OutgoingMessage::Released { number, .. }
                        | OutgoingMessage::Committed { number, .. } => *number == entry,
                        OutgoingMessage::DeadLetter { .. }
                        | OutgoingMessage::Forwarded { .. }
                        | OutgoingMessage::Replayed { .. }
                        | OutgoingMessage::Aside { .. } => false,
                    };
                    let ours = batch.messages.iter().any(has);
                    self.released = self.released.or_else(|| ours.then_some(*sequence));
                    ours.then_some(Fact::Released(*sequence))
                }
                None => (self.released == Some(*sequence)).then_some(Fact::Appended),
            },
            QueueRecord::Reign(_)
            | QueueRecord::Group { .. }
            | QueueRecord::Cursor { .. }
            | QueueRecord::Block { .. }
            | QueueRecord::Attempts { .. }
            | QueueRecord::Ledger { .. }
            | QueueRecord::Gap { .. }
            | QueueRecord::Version { .. }
            | QueueRecord::Scheduled { .. }
            | QueueRecord::Cancelled { .. }
            | QueueRecord::Dedup { .. }
            | QueueRecord::Half { .. }
            | QueueRecord::HalfChecks { .. }
            | QueueRecord::Decided { .. }
            | QueueRecord::Outgoing { .. }
            | QueueRecord::Sequence { .. }
            | QueueRecord::Departing { .. }
            | QueueRecord::Replay { .. }
            | QueueRecord::MovedBack { .. }
            | QueueRecord::Aside { .. }
            | QueueRecord::Delays(_)
            | QueueRecord::TakenIn { .. } => None,
        }
    }
}

/// The number of a message that is kept beside the log, if it is of this name.
fn named(name: &str, record: &QueueRecord) -> Option<Fact> {
    let (QueueRecord::Scheduled { number, .. }
    | QueueRecord::Half { number, .. }
    | QueueRecord::Aside { number, .. }) = record
    else {
        return None;
    };
    let payload = Payload::decode(record.payload()?).ok()?;
    let message = Message::from_payload(&payload);
    let key = payload.key.as_deref();
    let is_its = *message.id == *name
        || key == Some(name.as_bytes())
        || message
            .keys
            .iter()
            .chain(&message.group)
            .any(|key| **key == *name);
    is_its.then_some(Fact::Entry(*number))
}

/// The end of the last attempt of `attempts`.
fn ended(group: GroupName, attempts: &StoredAttempts, next_at: Option<Timestamp>) -> Option<Fact> {
    let cause = attempts.history.last()?.cause;
    Some(Fact::AttemptEnded {
        group,
        ended: attempts.ended,
        cause,
        note: attempts.note.clone(),
        next_at,
    })
}

/// What is told of the message at `offset` if it is the one that goes elsewhere.
fn departure(offset: Offset, to: &Destination, message: &OutgoingMessage) -> Vec<Fact> {
    let fact = match message {
        OutgoingMessage::DeadLetter { offset: at, facts } if *at == offset => {
            // Its last attempt has no record of its own.
            let group = &facts.group;
            let ended = ended(group.clone(), &facts.attempts, None).into_iter();
            let dead = Fact::DeadLettered(group.clone(), to.clone());
            return ended.chain([dead]).collect();
        }
        OutgoingMessage::Forwarded { offset: at } if *at == offset => {
            Some(Fact::Forwarded(to.clone()))
        }
        OutgoingMessage::Replayed { offset: at, .. } if *at == offset => {
            Some(Fact::Replayed(to.clone()))
        }
        OutgoingMessage::DeadLetter { .. }
        | OutgoingMessage::Forwarded { .. }
        | OutgoingMessage::Replayed { .. }
        | OutgoingMessage::Released { .. }
        | OutgoingMessage::Committed { .. }
        | OutgoingMessage::Aside { .. } => None,
    };
    fact.into_iter().collect()
}
