//! Messages of one id, or one business key, are taken once.
//!
//! An id is remembered by the same batch of records that keeps its message, so that there is
//! neither an id without a message nor a message without its id, whatever fails. It is
//! forgotten when its window is over. A repeat is told of the first. One that was taken back
//! or rolled back never was, so that the next of its id is a first one, for as long as that is
//! remembered (`remembered`, 1 h past the message's time). Equality is that of 128 bits of a
//! hash. Bound: `dedup_max` ids a partition, all in memory; more are refused, not forgotten.

use weir_base::Timestamp;

use crate::command::{Decision, Dedup};
use crate::error::QueueError;
use crate::ids::{EntryNumber, sip_hash};
use crate::record::{QueueRecord, StoredDedup, StoredFirst};
use crate::turn::Turn;

/// Longest text that is kept for repeats.
const TOLD_BYTES_MAX: usize = 255;

/// An id in 128 bits.
fn id_hash(id: &[u8]) -> u128 {
    let half = |key| u128::from(sip_hash((0x7765_6972, key), id));
    half(1) << 64 | half(2)
}

/// What a message is a repeat of, if it is one. `None` inside: a journal of the first version
/// does not tell.
pub(crate) fn first(turn: &Turn<'_>, wish: Option<&Dedup>) -> Option<Option<StoredFirst>> {
    let state = turn.state;
    let (until, first) = state.dedup.get(id_hash(&wish?.id))?;
    if *until <= turn.now {
        return None;
    }
    let never_was = first.as_ref().is_some_and(|first| match first.deliver_at {
        Some(_) => state.cancelled.get(first.number).is_some(),
        None => matches!(
            state.decided.get(first.number),
            Some((_, Decision::Rollback))
        ),
    });
    (!never_was).then(|| first.clone())
}

/// Whether one more id can be remembered.
pub(crate) fn check(turn: &Turn<'_>, wish: Option<&Dedup>) -> Result<(), QueueError> {
    let Some(wish) = wish else {
        return Ok(());
    };
    let bytes = wish.told.as_ref().map_or(0, |told| told.len());
    if bytes > TOLD_BYTES_MAX {
        return Err(QueueError::ToldTooLong {
            bytes,
            max: TOLD_BYTES_MAX,
        });
    }
    let (ids, max) = (&turn.state.dedup, turn.core.options.dedup_max);
    if ids.len() >= max && ids.get(id_hash(&wish.id)).is_none() {
        return Err(QueueError::TooManyIds { max });
    }
    Ok(())
}

/// Remembers the id of a message that is taken.
pub(crate) fn remember(
    turn: &mut Turn<'_>,
    wish: Dedup,
    number: EntryNumber,
    deliver_at: Option<Timestamp>,
) {
    if weir_base::mutant!(DedupForgets) && deliver_at.is_some_and(|at| at <= turn.now) {
        return;
    }
    let window = wish.window.unwrap_or(turn.core.options.dedup_window);
    let first = StoredFirst {
        number,
        deliver_at,
        told: wish.told,
    };
    turn.record(QueueRecord::Dedup {
        id: id_hash(&wish.id),
        value: Some(StoredDedup {
            until: turn.now + window,
            first: Some(first),
        }),
    });
}
