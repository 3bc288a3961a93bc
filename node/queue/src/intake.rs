//! Delayed messages that are in the log: taken in as they are found there.
//!
//! ```text
//!   log  0 1 D 3 4 D 6 ...      D: a record with a time of delivery, as Kafka clients write it
//!        |---------|next
//!            |  taken in: payload and place, into the timeline;
//!            |            groups pass it over
//!            +--due--> a copy at the log's end, which queues alone read (`copies.rs`)
//! ```
//! Which records are taken in depends on the record and on what is on record here alone, so
//! groups, which may come by before or after, pass over exactly those: who asks for a time
//! after [`Delays::since`](crate::Delays), which is when the journal began. In the batch of
//! records that keeps messages `next` moves past them: each is taken in once, whoever leads.
//! Which they are is kept until all groups have passed them, so that what waits is counted
//! without them.
//! The log of a partition with queues is read for this alone, once, by the leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_base::batch::Record;
use weir_base::{Offset, Timestamp};

use crate::durable::StoredGroup;
use crate::envelope::{
    DELIVER_PREFIX, HEADER_BORN_AT, HEADER_DELIVER_AT, HEADER_ID, Payload, delivery_time,
};
use crate::options::QueueOptions;
use crate::record::{BLOCK_OFFSETS, Delays, QueueRecord};
use crate::turn::Turn;

/// Offsets without a delayed message after which it is recorded that they were looked at.
const PROGRESS_OFFSETS: u64 = 64 * 1024;
/// Blocks of originals that are forgotten in one turn: more than come to be in one.
const FORGOTTEN_AT_ONCE: usize = 1_024;

/// What the host found in the log.
#[derive(Debug, Clone)]
pub struct TakeIn {
    /// The log was looked through from here on, ...
    pub from: Offset,
    /// ... up to here, exclusive; at most the high watermark.
    pub end: Offset,
    /// Records that ask for a time of delivery and that no queue sent, in offset order.
    pub found: Vec<Found>,
}

/// A record that asks to be delivered later.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub offset: Offset,
    /// When it is to be delivered: [`MessageFacts::not_before`](crate::MessageFacts).
    pub deliver_at: Timestamp,
    /// A [`Payload`](crate::Payload), encoded: what is to be delivered.
    pub payload: Bytes,
}

impl Found {
    /// What is to be kept of a record of partition `partition`, if it asks to come later: the
    /// same message, under the id and with the time of making that the record gives it.
    #[must_use]
    pub fn of(partition: u32, record: &Record) -> Option<Self> {
        let mut headers = record.headers.iter();
        if !headers.any(|header| header.key.starts_with(DELIVER_PREFIX)) {
            return None;
        }
        let deliver_at = delivery_time(&record.headers, record.timestamp)?;
        let mut payload = Payload::of(record);
        payload
            .headers
            .retain(|(name, _)| !name.starts_with(DELIVER_PREFIX));
        payload.set_header(HEADER_DELIVER_AT, &deliver_at.0.to_string());
        for (name, value) in [
            (HEADER_ID, format!("{partition}-{}", record.offset)),
            (HEADER_BORN_AT, record.timestamp.0.to_string()),
        ] {
            let mut headers = payload.headers.iter();
            if !headers.any(|(known, _)| **known == *name.as_bytes()) {
                payload.set_header(name, &value);
            }
        }
        Some(Self {
            offset: record.offset,
            deliver_at,
            payload: payload.encode(),
        })
    }
}

impl Delays {
    /// Whether a record that is to be delivered then is taken in, and passed over by groups.
    pub(crate) fn take(&self, deliver_at: Timestamp) -> bool {
        deliver_at > self.since
    }
}

/// Begins where nobody has taken anything in.
pub(crate) fn begin(turn: &mut Turn<'_>) {
    if turn.state.delays.is_none() {
        let kept = turn.state.timeline.len() as u64 + turn.state.releasing();
        let since = turn.now;
        *turn.delays() = Delays {
            since,
            kept,
            ..Delays::default()
        };
    }
    turn.core.looked_at = turn.delays().next;
}

/// Takes messages in, as far as there is room; gives the offset from which the host is to go
/// on.
pub(crate) fn take_in(turn: &mut Turn<'_>, take: TakeIn) -> Offset {
    let looked_at = turn.core.looked_at;
    if take.from > looked_at {
        // What lies between was not looked at.
        return looked_at;
    }
    let QueueOptions {
        scheduled_max,
        delay_max,
        payload_bytes_max,
        ..
    } = turn.core.options;
    let mut room = scheduled_max.saturating_sub(turn.state.timeline.len());
    let (mut next, mut kept) = (take.end.max(looked_at), 0);
    let mut originals = BTreeMap::new();
    for found in take.found {
        let is_too_large = found.payload.len() > payload_bytes_max;
        if found.offset < looked_at || !turn.delays().take(found.deliver_at) || is_too_large {
            continue;
        }
        if room == 0 {
            next = found.offset;
            break;
        }
        (room, kept) = (room - 1, kept + 1);
        let block = found.offset.0 / BLOCK_OFFSETS;
        let known = turn.state.originals.of(block);
        *originals.entry(block).or_insert(known) |= 1u128 << (found.offset.0 % BLOCK_OFFSETS);
        let number = turn.draw();
        turn.record(QueueRecord::Scheduled {
            deliver_at: found.deliver_at.min(turn.now + delay_max),
            number,
            logged: Some(found.offset),
            payload: Some(found.payload),
        });
    }
    record_originals(turn, originals);
    turn.core.looked_at = next;
    let recorded = turn.state.delays.map_or(Offset::ZERO, |delays| delays.next);
    if kept > 0 || next.0 - recorded.0 >= PROGRESS_OFFSETS {
        let delays = turn.delays();
        delays.next = next;
        delays.kept += kept;
    }
    next
}

/// Keeps which records were taken in, but for those that every group has passed: nobody counts
/// those any more.
fn record_originals(turn: &mut Turn<'_>, taken: BTreeMap<u64, u128>) {
    let state = turn.state;
    let hindmost = state.groups.values().map(StoredGroup::cursor).min();
    let hindmost = hindmost.unwrap_or(0);
    for block in state.originals.below(hindmost).take(FORGOTTEN_AT_ONCE) {
        turn.record(QueueRecord::TakenIn { block, bits: None });
    }
    for (block, bits) in taken.into_iter().filter(|(block, _)| *block >= hindmost) {
        let bits = Some(bits);
        turn.record(QueueRecord::TakenIn { block, bits });
    }
}
