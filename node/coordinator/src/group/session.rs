//! Signs of life and their absence: heartbeats, commits, leaving, deadlines.

use std::sync::Arc;

use weir_base::Timestamp;

use super::members::INSTANT;
use super::{LiveGroup, Phase, Turn};
use crate::command::{GroupError, LeavingMember, MemberId};
use crate::timers::Timer;

impl LiveGroup {
    /// A heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        member: &MemberId,
        instance: Option<&Arc<str>>,
        generation: i32,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        self.check_generation(member, instance, generation)?;
        self.renew_session(member, turn);
        match self.phase {
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Empty | Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    /// Whether a member may commit offsets now; also a sign of life. Until the rebalance
    /// is complete the members of the old generation still may, for what they consumed.
    pub(crate) fn check_commit(
        &mut self,
        member: Option<&MemberId>,
        instance: Option<&Arc<str>>,
        generation: i32,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let member = member.ok_or(GroupError::UnknownMember)?;
        if weir_base::mutant!(M34) {
            self.check_member(member, instance)?;
        } else {
            self.check_generation(member, instance, generation)?;
        }
        self.renew_session(member, turn);
        match self.phase {
            Phase::Completing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Empty | Phase::Preparing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    /// Members leave, or are sent away by an admin who knows their instance id.
    pub(crate) fn leave(
        &mut self,
        members: &[LeavingMember],
        turn: &mut Turn<'_>,
    ) -> Vec<Result<(), GroupError>> {
        let before = self.members.len();
        let results = members
            .iter()
            .map(|leaving| self.leave_one(leaving, turn))
            .collect();
        if self.members.len() < before {
            self.after_removal(turn);
        } else {
            self.try_complete_join(turn);
        }
        results
    }

    fn leave_one(
        &mut self,
        leaving: &LeavingMember,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let id = match (&leaving.member, &leaving.instance) {
            (None, None) => return Err(GroupError::UnknownMember),
            (None, Some(instance)) => {
                let owner = self.statics.get(instance);
                owner.cloned().ok_or(GroupError::UnknownMember)?
            }
            (Some(id), None) if self.pending.remove(id).is_some() => return Ok(()),
            (Some(id), instance) => {
                self.check_member(id, instance.as_ref())?;
                id.clone()
            }
        };
        self.remove_member(&id, &GroupError::UnknownMember, turn);
        Ok(())
    }

    /// The group's own deadline may have come.
    pub(crate) fn on_group_timer(&mut self, turn: &mut Turn<'_>) {
        self.armed = None;
        match self.deadline() {
            Some(deadline) if deadline <= turn.now => {
                if matches!(self.phase, Phase::Preparing { .. }) {
                    self.on_join_deadline(turn);
                } else {
                    self.on_sync_deadline(turn);
                }
                self.arm(turn);
            }
            Some(_) => self.arm(turn),
            None => {}
        }
    }

    /// A member's session may have ended.
    pub(crate) fn on_member_timer(&mut self, id: &MemberId, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.session_deadline <= turn.now {
            let waits = member.joining.is_some() || member.syncing.is_some();
            if member.newcomer || !waits {
                self.remove_member(id, &GroupError::UnknownMember, turn);
                self.after_removal(turn);
                return;
            }
            // Who waits at a barrier cannot heartbeat, and is alive as far as we know.
            member.session_deadline = turn.now + member.stored.session_timeout.max(INSTANT);
        }
        member.armed = member.session_deadline;
        let timer = Timer::Member(self.id.clone(), id.clone());
        turn.timers.arm(member.armed, timer);
    }

    /// An id that was handed out may be forgotten.
    pub(crate) fn on_pending_timer(&mut self, id: &MemberId, turn: &mut Turn<'_>) {
        let due = |until: &Timestamp| *until <= turn.now;
        if self.pending.get(id).is_some_and(due) {
            self.pending.remove(id);
            self.try_complete_join(turn);
        }
    }
}
