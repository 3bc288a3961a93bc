//! Who is in the group: admission, fencing, removal, and the vote on a protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{LiveGroup, Member, Phase, Turn};
use crate::command::{GroupError, GroupReply, MemberId};
use crate::options::{GROUP_BYTES_MAX, MEMBER_METADATA_BYTES_MAX};
use crate::record::StoredMember;
use crate::timers::Timer;

/// The shortest session: a deadline is always later than what set it, so that a tick
/// never arms what it would have to serve itself.
pub(super) const INSTANT: Duration = Duration::from_millis(1);

impl LiveGroup {
    /// Whether a member may speak: it is known, and nobody took its instance id.
    pub(super) fn check_member(
        &self,
        member: &str,
        instance: Option<&Arc<str>>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(owner) if **owner != *member => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    /// As [`LiveGroup::check_member`], and it has been told the current generation.
    pub(super) fn check_generation(
        &self,
        member: &str,
        instance: Option<&Arc<str>>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_member(member, instance)?;
        let told = self.members.get(member).is_some_and(|m| !m.newcomer);
        if told && generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }

    /// Whether every other member offers one of `protocols` too.
    pub(super) fn supports(
        &self,
        protocol_type: &str,
        protocols: &[(Arc<str>, Bytes)],
        except: Option<&MemberId>,
    ) -> bool {
        let mut others = self
            .members
            .values()
            .filter(|member| Some(&member.stored.id) != except)
            .peekable();
        if others.peek().is_none() {
            return true;
        }
        if *self.protocol_type != *protocol_type {
            return false;
        }
        let others: Vec<&Member> = others.collect();
        protocols
            .iter()
            .any(|(name, _)| others.iter().all(|member| member.stored.offers(name)))
    }

    /// The protocol most members prefer among those that all offer; of equals the one
    /// the leader prefers.
    pub(super) fn vote(&self) -> Option<Arc<str>> {
        let in_common = |name: &str| self.stored_members().all(|member| member.offers(name));
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.stored_members() {
            let choice = member.protocols.iter().find(|(name, _)| in_common(name));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        let preferred = leader
            .into_iter()
            .flat_map(|leader| &leader.stored.protocols);
        preferred
            .map(|(name, _)| name)
            .chain(votes.keys().copied())
            .find(|name| votes.get(name) == Some(&most))
            .cloned()
    }

    /// Whether the group takes no newcomer.
    pub(super) fn is_full(&self, turn: &Turn<'_>) -> bool {
        self.members.len() >= turn.options.members_max
    }

    /// Whether a member's metadata fits into the group's, in place of what `replaced` had.
    pub(super) fn fits(
        &self,
        protocols: &[(Arc<str>, Bytes)],
        replaced: Option<&MemberId>,
    ) -> bool {
        let new = protocols_bytes(protocols);
        let others = self
            .stored_members()
            .filter(|member| Some(&member.id) != replaced)
            .map(|member| protocols_bytes(&member.protocols));
        new <= MEMBER_METADATA_BYTES_MAX && others.sum::<usize>() + new <= GROUP_BYTES_MAX
    }

    /// Adds or replaces a member whose session lasts `patience` from now.
    pub(super) fn insert_member(
        &mut self,
        stored: StoredMember,
        patience: Duration,
        turn: &mut Turn<'_>,
    ) {
        let deadline = turn.now + patience.max(INSTANT);
        let id = stored.id.clone();
        if let Some(instance) = &stored.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        turn.timers
            .arm(deadline, Timer::Member(self.id.clone(), id.clone()));
        let member = Member {
            stored,
            session_deadline: deadline,
            armed: deadline,
            newcomer: true,
            joining: None,
            syncing: None,
            sync_owed: false,
        };
        self.members.insert(id, member);
    }

    /// Gives a member another `patience` of life.
    pub(super) fn renew(&mut self, member: &str, patience: Duration, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get_mut(member) {
            member.session_deadline = turn.now + patience.max(INSTANT);
            if member.session_deadline < member.armed {
                member.armed = member.session_deadline;
                let timer = Timer::Member(self.id.clone(), member.stored.id.clone());
                turn.timers.arm(member.armed, timer);
            }
        }
    }

    /// Starts a member's session again after a sign of life.
    pub(super) fn renew_session(&mut self, member: &str, turn: &mut Turn<'_>) {
        if let Some(patience) = self.members.get(member).map(|m| m.stored.session_timeout) {
            self.renew(member, patience, turn);
        }
    }

    /// Removes a member; whatever it waits for is answered with `error`.
    pub(super) fn remove_member(&mut self, id: &str, error: &GroupError, turn: &mut Turn<'_>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(token) = member.joining {
            turn.reply_join(token, Err(error.clone()));
        }
        if let Some(token) = member.syncing {
            let reply = GroupReply::Sync(Err(error.clone()));
            turn.out.replies.push((token, reply));
        }
        if let Some(instance) = &member.stored.instance
            && self.statics.get(instance) == Some(&member.stored.id)
        {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
    }

    /// After members went: the others rebalance, or the barrier may now be complete.
    pub(super) fn after_removal(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Empty => {}
            Phase::Preparing { .. } => self.try_complete_join(turn),
            Phase::Completing { .. } | Phase::Stable { .. } => self.prepare_rebalance(turn),
        }
    }
}

fn protocols_bytes(protocols: &[(Arc<str>, Bytes)]) -> usize {
    protocols
        .iter()
        .map(|(name, metadata)| name.len() + metadata.len())
        .sum()
}

impl StoredMember {
    /// Whether it offers a protocol.
    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| **name == *protocol)
    }

    /// Its metadata for a protocol; empty if it does not offer it.
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(&**name) == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}
