//! CreatePartitions: a topic grows to a total.

use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;

use super::create_topics::nodes;
use crate::context::{Call, millis};
use crate::errors;

pub(super) async fn handle(
    call: Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let timeout = millis(request.timeout_ms);
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        if let Err(error) = grow(&call, topic, request.validate_only, timeout).await {
            result.error_code = errors::admin(&error).code();
            result.error_message = Some(StrBytes::from_string(error.to_string()));
        }
        results.push(result);
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow(
    call: &Call,
    topic: CreatePartitionsTopic,
    validate_only: bool,
    timeout: Duration,
) -> Result<(), AdminError> {
    let total = u32::try_from(topic.count)
        .map_err(|_| AdminError::InvalidPartitions(format!("{} partitions", topic.count)))?;
    let assignment = topic.assignments.map(|parts| {
        let parts = parts.iter().map(|part| nodes(&part.broker_ids));
        parts.collect::<Result<Vec<_>, _>>()
    });
    let admin = &call.shared.api.admin;
    let name = topic.name.to_string();
    admin
        .create_partitions(name, total, assignment.transpose()?, validate_only, timeout)
        .await
}
