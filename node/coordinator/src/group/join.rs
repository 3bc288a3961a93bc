//! The join barrier: newcomers, rejoining members, static members, and the end of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_base::machine::Token;

use super::members::INSTANT;
use super::{InitialDelay, LiveGroup, Phase, Turn};
use crate::command::{GroupError, GroupReply, JoinGroup, Joined, MemberId};
use crate::record::StoredMember;
use crate::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
use crate::timers::Timer;

impl LiveGroup {
    /// A JoinGroup whose group-independent parts are checked.
    pub(crate) fn join(&mut self, token: Token, join: JoinGroup, turn: &mut Turn<'_>) {
        let admitted = match &join.member {
            None => self.join_newcomer(token, &join, turn),
            Some(id) => self.join_known(token, id.clone(), &join, turn),
        };
        if let Err(error) = admitted {
            turn.reply_join(token, Err(error));
        }
    }

    fn join_newcomer(
        &mut self,
        token: Token,
        join: &JoinGroup,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let id = &join.fresh_member_id;
        let replaced = join
            .instance
            .as_ref()
            .and_then(|instance| self.statics.get(instance))
            .cloned();
        if !self.supports(&join.protocol_type, &join.protocols, replaced.as_ref()) {
            return Err(GroupError::InconsistentProtocol);
        }
        if !self.fits(&join.protocols, replaced.as_ref()) {
            return Err(GroupError::GroupFull);
        }
        if let Some(old) = replaced {
            self.replace_static(token, &old, join, turn);
            return Ok(());
        }
        if self.is_full(turn) || self.pending.len() >= turn.options.members_max {
            return Err(GroupError::GroupFull);
        }
        if join.instance.is_none() && join.member_id_required {
            let until = turn.now + join.session_timeout;
            self.pending.insert(id.clone(), until);
            turn.timers
                .arm(until, Timer::Pending(self.id.clone(), id.clone()));
            return Err(GroupError::MemberIdRequired(id.clone()));
        }
        self.add_member(token, id.clone(), join, turn);
        Ok(())
    }

    fn join_known(
        &mut self,
        token: Token,
        id: MemberId,
        join: &JoinGroup,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let supported = self.supports(&join.protocol_type, &join.protocols, Some(&id));
        if self.pending.contains_key(&id) && join.instance.is_none() {
            if !supported {
                return Err(GroupError::InconsistentProtocol);
            }
            if self.is_full(turn) || !self.fits(&join.protocols, None) {
                self.pending.remove(&id);
                self.try_complete_join(turn);
                return Err(GroupError::GroupFull);
            }
            self.pending.remove(&id);
            self.add_member(token, id, join, turn);
            return Ok(());
        }
        self.check_member(&id, join.instance.as_ref())?;
        if !supported {
            return Err(GroupError::InconsistentProtocol);
        }
        if !self.fits(&join.protocols, Some(&id)) {
            return Err(GroupError::GroupFull);
        }
        let same = self
            .members
            .get(&id)
            .is_some_and(|member| member.stored.protocols == join.protocols && !member.newcomer);
        let leads = self.leader.as_ref() == Some(&id);
        match self.phase {
            // It missed the answer to its join: here it is again.
            Phase::Completing { .. } if same => self.repeat_joined(token, &id, turn),
            Phase::Stable { .. } if same && !leads => self.repeat_joined(token, &id, turn),
            // A leader comes again when it wants a new assignment.
            Phase::Stable { .. } | Phase::Completing { .. } | Phase::Preparing { .. } => {
                self.rejoin(token, &id, join, turn);
                self.prepare_or_complete(turn);
            }
            Phase::Empty => return Err(GroupError::UnknownMember),
        }
        Ok(())
    }

    fn repeat_joined(&mut self, token: Token, id: &MemberId, turn: &mut Turn<'_>) {
        self.renew_session(id, turn);
        let joined = self.joined(id, false);
        turn.reply_join(token, Ok(joined));
    }

    /// Updates what a member offers and lets it wait at the barrier.
    fn rejoin(&mut self, token: Token, id: &MemberId, join: &JoinGroup, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.stored.protocols = copied(&join.protocols);
        member.stored.session_timeout = join.session_timeout;
        member.stored.rebalance_timeout = join.rebalance_timeout;
        member.stored.client_id = join.client_id.clone();
        member.stored.client_host = join.client_host.clone();
        if let Some(older) = member.joining.replace(token) {
            // The same member asked twice: only its last call is answered with the result.
            turn.reply_join(older, Err(GroupError::RebalanceInProgress));
        }
        if member.newcomer {
            self.renew(id, turn.options.newcomer_timeout, turn);
        } else {
            self.renew_session(id, turn);
        }
    }

    fn add_member(&mut self, token: Token, id: MemberId, join: &JoinGroup, turn: &mut Turn<'_>) {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type.clone();
        }
        if let Phase::Preparing {
            initial: Some(initial),
            ..
        } = &mut self.phase
        {
            initial.newcomer = true;
        }
        self.insert_member(
            stored(id.clone(), join),
            turn.options.newcomer_timeout,
            turn,
        );
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = Some(token);
        }
        self.prepare_or_complete(turn);
    }

    /// A process takes the place of another with the same instance id. The old one is
    /// fenced; if nothing that matters for the assignment changed there is no rebalance.
    fn replace_static(
        &mut self,
        token: Token,
        old: &MemberId,
        join: &JoinGroup,
        turn: &mut Turn<'_>,
    ) {
        let id = join.fresh_member_id.clone();
        let Some(before) = self.members.get(old) else {
            return;
        };
        let mut replacement = stored(id.clone(), join);
        replacement.assignment = before.stored.assignment.clone();
        let unchanged = self.same_interest(&before.stored, &replacement);
        let (newcomer, sync_owed) = (before.newcomer, before.sync_owed);
        let old_leader = self.leader.clone();
        let led = old_leader.as_ref() == Some(old);
        self.remove_member(old, &GroupError::FencedInstance, turn);
        self.insert_member(replacement, join.session_timeout, turn);
        if led {
            self.leader = Some(id.clone());
        }
        let stable = matches!(self.phase, Phase::Stable { .. });
        if stable && unchanged && self.vote() == self.protocol {
            if let Some(member) = self.members.get_mut(&id) {
                member.newcomer = newcomer;
                member.sync_owed = sync_owed;
            }
            self.record(true, turn);
            let mut joined = self.joined(&id, led && join.skip_assignment_understood);
            if !join.skip_assignment_understood {
                // An old client that leads would assign anew, which a stable group cannot
                // take: naming the old leader keeps it from thinking that it leads.
                joined.leader = old_leader.unwrap_or(joined.leader);
                joined.members.clear();
            }
            turn.reply_join(token, Ok(joined));
            return;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = Some(token);
        }
        self.renew(&id, turn.options.newcomer_timeout, turn);
        self.prepare_or_complete(turn);
    }

    /// Whether two incarnations of a static member want the same: for consumers the same
    /// topics (their metadata also tells what they own just now), else the same bytes.
    fn same_interest(&self, before: &StoredMember, after: &StoredMember) -> bool {
        let protocol = self.protocol.as_deref();
        let (before, after) = (before.metadata(protocol), after.metadata(protocol));
        let topics = (*self.protocol_type == *CONSUMER_PROTOCOL_TYPE)
            .then(|| subscribed_topics(&before).zip(subscribed_topics(&after)))
            .flatten();
        topics.map_or(before == after, |(before, after)| before == after)
    }

    /// Starts a rebalance if none is under way, else looks whether all are here.
    fn prepare_or_complete(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Preparing { .. }) {
            self.try_complete_join(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    /// Opens the join barrier. Members learn of it by their heartbeats.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.sync_owed = false;
            if let Some(token) = member.syncing.take() {
                let reply = GroupReply::Sync(Err(GroupError::RebalanceInProgress));
                turn.out.replies.push((token, reply));
            }
        }
        let patience = self.rebalance_timeout();
        let (wait, initial) = if self.phase == Phase::Empty {
            let delay = turn.options.initial_rebalance_delay;
            let initial = InitialDelay {
                limit: turn.now + patience.max(delay),
                newcomer: false,
            };
            (delay, Some(initial).filter(|_| delay > Duration::ZERO))
        } else {
            (patience, None)
        };
        self.phase = Phase::Preparing {
            deadline: turn.now + wait,
            initial,
        };
        self.arm(turn);
        if wait == Duration::ZERO {
            self.complete_join(turn);
        } else {
            self.try_complete_join(turn);
        }
    }

    /// Ends the join barrier if everybody is here.
    pub(super) fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        let Phase::Preparing { initial, .. } = self.phase else {
            return;
        };
        let everybody =
            self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if everybody && (initial.is_none() || self.members.is_empty()) {
            self.complete_join(turn);
        }
    }

    /// The join barrier's deadline.
    pub(super) fn on_join_deadline(&mut self, turn: &mut Turn<'_>) {
        let Phase::Preparing { deadline, initial } = self.phase else {
            return;
        };
        match initial {
            Some(delay) if delay.newcomer && deadline < delay.limit => {
                let next = turn.now + turn.options.initial_rebalance_delay;
                self.phase = Phase::Preparing {
                    deadline: next.min(delay.limit),
                    initial: Some(InitialDelay {
                        newcomer: false,
                        ..delay
                    }),
                };
                self.arm(turn);
            }
            Some(_) | None => self.complete_join(turn),
        }
    }

    /// Makes a new generation of those at the barrier. Dynamic members that did not come
    /// are out; static ones keep their place until their session ends.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let absent: Vec<MemberId> = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.stored.instance.is_none())
            .map(|member| member.stored.id.clone())
            .collect();
        for id in absent {
            self.remove_member(&id, &GroupError::UnknownMember, turn);
        }
        if self.members.is_empty() {
            self.become_empty(turn);
            return;
        }
        let patience = self.rebalance_timeout();
        if !self.elect_leader() {
            // Only absent static members are left: wait for one of them to come back or
            // for their sessions to end.
            self.phase = Phase::Preparing {
                deadline: turn.now + patience.max(INSTANT),
                initial: None,
            };
            self.arm(turn);
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.vote();
        self.phase = Phase::Completing {
            sync_deadline: turn.now + patience,
        };
        self.arm(turn);
        for member in self.members.values_mut() {
            member.stored.assignment = Bytes::new();
        }
        self.record(false, turn);
        self.answer_joined(turn);
    }

    fn answer_joined(&mut self, turn: &mut Turn<'_>) {
        let mut joined = Vec::new();
        for member in self.members.values_mut() {
            if let Some(token) = member.joining.take() {
                member.newcomer = false;
                member.sync_owed = true;
                joined.push((member.stored.id.clone(), token));
            }
        }
        for (id, token) in joined {
            self.renew_session(&id, turn);
            let reply = self.joined(&id, false);
            turn.reply_join(token, Ok(reply));
        }
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Empty;
        self.protocol = None;
        self.leader = None;
        if self.generation > 0 {
            self.generation = self.generation.saturating_add(1);
            self.record(false, turn);
        }
    }

    /// Keeps the leader if it is at the barrier, else takes the first that is.
    fn elect_leader(&mut self) -> bool {
        let waits = |id: &MemberId| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if !self.leader.as_ref().is_some_and(waits) {
            let mut waiting = self.members.keys().filter(|id| waits(id));
            match waiting.next() {
                Some(first) => self.leader = Some(first.clone()),
                None => return false,
            }
        }
        true
    }

    /// The answer to a member's join as things stand.
    fn joined(&self, id: &MemberId, skip_assignment: bool) -> Joined {
        let leader = self.leader.clone().unwrap_or_else(|| Arc::from(""));
        let protocol = self.protocol.as_deref();
        let members = if leader == *id {
            self.stored_members()
                .map(|member| {
                    let metadata = member.metadata(protocol);
                    (member.id.clone(), member.instance.clone(), metadata)
                })
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_else(|| Arc::from("")),
            leader,
            member: id.clone(),
            skip_assignment,
            members,
        }
    }
}

fn stored(id: MemberId, join: &JoinGroup) -> StoredMember {
    StoredMember {
        id,
        instance: join.instance.clone(),
        client_id: join.client_id.clone(),
        client_host: join.client_host.clone(),
        session_timeout: join.session_timeout,
        rebalance_timeout: join.rebalance_timeout,
        protocols: copied(&join.protocols),
        assignment: Bytes::new(),
    }
}

/// Metadata of its own: what comes with a request is a slice of the network's buffer,
/// which would live as long as the group.
fn copied(protocols: &[(Arc<str>, Bytes)]) -> Vec<(Arc<str>, Bytes)> {
    let copy = |(name, metadata): &(Arc<str>, Bytes)| {
        let metadata = Bytes::copy_from_slice(metadata);
        (name.clone(), metadata)
    };
    protocols.iter().map(copy).collect()
}
