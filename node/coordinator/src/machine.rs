//! The group machine: routes each command to the group it concerns.
//!
//! Called by the machine host of `node/broker` only. On a crash or a lost epoch
//! [`LiveGroups`] is dropped and callers in wait are told "indeterminate"; the successor
//! has [`Groups`] from the journal and adopts from it at its first command or tick.
//! Keeps G1 by fencing every commit, G2 by recording every generation before its members
//! hear of it.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::machine::{Decision, Machine, Token};
use weir_base::{Offset, Timestamp};

use crate::command::{
    GroupCommand, GroupError, GroupId, GroupReply, JoinGroup, LeavingMember, SyncGroup,
};
use crate::durable::Groups;
use crate::group::{LiveGroup, Turn};
use crate::options::{GROUP_ID_BYTES_MAX, GroupOptions};
use crate::record::GroupRecord;
use crate::timers::{Timer, Timers};

/// The automaton of consumer groups. It has no value: state is in its associated types.
#[derive(Debug, Clone, Copy)]
pub enum GroupMachine {}

type Out = Decision<GroupRecord, GroupReply>;

/// Sessions, barriers and waiting callers of the groups that have members.
#[derive(Debug, Default)]
pub struct LiveGroups {
    pub(crate) options: GroupOptions,
    /// Whether the recorded generations were taken over.
    adopted: bool,
    pub(crate) groups: BTreeMap<GroupId, LiveGroup>,
    timers: Timers,
    /// When to look for expired offsets.
    pub(crate) expiry_at: Timestamp,
}

impl LiveGroups {
    /// An empty one with these settings.
    #[must_use]
    pub fn with_options(options: GroupOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Takes over the recorded generations, once.
    fn adopt(&mut self, durable: &Groups, now: Timestamp, out: &mut Out) {
        if self.adopted {
            return;
        }
        self.adopted = true;
        self.expiry_at = now + self.options.offsets_retention_check_interval;
        let mut turn = Turn {
            now,
            options: &self.options,
            timers: &mut self.timers,
            out,
        };
        for (id, stored) in &durable.groups {
            let generation = stored.generation.as_ref();
            if let Some(generation) = generation.filter(|g| !g.members.is_empty()) {
                let group = LiveGroup::adopt(id.clone(), generation, &mut turn);
                self.groups.insert(id.clone(), group);
            }
        }
    }

    /// Works on one live group; it is dropped when nothing is left of it.
    pub(crate) fn on_group<R>(
        &mut self,
        id: &GroupId,
        now: Timestamp,
        out: &mut Out,
        work: impl FnOnce(&mut LiveGroup, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let mut turn = Turn {
            now,
            options: &self.options,
            timers: &mut self.timers,
            out,
        };
        let result = work(group, &mut turn);
        if group.is_idle() {
            self.groups.remove(id);
        }
        Some(result)
    }

    /// The group, if it has members.
    pub(crate) fn with_members(&self, id: &str) -> Option<&LiveGroup> {
        self.groups.get(id).filter(|group| group.has_members())
    }

    fn join(
        &mut self,
        durable: &Groups,
        now: Timestamp,
        token: Token,
        join: JoinGroup,
        out: &mut Out,
    ) {
        if let Err(error) = self.check_join(&join) {
            out.replies.push((token, GroupReply::Join(Err(error))));
            return;
        }
        let id = join.group.clone();
        if join.member.is_none() && !self.groups.contains_key(&id) {
            let generation = durable.generation(&id).map_or(0, |g| g.number);
            let group = LiveGroup::empty(id.clone(), generation);
            self.groups.insert(id.clone(), group);
        }
        let joined = self.on_group(&id, now, out, |group, turn| group.join(token, join, turn));
        if joined.is_none() {
            let reply = GroupReply::Join(Err(GroupError::UnknownMember));
            out.replies.push((token, reply));
        }
    }

    fn check_join(&self, join: &JoinGroup) -> Result<(), GroupError> {
        check_group_id(&join.group)?;
        let (min, max) = (
            self.options.session_timeout_min,
            self.options.session_timeout_max,
        );
        if !(min..=max).contains(&join.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout { min, max });
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    fn sync(&mut self, now: Timestamp, token: Token, sync: SyncGroup, out: &mut Out) {
        let id = sync.group.clone();
        let synced = self.on_group(&id, now, out, |group, turn| group.sync(token, sync, turn));
        if synced.is_none() {
            let error = check_group_id(&id)
                .err()
                .unwrap_or(GroupError::UnknownMember);
            out.replies.push((token, GroupReply::Sync(Err(error))));
        }
    }

    fn leave(
        &mut self,
        now: Timestamp,
        group: &GroupId,
        members: &[LeavingMember],
        out: &mut Out,
    ) -> GroupReply {
        if let Err(error) = check_group_id(group) {
            return GroupReply::Leave(Err(error));
        }
        let strangers = || vec![Err(GroupError::UnknownMember); members.len()];
        let results = self.on_group(group, now, out, |group, turn| group.leave(members, turn));
        GroupReply::Leave(Ok(results.unwrap_or_else(strangers)))
    }

    fn on_timer(&mut self, timer: Timer, now: Timestamp, out: &mut Out) {
        match timer {
            Timer::Group(id) => {
                self.on_group(&id, now, out, |group, turn| group.on_group_timer(turn));
            }
            Timer::Member(id, member) => {
                self.on_group(&id, now, out, |group, turn| {
                    group.on_member_timer(&member, turn);
                });
            }
            Timer::Pending(id, member) => {
                self.on_group(&id, now, out, |group, turn| {
                    group.on_pending_timer(&member, turn);
                });
            }
        }
    }
}

/// The rule for commands on members; offset commands also take an empty id, as Kafka's do.
fn check_group_id(id: &str) -> Result<(), GroupError> {
    if (1..=GROUP_ID_BYTES_MAX).contains(&id.len()) {
        Ok(())
    } else {
        Err(GroupError::InvalidGroupId)
    }
}

impl Machine for GroupMachine {
    type Durable = Groups;
    type Volatile = LiveGroups;
    type Command = GroupCommand;
    type Record = GroupRecord;
    type Reply = GroupReply;

    fn decide(
        durable: &Groups,
        live: &mut LiveGroups,
        now: Timestamp,
        token: Token,
        command: GroupCommand,
        out: &mut Out,
    ) {
        live.adopt(durable, now, out);
        let reply = match command {
            GroupCommand::Join(join) => return live.join(durable, now, token, join, out),
            GroupCommand::Sync(sync) => return live.sync(now, token, sync, out),
            GroupCommand::Heartbeat {
                group,
                member,
                instance,
                generation,
            } => {
                let beaten = live.on_group(&group, now, out, |group, turn| {
                    group.heartbeat(&member, instance.as_ref(), generation, turn)
                });
                GroupReply::Heartbeat(beaten.unwrap_or_else(|| {
                    check_group_id(&group)?;
                    Err(GroupError::UnknownMember)
                }))
            }
            GroupCommand::Leave { group, members } => live.leave(now, &group, &members, out),
            GroupCommand::CommitOffsets(commit) => {
                GroupReply::CommitOffsets(live.commit_offsets(durable, now, commit, out))
            }
            GroupCommand::FetchOffsets { group, partitions } => {
                GroupReply::FetchOffsets(Ok(durable.fetch_offsets(&group, partitions)))
            }
            GroupCommand::Describe { group } => {
                GroupReply::Describe(live.describe(durable, &group))
            }
            GroupCommand::List => GroupReply::List(live.list(durable)),
            GroupCommand::Delete { group } => GroupReply::Delete(live.delete(durable, &group, out)),
            GroupCommand::DeleteOffsets { group, partitions } => {
                GroupReply::DeleteOffsets(live.delete_offsets(durable, &group, &partitions, out))
            }
        };
        out.replies.push((token, reply));
    }

    fn apply(durable: &mut Groups, _at: Offset, record: &GroupRecord) {
        durable.fold(record);
    }

    fn on_tick(durable: &Groups, live: &mut LiveGroups, now: Timestamp, out: &mut Out) {
        live.adopt(durable, now, out);
        // One tick records at most one generation: its size is bounded, the sum of many
        // is not. What else is due has a deadline in the past, so the next tick follows.
        while out.records.is_empty()
            && let Some(timer) = live.timers.pop_due(now)
        {
            live.on_timer(timer, now, out);
        }
        // Expiry reads `Durable`, which does not yet hold what the timers decided just
        // now (a group may have become empty): then it waits for the next tick.
        if live.expiry_at <= now && out.records.is_empty() {
            let complete = live.expire_offsets(durable, now, out);
            live.expiry_at = if complete {
                let interval = live.options.offsets_retention_check_interval;
                now + interval.max(Duration::from_secs(1))
            } else {
                now
            };
        }
    }

    fn next_deadline(_durable: &Groups, live: &LiveGroups) -> Option<Timestamp> {
        if !live.adopted {
            // Sessions must be counted from the first moment.
            return Some(Timestamp(i64::MIN));
        }
        Some(
            live.timers
                .next()
                .map_or(live.expiry_at, |timer| timer.min(live.expiry_at)),
        )
    }
}
