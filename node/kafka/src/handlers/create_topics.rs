//! CreateTopics.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::admin::ConfigResource;
use weir_api::{AdminError, NewTopic};
use weir_base::NodeId;

use super::topics::wire_id;
use crate::context::{Call, millis, node_id};
use crate::errors::{self, NONE};

pub(super) async fn handle(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let timeout = millis(request.timeout_ms);
    let names: Vec<_> = request.topics.iter().map(|t| t.name.clone()).collect();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        // Kafka refuses all of several topics of one name.
        let twice = names.iter().filter(|other| **other == name).count() > 1;
        let made = if twice {
            let why = format!("topic '{}' is there more than once", name.as_str());
            Err(AdminError::InvalidRequest(why))
        } else {
            match new_topic(topic) {
                Err(error) => Err(error),
                Ok(new) => {
                    let admin = &call.shared.api.admin;
                    admin
                        .create_topic(new, request.validate_only, timeout)
                        .await
                }
            }
        };
        let mut result = CreatableTopicResult::default().with_name(name);
        match made {
            Ok(id) => {
                result.error_code = NONE;
                if call.version >= 7 {
                    result.topic_id = wire_id(id);
                }
                if call.version >= 5 {
                    describe(&call, &mut result);
                }
            }
            Err(error) => {
                result.error_code = errors::admin(&error).code();
                result.error_message = Some(StrBytes::from_string(error.to_string()));
            }
        }
        results.push(result);
    }
    CreateTopicsResponse::default().with_topics(results)
}

fn new_topic(topic: CreatableTopic) -> Result<NewTopic, AdminError> {
    let placed = !topic.assignments.is_empty();
    if placed && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        let why = "an assignment goes without partition count and replication factor";
        return Err(AdminError::InvalidRequest(why.to_owned()));
    }
    let partitions = match topic.num_partitions {
        -1 => None,
        count => Some(u32::try_from(count).map_err(|_| {
            AdminError::InvalidPartitions(format!("{count} is not a number of partitions"))
        })?),
    };
    let replication_factor = match topic.replication_factor {
        -1 => None,
        count => Some(u16::try_from(count).map_err(|_| {
            AdminError::InvalidReplicationFactor(format!("{count} is not a number of replicas"))
        })?),
    };
    let mut configs = std::collections::BTreeMap::new();
    for config in topic.configs {
        let Some(value) = config.value else {
            let why = format!("'{}' has no value", config.name.as_str());
            return Err(AdminError::InvalidConfig(why));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions,
        replication_factor,
        assignment: placed.then(|| assignment(topic.assignments)).transpose()?,
        configs,
        internal: false,
    })
}

/// The nodes of partitions 0, 1, ... as the request lists them in any order.
fn assignment(mut parts: Vec<CreatableReplicaAssignment>) -> Result<Vec<Vec<NodeId>>, AdminError> {
    parts.sort_by_key(|part| part.partition_index);
    let consecutive = (0..)
        .zip(&parts)
        .all(|(at, part)| part.partition_index == at);
    if !consecutive {
        let why = "partitions must be numbered from 0 without gaps";
        return Err(AdminError::InvalidAssignment(why.to_owned()));
    }
    parts
        .into_iter()
        .map(|part| nodes(&part.broker_ids))
        .collect()
}

/// Node ids from the wire.
pub(super) fn nodes(
    brokers: &[kafka_protocol::messages::BrokerId],
) -> Result<Vec<NodeId>, AdminError> {
    let nodes = brokers.iter().map(|broker| {
        node_id(broker.0)
            .ok_or_else(|| AdminError::InvalidAssignment(format!("broker {}", broker.0)))
    });
    nodes.collect()
}

/// Tells what was made: counts and configs. A topic only validated has none.
fn describe(call: &Call, result: &mut CreatableTopicResult) {
    let image = call.shared.image();
    let Some(topic) = image.topics.get(result.name.as_str()) else {
        result.num_partitions = -1;
        result.replication_factor = -1;
        return;
    };
    let replicas = topic.partitions.first().map_or(0, |p| p.replicas.len());
    result.num_partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    result.replication_factor = i16::try_from(replicas).unwrap_or(i16::MAX);
    let resource = ConfigResource::Topic(result.name.to_string());
    match call.shared.api.admin.configs(&resource) {
        Ok(entries) => {
            let configs = entries.into_iter().map(|entry| {
                CreatableTopicConfigs::default()
                    .with_name(StrBytes::from_string(entry.key))
                    .with_value(Some(StrBytes::from_string(entry.value)))
                    .with_read_only(entry.read_only)
                    .with_config_source(if entry.is_set { 1 } else { 5 })
            });
            result.configs = Some(configs.collect());
        }
        Err(_) => {
            result.configs = None;
            result.topic_config_error_code = ResponseError::UnknownServerError.code();
        }
    }
}
