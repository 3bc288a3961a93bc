//! OffsetDelete: single positions of topics that a group does not consume.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use weir_api::groups::{GroupCommand, GroupReply, OffsetKey};

use super::groups::{ask, code, shared};
use super::topics;
use crate::context::Call;
use crate::errors::{self, NONE};

pub(super) async fn handle(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = call.shared.image();
    let mut keys = Vec::new();
    for topic in &request.topics {
        let Some(record) = image.topics.get(topic.name.as_str()) else {
            continue;
        };
        let partitions = topic.partitions.iter();
        let known = partitions.filter_map(|p| topics::partition(record, p.partition_index));
        keys.extend(known.map(|at| OffsetKey {
            topic: record.name.clone(),
            topic_id: record.id,
            partition: at.index.0,
        }));
    }
    let command = GroupCommand::DeleteOffsets {
        group: shared(&request.group_id),
        partitions: keys,
    };
    let results = match ask!(&call, DeleteOffsets, command) {
        Ok(results) => results,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(code(&error)),
    };
    let mut results = results.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let known = topics::named(&image, &topic.name, index).is_some();
            let result = if known { results.next() } else { None };
            let code = match result {
                Some(Ok(())) => NONE,
                Some(Err(error)) => errors::group(&error).code(),
                None => ResponseError::UnknownTopicOrPartition.code(),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}
