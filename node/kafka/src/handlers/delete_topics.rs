//! DeleteTopics, by name or, since version 6, by id.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;

use super::topics::{topic_id, wire_id};
use crate::context::{Call, millis};
use crate::errors::{self, NONE};

pub(super) async fn handle(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let timeout = millis(request.timeout_ms);
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| DeleteTopicState::default().with_name(Some(name)));
    let wanted: Vec<_> = request.topics.into_iter().chain(by_name).collect();
    let mut responses = Vec::with_capacity(wanted.len());
    for topic in wanted {
        let mut result = DeletableTopicResult::default().with_name(topic.name.clone());
        if call.version >= 6 {
            result.topic_id = topic.topic_id;
        }
        if let Err(error) = delete(&call, &topic, timeout, &mut result).await {
            result.error_code = errors::admin(&error).code();
            if call.version >= 5 {
                result.error_message = Some(StrBytes::from_string(error.to_string()));
            }
        }
        responses.push(result);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete(
    call: &Call,
    wanted: &DeleteTopicState,
    timeout: std::time::Duration,
    result: &mut DeletableTopicResult,
) -> Result<(), AdminError> {
    let image = call.shared.image();
    let topic = match (&wanted.name, topic_id(wanted.topic_id)) {
        (Some(_), Some(_)) => {
            let why = "a topic is named by name or by id, not by both";
            return Err(AdminError::InvalidRequest(why.to_owned()));
        }
        (_, Some(id)) => image.topic(id).ok_or(AdminError::UnknownTopicId(id))?,
        (name, None) => {
            let name = name.as_deref().map_or("", |name| name.as_str());
            let found = image.topics.get(name);
            found.ok_or_else(|| AdminError::UnknownTopic(name.to_owned()))?
        }
    };
    if topic.internal {
        let why = format!("'{}' is an internal topic", topic.name);
        return Err(AdminError::InvalidRequest(why));
    }
    call.shared
        .api
        .admin
        .delete_topic(topic.id, timeout)
        .await?;
    result.name = Some(crate::context::text(&topic.name).into());
    if call.version >= 6 {
        result.topic_id = wire_id(topic.id);
    }
    result.error_code = NONE;
    Ok(())
}
