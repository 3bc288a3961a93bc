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
//! receive none, a failed attempt 30 to 150, a delayed message its payload and 20 bytes,
//! 25 more to release and 15 to forget it. A receive costs the same at any depth.

use std::collections::{BTreeMap, BTreeSet};

use weir_base::machine::{Machine, Token};
use weir_base::{Offset, Timestamp};

use crate::command::{QueueCommand, Receive};
use crate::delay;
use crate::durable::QueueState;
use crate::error::QueueError;
use crate::group::LiveGroup;
use crate::half::{self, Checks};
use crate::ids::{GroupName, GroupNumber, MemberName};
use crate::message::Want;
use crate::options::QueueOptions;
use crate::record::{BLOCK_OFFSETS, Ending, QueueRecord};
use crate::reply::QueueReply;
use crate::settings::{GROUP_NAME_BYTES_MAX, GroupSettings};
use crate::timers::Timer;
use crate::turn::{Core, Out, Turn};

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

/// Leases, waiting callers and what was read ahead: dropped when the leader changes.
#[derive(Debug, Default)]
pub struct QueueLive {
    core: Core,
    /// Whether this leader's reign has begun.
    begun: bool,
    groups: BTreeMap<GroupNumber, LiveGroup>,
    /// Which groups a client receives from.
    members: BTreeMap<MemberName, BTreeSet<GroupNumber>>,
    /// Groups that this turn is about.
    turned: BTreeSet<GroupNumber>,
    /// Groups that may want something read.
    hungry: BTreeSet<GroupNumber>,
    checks: Checks,
}

impl QueueLive {
    /// An empty one. `partition` is what receipts name; `seed` is random, and becomes the
    /// journal's secret if it has none yet.
    #[must_use]
    pub fn new(options: QueueOptions, partition: u32, seed: u64) -> Self {
        Self {
            core: Core::new(options, partition, seed),
            ..Self::default()
        }
    }

    /// Whether anybody waits for messages, or has any in flight.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        !self.members.is_empty()
    }

    fn begin(&mut self, state: &QueueState, now: Timestamp, out: &mut Out) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.core.begin(state, out);
        let mut turn = Turn {
            state,
            core: &mut self.core,
            now,
            out,
        };
        for (number, stored) in &state.groups {
            let (Some(name), Some(settings)) = (&stored.name, &stored.settings) else {
                continue;
            };
            let settings = GroupSettings::clone(settings);
            // A filter that compiled before and does not now would be a bug of this
            // version's; the group then waits for settings that do.
            let made = LiveGroup::new(*number, name.clone(), settings, stored.position(), now);
            if let Ok(group) = made {
                group.arm_expiry(&mut turn);
                self.groups.insert(*number, group);
            }
        }
        for (number, half) in state.halves.iter().filter(|(_, half)| !half.checks.parked) {
            let timer = Timer::Half(*number);
            turn.core.timers.arm(half.checks.next_at, timer);
        }
        if mutant!(M17) {
            for (destination, sequence, batch) in state.outgoing() {
                turn.send(destination.clone(), batch.messages.clone());
                turn.record(QueueRecord::Outgoing {
                    destination: destination.clone(),
                    sequence,
                    value: None,
                });
            }
        }
    }

    /// Works on one group.
    fn on_group<R>(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        number: GroupNumber,
        work: impl FnOnce(&mut LiveGroup, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(&number)?;
        self.turned.insert(number);
        let core = &mut self.core;
        let mut turn = Turn {
            state,
            core,
            now,
            out,
        };
        Some(work(group, &mut turn))
    }

    /// Works on a group by name.
    fn on_name<R>(
        &mut self,
        at: (&QueueState, Timestamp, &mut Out),
        name: &GroupName,
        work: impl FnOnce(&mut LiveGroup, &mut Turn<'_>) -> Result<R, QueueError>,
    ) -> Result<R, QueueError> {
        let number = at.0.names.get(name).copied();
        let worked = number.and_then(|number| self.on_group(at, number, work));
        worked.unwrap_or_else(|| Err(QueueError::NoSuchGroup(name.clone())))
    }

    /// Serves and records for every group of the turn, once.
    fn end_turn(&mut self, (state, now, out): (&QueueState, Timestamp, &mut Out)) {
        while let Some(number) = self.turned.pop_first() {
            let at = (state, now, &mut *out);
            self.on_group(at, number, LiveGroup::end_turn);
            self.turned.remove(&number);
            self.hungry.insert(number);
        }
        self.core.end_turn();
    }

    fn ensure_group(
        &mut self,
        at: (&QueueState, Timestamp, &mut Out),
        (name, settings): (GroupName, GroupSettings),
        start: Offset,
        replace: bool,
    ) -> QueueReply {
        let made = self.make_group(at, name, settings, start, replace);
        QueueReply::EnsureGroup(made)
    }

    fn make_group(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        name: GroupName,
        settings: GroupSettings,
        start: Offset,
        replace: bool,
    ) -> Result<crate::reply::GroupView, QueueError> {
        if !(1..=GROUP_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(QueueError::InvalidGroupName {
                bytes: name.len(),
                max: GROUP_NAME_BYTES_MAX,
            });
        }
        settings.validate()?;
        if state.names.contains_key(&name) {
            return self.on_name((state, now, out), &name, |group, turn| {
                if replace {
                    group.set(turn, settings)?;
                    group.arm_expiry(turn);
                }
                Ok(group.view(turn))
            });
        }
        let max = self.core.options.groups_max;
        if state.names.len() >= max {
            return Err(QueueError::TooManyGroups { max });
        }
        let core = &mut self.core;
        let mut turn = Turn {
            state,
            core,
            now,
            out,
        };
        let group = LiveGroup::create(&mut turn, name, settings, start)?;
        group.arm_expiry(&mut turn);
        let mut view = group.view(&turn);
        view.cursor = start;
        self.groups.insert(view.number, group);
        Ok(view)
    }

    fn receive(
        &mut self,
        at: (&QueueState, Timestamp, &mut Out),
        token: Token,
        receive: Receive,
    ) -> Result<(), QueueError> {
        let (name, member) = (receive.group.clone(), receive.member.clone());
        let number = at.0.names.get(&name).copied();
        self.on_name(at, &name, |group, turn| {
            if let Some(filter) = receive.filter.clone()
                && filter != group.settings().filter
            {
                let settings = GroupSettings {
                    filter,
                    ..group.settings().clone()
                };
                settings.validate()?;
                group.set(turn, settings)?;
            }
            group.receive(turn, token, receive)
        })?;
        if let Some(number) = number {
            self.members.entry(member).or_default().insert(number);
        }
        Ok(())
    }

    fn leave(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        member: &MemberName,
    ) {
        for number in self.members.remove(member).unwrap_or_default() {
            let at = (state, now, &mut *out);
            self.on_group(at, number, |group, turn| group.leave(turn, member));
        }
        let core = &mut self.core;
        let mut turn = Turn {
            state,
            core,
            now,
            out,
        };
        self.checks.leave(&mut turn, member);
    }

    fn delete_group(
        &mut self,
        at: (&QueueState, Timestamp, &mut Out),
        name: &GroupName,
    ) -> Result<(), QueueError> {
        let number = at.0.names.get(name).copied();
        self.on_name(at, name, |group, turn| {
            group.delete(turn);
            Ok(())
        })?;
        if let Some(number) = number {
            self.groups.remove(&number);
            self.turned.remove(&number);
        }
        Ok(())
    }

    /// Gives whether the next timer may be looked at.
    fn on_timer(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        timer: Timer,
    ) -> bool {
        match timer {
            Timer::Lease(group, offset) => {
                self.on_group((state, now, out), group, |group, turn| {
                    group.on_lease_over(turn, offset);
                });
            }
            Timer::Retry(group, offset) => {
                self.on_group((state, now, out), group, |group, turn| {
                    group.on_retry_due(turn, offset);
                });
            }
            Timer::Wait(group, token) => {
                self.on_group((state, now, out), group, |group, turn| {
                    group.on_wait_over(turn, token);
                });
            }
            // The end of the turn serves it.
            Timer::Pace(group) => {
                self.on_group((state, now, out), group, |_, _| {});
            }
            Timer::Expiry(number) => self.on_expiry((state, now, out), number),
            Timer::Half(number) => {
                let core = &mut self.core;
                let mut turn = Turn {
                    state,
                    core,
                    now,
                    out,
                };
                return self.checks.on_due(&mut turn, number);
            }
            Timer::CheckWait(token) => {
                let core = &mut self.core;
                let mut turn = Turn {
                    state,
                    core,
                    now,
                    out,
                };
                self.checks.on_wait_over(&mut turn, token);
            }
        }
        true
    }

    fn on_expiry(&mut self, at: (&QueueState, Timestamp, &mut Out), number: GroupNumber) {
        let now = at.1;
        let expired = self.on_group(at, number, |group, turn| {
            let expired = group.has_expired(now);
            if expired {
                group.delete(turn);
            } else {
                group.arm_expiry(turn);
            }
            expired
        });
        if expired == Some(true) {
            self.groups.remove(&number);
            self.turned.remove(&number);
        }
    }

    fn views(&mut self, state: &QueueState, now: Timestamp, out: &mut Out) -> QueueReply {
        let core = &mut self.core;
        let turn = Turn {
            state,
            core,
            now,
            out,
        };
        let views = self.groups.values().map(|group| group.view(&turn));
        QueueReply::ListGroups(views.collect())
    }

    fn trace(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        offset: Offset,
    ) -> QueueReply {
        let core = &mut self.core;
        let turn = Turn {
            state,
            core,
            now,
            out,
        };
        let standings = self.groups.values();
        let standings =
            standings.map(|group| (group.name().clone(), group.standing(&turn, offset)));
        QueueReply::TraceOf(standings.collect())
    }
}

impl QueueMachine {
    /// What is to be read for groups with receivers: each want once. The host reads
    /// committed records of the partition and answers with a `Feed`; if there is nothing
    /// at `from` yet it keeps the want until the high watermark has moved past it. Asked
    /// after every turn.
    #[must_use]
    pub fn wants(state: &QueueState, live: &mut QueueLive) -> Vec<Want> {
        let mut wants = Vec::new();
        while let Some(number) = live.hungry.pop_first() {
            if let Some(group) = live.groups.get_mut(&number) {
                let cursor = Offset(state.stored(number).cursor() * BLOCK_OFFSETS);
                wants.extend(group.want(&live.core.options, cursor));
            }
        }
        wants
    }

    /// Which group a want is for, for log lines and metrics.
    #[must_use]
    pub fn group_name(live: &QueueLive, number: GroupNumber) -> Option<&GroupName> {
        live.groups.get(&number).map(LiveGroup::name)
    }
}

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
        QueueCommand::Prepare(wish) => QueueReply::Prepare(half::prepare(turn, wish)),
        QueueCommand::Resolve {
            handle, decision, ..
        } => QueueReply::Resolve(half::resolve(turn, &handle, decision)),
        QueueCommand::AwaitChecks {
            member,
            producers,
            batch_max,
            wait_until,
        } => {
            let who = (member, producers);
            live.checks.wait(turn, token, who, batch_max, wait_until);
            return None;
        }
        QueueCommand::ListHalf {
            after,
            limit,
            parked,
        } => QueueReply::ListHalf(half::list(turn, after, limit, parked)),
        QueueCommand::OutboxDone {
            destination,
            sequence,
        } => QueueReply::OutboxDone(delay::outbox_done(turn, destination, sequence)),
        QueueCommand::EnsureGroup { .. }
        | QueueCommand::Receive(_)
        | QueueCommand::Ack { .. }
        | QueueCommand::Nack { .. }
        | QueueCommand::Renew { .. }
        | QueueCommand::DeadLetter { .. }
        | QueueCommand::Forward { .. }
        | QueueCommand::Leave { .. }
        | QueueCommand::Feed(_)
        | QueueCommand::Missing { .. }
        | QueueCommand::Describe { .. }
        | QueueCommand::ListGroups
        | QueueCommand::Seek { .. }
        | QueueCommand::DeleteGroup { .. }
        | QueueCommand::Trim { .. }
        | QueueCommand::TraceOf { .. }
        | QueueCommand::Ledger { .. } => return None,
    })
}

/// Carries a command out; no answer if the caller waits.
fn on_command(
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
            note,
        } => QueueReply::DeadLetter(live.on_name(at, &group, |group, turn| {
            group.give_up(turn, &receipt, note)
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
        QueueCommand::Trim { group, end } => {
            QueueReply::Trim(live.on_name(at, &group, |group, turn| Ok(group.trim(turn, end))))
        }
        QueueCommand::TraceOf { offset } => live.trace(at, offset),
        QueueCommand::Ledger { group, since_hour } => {
            QueueReply::Ledger(
                live.on_name(at, &group, |group, turn| Ok(group.ledger(turn, since_hour))),
            )
        }
        QueueCommand::Schedule(_)
        | QueueCommand::Cancel { .. }
        | QueueCommand::ListScheduled { .. }
        | QueueCommand::Prepare(_)
        | QueueCommand::Resolve { .. }
        | QueueCommand::AwaitChecks { .. }
        | QueueCommand::ListHalf { .. }
        | QueueCommand::OutboxDone { .. } => return on_store(live, at, token, command),
    })
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
        let reply = on_command(live, (state, now, &mut *out), token, command);
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
            if !live.on_timer((state, now, &mut *out), timer) {
                break;
            }
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
        let until = None;
        QueueRecord::Dedup { id, until }
    }));
    let ended = state.decided.ended(now).take(FORGET_AT_ONCE);
    turn.out.records.extend(ended.map(|number| {
        let value = None;
        QueueRecord::Decided { number, value }
    }));
}
