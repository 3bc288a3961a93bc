//! ElectLeaders: makes preferred replicas lead. Unclean elections are not offered.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;
use weir_api::admin::NamedPartition;
use weir_api::image::ClusterImage;

use crate::context::{Call, millis, text};
use crate::errors;

/// The election type of preferred replicas; 1 is unclean.
const PREFERRED: i8 = 0;

pub(super) async fn handle(call: Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let mut response = ElectLeadersResponse::default();
    if call.version >= 1 && request.election_type != PREFERRED {
        response.error_code = ResponseError::InvalidRequest.code();
        return response;
    }
    let all = request.topic_partitions.is_none();
    let partitions: Vec<(String, i32)> = match request.topic_partitions {
        None => not_preferred(&call.shared.image()),
        Some(topics) => topics
            .into_iter()
            .flat_map(|topic| {
                let name = topic.topic.to_string();
                let partitions = topic.partitions.into_iter();
                partitions.map(move |index| (name.clone(), index))
            })
            .collect(),
    };
    let timeout = millis(request.timeout_ms);
    let mut results: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for (topic, index) in partitions {
        let electing = elect(&call, &topic, index);
        let elected = call.shared.env.timeout(timeout, electing).await;
        let elected = elected.unwrap_or(Err(AdminError::TimedOut(timeout)));
        if all && elected == Err(AdminError::ElectionNotNeeded) {
            continue;
        }
        let mut result = PartitionResult::default().with_partition_id(index);
        if let Err(error) = elected {
            result.error_code = errors::admin(&error).code();
            result.error_message = Some(StrBytes::from_string(error.to_string()));
        }
        results.entry(topic).or_default().push(result);
    }
    let results = results.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(text(&topic).into())
            .with_partition_result(partitions)
    });
    response.with_replica_election_results(results.collect())
}

async fn elect(call: &Call, topic: &str, index: i32) -> Result<(), AdminError> {
    let partition = u32::try_from(index).map_err(|_| AdminError::UnknownTopic(topic.to_owned()))?;
    let partition = NamedPartition {
        topic: topic.to_owned(),
        partition,
    };
    call.shared.api.admin.elect_preferred(partition).await
}

/// Every partition that another replica than the preferred leads.
fn not_preferred(image: &ClusterImage) -> Vec<(String, i32)> {
    let partitions = image.topics.values().flat_map(|topic| {
        let partitions = (0..).zip(&topic.partitions);
        let others =
            partitions.filter(|(_, p)| p.leader != p.replicas.first().map(|replica| replica.node));
        others.map(|(index, _)| (topic.name.to_string(), index))
    });
    partitions.collect()
}
