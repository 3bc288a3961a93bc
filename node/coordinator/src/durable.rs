//! What survives the coordinator's death: generations and committed offsets.
//!
//! Changed by [`Groups::fold`] alone, one journal record at a time, so replaying the
//! journal from the start, or from a snapshot of this, gives the same value. It takes
//! records as they are: a compacted journal may tell of a group's next life without its
//! end, so even a generation that falls is no contradiction here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{CommittedOffset, GroupId, OffsetKey};
use crate::record::{Generation, GroupRecord, StoredOffset};

/// All groups of one journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    pub(crate) groups: BTreeMap<GroupId, StoredGroup>,
}

/// One group; there is none without generation and offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredGroup {
    /// `None` for a group that only ever stored offsets.
    pub(crate) generation: Option<Generation>,
    /// By topic, then partition.
    pub(crate) offsets: BTreeMap<Arc<str>, BTreeMap<u32, StoredOffset>>,
}

impl Groups {
    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The current generation of a group, if it ever had members.
    #[must_use]
    pub fn generation(&self, group: &str) -> Option<&Generation> {
        self.groups.get(group)?.generation.as_ref()
    }

    /// A group's committed offset for this incarnation of the topic.
    #[must_use]
    pub fn offset(&self, group: &str, key: &OffsetKey) -> Option<&CommittedOffset> {
        let topic = self.groups.get(group)?.offsets.get(&key.topic)?;
        let stored = topic.get(&key.partition)?;
        (stored.topic_id == key.topic_id).then_some(&stored.committed)
    }

    /// All offsets of a group, sorted.
    pub(crate) fn offsets(&self, group: &str) -> Vec<(OffsetKey, CommittedOffset)> {
        let stored = self.groups.get(group);
        let topics = stored.into_iter().flat_map(|group| &group.offsets);
        topics
            .flat_map(|(topic, partitions)| {
                partitions.iter().map(|(partition, stored)| {
                    let key = OffsetKey {
                        topic: topic.clone(),
                        topic_id: stored.topic_id,
                        partition: *partition,
                    };
                    (key, stored.committed.clone())
                })
            })
            .collect()
    }

    pub(crate) fn fold(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Generation { group, generation } => {
                let stored = self.groups.entry(group.clone()).or_default();
                stored.generation = Some(generation.clone());
            }
            GroupRecord::GroupDeleted { group } => {
                self.change(group, |stored| stored.generation = None);
            }
            GroupRecord::OffsetCommitted {
                group,
                topic,
                partition,
                offset,
            } => {
                let stored = self.groups.entry(group.clone()).or_default();
                let topics = stored.offsets.entry(topic.clone()).or_default();
                topics.insert(*partition, offset.clone());
            }
            GroupRecord::OffsetDeleted {
                group,
                topic,
                partition,
            } => self.change(group, |stored| {
                if let Some(partitions) = stored.offsets.get_mut(topic) {
                    partitions.remove(partition);
                    if partitions.is_empty() {
                        stored.offsets.remove(topic);
                    }
                }
            }),
        }
    }

    fn change(&mut self, group: &GroupId, change: impl FnOnce(&mut StoredGroup)) {
        if let Some(stored) = self.groups.get_mut(group) {
            change(stored);
            if stored.generation.is_none() && stored.offsets.is_empty() {
                self.groups.remove(group);
            }
        }
    }
}
