//! DeleteRecords: raises the log start of partitions that this node leads.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use weir_base::Offset;

use super::topics;
use crate::context::{Call, millis};
use crate::errors;

/// The wire's "up to the high watermark".
const TO_HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let timeout = millis(request.timeout_ms);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let deleting = delete(&call, &topic.name, index, partition.offset);
            let deleted = call.shared.env.timeout(timeout, deleting).await;
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            partitions.push(
                match deleted.unwrap_or(Err(ResponseError::RequestTimedOut)) {
                    Ok(start) => result.with_low_watermark(start.to_wire()),
                    Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
                },
            );
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(
    call: &Call,
    topic: &str,
    index: i32,
    before: i64,
) -> Result<Offset, ResponseError> {
    let image = call.shared.image();
    let at = topics::named(&image, topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let before = match before {
        TO_HIGH_WATERMARK => None,
        offset => Some(Offset::from_wire(offset).ok_or(ResponseError::OffsetOutOfRange)?),
    };
    let deleted = call.shared.api.log.delete_records(at, before).await;
    deleted.map_err(|error| errors::read(&error))
}
