//! One group while this node coordinates it: members, barriers and the callers waiting.
//!
//! ```text
//!            join                    all joined, or deadline          leader's sync
//!   Empty ---------> Preparing ----------------------------> Completing -----------> Stable
//!     ^                  |  ^                                    |                      |
//!     +--- nobody left --+  +------ join, leave, lost session ---+----------------------+
//! ```
//!
//! All of it is volatile. What a successor needs is recorded at the end of each barrier:
//! the generation when members have joined (so that no number is given out twice, G2),
//! and again with its assignment. A successor goes on from the last recorded generation;
//! a rebalance under way is lost and started again by the members themselves.

mod join;
mod members;
mod session;
mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_base::Timestamp;
use weir_base::machine::{Decision, Token};

use crate::command::{GroupError, GroupId, GroupReply, GroupState, Joined, MemberId};
use crate::options::GroupOptions;
use crate::record::{Generation, GroupRecord, StoredMember};
use crate::timers::{Timer, Timers};

/// What one decision on a group reads and fills.
pub(crate) struct Turn<'a> {
    pub(crate) now: Timestamp,
    pub(crate) options: &'a GroupOptions,
    pub(crate) timers: &'a mut Timers,
    pub(crate) out: &'a mut Decision<GroupRecord, GroupReply>,
}

impl Turn<'_> {
    fn reply_join(&mut self, token: Token, reply: Result<Joined, GroupError>) {
        self.out.replies.push((token, GroupReply::Join(reply)));
    }
}

/// A group with members, or with ids handed out to members to be.
#[derive(Debug)]
pub(crate) struct LiveGroup {
    id: GroupId,
    phase: Phase,
    generation: i32,
    protocol_type: Arc<str>,
    /// Chosen at the end of the join barrier.
    protocol: Option<Arc<str>>,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    /// Static members by instance id.
    statics: BTreeMap<Arc<str>, MemberId>,
    /// Ids handed out with `MemberIdRequired`, until when they may be used.
    pending: BTreeMap<MemberId, Timestamp>,
    /// The earliest entry in [`Timers`] for the phase's deadline.
    armed: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    /// The join barrier.
    Preparing {
        deadline: Timestamp,
        /// The first rebalance of an empty group waits for company.
        initial: Option<InitialDelay>,
    },
    /// The sync barrier: whoever has not synced by the deadline is removed.
    Completing {
        sync_deadline: Timestamp,
    },
    /// `sync_deadline` while some have not fetched their assignment yet.
    Stable {
        sync_deadline: Option<Timestamp>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InitialDelay {
    /// Never wait beyond this.
    limit: Timestamp,
    /// Whether somebody came since the wait was last prolonged.
    newcomer: bool,
}

#[derive(Debug)]
struct Member {
    stored: StoredMember,
    session_deadline: Timestamp,
    /// The earliest entry in [`Timers`].
    armed: Timestamp,
    /// Not yet in any generation.
    newcomer: bool,
    /// Waits at the join barrier.
    joining: Option<Token>,
    /// Waits at the sync barrier.
    syncing: Option<Token>,
    /// Has joined this generation and not synced yet.
    sync_owed: bool,
}

impl LiveGroup {
    /// A group without members, continuing after `generation`.
    pub(crate) fn empty(id: GroupId, generation: i32) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            generation,
            protocol_type: Arc::from(""),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            armed: None,
        }
    }

    /// Takes over a recorded generation after a change of coordinator: every session
    /// starts anew, and so does the sync barrier if the assignment was not recorded.
    pub(crate) fn adopt(id: GroupId, stored: &Generation, turn: &mut Turn<'_>) -> Self {
        let mut group = Self::empty(id, stored.number);
        group.protocol_type = stored.protocol_type.clone();
        group.protocol.clone_from(&stored.protocol);
        group.leader.clone_from(&stored.leader);
        for member in &stored.members {
            group.insert_member(member.clone(), member.session_timeout, turn);
        }
        for member in group.members.values_mut() {
            member.newcomer = false;
            member.sync_owed = !stored.assigned;
        }
        group.phase = if group.members.is_empty() {
            Phase::Empty
        } else if stored.assigned {
            Phase::Stable {
                sync_deadline: None,
            }
        } else {
            Phase::Completing {
                sync_deadline: turn.now + group.rebalance_timeout(),
            }
        };
        group.arm(turn);
        group
    }

    /// Where the group stands, in the protocol's terms.
    pub(crate) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }

    /// Whether nothing is here that `Durable` does not hold as well.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn has_members(&self) -> bool {
        self.phase != Phase::Empty
    }

    pub(crate) fn protocol_type(&self) -> &Arc<str> {
        &self.protocol_type
    }

    pub(crate) fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    pub(crate) fn stored_members(&self) -> impl Iterator<Item = &StoredMember> {
        self.members.values().map(|member| &member.stored)
    }

    /// The longest that any member asks a rebalance to wait.
    fn rebalance_timeout(&self) -> Duration {
        self.stored_members()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Empty => None,
            Phase::Preparing { deadline, .. } => Some(deadline),
            Phase::Completing { sync_deadline } => Some(sync_deadline),
            Phase::Stable { sync_deadline } => sync_deadline,
        }
    }

    /// Arms the phase's deadline unless an entry fires before it anyway.
    fn arm(&mut self, turn: &mut Turn<'_>) {
        if let Some(deadline) = self.deadline()
            && self.armed.is_none_or(|armed| deadline < armed)
        {
            self.armed = Some(deadline);
            turn.timers.arm(deadline, Timer::Group(self.id.clone()));
        }
    }

    /// Records the generation as it stands.
    fn record(&self, assigned: bool, turn: &mut Turn<'_>) {
        turn.out.records.push(GroupRecord::Generation {
            group: self.id.clone(),
            generation: Generation {
                number: self.generation,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                assigned,
                members: self.stored_members().cloned().collect(),
                at: turn.now,
            },
        });
    }
}
