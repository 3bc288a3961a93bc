//! ListOffsets: first, last, newest, or by time.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use weir_api::image::ClusterImage;
use weir_api::log::OffsetQuery;
use weir_base::{LeaderEpoch, Timestamp};

use super::topics;
use crate::context::Call;
use crate::errors;

pub(super) async fn handle(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let image = call.shared.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let answer = answer(&call, &image, &topic.name, &partition).await;
            let response = match answer {
                Ok(response) => response,
                Err(error) => ListOffsetsPartitionResponse::default()
                    .with_error_code(error.code())
                    .with_offset(-1)
                    .with_timestamp(-1),
            };
            partitions.push(response.with_partition_index(partition.partition_index));
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn answer(
    call: &Call,
    image: &ClusterImage,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<ListOffsetsPartitionResponse, ResponseError> {
    let at = topics::named(image, topic, asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let query = match asked.timestamp {
        -1 => OffsetQuery::Latest,
        // The earliest local offset is the earliest: nothing is tiered.
        -2 | -4 => OffsetQuery::Earliest,
        -3 => OffsetQuery::MaxTimestamp,
        // Latest tiered and earliest pending upload: there is none.
        -5 | -6 => return Ok(nothing()),
        time if time >= 0 => OffsetQuery::AtTime(Timestamp(time)),
        _ => return Err(ResponseError::InvalidRequest),
    };
    let believed = LeaderEpoch::from_wire(asked.current_leader_epoch);
    let found = call.shared.api.log.offset(at, query, believed).await;
    let found = found.map_err(|error| errors::read(&error))?;
    let Some(offset) = found.offset else {
        return Ok(nothing());
    };
    let mut response = ListOffsetsPartitionResponse::default()
        .with_offset(offset.to_wire())
        .with_timestamp(found.timestamp.map_or(-1, |time| time.0));
    if call.version >= 4 {
        response.leader_epoch = found.leader_epoch.to_wire();
    }
    Ok(response)
}

fn nothing() -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_offset(-1)
        .with_timestamp(-1)
}
