//! The queue machine: routes each command to the group or the store it concerns.
//!
//! Called by the machine host of `node/broker`, one machine a partition with queues. On a
//! crash or a lost epoch [`QueueLive`] is dropped and callers in wait are told
//! "indeterminate"; the successor has [`QueueState`] from the journal, begins a reign of
//! its own at its first command or tick, and reads messages again from each cursor. Live
//! leases are not records: what was in flight is delivered again (at least once), with the
//! same attempt number, and receipts of the old leader are refused as expired.
//!
//! The host, beside the trait: after every turn it asks [`QueueMachine::wants`] and feeds
//! what it wants; appends [`QueueState::outgoing`] and reports with `OutboxDone`.
//!
//! Cost. Memory: of a message read ahead (at most `ready_max` a group) about 60 bytes, in
//! flight 160 more, that waits for a retry or behind its message group about 80; of a
//! message that waits in the log, nothing. Journal: an `Ack` one record of about 45 bytes
//! for every block of 128 offsets it touches, so 1.5 to 3 bytes a message in batches of 16
//! to 32, 45 singly; 70 bytes more for every 128 messages, for cursor and ledger. A
//! receive none, a failed attempt 30 to 150, a dead letter 500 until it is done, a delayed message its payload and 20 bytes,
//! 25 more to release and 15 to forget it. A receive costs the same at any depth.

mod dispatch;
mod live;

use weir_base::machine::{Machine, Token};
use weir_base::{Offset, Timestamp};

use crate::command::QueueCommand;
use crate::delay;
use crate::durable::QueueState;
use crate::group::LiveGroup;
use crate::ids::{GroupName, GroupNumber};
use crate::message::Want;
use crate::record::{BLOCK_OFFSETS, QueueRecord};
use crate::reply::QueueReply;
use crate::turn::{Out, Turn};

pub use live::QueueLive;

/// Timers that one tick looks at; what else is due makes the next tick follow at once.
const TIMERS_AT_ONCE: usize = 1_024;
/// Memories that one tick forgets.
const FORGET_AT_ONCE: usize = 1_024;
/// How late memories are forgotten, so that they go in batches.
const FORGET_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// The automaton of one partition's queues. It has no value: state is in its associated
/// types.
#[derive(Debug, Clone, Copy)]
pub enum QueueMachine {}

impl QueueMachine {
    /// What is to be read for groups with receivers: each want once. The host reads
    /// committed records of the partition and answers with a `Feed`; if there is nothing
    /// at `from` yet it keeps the want until the high watermark has moved past it. Asked
    /// after every turn.
    #[must_use]
    pub fn wants(state: &QueueState, live: &mut QueueLive) -> Vec<Want> {
        let mut wants = Vec::new();
        live.hungry.sort_unstable();
        live.hungry.dedup();
        while let Some(number) = live.hungry.pop() {
            if let Some(group) = live.groups.get_mut(&number) {
                let cursor = Offset(state.stored(number).cursor() * BLOCK_OFFSETS);
                wants.extend(group.want(&live.core.options, cursor));
            }
        }
        wants.extend(live.replays.want(state));
        wants
    }

    /// Which group a want is for, for log lines and metrics.
    #[must_use]
    pub fn group_name(live: &QueueLive, number: GroupNumber) -> Option<&GroupName> {
        live.groups.get(&number).map(LiveGroup::name)
    }
}

impl Machine for QueueMachine {
    type Durable = QueueState;
    type Volatile = QueueLive;
    type Command = QueueCommand;
    type Record = QueueRecord;
    type Reply = QueueReply;

    fn decide(
        state: &QueueState,
        live: &mut QueueLive,
        now: Timestamp,
        token: Token,
        command: QueueCommand,
        out: &mut Out,
    ) {
        live.begin(state, now, out);
        let reply = dispatch::on_command(live, (state, now, &mut *out), token, command);
        out.replies.extend(reply.map(|reply| (token, reply)));
        live.end_turn((state, now, out));
    }

    fn apply(state: &mut QueueState, at: Offset, record: &QueueRecord) {
        state.fold(at, record);
    }

    fn on_tick(state: &QueueState, live: &mut QueueLive, now: Timestamp, out: &mut Out) {
        live.begin(state, now, out);
        for _ in 0..TIMERS_AT_ONCE {
            let Some(timer) = live.core.timers.pop_due(now) else {
                break;
            };
            live.on_timer((state, now, &mut *out), timer);
        }
        let core = &mut live.core;
        let mut turn = Turn {
            state,
            core,
            now,
            out,
        };
        delay::release(&mut turn);
        forget(&mut turn);
        live.end_turn((state, now, out));
    }

    fn next_deadline(state: &QueueState, live: &QueueLive) -> Option<Timestamp> {
        if !live.begun {
            // What waits on record has timers once the reign has begun.
            return (!state.is_empty()).then_some(Timestamp(0));
        }
        let memories = [
            state.cancelled.first(),
            state.dedup.first(),
            state.decided.first(),
        ];
        let forget_at = memories.into_iter().flatten().min();
        let forget_at = forget_at.map(|at| at + FORGET_AFTER);
        [
            live.core.timers.next(),
            delay::next_release(state),
            forget_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Deletes memories whose time is over.
fn forget(turn: &mut Turn<'_>) {
    let (state, now) = (turn.state, turn.now);
    let ended = state.cancelled.ended(now).take(FORGET_AT_ONCE);
    turn.out.records.extend(ended.map(|number| {
        let until = None;
        QueueRecord::Cancelled { number, until }
    }));
    let ended = state.dedup.ended(now).take(FORGET_AT_ONCE);
    turn.out.records.extend(ended.map(|id| {
        let value = None;
        QueueRecord::Dedup { id, value }
    }));
    let ended = state.decided.ended(now).take(FORGET_AT_ONCE);
    turn.out.records.extend(ended.map(|number| {
        let value = None;
        QueueRecord::Decided { number, value }
    }));
}
