//! Companion topics: what is done to a topic is done to its companion in the same breath.
//!
//! Keeps that partition `i` of a companion has the replicas of partition `i` of its
//! parent, moves with it, and goes with it. Who leads is no business of this file: each
//! of the two is elected by its own ISR (I4, I5), and the planner brings the leaders
//! together (`controller::companion`).

use std::sync::Arc;

use weir_base::companion::{QUEUE_JOURNALS, parent_of};
use weir_base::image::{ClusterImage, TopicRecord};
use weir_base::{NodeId, TopicId, TopicPartition};

use super::draft::Draft;
use crate::command::Refusal;

/// The parent of a topic to be made, if its name makes it a companion.
///
/// # Errors
/// If the name is kept for companions and this is none that may be made.
pub(super) fn parent_for(
    image: &ClusterImage,
    name: &str,
    internal: bool,
    replicas: &[Vec<NodeId>],
) -> Result<Option<Arc<TopicRecord>>, Refusal> {
    if !name.starts_with(QUEUE_JOURNALS) {
        return Ok(None);
    }
    let refuse = |why: &str| Refusal::InvalidRequest(format!("topic '{name}': {why}"));
    if !internal {
        return Err(refuse("names like this are kept for Weir itself"));
    }
    let id = parent_of(name).ok_or_else(|| refuse("the name tells no topic id"))?;
    let parent = image.topic(id).ok_or(Refusal::UnknownTopicId(id))?;
    if parent_of(&parent.name).is_some() {
        return Err(refuse("a companion has no companion"));
    }
    if !replicas.is_empty() {
        return Err(refuse("it lies where its parent does"));
    }
    Ok(Some(Arc::clone(parent)))
}

/// The nodes of each of `topic`'s partitions from `first` on, preferred leader first.
pub(super) fn replicas_from(topic: &TopicRecord, first: usize) -> Vec<Vec<NodeId>> {
    let partitions = topic.partitions.iter().skip(first);
    partitions
        .map(|record| record.replicas.iter().map(|r| r.node).collect())
        .collect()
}

/// A companion made while its parent moves, moves along.
pub(super) fn join_moves(companion: &mut TopicRecord, parent: &TopicRecord) {
    for (record, parent) in companion.partitions.iter_mut().zip(&parent.partitions) {
        record.adding.clone_from(&parent.adding);
        record.removing.clone_from(&parent.removing);
    }
}

/// The companion of topic `id`.
pub(super) fn id_of(image: &ClusterImage, id: TopicId) -> Option<TopicId> {
    image.companion(id).map(|companion| companion.id)
}

/// The partition that follows `at` wherever it goes.
pub(super) fn of(image: &ClusterImage, at: TopicPartition) -> Option<TopicPartition> {
    let topic = id_of(image, at.topic)?;
    let companion = TopicPartition {
        topic,
        index: at.index,
    };
    image.partition(companion).map(|_| companion)
}

/// Refuses a change that only the parent may bring.
pub(super) fn refuse_own_change(draft: &Draft<'_>, id: TopicId) -> Result<(), Refusal> {
    let name = draft.image().topic_names.get(&id);
    match name.and_then(|name| Some((name, parent_of(name)?))) {
        Some((name, parent)) => Err(Refusal::InvalidRequest(format!(
            "topic '{name}' is kept as topic {parent} is: change that one"
        ))),
        None => Ok(()),
    }
}
