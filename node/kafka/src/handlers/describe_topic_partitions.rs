//! DescribeTopicPartitions: topics page by page, with eligible leaders.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use weir_api::image::{ClusterImage, PartitionRecord, TopicRecord};
use weir_base::ids::is_topic_name;

use super::metadata::{offline, wire_nodes};
use super::topics::wire_id;
use crate::context::{Call, broker_id, endpoint_of, text};
use crate::errors::NONE;

/// Most partitions of one response, whatever is asked.
const PARTITIONS_MAX: usize = 2000;

pub(super) async fn handle(
    call: Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = call.shared.image();
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = asked.clamp(1, PARTITIONS_MAX);
    let mut names: Vec<TopicName> = if request.topics.is_empty() {
        image.topics.keys().map(|name| text(name).into()).collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    names.sort();
    names.dedup();
    let (from_topic, from_partition) = match request.cursor {
        Some(cursor) => (
            cursor.topic_name,
            usize::try_from(cursor.partition_index).unwrap_or(0),
        ),
        None => (TopicName::default(), 0),
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= from_topic) {
        let skip = if name == from_topic {
            from_partition
        } else {
            0
        };
        if left == 0 {
            response.next_cursor = Some(cursor(name, skip));
            break;
        }
        let Some(record) = image.topics.get(name.as_str()) else {
            response.topics.push(unknown(name));
            continue;
        };
        let end = record.partitions.len().min(skip + left);
        response.topics.push(topic(&image, record, skip, end));
        left -= end.saturating_sub(skip);
        if end < record.partitions.len() {
            response.next_cursor = Some(cursor(name, end));
            break;
        }
    }
    response
}

fn cursor(topic: TopicName, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(topic)
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn unknown(name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    let error = if is_topic_name(&name) {
        ResponseError::UnknownTopicOrPartition
    } else {
        ResponseError::InvalidTopicException
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(name))
        .with_error_code(error.code())
}

fn topic(
    image: &ClusterImage,
    record: &TopicRecord,
    from: usize,
    to: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (0..).zip(&record.partitions).take(to).skip(from);
    let partitions = partitions.map(|(index, of)| partition(image, index, of));
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(text(&record.name).into()))
        .with_topic_id(wire_id(record.id))
        .with_is_internal(record.internal)
        .with_partitions(partitions.collect())
}

fn partition(
    image: &ClusterImage,
    index: i32,
    of: &PartitionRecord,
) -> DescribeTopicPartitionsResponsePartition {
    let leader = of.leader.filter(|node| endpoint_of(image, *node).is_some());
    let error = leader.map_or(ResponseError::LeaderNotAvailable.code(), |_| NONE);
    let nodes = |nodes: &[weir_base::NodeId]| wire_nodes(nodes.iter().copied());
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.map_or(-1, broker_id)))
        .with_leader_epoch(of.leader_epoch.to_wire())
        .with_replica_nodes(wire_nodes(of.replicas.iter().map(|replica| replica.node)))
        .with_isr_nodes(nodes(&of.isr))
        .with_eligible_leader_replicas(Some(nodes(&of.elr)))
        .with_last_known_elr(Some(nodes(&of.last_known_elr)))
        .with_offline_replicas(wire_nodes(offline(image, of)))
}
