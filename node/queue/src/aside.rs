//! What could not be delivered elsewhere: set aside with its payload, until an operator
//! sends it on.
//!
//! ```text
//!   outgoing batch --refused for good--> Aside records (payloads)    <-- the alarm
//!                                              |
//!                                              +--Send--> departing --> outgoing --> done
//! ```
//! A destination that does not exist and cannot be made would hold up its batches for ever,
//! and retention would take what they point to meanwhile. So the host says that it is
//! refused and brings the payloads, which are kept here; the batch is over in the same
//! batch of records. Nothing is dropped: what is aside stays until it is sent on, and is
//! known to be there.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

use crate::delay::{LINES_MAX, forget_batch};
use crate::error::QueueError;
use crate::ids::EntryNumber;
use crate::record::{Destination, OutgoingMessage, QueueRecord};
use crate::settings::Target;
use crate::turn::Turn;

/// Bytes of a reason that are remembered.
const REASON_BYTES_MAX: usize = 256;

/// A message that is set aside, on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAside {
    /// Where it was to go.
    pub destination: Destination,
    /// When it was set aside.
    pub at: Timestamp,
    /// Why, in the host's words.
    pub reason: Arc<str>,
    /// A [`Payload`](crate::Payload), encoded: what was to be appended.
    pub payload: Bytes,
}

/// The same, but for its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AsideState {
    pub(crate) destination: Destination,
    pub(crate) at: Timestamp,
    pub(crate) reason: Arc<str>,
    pub(crate) payload_at: Offset,
    pub(crate) bytes: u32,
}

/// A message that is set aside, listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideLine {
    /// Names it on its partition.
    pub number: EntryNumber,
    /// Where it was to go.
    pub destination: Destination,
    /// When it was set aside.
    pub at: Timestamp,
    /// Why.
    pub reason: Arc<str>,
    /// Where its payload is, in the journal.
    pub payload_at: Offset,
}

/// Sets a batch aside that is refused for good; `payloads` are its messages', in order.
pub(crate) fn refuse(
    turn: &mut Turn<'_>,
    destination: Destination,
    sequence: u64,
    reason: &str,
    payloads: Vec<Bytes>,
) -> Result<(), QueueError> {
    let outbox = turn.state.outboxes.get(&destination);
    let batch = outbox.and_then(|outbox| outbox.batches.get(&sequence));
    let messages = batch.map_or(0, |batch| batch.messages.len());
    // The partition itself is there as long as the journal is.
    let is_there = matches!(destination, Destination::There(_));
    if messages == 0 || messages != payloads.len() || !is_there {
        return Err(QueueError::NoSuchOutgoing);
    }
    let cut = reason.floor_char_boundary(REASON_BYTES_MAX);
    let reason: Arc<str> = reason.get(..cut).unwrap_or_default().into();
    for payload in payloads {
        let number = turn.draw();
        let aside = StoredAside {
            destination: destination.clone(),
            at: turn.now,
            reason: Arc::clone(&reason),
            payload,
        };
        turn.record(QueueRecord::Aside {
            number,
            value: Some(aside),
        });
    }
    forget_batch(turn, destination, sequence)
}

/// A page of what is aside, oldest first.
pub(crate) fn list(turn: &Turn<'_>, after: Option<EntryNumber>, limit: usize) -> Vec<AsideLine> {
    let asides = turn.state.asides.iter();
    let behind = asides.filter(|(number, _)| after.is_none_or(|after| **number > after));
    let page = behind.take(limit.min(LINES_MAX));
    page.map(|(number, aside)| AsideLine {
        number: *number,
        destination: aside.destination.clone(),
        at: aside.at,
        reason: aside.reason.clone(),
        payload_at: aside.payload_at,
    })
    .collect()
}

/// Sends on what is aside, or those of it that are named: where it was to go, or `to`.
/// Gives how many.
pub(crate) fn send(
    turn: &mut Turn<'_>,
    numbers: &[EntryNumber],
    to: Option<Target>,
) -> Result<u64, QueueError> {
    if let Some(to) = &to {
        to.validate()?;
    }
    let state = turn.state;
    let wanted = |number: &EntryNumber| numbers.is_empty() || numbers.contains(number);
    let wanted = state.asides.iter().filter(|(number, _)| wanted(number));
    let mut sent = 0;
    for (number, aside) in wanted.take(LINES_MAX) {
        let to = to.clone().map(Destination::There);
        let message = OutgoingMessage::Aside {
            number: *number,
            payload_at: aside.payload_at,
        };
        turn.depart(
            to.unwrap_or_else(|| aside.destination.clone()),
            message,
            aside.bytes,
        );
        sent += 1;
    }
    Ok(sent)
}
