//! Committed offsets: storing, reading, deleting and forgetting them.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_base::Timestamp;
use weir_base::machine::Decision;

use crate::command::{
    CommitOffsets, CommittedOffset, GroupError, GroupId, GroupReply, GroupState, OffsetKey,
};
use crate::durable::{Groups, StoredGroup};
use crate::machine::LiveGroups;
use crate::options::{COMMIT_BYTES_MAX, GROUP_ID_BYTES_MAX, OFFSET_METADATA_BYTES_MAX};
use crate::record::{GroupRecord, StoredOffset};
use crate::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};

/// Most records that one look for expired offsets decides on; the rest follows at once,
/// but in batches of its own, with other callers in between.
const EXPIRED_AT_ONCE_MAX: usize = 4096;

type Out = Decision<GroupRecord, GroupReply>;

impl LiveGroups {
    /// Stores offsets, all or none. That they lie below the high watermark is the
    /// broker's to check, which knows the partitions.
    pub(crate) fn commit_offsets(
        &mut self,
        durable: &Groups,
        now: Timestamp,
        commit: CommitOffsets,
        out: &mut Out,
    ) -> Result<(), GroupError> {
        if commit.group.len() > GROUP_ID_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_commit(durable, now, &commit, out)?;
        let too_long =
            |(_, offset): &(_, CommittedOffset)| offset.metadata.len() > OFFSET_METADATA_BYTES_MAX;
        let bytes = |(key, offset): &(OffsetKey, CommittedOffset)| {
            commit.group.len() + key.topic.len() + offset.metadata.len()
        };
        if commit.offsets.iter().any(too_long)
            || commit.offsets.iter().map(bytes).sum::<usize>() > COMMIT_BYTES_MAX
        {
            return Err(GroupError::MetadataTooLong);
        }
        for (key, mut committed) in commit.offsets {
            // Retention goes by the coordinator's clock, not the caller's.
            committed.at = now;
            out.records.push(GroupRecord::OffsetCommitted {
                group: commit.group.clone(),
                topic: key.topic,
                partition: key.partition,
                offset: StoredOffset {
                    topic_id: key.topic_id,
                    committed,
                },
            });
        }
        Ok(())
    }

    /// G1: only members of the current generation may commit, or, while a group has no
    /// members, anybody who claims no generation.
    fn check_commit(
        &mut self,
        durable: &Groups,
        now: Timestamp,
        commit: &CommitOffsets,
        out: &mut Out,
    ) -> Result<(), GroupError> {
        let CommitOffsets {
            group,
            member,
            instance,
            generation,
            ..
        } = commit;
        if self.with_members(group).is_some() {
            let checked = self.on_group(group, now, out, |live, turn| {
                live.check_commit(member.as_ref(), instance.as_ref(), *generation, turn)
            });
            return checked.unwrap_or(Err(GroupError::UnknownMember));
        }
        match durable.generation(group) {
            _ if *generation < 0 => Ok(()),
            Some(_) => Err(GroupError::UnknownMember),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    /// Deletes single offsets, but not of topics that the group consumes.
    pub(crate) fn delete_offsets(
        &self,
        durable: &Groups,
        group: &GroupId,
        partitions: &[OffsetKey],
        out: &mut Out,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let live = self.with_members(group);
        if live.is_none() && !durable.groups.contains_key(group) {
            return Err(GroupError::NoSuchGroup);
        }
        if live.is_some_and(|live| **live.protocol_type() != *CONSUMER_PROTOCOL_TYPE) {
            return Err(GroupError::NotEmpty);
        }
        let subscribed = if live.is_some() {
            // Who cannot tell what it consumes may consume anything.
            Some(self.subscribed(group).ok_or(GroupError::NotEmpty)?)
        } else {
            None
        };
        let mut seen = BTreeSet::new();
        let results = partitions.iter().map(|key| {
            if subscribed
                .as_ref()
                .is_some_and(|topics| topics.contains(&key.topic))
            {
                return Err(GroupError::Subscribed);
            }
            if durable.offset(group, key).is_some() && seen.insert(key) {
                out.records
                    .push(offset_deleted(group, &key.topic, key.partition));
            }
            Ok(())
        });
        Ok(results.collect())
    }

    /// All topics that members subscribe to, under any protocol they offer; `None` if
    /// some metadata is not a consumer's.
    fn subscribed(&self, group: &str) -> Option<BTreeSet<Arc<str>>> {
        let mut topics = BTreeSet::new();
        for member in self.with_members(group)?.stored_members() {
            for (_, metadata) in &member.protocols {
                topics.append(&mut subscribed_topics(metadata)?);
            }
        }
        Some(topics)
    }

    /// Forgets offsets whose group has been empty for the retention time, and groups that
    /// hold nothing. Returns whether it went through all of them.
    pub(crate) fn expire_offsets(&self, durable: &Groups, now: Timestamp, out: &mut Out) -> bool {
        for (id, stored) in &durable.groups {
            if out.records.len() >= EXPIRED_AT_ONCE_MAX {
                return false;
            }
            let before = out.records.len();
            self.expire_group(id, stored, now, out);
            let expired = out.records.len() - before;
            let held: usize = stored
                .offsets
                .values()
                .map(std::collections::BTreeMap::len)
                .sum();
            if expired == held && stored.generation.is_some() && self.is_empty(id, stored) {
                out.records
                    .push(GroupRecord::GroupDeleted { group: id.clone() });
            }
        }
        true
    }

    fn expire_group(&self, id: &GroupId, stored: &StoredGroup, now: Timestamp, out: &mut Out) {
        let empty = self.is_empty(id, stored);
        let consumed = if empty {
            BTreeSet::new()
        } else {
            match self.consumed(id) {
                Some(topics) => topics,
                None => return,
            }
        };
        let empty_since = stored.generation.as_ref().filter(|_| empty).map(|g| g.at);
        let retention = self.options.offsets_retention;
        for (topic, partitions) in &stored.offsets {
            if consumed.contains(topic) {
                continue;
            }
            for (partition, offset) in partitions {
                let committed = offset.committed.at;
                let idle_since = empty_since.map_or(committed, |empty| empty.max(committed));
                if idle_since + retention <= now {
                    out.records.push(offset_deleted(id, topic, *partition));
                }
            }
        }
    }

    /// What a stable group of consumers subscribes to; `None` if it cannot be told.
    fn consumed(&self, id: &str) -> Option<BTreeSet<Arc<str>>> {
        let live = self.with_members(id)?;
        let told =
            live.state() == GroupState::Stable && **live.protocol_type() == *CONSUMER_PROTOCOL_TYPE;
        told.then(|| self.subscribed(id)).flatten()
    }

    /// Whether a recorded group has no members, here and on record.
    pub(crate) fn is_empty(&self, id: &str, stored: &StoredGroup) -> bool {
        let recorded = stored.generation.as_ref();
        recorded.is_none_or(|generation| generation.members.is_empty())
            && self.with_members(id).is_none()
    }
}

impl Groups {
    /// Reads offsets: those asked for, `None` where there is none, or all.
    pub(crate) fn fetch_offsets(
        &self,
        group: &GroupId,
        partitions: Option<Vec<OffsetKey>>,
    ) -> Vec<(OffsetKey, Option<CommittedOffset>)> {
        match partitions {
            None => self
                .offsets(group)
                .into_iter()
                .map(|(key, offset)| (key, Some(offset)))
                .collect(),
            Some(keys) => keys
                .into_iter()
                .map(|key| {
                    let offset = self.offset(group, &key).cloned();
                    (key, offset)
                })
                .collect(),
        }
    }
}

pub(crate) fn offset_deleted(group: &GroupId, topic: &Arc<str>, partition: u32) -> GroupRecord {
    GroupRecord::OffsetDeleted {
        group: group.clone(),
        topic: topic.clone(),
        partition,
    }
}
