//! What survives the leader's death: positions, ended attempts, delayed and half messages.
//!
//! Changed by [`QueueState::fold`] alone, one journal record at a time, so replaying the
//! journal from the start, from its compacted form, or from a snapshot of this, gives the
//! same value (Q5). It takes records as they are: a compacted journal may tell of a
//! group's acknowledgements before it tells of the group.
//!
//! Memory: a delayed message 20 to 24 bytes, a remembered id about 130 (and
//! what its repeats are told), an undecided half
//! message about 120, a message that waits for a retry about 100 and 16 an ended attempt,
//! a group 1 bit for each offset between its cursor and the newest final message, and 128
//! offsets that no group has passed about 30 if any of them was taken in.

mod expiring;
mod gate;
mod group;
mod originals;
mod timeline;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

pub(crate) use expiring::Expiring;
pub use gate::{Admission, Gate};
pub(crate) use group::StoredGroup;
pub(crate) use originals::Originals;
pub(crate) use timeline::{Pending, Timeline};

use crate::aside::AsideState;
use crate::command::Decision;
use crate::ids::{EntryNumber, GroupName, GroupNumber};
use crate::record::{
    Delays, Departure, Destination, HalfChecks, Outgoing, OutgoingMessage, QueueRecord, Reign,
    StoredFirst, StoredHalf,
};
use crate::replay::StoredReplay;

/// All that one journal says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    pub(crate) reign: Option<Reign>,
    pub(crate) names: BTreeMap<GroupName, GroupNumber>,
    pub(crate) groups: BTreeMap<GroupNumber, StoredGroup>,
    pub(crate) timeline: Timeline,
    pub(crate) cancelled: Expiring<EntryNumber, ()>,
    pub(crate) dedup: Expiring<u128, Option<StoredFirst>>,
    pub(crate) halves: BTreeMap<EntryNumber, HalfState>,
    pub(crate) decided: Expiring<EntryNumber, Decision>,
    pub(crate) outboxes: BTreeMap<Destination, Outbox>,
    #[serde(with = "crate::replay::kept")]
    pub(crate) replays: BTreeMap<EntryNumber, StoredReplay>,
    /// Dead letters of this partition that went back, by block.
    pub(crate) moved_back: BTreeMap<u64, u128>,
    pub(crate) asides: BTreeMap<EntryNumber, AsideState>,
    pub(crate) delays: Option<Delays>,
    pub(crate) originals: Originals,
}

/// A half message that is not decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HalfState {
    pub(crate) producers: Arc<str>,
    pub(crate) prepared_at: Timestamp,
    pub(crate) payload_at: Offset,
    /// Of its payload.
    pub(crate) bytes: u32,
    pub(crate) checks: HalfChecks,
}

/// What goes to one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outbox {
    /// Next sequence number; never falls.
    pub(crate) next: u64,
    /// By first sequence number: not known to be committed there.
    pub(crate) batches: BTreeMap<u64, Outgoing>,
    /// In no batch yet.
    pub(crate) departing: BTreeMap<EntryNumber, Departure>,
}

impl Outbox {
    /// How many more batches may be on their way.
    pub(crate) fn room(&self) -> usize {
        BATCHES_AT_ONCE.saturating_sub(self.batches.len())
    }
}

/// Batches on their way to one partition: an idempotent producer's memory is five long.
const BATCHES_AT_ONCE: usize = 5;

impl QueueState {
    /// Batches to be appended, by destination and in the order of their sequence numbers.
    /// A destination's must be appended in this order, each as one batch, with the
    /// journal's producer id and [`producer_sequence`] of the number here.
    pub fn outgoing(&self) -> impl Iterator<Item = (&Destination, u64, &Outgoing)> {
        self.outboxes.iter().flat_map(|(destination, outbox)| {
            let batches = outbox.batches.iter();
            batches.map(move |(sequence, batch)| (destination, *sequence, batch))
        })
    }

    /// How many messages are to go elsewhere and are in no batch yet.
    #[must_use]
    pub fn departing(&self) -> usize {
        self.outboxes
            .values()
            .map(|outbox| outbox.departing.len())
            .sum()
    }

    /// Which letters of a block were moved back.
    pub(crate) fn moved_back(&self, block: u64) -> u128 {
        self.moved_back.get(&block).copied().unwrap_or(0)
    }

    /// How many messages are set aside: refused where they were to go.
    #[must_use]
    pub fn aside(&self) -> usize {
        self.asides.len()
    }

    /// How many letters that were moved back are not known to be there yet.
    pub(crate) fn replayed_on_the_way(&self) -> u64 {
        let outboxes = self.outboxes.values();
        let messages = outboxes.flat_map(|outbox| {
            let batches = outbox.batches.values().flat_map(|batch| &batch.messages);
            batches.chain(outbox.departing.values().map(|going| &going.message))
        });
        let replayed =
            |message: &&OutgoingMessage| matches!(message, OutgoingMessage::Replayed { .. });
        messages.filter(replayed).count() as u64
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reign.is_none()
    }

    /// The groups' names.
    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.names.keys()
    }

    /// How many messages are delayed.
    #[must_use]
    pub fn scheduled(&self) -> usize {
        self.timeline.len()
    }

    /// How many half messages are not decided, and how many of them are parked.
    #[must_use]
    pub fn halves(&self) -> (usize, usize) {
        let parked = self.halves.values().filter(|half| half.checks.parked);
        (self.halves.len(), parked.count())
    }

    /// The conservation ledger's own check: for each group its final offsets, and those
    /// that are counted. They are equal, always.
    pub fn conservation(&self) -> impl Iterator<Item = (&GroupName, i64, i64)> {
        self.groups.values().filter_map(|group| {
            let name = group.name.as_ref()?;
            Some((name, group.finished(), group.counts().total()))
        })
    }

    /// Delayed messages as a whole, and how many of those that were kept are accounted for:
    /// released, on their way to the log, taken back, or waiting. It is all of them, always.
    #[must_use]
    pub fn delays(&self) -> (Delays, u64) {
        let delays = self.delays.unwrap_or_default();
        let pending = self.timeline.len() as u64 + self.releasing();
        (delays, delays.released + delays.cancelled + pending)
    }

    /// Delayed messages on their way to the log.
    pub(crate) fn releasing(&self) -> u64 {
        let lanes = [Destination::Here, Destination::Copies];
        let lanes = lanes.iter().filter_map(|lane| self.outboxes.get(lane));
        let messages = lanes.flat_map(|outbox| outbox.batches.values().flat_map(|b| &b.messages));
        let released =
            |message: &&OutgoingMessage| matches!(message, OutgoingMessage::Released { .. });
        messages.filter(released).count() as u64
    }

    /// What is on record of a group, which may be nothing yet.
    pub(crate) fn stored(&self, group: GroupNumber) -> &StoredGroup {
        self.groups.get(&group).unwrap_or(&group::NO_GROUP)
    }

    pub(crate) fn fold(&mut self, at: Offset, record: &QueueRecord) {
        match record {
            QueueRecord::Reign(reign) => self.reign = Some(*reign),
            QueueRecord::Group { group, value } => {
                if let Some(old) = self.names.remove(group) {
                    self.change(old, |stored| stored.name = None);
                }
                if let Some(value) = value {
                    self.names.insert(group.clone(), value.number);
                    let stored = self.groups.entry(value.number).or_default();
                    stored.name = Some(group.clone());
                    stored.start = value.start;
                    stored.settings = Some(Arc::new(value.settings.clone()));
                }
            }
            QueueRecord::Cursor { group, .. }
            | QueueRecord::Block { group, .. }
            | QueueRecord::Attempts { group, .. }
            | QueueRecord::Ledger { group, .. }
            | QueueRecord::Gap { group, .. }
            | QueueRecord::Version { group, .. } => {
                self.change(*group, |stored| stored.fold(record));
            }
            QueueRecord::Scheduled {
                deliver_at,
                number,
                logged,
                payload,
            } => match payload {
                Some(payload) => self.timeline.insert(Pending {
                    deliver_at: *deliver_at,
                    number: *number,
                    payload_at: at,
                    is_logged: logged.is_some(),
                    bytes: payload.len(),
                }),
                None => {
                    self.timeline.remove(*deliver_at, *number);
                }
            },
            QueueRecord::Cancelled { number, until } => {
                self.cancelled.set(*number, until.map(|until| (until, ())));
            }
            QueueRecord::Dedup { id, value } => {
                let value = value.clone().map(|value| (value.until, value.first));
                self.dedup.set(*id, value);
            }
            QueueRecord::Half { number, value } => self.fold_half(at, *number, value.as_ref()),
            QueueRecord::HalfChecks { number, value } => {
                if let (Some(half), Some(checks)) = (self.halves.get_mut(number), value) {
                    half.checks = *checks;
                }
            }
            QueueRecord::Decided { number, value } => {
                let value = value.map(|value| (value.until, value.decision));
                self.decided.set(*number, value);
            }
            QueueRecord::Outgoing {
                destination,
                sequence,
                value,
            } => self.fold_outgoing(destination, *sequence, value.as_ref()),
            QueueRecord::Departing {
                destination,
                number,
                value,
            } => self.fold_departing(destination, *number, value.as_ref()),
            QueueRecord::Sequence { destination, next } => {
                let outbox = self.outboxes.entry(destination.clone()).or_default();
                outbox.next = outbox.next.max(*next);
            }
            QueueRecord::Replay { number, value } => set(&mut self.replays, *number, value.clone()),
            QueueRecord::MovedBack { block, bits } => set(&mut self.moved_back, *block, *bits),
            QueueRecord::Aside { number, value } => {
                let aside = value.as_ref().map(|aside| AsideState {
                    destination: aside.destination.clone(),
                    at: aside.at,
                    reason: aside.reason.clone(),
                    payload_at: at,
                    bytes: u32::try_from(aside.payload.len()).unwrap_or(u32::MAX),
                });
                set(&mut self.asides, *number, aside);
            }
            QueueRecord::Delays(delays) => self.delays = Some(*delays),
            QueueRecord::TakenIn { block, bits } => self.originals.set(*block, *bits),
        }
    }

    fn change(&mut self, group: GroupNumber, change: impl FnOnce(&mut StoredGroup)) {
        let stored = self.groups.entry(group).or_default();
        change(stored);
        if stored.is_empty() {
            self.groups.remove(&group);
        }
    }

    fn fold_half(&mut self, at: Offset, number: EntryNumber, half: Option<&StoredHalf>) {
        let Some(half) = half else {
            self.halves.remove(&number);
            return;
        };
        let checks = HalfChecks {
            checks: 0,
            next_at: half.check_at,
            parked: false,
        };
        let half = HalfState {
            producers: half.producers.clone(),
            prepared_at: half.prepared_at,
            payload_at: at,
            bytes: u32::try_from(half.payload.len()).unwrap_or(u32::MAX),
            checks,
        };
        self.halves.insert(number, half);
    }

    fn fold_departing(&mut self, to: &Destination, number: EntryNumber, going: Option<&Departure>) {
        let outbox = self.outboxes.entry(to.clone()).or_default();
        let Some(going) = going else {
            outbox.departing.remove(&number);
            return;
        };
        outbox.departing.insert(number, going.clone());
        if let OutgoingMessage::Committed { number, .. } = going.message {
            self.halves.remove(&number);
        }
        if let OutgoingMessage::Aside { number, .. } = going.message {
            self.asides.remove(&number);
        }
    }

    /// What is on its way is no longer pending; its payload stays in the journal.
    fn fold_outgoing(&mut self, to: &Destination, sequence: u64, batch: Option<&Outgoing>) {
        let outbox = self.outboxes.entry(to.clone()).or_default();
        let Some(batch) = batch else {
            outbox.batches.remove(&sequence);
            return;
        };
        outbox.batches.insert(sequence, batch.clone());
        outbox.next = outbox.next.max(sequence + batch.messages.len() as u64);
        for message in &batch.messages {
            match message {
                OutgoingMessage::Released {
                    deliver_at, number, ..
                } => {
                    self.timeline.remove(*deliver_at, *number);
                }
                OutgoingMessage::Committed { number, .. } => {
                    self.halves.remove(number);
                }
                OutgoingMessage::Aside { number, .. } => {
                    self.asides.remove(number);
                }
                OutgoingMessage::DeadLetter { .. }
                | OutgoingMessage::Forwarded { .. }
                | OutgoingMessage::Replayed { .. } => {}
            }
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// An idempotent producer's sequence number, which wraps at 2^31.
#[must_use]
pub fn producer_sequence(sequence: u64) -> i32 {
    i32::try_from(sequence & 0x7fff_ffff).unwrap_or_default()
}
