//! What admins ask: describe, list, delete.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use weir_base::machine::Decision;

use crate::command::{
    GroupDescription, GroupError, GroupId, GroupListing, GroupReply, GroupState, MemberDescription,
};
use crate::durable::Groups;
use crate::machine::LiveGroups;
use crate::offsets::offset_deleted;
use crate::record::{GroupRecord, StoredMember};

impl LiveGroups {
    pub(crate) fn describe(
        &self,
        durable: &Groups,
        id: &GroupId,
    ) -> Result<GroupDescription, GroupError> {
        let Some(listing) = self.listing(durable, id) else {
            return Err(GroupError::NoSuchGroup);
        };
        let live = self.with_members(id);
        // Until a generation is stable neither protocol nor shares mean anything.
        let stable = live.filter(|_| listing.state == GroupState::Stable);
        let protocol = stable.and_then(|group| group.protocol().cloned());
        let members = live.into_iter().flat_map(|group| group.stored_members());
        let members = members
            .map(|member| describe_member(member, protocol.as_deref()))
            .collect();
        Ok(GroupDescription {
            group: id.clone(),
            state: listing.state,
            protocol_type: listing.protocol_type,
            protocol: protocol.unwrap_or_default(),
            members,
        })
    }

    pub(crate) fn list(&self, durable: &Groups) -> Vec<GroupListing> {
        let ids: BTreeSet<&GroupId> = durable.groups.keys().chain(self.groups.keys()).collect();
        ids.into_iter()
            .filter_map(|id| self.listing(durable, id))
            .collect()
    }

    fn listing(&self, durable: &Groups, id: &GroupId) -> Option<GroupListing> {
        let (protocol_type, state) = match (self.with_members(id), durable.groups.get(id)) {
            (Some(live), _) => (live.protocol_type().clone(), live.state()),
            (None, Some(stored)) => {
                let generation = stored.generation.as_ref();
                let protocol_type = generation.map(|g| g.protocol_type.clone());
                (protocol_type.unwrap_or_default(), GroupState::Empty)
            }
            (None, None) => return None,
        };
        Some(GroupListing {
            group: id.clone(),
            protocol_type,
            state,
        })
    }

    /// Deletes an empty group and its offsets.
    pub(crate) fn delete(
        &mut self,
        durable: &Groups,
        id: &GroupId,
        out: &mut Decision<GroupRecord, GroupReply>,
    ) -> Result<(), GroupError> {
        if self.with_members(id).is_some() {
            return Err(GroupError::NotEmpty);
        }
        let stored = durable.groups.get(id).ok_or(GroupError::NoSuchGroup)?;
        // Ids handed out to members to be are forgotten with the group.
        self.groups.remove(id);
        for (topic, partitions) in &stored.offsets {
            for partition in partitions.keys() {
                out.records.push(offset_deleted(id, topic, *partition));
            }
        }
        if stored.generation.is_some() {
            out.records
                .push(GroupRecord::GroupDeleted { group: id.clone() });
        }
        Ok(())
    }
}

fn describe_member(member: &StoredMember, protocol: Option<&str>) -> MemberDescription {
    let stable = protocol.is_some();
    MemberDescription {
        member: member.id.clone(),
        instance: member.instance.clone(),
        client_id: Arc::clone(&member.client_id),
        client_host: Arc::clone(&member.client_host),
        metadata: member.metadata(protocol),
        assignment: if stable {
            member.assignment.clone()
        } else {
            Bytes::new()
        },
    }
}
