//! What a leader has beside the journal's state, and how commands and timers reach it.
//!
//! All of it is lost with the leader. Always: the groups here are those on record, and
//! every group that a turn is about is served and flushed once, at the turn's end.

use std::collections::{BTreeMap, BTreeSet};

use weir_base::machine::Token;
use weir_base::{Offset, Timestamp};

use crate::command::Receive;
use crate::durable::QueueState;
use crate::error::QueueError;
use crate::group::LiveGroup;
use crate::half::Checks;
use crate::ids::{GroupName, GroupNumber, MemberName};
use crate::intake;
use crate::options::QueueOptions;
use crate::replay::Replays;
use crate::reply::{QueueMeasure, QueueReply};
use crate::settings::{Capacity, GROUP_NAME_BYTES_MAX, GroupSettings};
use crate::timers::Timer;
use crate::turn::{Core, Out, Turn};

use crate::record::QueueRecord;

/// Leases, waiting callers and what was read ahead: dropped when the leader changes.
#[derive(Debug, Default)]
pub struct QueueLive {
    pub(super) core: Core,
    /// Whether this leader's reign has begun.
    pub(super) begun: bool,
    pub(super) groups: BTreeMap<GroupNumber, LiveGroup>,
    /// Which groups a client receives from.
    pub(super) members: BTreeMap<MemberName, BTreeSet<GroupNumber>>,
    /// Groups that this turn is about; some more than once.
    pub(super) turned: Vec<GroupNumber>,
    /// Groups that may want something read; some more than once.
    pub(super) hungry: Vec<GroupNumber>,
    pub(super) checks: Checks,
    pub(super) replays: Replays,
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

    /// The same on a topic of so many partitions, which rates are spread over; 1 if nobody
    /// tells. A change is told by [`QueueCommand::Partitions`].
    ///
    /// [`QueueCommand::Partitions`]: crate::QueueCommand::Partitions
    #[must_use]
    pub fn with_partitions(mut self, partitions: u32) -> Self {
        self.core.partitions = partitions;
        self
    }

    /// Whether anybody waits for messages, or has any in flight.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        !self.members.is_empty()
    }

    pub(super) fn begin(&mut self, state: &QueueState, now: Timestamp, out: &mut Out) {
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
        intake::begin(&mut turn);
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
        if weir_base::mutant!(M17) {
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
    pub(super) fn on_group<R>(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        number: GroupNumber,
        work: impl FnOnce(&mut LiveGroup, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(&number)?;
        if self.turned.last() != Some(&number) {
            self.turned.push(number);
        }
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
    pub(super) fn on_name<R>(
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
    pub(super) fn end_turn(&mut self, (state, now, out): (&QueueState, Timestamp, &mut Out)) {
        let mut turned = std::mem::take(&mut self.turned);
        turned.sort_unstable();
        turned.dedup();
        for number in &turned {
            self.on_group((state, now, &mut *out), *number, LiveGroup::end_turn);
        }
        if turned.len() != 1 || self.hungry.last() != turned.last() {
            self.hungry.extend(&turned);
        }
        turned.clear();
        self.turned = turned;
        self.core.end_turn(out);
    }

    pub(super) fn ensure_group(
        &mut self,
        at: (&QueueState, Timestamp, &mut Out),
        (name, settings): (GroupName, GroupSettings),
        start: Offset,
        replace: bool,
    ) -> QueueReply {
        let made = self.make_group(at, name, settings, start, replace);
        QueueReply::EnsureGroup(made)
    }

    pub(super) fn make_group(
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

    pub(super) fn receive(
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

    pub(super) fn leave(
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

    pub(super) fn delete_group(
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
        }
        Ok(())
    }

    /// A timer is due.
    pub(super) fn on_timer(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        timer: Timer,
    ) {
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
                self.checks.on_due(&mut turn, number);
            }
            // What it wants then is asked for after the turn.
            Timer::Replay => self.replays.on_due(now),
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
    }

    pub(super) fn on_expiry(
        &mut self,
        at: (&QueueState, Timestamp, &mut Out),
        number: GroupNumber,
    ) {
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
        }
    }

    /// Drops the oldest messages of every group that holds more than it may.
    pub(super) fn trim(
        &mut self,
        (state, now, out): (&QueueState, Timestamp, &mut Out),
        end: Offset,
        default: Option<&Capacity>,
    ) -> u64 {
        let over = self.groups.iter();
        let over = over.filter(|(_, group)| group.is_over(state, end, default));
        let over: Vec<GroupNumber> = over.map(|(number, _)| *number).collect();
        let mut dropped = 0;
        for number in over {
            let at = (state, now, &mut *out);
            let trimmed = self.on_group(at, number, |group, turn| group.trim(turn, end, default));
            dropped += trimmed.unwrap_or(0);
        }
        dropped
    }

    pub(super) fn views(
        &mut self,
        state: &QueueState,
        now: Timestamp,
        out: &mut Out,
    ) -> QueueReply {
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

    pub(super) fn measure(&self, state: &QueueState) -> QueueMeasure {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (halves, halves_parked) = state.halves();
        let outgoing = state.outgoing().map(|(.., batch)| batch.messages.len());
        QueueMeasure {
            groups: self.groups.values().map(|g| g.measure(state)).collect(),
            scheduled: count(state.scheduled()),
            halves: count(halves),
            halves_parked: count(halves_parked),
            outgoing: count(outgoing.sum::<usize>() + state.departing()),
            aside: count(state.aside()),
            delays: state.delays().0,
            releasing: state.releasing(),
        }
    }

    pub(super) fn trace(
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
