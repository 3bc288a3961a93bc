//! Which command goes where.

use weir_base::Timestamp;
use weir_base::machine::Token;

use super::live::QueueLive;
use crate::aside;
use crate::command::QueueCommand;
use crate::delay;
use crate::durable::QueueState;
use crate::half;
use crate::intake;
use crate::record::Ending;
use crate::reply::QueueReply;
use crate::turn::{Out, Turn};

/// Commands on what belongs to no group.
fn on_store(
    live: &mut QueueLive,
    turn_of: (&QueueState, Timestamp, &mut Out),
    token: Token,
    command: QueueCommand,
) -> Option<QueueReply> {
    let (state, now, out) = turn_of;
    let core = &mut live.core;
    let mut turn = Turn {
        state,
        core,
        now,
        out,
    };
    let turn = &mut turn;
    Some(match command {
        QueueCommand::Schedule(wish) => QueueReply::Schedule(delay::schedule(turn, wish)),
        QueueCommand::Cancel { handle } => QueueReply::Cancel(delay::cancel(turn, &handle)),
        QueueCommand::ListScheduled { after, limit } => {
            QueueReply::ListScheduled(delay::list(turn, after, limit))
        }
        QueueCommand::TakeIn(take) => QueueReply::TakeIn(intake::take_in(turn, take)),
        QueueCommand::Prepare(wish) => QueueReply::Prepare(half::prepare(turn, wish)),
        QueueCommand::Resolve {
            handle, decision, ..
        } => QueueReply::Resolve(half::resolve(turn, &handle, decision)),
        QueueCommand::AwaitChecks {
            member,
            producers,
            batch_max,
            wait,
        } => {
            let who = (member, producers);
            live.checks.wait(turn, token, who, batch_max, wait);
            return None;
        }
        QueueCommand::CheckMissed { handle } => {
            QueueReply::CheckMissed(half::missed(turn, &handle))
        }
        QueueCommand::ListHalf {
            after,
            limit,
            parked,
        } => QueueReply::ListHalf(half::list(turn, after, limit, parked)),
        QueueCommand::OutboxDone {
            destination,
            sequence,
        } => QueueReply::OutboxDone(delay::forget_batch(turn, destination, sequence)),
        QueueCommand::OutboxRefused {
            destination,
            sequence,
            reason,
            payloads,
        } => QueueReply::OutboxRefused(aside::refuse(
            turn,
            destination,
            sequence,
            &reason,
            payloads,
        )),
        QueueCommand::ListAside { after, limit } => {
            QueueReply::ListAside(aside::list(turn, after, limit))
        }
        QueueCommand::SendAside { numbers, to } => {
            QueueReply::SendAside(aside::send(turn, &numbers, to))
        }
        QueueCommand::Replay(command) => QueueReply::Replay(live.replays.command(turn, command)),
        QueueCommand::Feed(feed) => QueueReply::Feed(live.replays.feed(turn, &feed)),
        QueueCommand::EnsureGroup { .. }
        | QueueCommand::Receive(_)
        | QueueCommand::Ack { .. }
        | QueueCommand::Nack { .. }
        | QueueCommand::Renew { .. }
        | QueueCommand::DeadLetter { .. }
        | QueueCommand::Forward { .. }
        | QueueCommand::Leave { .. }
        | QueueCommand::Missing { .. }
        | QueueCommand::Measure
        | QueueCommand::Gaps { .. }
        | QueueCommand::Describe { .. }
        | QueueCommand::ListGroups
        | QueueCommand::Seek { .. }
        | QueueCommand::DeleteGroup { .. }
        | QueueCommand::Trim { .. }
        | QueueCommand::Partitions { .. }
        | QueueCommand::TraceOf { .. }
        | QueueCommand::Ledger { .. } => return None,
    })
}

/// Carries a command out; no answer if the caller waits.
pub(super) fn on_command(
    live: &mut QueueLive,
    (state, now, out): (&QueueState, Timestamp, &mut Out),
    token: Token,
    command: QueueCommand,
) -> Option<QueueReply> {
    let at = (state, now, out);
    Some(match command {
        QueueCommand::EnsureGroup {
            group,
            settings,
            start,
            replace,
        } => live.ensure_group(at, (group, settings), start, replace),
        QueueCommand::Receive(receive) => {
            let error = live.receive(at, token, receive).err()?;
            QueueReply::Receive(Err(error))
        }
        QueueCommand::Ack { group, receipts } => {
            QueueReply::Ack(live.on_name(at, &group, |group, turn| {
                Ok(group.ack(turn, &receipts, Ending::Acked))
            }))
        }
        QueueCommand::Nack {
            group,
            receipt,
            delay,
            cause,
            note,
        } => QueueReply::Nack(live.on_name(at, &group, |group, turn| {
            group.nack(turn, &receipt, delay, cause, note)
        })),
        QueueCommand::Renew {
            group,
            receipt,
            invisible,
        } => QueueReply::Renew(live.on_name(at, &group, |group, turn| {
            group.renew(turn, &receipt, invisible)
        })),
        QueueCommand::DeadLetter {
            group,
            receipt,
            attempts,
            note,
        } => QueueReply::DeadLetter(live.on_name(at, &group, |group, turn| {
            group.give_up(turn, &receipt, attempts, note)
        })),
        QueueCommand::Forward {
            group,
            receipt,
            target,
        } => QueueReply::Forward(live.on_name(at, &group, |group, turn| {
            group.forward(turn, &receipt, target)
        })),
        QueueCommand::Leave { member } => {
            live.leave(at, &member);
            QueueReply::Leave
        }
        // What is no group's is a replay's: numbers are given out once.
        QueueCommand::Feed(feed) if !live.groups.contains_key(&feed.group) => {
            return on_store(live, at, token, QueueCommand::Feed(feed));
        }
        QueueCommand::Feed(feed) => {
            let fed = live.on_group(at, feed.group, |group, turn| group.feed(turn, &feed));
            QueueReply::Feed(fed.unwrap_or(false))
        }
        QueueCommand::Missing { group, receipts } => {
            QueueReply::Missing(live.on_name(at, &group, |group, turn| {
                group.ack(turn, &receipts, Ending::Missing);
                Ok(())
            }))
        }
        QueueCommand::Describe { group } => {
            QueueReply::Describe(live.on_name(at, &group, |group, turn| Ok(group.view(turn))))
        }
        QueueCommand::Measure => QueueReply::Measure(live.measure(state)),
        QueueCommand::Gaps { group } => {
            QueueReply::Gaps(live.on_name(at, &group, |group, turn| Ok(group.gaps(turn))))
        }
        QueueCommand::ListGroups => live.views(at.0, at.1, at.2),
        QueueCommand::Seek { group, to } => {
            QueueReply::Seek(live.on_name(at, &group, |group, turn| {
                group.seek(turn, to);
                Ok(())
            }))
        }
        QueueCommand::DeleteGroup { group } => {
            QueueReply::DeleteGroup(live.delete_group(at, &group))
        }
        QueueCommand::Trim { end, default } => {
            QueueReply::Trim(live.trim(at, end, default.as_ref()))
        }
        QueueCommand::Partitions { count } => {
            live.core.partitions = count;
            QueueReply::Partitions
        }
        QueueCommand::TraceOf { offset } => live.trace(at, offset),
        QueueCommand::Ledger { group, below } => {
            QueueReply::Ledger(
                live.on_name(at, &group, |group, turn| Ok(group.ledger(turn, &below))),
            )
        }
        QueueCommand::Schedule(_)
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
        | QueueCommand::Replay(_) => return on_store(live, at, token, command),
    })
}
