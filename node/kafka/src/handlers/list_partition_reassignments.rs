//! ListPartitionReassignments: moves under way.

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use weir_api::image::{PartitionRecord, TopicRecord};

use super::metadata::wire_nodes;
use crate::context::{Call, text};

pub(super) async fn handle(
    call: Call,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let image = call.shared.image();
    let wanted = request.topics.as_deref();
    let topics = image
        .topics
        .values()
        .filter_map(|topic| moves(topic, wanted));
    ListPartitionReassignmentsResponse::default().with_topics(topics.collect())
}

fn moves(
    topic: &TopicRecord,
    wanted: Option<&[ListPartitionReassignmentsTopics]>,
) -> Option<OngoingTopicReassignment> {
    let asked_for = |index: i32| {
        wanted.is_none_or(|wanted| {
            let mut wanted = wanted.iter();
            wanted.any(|w| w.name.as_str() == &*topic.name && w.partition_indexes.contains(&index))
        })
    };
    let moving = |p: &PartitionRecord| !p.adding.is_empty() || !p.removing.is_empty();
    let partitions = (0..).zip(&topic.partitions);
    let partitions = partitions.filter(|(index, p)| moving(p) && asked_for(*index));
    let partitions: Vec<_> = partitions.map(|(index, p)| ongoing(index, p)).collect();
    if partitions.is_empty() {
        return None;
    }
    let ongoing = OngoingTopicReassignment::default();
    Some(
        ongoing
            .with_name(text(&topic.name).into())
            .with_partitions(partitions),
    )
}

fn ongoing(index: i32, of: &PartitionRecord) -> OngoingPartitionReassignment {
    OngoingPartitionReassignment::default()
        .with_partition_index(index)
        .with_replicas(wire_nodes(of.replicas.iter().map(|replica| replica.node)))
        .with_adding_replicas(wire_nodes(of.adding.iter().copied()))
        .with_removing_replicas(wire_nodes(of.removing.iter().copied()))
}
