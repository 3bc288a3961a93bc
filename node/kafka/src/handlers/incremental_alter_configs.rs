//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from configs.

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use weir_api::AdminError;
use weir_api::admin::ConfigChange;

use super::configs::{Altered, Wanted, alter_all};
use crate::context::Call;

pub(super) async fn handle(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let wanted = request.resources.into_iter().map(wanted);
    let altered = alter_all(&call, wanted, false, request.validate_only).await;
    let responses = altered.into_iter().map(response).collect();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn wanted(resource: AlterConfigsResource) -> Wanted {
    Wanted {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: resource.configs.into_iter().map(change).collect(),
    }
}

fn response(altered: Altered) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(altered.kind)
        .with_resource_name(altered.name)
        .with_error_code(altered.code)
        .with_error_message(altered.message)
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
