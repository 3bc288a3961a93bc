//! FindCoordinator: which node to ask about a group. Several at once since version 4.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::{Call, broker_id, endpoint_of, text};
use crate::errors;

/// The key type of consumer groups.
const GROUP: i8 = 0;

pub(super) async fn handle(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if call.version >= 4 {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(find(&call, request.key_type, key).await);
        }
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = find(&call, request.key_type, request.key).await;
    let mut response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    if call.version >= 1 {
        response.error_message = found.error_message;
    }
    response
}

async fn find(call: &Call, key_type: i8, key: StrBytes) -> Coordinator {
    let found = if key_type == GROUP {
        let coordinator = call.shared.api.groups.coordinator(&key).await;
        coordinator.map_err(|error| (errors::group_call(&error), error.to_string()))
    } else {
        let why = "only consumer groups have coordinators: transactions and share groups \
                   are not supported";
        Err((ResponseError::InvalidRequest, why.to_owned()))
    };
    let image = call.shared.image();
    let found = found.and_then(|coordinator| {
        let node = coordinator.node;
        let endpoint = endpoint_of(&image, node).ok_or_else(|| {
            let why = format!("node {node} coordinates it and cannot be reached");
            (ResponseError::CoordinatorNotAvailable, why)
        })?;
        Ok((node, endpoint))
    });
    let answer = Coordinator::default().with_key(key);
    match found {
        Ok((node, endpoint)) => answer
            .with_node_id(BrokerId(broker_id(node)))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port)),
        Err((error, message)) => answer
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message))),
    }
}
