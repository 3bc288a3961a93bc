//! DescribeProducers: idempotent producers with state in a partition.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use weir_api::log::ActiveProducer;

use super::topics;
use crate::context::Call;
use crate::errors;

pub(super) async fn handle(
    call: Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = call.shared.image();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(*index);
            let producers = topics::named(&image, &topic.name, *index)
                .ok_or(ResponseError::UnknownTopicOrPartition)
                .and_then(|at| {
                    let producers = call.shared.api.log.producers(at);
                    producers.map_err(|error| errors::read(&error))
                });
            match producers {
                Ok(producers) => {
                    response.with_active_producers(producers.iter().map(state).collect())
                }
                Err(error) => response.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    let topics = topics.collect();
    DescribeProducersResponse::default().with_topics(topics)
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp.0)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}
