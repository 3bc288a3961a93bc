//! AlterPartitionReassignments: moves partitions, or cancels moves.

use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;
use weir_api::admin::NamedPartition;

use super::create_topics::nodes;
use crate::context::{Call, millis};
use crate::errors;

pub(super) async fn handle(
    call: Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let timeout = millis(request.timeout_ms);
    let same_factor = call.version >= 1 && !request.allow_replication_factor_change;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let mut response = ReassignablePartitionResponse::default()
                .with_partition_index(wanted.partition_index);
            let moved = reassign(&call, &topic.name, wanted, same_factor, timeout).await;
            if let Err(error) = moved {
                response.error_code = errors::admin(&error).code();
                response.error_message = Some(StrBytes::from_string(error.to_string()));
            }
            partitions.push(response);
        }
        responses.push(
            ReassignableTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    let mut response = AlterPartitionReassignmentsResponse::default().with_responses(responses);
    if call.version >= 1 {
        response.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    response
}

async fn reassign(
    call: &Call,
    topic: &str,
    wanted: ReassignablePartition,
    same_factor: bool,
    timeout: Duration,
) -> Result<(), AdminError> {
    let unknown = || AdminError::UnknownTopic(topic.to_owned());
    let partition = u32::try_from(wanted.partition_index).map_err(|_| unknown())?;
    let replicas = wanted.replicas.as_deref().map(nodes).transpose()?;
    if same_factor && let Some(replicas) = &replicas {
        let image = call.shared.image();
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let record = image.topics.get(topic);
        let record = record
            .and_then(|t| t.partitions.get(index))
            .ok_or_else(unknown)?;
        if record.replicas.len() != replicas.len() {
            let why = format!(
                "{} replicas now, {} asked",
                record.replicas.len(),
                replicas.len()
            );
            return Err(AdminError::InvalidReplicationFactor(why));
        }
    }
    let partition = NamedPartition {
        topic: topic.to_owned(),
        partition,
    };
    let moving = call.shared.api.admin.reassign(partition, replicas);
    let moved = call.shared.env.timeout(timeout, moving).await;
    moved.unwrap_or(Err(AdminError::TimedOut(timeout)))
}
