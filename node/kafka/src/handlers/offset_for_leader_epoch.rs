//! OffsetForLeaderEpoch: where an epoch ended, for consumers that check for truncation.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use weir_base::{LeaderEpoch, Offset};

use super::topics;
use crate::context::Call;
use crate::errors;

pub(super) async fn handle(
    call: Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            partitions.push(match find(&call, &topic.topic, partition).await {
                Ok(Some((epoch, end))) => answer
                    .with_leader_epoch(epoch.to_wire())
                    .with_end_offset(end.to_wire()),
                Ok(None) => answer.with_leader_epoch(-1).with_end_offset(-1),
                Err(error) => answer
                    .with_leader_epoch(-1)
                    .with_end_offset(-1)
                    .with_error_code(error.code()),
            });
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions),
        );
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn find(
    call: &Call,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ResponseError> {
    let image = call.shared.image();
    let at = topics::named(&image, topic, asked.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let believed = LeaderEpoch::from_wire(asked.current_leader_epoch);
    let Some(epoch) = LeaderEpoch::from_wire(asked.leader_epoch) else {
        return Ok(None);
    };
    let found = call.shared.api.log.end_of_epoch(at, epoch, believed).await;
    found.map_err(|error| errors::read(&error))
}
