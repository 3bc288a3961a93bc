//! Delayed messages: kept in the journal, released when they are due, taken back before.
//!
//! ```text
//!   Schedule ---> Scheduled record ---due---> Outgoing batch ---OutboxDone---> forgotten
//!                     |  (timeline)            (payload still in the journal)
//!                     +--Cancel--> Cancelled, remembered past the time it was due
//! ```
//! Nothing is released before its time (Q4). The payload's record is deleted in the batch
//! of records that says the append is committed, never earlier, and the append is
//! idempotent: so none is lost and none doubled over any number of leaders.
//!
//! What is in the log already, as Kafka clients put it there (`intake.rs`), is in the same
//! timeline and departs in batches of its own: as copies that queues alone read.
//!
//! What else goes to a partition (committed half messages, dead letters, forwarded ones)
//! departs the same way: a record first, a batch with others as soon as there is room.

use std::iter::Peekable;

use crate::command::{Room, Schedule};
use crate::dedup;
use crate::durable::{Outbox, QueueState};
use crate::error::QueueError;
use crate::ids::EntryNumber;
use crate::receipt::ScheduleHandle;
use crate::record::{Destination, OutgoingMessage, QueueRecord};
use crate::reply::{Cancelled, Scheduled, ScheduledLine};
use crate::turn::Turn;
use weir_base::Timestamp;

/// Most lines of a list.
pub(crate) const LINES_MAX: usize = 1_000;

/// Takes a message in.
pub(crate) fn schedule(turn: &mut Turn<'_>, wish: Schedule) -> Result<Scheduled, QueueError> {
    let options = &turn.core.options;
    if wish.deliver_at > turn.now + options.delay_max {
        return Err(QueueError::DelayTooLong {
            at: wish.deliver_at,
            max: options.delay_max,
        });
    }
    if wish.payload.len() > options.payload_bytes_max {
        return Err(QueueError::PayloadTooLarge {
            bytes: wish.payload.len(),
            max: options.payload_bytes_max,
        });
    }
    let (secret, partition) = (turn.core.secret, turn.core.partition);
    if let Some(first) = dedup::first(turn, wish.dedup.as_ref()) {
        let handle = first.as_ref().and_then(|first| {
            let deliver_at = first.deliver_at?;
            Some(ScheduleHandle::new(
                secret,
                partition,
                deliver_at,
                first.number,
            ))
        });
        let told = first.and_then(|first| first.told);
        return Ok(Scheduled::Duplicate { handle, told });
    }
    check_room(turn, wish.room.as_ref())?;
    if turn.state.timeline.len() >= turn.core.options.scheduled_max {
        let max = turn.core.options.scheduled_max;
        return Err(QueueError::TooManyScheduled { max });
    }
    dedup::check(turn, wish.dedup.as_ref())?;
    let deliver_at = wish.deliver_at.max(Timestamp(0));
    let number = turn.draw();
    turn.record(QueueRecord::Scheduled {
        deliver_at,
        number,
        logged: None,
        payload: Some(wish.payload),
    });
    turn.delays().kept += 1;
    if let Some(dedup) = wish.dedup {
        dedup::remember(turn, dedup, number, Some(deliver_at));
    }
    let handle = ScheduleHandle::new(secret, partition, deliver_at, number);
    Ok(Scheduled::Kept(handle))
}

/// Whether the groups have room for one more message that is kept for them.
pub(crate) fn check_room(turn: &Turn<'_>, room: Option<&Room>) -> Result<(), QueueError> {
    let full =
        room.and_then(|room| (turn.state.gate()).refuses_to_keep(room.end, room.default.as_ref()));
    match full {
        Some((group, messages_max)) => Err(QueueError::Full {
            group,
            messages_max,
        }),
        None => Ok(()),
    }
}

/// Takes a message back, and says what is true of it.
pub(crate) fn cancel(
    turn: &mut Turn<'_>,
    handle: &ScheduleHandle,
) -> Result<Cancelled, QueueError> {
    if !handle.is_sealed_by(turn.core.secret, turn.core.partition) {
        return Err(QueueError::ForgedHandle);
    }
    let (state, number) = (turn.state, handle.number);
    let remembered = turn.core.options.remembered;
    if state.timeline.get(handle.deliver_at, number).is_some() {
        turn.record(QueueRecord::Scheduled {
            deliver_at: handle.deliver_at,
            number,
            logged: None,
            payload: None,
        });
        turn.delays().cancelled += 1;
        turn.record(QueueRecord::Cancelled {
            number,
            until: Some(handle.deliver_at.max(turn.now) + remembered),
        });
        return Ok(Cancelled::Cancelled);
    }
    if state.cancelled.get(number).is_some() || weir_base::mutant!(CancelLies) {
        return Ok(Cancelled::Cancelled);
    }
    // The seal says that it was kept, and a cancellation would be remembered that long.
    let on_its_way = LANES.iter().any(|lane| {
        state.outboxes.get(&lane.0).is_some_and(|outbox| {
            let mut messages = outbox.batches.values().flat_map(|batch| &batch.messages);
            messages.any(|message| is_release_of(message, number))
        })
    });
    if on_its_way || turn.now <= handle.deliver_at + remembered {
        return Ok(Cancelled::AlreadyFired);
    }
    Ok(Cancelled::Unknown)
}

fn is_release_of(message: &OutgoingMessage, wanted: EntryNumber) -> bool {
    match message {
        OutgoingMessage::Released { number, .. } => *number == wanted,
        OutgoingMessage::Committed { .. }
        | OutgoingMessage::DeadLetter { .. }
        | OutgoingMessage::Forwarded { .. }
        | OutgoingMessage::Replayed { .. }
        | OutgoingMessage::Aside { .. } => false,
    }
}

/// A page of delayed messages.
pub(crate) fn list(
    turn: &Turn<'_>,
    after: Option<(Timestamp, EntryNumber)>,
    limit: usize,
) -> Vec<ScheduledLine> {
    let (secret, partition) = (turn.core.secret, turn.core.partition);
    let line = |pending: crate::durable::Pending| ScheduledLine {
        handle: ScheduleHandle::new(secret, partition, pending.deliver_at, pending.number),
        payload_at: pending.payload_at,
    };
    let (timeline, limit) = (&turn.state.timeline, limit.min(LINES_MAX));
    match after {
        Some((at, number)) => timeline.after(at, number).take(limit).map(line).collect(),
        None => timeline.iter().take(limit).map(line).collect(),
    }
}

/// Batches of released messages that wait or are under way. What is due while there are
/// so many becomes one batch, not a queue of small ones, each of which would take the time
/// of two commits before the next.
const RELEASES_AT_ONCE: usize = 2;

/// Where messages go when they are due, and whether it is those that are in the log already.
const LANES: [(Destination, bool); 2] = [(Destination::Here, false), (Destination::Copies, true)];

/// Delayed messages that are looked through for one that goes where there is room.
const LOOKED_THROUGH: usize = 4_096;

/// Whether what is due waits for batches that are on their way.
fn is_releasing(state: &QueueState, to: &Destination) -> bool {
    let outbox = state.outboxes.get(to);
    outbox.is_some_and(|outbox| outbox.batches.len() >= RELEASES_AT_ONCE)
}

/// When messages are to be released next: never while enough are on their way.
pub(crate) fn next_release(state: &QueueState) -> Option<Timestamp> {
    let mut outboxes = state.outboxes.values();
    if outboxes.any(|outbox| !outbox.departing.is_empty() && outbox.room() > 0) {
        return Some(Timestamp(0));
    }
    let is_held = LANES.map(|(to, _)| is_releasing(state, &to));
    if is_held == [true, true] {
        return None;
    }
    let mut pending = state.timeline.iter().take(LOOKED_THROUGH);
    let next = pending.find(|pending| !is_held[usize::from(pending.is_logged)]);
    next.map(|pending| pending.deliver_at)
}

/// Takes messages for one batch from what is to go, in order; at least one if any is.
fn batch<T>(
    turn: &Turn<'_>,
    going: &mut Peekable<impl Iterator<Item = T>>,
    bytes_of: impl Fn(&T) -> usize,
) -> Vec<T> {
    let options = &turn.core.options;
    let (mut messages, mut bytes) = (Vec::new(), 0);
    while messages.len() < options.release_records_max
        && let Some(next) = going.next_if(|next| {
            messages.is_empty() || bytes + bytes_of(next) <= options.release_bytes_max
        })
    {
        bytes += bytes_of(&next);
        messages.push(next);
    }
    messages
}

/// Sends what is to go elsewhere, and gives how many batches the partition itself takes
/// besides.
fn depart(turn: &mut Turn<'_>) -> usize {
    let mut room_here = Outbox::default().room();
    for (destination, outbox) in &turn.state.outboxes {
        let mut room = outbox.room();
        let mut going = outbox.departing.iter().peekable();
        while room > 0 && going.peek().is_some() {
            room -= 1;
            let batch = batch(turn, &mut going, |(_, going)| {
                usize::try_from(going.bytes).unwrap_or(usize::MAX)
            });
            for (number, _) in &batch {
                turn.record(QueueRecord::Departing {
                    destination: destination.clone(),
                    number: **number,
                    value: None,
                });
            }
            let messages = batch.into_iter().map(|(_, going)| going.message.clone());
            turn.send(destination.clone(), messages.collect());
        }
        if *destination == Destination::Here {
            room_here = room;
        }
    }
    room_here
}

/// Releases what is due, in batches.
pub(crate) fn release(turn: &mut Turn<'_>) {
    let room_here = depart(turn);
    release_to(turn, &LANES[0], room_here);
    let copies = turn.state.outboxes.get(&Destination::Copies);
    let room = copies.map_or_else(|| Outbox::default().room(), Outbox::room);
    release_to(turn, &LANES[1], room);
}

fn release_to(turn: &mut Turn<'_>, (to, is_logged): &(Destination, bool), mut room: usize) {
    let (state, now) = (turn.state, turn.now);
    if is_releasing(state, to) {
        return;
    }
    let due = state.timeline.iter().take_while(|p| p.deliver_at <= now);
    let mut passed_over = 0;
    let due = due.take_while(|pending| {
        passed_over += usize::from(pending.is_logged != *is_logged);
        passed_over < LOOKED_THROUGH
    });
    let mut due = due.filter(|p| p.is_logged == *is_logged).peekable();
    while room > 0 && due.peek().is_some() {
        room -= 1;
        let batch = batch(turn, &mut due, |pending| pending.bytes);
        if weir_base::mutant!(M16) {
            for pending in batch {
                turn.record(QueueRecord::Scheduled {
                    deliver_at: pending.deliver_at,
                    number: pending.number,
                    logged: None,
                    payload: None,
                });
            }
            continue;
        }
        let messages = batch.into_iter().map(|pending| OutgoingMessage::Released {
            deliver_at: pending.deliver_at,
            number: pending.number,
            payload_at: pending.payload_at,
        });
        turn.send(to.clone(), messages.collect());
    }
}

/// An outgoing batch is committed, or what it holds is kept elsewhere: nothing of it is
/// needed any more.
pub(crate) fn forget_batch(
    turn: &mut Turn<'_>,
    destination: Destination,
    sequence: u64,
) -> Result<(), QueueError> {
    let outbox = turn.state.outboxes.get(&destination);
    let Some((batch, next)) =
        outbox.and_then(|outbox| Some((outbox.batches.get(&sequence)?, outbox.next)))
    else {
        return Err(QueueError::NoSuchOutgoing);
    };
    for message in &batch.messages {
        match message {
            OutgoingMessage::Released {
                deliver_at, number, ..
            } => {
                turn.record(QueueRecord::Scheduled {
                    deliver_at: *deliver_at,
                    number: *number,
                    logged: None,
                    payload: None,
                });
                turn.delays().released += 1;
            }
            OutgoingMessage::Committed { number, .. } => {
                let number = *number;
                turn.record(QueueRecord::Half {
                    number,
                    value: None,
                });
                turn.record(QueueRecord::HalfChecks {
                    number,
                    value: None,
                });
            }
            OutgoingMessage::Aside { number, .. } => {
                let number = *number;
                turn.record(QueueRecord::Aside {
                    number,
                    value: None,
                });
            }
            OutgoingMessage::DeadLetter { .. }
            | OutgoingMessage::Forwarded { .. }
            | OutgoingMessage::Replayed { .. } => {}
        }
    }
    // The number must outlive the batches, which compaction takes away.
    turn.record(QueueRecord::Sequence {
        destination: destination.clone(),
        next,
    });
    turn.record(QueueRecord::Outgoing {
        destination,
        sequence,
        value: None,
    });
    Ok(())
}
