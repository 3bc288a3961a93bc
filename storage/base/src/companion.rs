//! Which topic goes with which: a companion topic holds, partition by partition, what
//! Weir keeps about the partitions of another topic, its parent.
//!
//! The binding is the companion's name, which contains the parent's id: it cannot change,
//! survives as long as the two topics do, and a topic made again under the parent's name
//! starts without what was kept about the former one.

use crate::image::{ClusterImage, PartitionRecord, TopicRecord};
use crate::{TopicId, TopicPartition, Uuid};

/// What the name of a companion that holds queue journals starts with. Only Weir itself
/// makes topics with such a name.
pub const QUEUE_JOURNALS: &str = "__queue.";

/// The name of the companion of `parent`.
#[must_use]
pub fn name_of(parent: TopicId) -> String {
    format!("{QUEUE_JOURNALS}{parent}")
}

/// The parent that a topic's name speaks of; `None` for any other name.
#[must_use]
pub fn parent_of(name: &str) -> Option<TopicId> {
    Uuid::parse(name.strip_prefix(QUEUE_JOURNALS)?)
}

impl ClusterImage {
    /// The companion of a topic, if it has one.
    #[must_use]
    pub fn companion(&self, parent: TopicId) -> Option<&TopicRecord> {
        let companion = self.topics.get(name_of(parent).as_str())?;
        Some(companion)
    }

    /// The partition that goes with `at`, whichever of the two `at` is.
    #[must_use]
    pub fn partner(&self, at: TopicPartition) -> Option<(TopicPartition, &PartitionRecord)> {
        let topic = match parent_of(self.topic_names.get(&at.topic)?) {
            Some(parent) => parent,
            None => self.companion(at.topic)?.id,
        };
        let partner = TopicPartition {
            topic,
            index: at.index,
        };
        Some((partner, self.partition(partner)?))
    }

    /// Whether `at` is a partition of a companion topic.
    #[must_use]
    pub fn is_companion(&self, at: TopicPartition) -> bool {
        let name = self.topic_names.get(&at.topic);
        name.is_some_and(|name| parent_of(name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_parent_and_nothing_else_does() {
        let parent = Uuid([0xab; 16]);
        let name = name_of(parent);
        assert!(crate::ids::is_topic_name(&name));
        assert_eq!(parent_of(&name), Some(parent));
        for other in [
            "__queue.",
            "__queue.zz",
            "orders",
            name.trim_start_matches('_'),
        ] {
            assert_eq!(parent_of(other), None, "{other}");
        }
    }
}
