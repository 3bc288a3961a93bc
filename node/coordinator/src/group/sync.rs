//! The sync barrier: the leader brings the assignment, everybody takes a share.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_base::machine::Token;

use super::{LiveGroup, Phase, Turn};
use crate::command::{GroupError, GroupReply, MemberId, SyncGroup, Synced};
use crate::options::GROUP_BYTES_MAX;

impl LiveGroup {
    /// A SyncGroup.
    pub(crate) fn sync(&mut self, token: Token, sync: SyncGroup, turn: &mut Turn<'_>) {
        if let Err(error) = self.check_sync(&sync) {
            turn.out.replies.push((token, GroupReply::Sync(Err(error))));
            return;
        }
        self.renew_session(&sync.member, turn);
        let leads = self.leader.as_ref() == Some(&sync.member);
        if let Some(member) = self.members.get_mut(&sync.member) {
            member.sync_owed = false;
            if let Some(older) = member.syncing.replace(token) {
                let reply = GroupReply::Sync(Err(GroupError::RebalanceInProgress));
                turn.out.replies.push((older, reply));
            }
        }
        match self.phase {
            Phase::Completing { sync_deadline } if leads => {
                self.assign(sync.assignments);
                self.phase = Phase::Stable {
                    sync_deadline: Some(sync_deadline),
                };
                self.record(true, turn);
                self.answer_synced(turn);
            }
            Phase::Completing { .. } => {}
            Phase::Stable { .. } | Phase::Empty | Phase::Preparing { .. } => {
                self.answer_synced(turn);
            }
        }
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<(), GroupError> {
        self.check_generation(&sync.member, sync.instance.as_ref(), sync.generation)?;
        let other_type = sync
            .protocol_type
            .as_ref()
            .is_some_and(|t| *t != self.protocol_type);
        let other_protocol =
            sync.protocol.is_some() && self.protocol.is_some() && sync.protocol != self.protocol;
        if other_type || other_protocol {
            return Err(GroupError::InconsistentProtocol);
        }
        let bytes = sync.assignments.iter().map(|(_, share)| share.len());
        if bytes.sum::<usize>() > GROUP_BYTES_MAX {
            return Err(GroupError::GroupFull);
        }
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    /// Members the leader forgot get an empty share; shares of strangers are dropped.
    fn assign(&mut self, assignments: Vec<(MemberId, Bytes)>) {
        let mut shares: BTreeMap<MemberId, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            let share = shares.remove(id).unwrap_or_default();
            // Not a slice of the request, which would keep all of it in memory.
            member.stored.assignment = Bytes::copy_from_slice(&share);
        }
    }

    fn answer_synced(&mut self, turn: &mut Turn<'_>) {
        let mut synced = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(token) = member.syncing.take() {
                synced.push((id.clone(), token, member.stored.assignment.clone()));
            }
        }
        for (id, token, assignment) in synced {
            self.renew_session(&id, turn);
            let reply = Synced {
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone().unwrap_or_default(),
                assignment,
            };
            turn.out.replies.push((token, GroupReply::Sync(Ok(reply))));
        }
        if let Phase::Stable { sync_deadline } = &mut self.phase
            && !self.members.values().any(|member| member.sync_owed)
        {
            *sync_deadline = None;
        }
    }

    /// Who joined and never synced is out, and the others rebalance.
    pub(super) fn on_sync_deadline(&mut self, turn: &mut Turn<'_>) {
        let late: Vec<MemberId> = self
            .members
            .values()
            .filter(|member| member.sync_owed)
            .map(|member| member.stored.id.clone())
            .collect();
        if late.is_empty() {
            // Only a stable group gets here: the leader's own sync ends the barrier.
            if let Phase::Stable { sync_deadline } = &mut self.phase {
                *sync_deadline = None;
            }
            return;
        }
        for id in late {
            self.remove_member(&id, &GroupError::UnknownMember, turn);
        }
        self.prepare_rebalance(turn);
    }
}
