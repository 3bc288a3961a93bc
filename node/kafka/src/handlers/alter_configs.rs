//! AlterConfigs: replaces all configs of a resource by those of the request.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use weir_api::admin::ConfigChange;

use super::configs::{Altered, Wanted, alter_all};
use crate::context::Call;

pub(super) async fn handle(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let wanted = request.resources.into_iter().map(wanted);
    let altered = alter_all(&call, wanted, true, request.validate_only).await;
    AlterConfigsResponse::default().with_responses(altered.into_iter().map(response).collect())
}

fn wanted(resource: AlterConfigsResource) -> Wanted {
    // A null value asks for the default, which is what replacing gives.
    let changes = resource.configs.into_iter().filter_map(|config| {
        Some(ConfigChange::Set {
            key: config.name.to_string(),
            value: config.value?.to_string(),
        })
    });
    Wanted {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: Ok(changes.collect()),
    }
}

fn response(altered: Altered) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(altered.kind)
        .with_resource_name(altered.name)
        .with_error_code(altered.code)
        .with_error_message(altered.message)
}
