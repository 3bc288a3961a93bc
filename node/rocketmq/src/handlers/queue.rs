//! What the handlers of receipts and handles share: the partition they speak of.

use std::sync::Arc;

use weir_api::image::{ClusterImage, TopicRecord};
use weir_base::{NodeId, PartitionIndex, TopicPartition};

use super::topics;
use crate::context::Call;
use crate::errors::Refusal;
use crate::names;
use crate::proto::Resource;

/// The topic that a request names.
pub(super) fn topic(call: &Call, resource: Option<&Resource>) -> Result<Arc<TopicRecord>, Refusal> {
    let name = names::topic(resource)?;
    let image = call.shared.image();
    let topic = topics::find(&image, &name).ok_or_else(|| topics::not_found(&name))?;
    Ok(Arc::clone(topic))
}

/// Partition `index` of `topic`.
pub(super) fn partition(topic: &TopicRecord, index: u32) -> TopicPartition {
    TopicPartition {
        topic: topic.id,
        index: PartitionIndex(index),
    }
}

/// The partitions of a topic that `node` leads, in order.
pub(super) fn led_by(topic: &TopicRecord, node: NodeId) -> Vec<TopicPartition> {
    let partitions = (0..).zip(&topic.partitions);
    let led = partitions.filter(|(_, partition)| partition.leader == Some(node));
    led.map(|(index, _)| partition(topic, index)).collect()
}

/// The same for the topic called `name`, if there is one.
pub(super) fn led_of(image: &ClusterImage, name: &str, node: NodeId) -> Vec<TopicPartition> {
    topics::find(image, name).map_or_else(Vec::new, |topic| led_by(topic, node))
}
