//! AlterConfigs: replaces all configs of a resource by those of the request.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;
use weir_api::admin::ConfigChange;

use super::configs::resource;
use crate::context::Call;
use crate::errors;

pub(super) async fn handle(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for wanted in request.resources {
        let mut response = AlterConfigsResourceResponse::default()
            .with_resource_type(wanted.resource_type)
            .with_resource_name(wanted.resource_name.clone());
        if let Err(error) = alter(&call, wanted, request.validate_only).await {
            response.error_code = errors::admin(&error).code();
            response.error_message = Some(StrBytes::from_string(error.to_string()));
        }
        responses.push(response);
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    call: &Call,
    wanted: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), AdminError> {
    let resource = resource(call, wanted.resource_type, &wanted.resource_name, true)?;
    // A null value asks for the default, which is what replacing gives.
    let changes = wanted.configs.into_iter().filter_map(|config| {
        Some(ConfigChange::Set {
            key: config.name.to_string(),
            value: config.value?.to_string(),
        })
    });
    let admin = &call.shared.api.admin;
    admin
        .alter_configs(resource, changes.collect(), true, validate_only)
        .await
}
