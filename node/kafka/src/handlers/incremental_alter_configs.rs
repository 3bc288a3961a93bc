//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from configs.

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;
use weir_api::admin::ConfigChange;

use super::configs::resource;
use crate::context::Call;
use crate::errors;

pub(super) async fn handle(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter(
    call: &Call,
    wanted: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), AdminError> {
    let resource = resource(call, wanted.resource_type, &wanted.resource_name, true)?;
    let changes = wanted.configs.into_iter().map(change);
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let admin = &call.shared.api.admin;
    admin
        .alter_configs(resource, changes, false, validate_only)
        .await
}

fn change(config: AlterableConfig) -> Result<ConfigChange, AdminError> {
    let key = config.name.to_string();
    let value = config.value.map(|value| value.to_string());
    match (config.config_operation, value) {
        (0, Some(value)) => Ok(ConfigChange::Set { key, value }),
        (1, _) => Ok(ConfigChange::Delete { key }),
        (2, Some(value)) => Ok(ConfigChange::Append { key, value }),
        (3, Some(value)) => Ok(ConfigChange::Subtract { key, value }),
        (0 | 2 | 3, None) => {
            let why = format!("'{key}' has no value");
            Err(AdminError::InvalidConfig(why))
        }
        (operation, _) => {
            let why = format!("config operation {operation} does not exist");
            Err(AdminError::InvalidRequest(why))
        }
    }
}
