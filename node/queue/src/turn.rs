//! What one decision has at hand: the state, the time, the leader's numbers, the outcome.

use weir_base::machine::{Decision, Token};
use weir_base::{Offset, Timestamp};

use crate::durable::{QueueState, StoredGroup};
use crate::ids::{EntryNumber, GroupNumber};
use crate::options::QueueOptions;
use crate::receipt::Secret;
use crate::record::{
    Delays, Departure, Destination, Outgoing, OutgoingMessage, QueueRecord, Reign,
};
use crate::reply::QueueReply;
use crate::timers::Timers;

/// Numbers that a leader reserves at once.
const NUMBERS_AT_ONCE: u64 = 65_536;

pub(crate) type Out = Decision<QueueRecord, QueueReply>;

/// What all groups of a leader share.
#[derive(Debug, Default)]
pub(crate) struct Core {
    pub(crate) options: QueueOptions,
    pub(crate) partition: u32,
    /// How many the topic has, as far as was told.
    pub(crate) partitions: u32,
    /// Becomes part of the journal's secret if it has none yet.
    seed: u64,
    pub(crate) secret: Secret,
    /// Number of this leadership: no other leader's whose replies were seen has it.
    pub(crate) reign: u64,
    next_number: u64,
    reserved: u64,
    leases: u64,
    pub(crate) timers: Timers,
    /// The log was looked through for delayed messages up to here.
    pub(crate) looked_at: Offset,
    /// What this decision makes of delayed messages as a whole.
    delays: Option<Delays>,
    /// Next sequence numbers of destinations that this decision sends to.
    sequences: Vec<(Destination, u64)>,
}

impl Core {
    pub(crate) fn new(options: QueueOptions, partition: u32, seed: u64) -> Self {
        Self {
            options,
            partition,
            seed,
            ..Self::default()
        }
    }

    /// Begins a reign: takes numbers that nobody had.
    pub(crate) fn begin(&mut self, state: &QueueState, out: &mut Out) {
        let old = state.reign;
        let drawn = || (self.seed, self.seed.rotate_left(32) ^ 0x7175_6575);
        self.secret = old.map_or_else(drawn, |reign| reign.secret);
        self.reign = old.map_or(0, |reign| reign.reserved);
        self.next_number = self.reign;
        self.reserved = self.reign;
        self.reserve(out);
    }

    fn reserve(&mut self, out: &mut Out) {
        self.reserved += NUMBERS_AT_ONCE;
        out.records.push(QueueRecord::Reign(Reign {
            reserved: self.reserved,
            secret: self.secret,
        }));
    }

    /// A number that is never drawn again.
    pub(crate) fn draw(&mut self, out: &mut Out) -> u64 {
        if self.next_number == self.reserved {
            self.reserve(out);
        }
        self.next_number += 1;
        self.next_number - 1
    }

    pub(crate) fn next_lease(&mut self) -> u64 {
        self.leases += 1;
        self.leases
    }

    /// A decision is over: what it noted for itself is recorded or holds no longer.
    pub(crate) fn end_turn(&mut self, out: &mut Out) {
        self.sequences.clear();
        let delays = self.delays.take();
        out.records.extend(delays.map(QueueRecord::Delays));
    }
}

/// One decision.
pub(crate) struct Turn<'a> {
    pub(crate) state: &'a QueueState,
    pub(crate) core: &'a mut Core,
    pub(crate) now: Timestamp,
    pub(crate) out: &'a mut Out,
}

impl Turn<'_> {
    pub(crate) fn record(&mut self, record: QueueRecord) {
        self.out.records.push(record);
    }

    pub(crate) fn reply(&mut self, token: Token, reply: QueueReply) {
        self.out.replies.push((token, reply));
    }

    pub(crate) fn draw(&mut self) -> EntryNumber {
        EntryNumber(self.core.draw(self.out))
    }

    /// Delayed messages as a whole, to be changed: recorded at the decision's end.
    pub(crate) fn delays(&mut self) -> &mut Delays {
        let stored = self.state.delays;
        let delays = &mut self.core.delays;
        delays.get_or_insert_with(|| stored.unwrap_or_default())
    }

    /// Has a message appended elsewhere, with the next batch that goes there.
    pub(crate) fn depart(
        &mut self,
        destination: Destination,
        message: OutgoingMessage,
        bytes: u32,
    ) {
        let number = self.draw();
        self.record(QueueRecord::Departing {
            destination,
            number,
            value: Some(Departure { bytes, message }),
        });
    }

    /// Has messages appended elsewhere, as one batch.
    pub(crate) fn send(&mut self, destination: Destination, messages: Vec<OutgoingMessage>) {
        let known = self.state.outboxes.get(&destination);
        let known = known.map_or(0, |outbox| outbox.next);
        let sequences = &mut self.core.sequences;
        let noted = sequences.iter_mut().find(|(to, _)| *to == destination);
        let after = messages.len() as u64;
        let sequence = if let Some((_, next)) = noted {
            *next += after;
            *next - after
        } else {
            sequences.push((destination.clone(), known + after));
            known
        };
        self.record(QueueRecord::Outgoing {
            destination,
            sequence,
            value: Some(Outgoing { messages }),
        });
    }
}

impl<'a> Turn<'a> {
    /// What is on record of a group; of one that was made just now, nothing.
    pub(crate) fn stored(&self, group: GroupNumber) -> &'a StoredGroup {
        self.state.stored(group)
    }
}
