//! DescribeConfigs: of topics and of the cluster.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminError;
use weir_api::admin::{ConfigEntry, ConfigResource};

use super::configs::resource;
use crate::context::Call;
use crate::errors;

/// Kafka's numbers of where a value comes from.
const TOPIC_CONFIG: i8 = 1;
const DYNAMIC_DEFAULT_BROKER_CONFIG: i8 = 3;
const DEFAULT_CONFIG: i8 = 5;

pub(super) async fn handle(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|wanted| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(wanted.resource_type)
            .with_resource_name(wanted.resource_name.clone());
        match describe(&call, &request, wanted) {
            Ok(configs) => result.with_configs(configs),
            Err(error) => result
                .with_error_code(errors::admin(&error).code())
                .with_error_message(Some(StrBytes::from_string(error.to_string()))),
        }
    });
    let results = results.collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn describe(
    call: &Call,
    request: &DescribeConfigsRequest,
    wanted: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, AdminError> {
    let resource = resource(call, wanted.resource_type, &wanted.resource_name, false)?;
    let set_here = match resource {
        ConfigResource::Topic(_) => TOPIC_CONFIG,
        ConfigResource::Cluster => DYNAMIC_DEFAULT_BROKER_CONFIG,
    };
    let entries = call.shared.api.admin.configs(&resource)?.into_iter();
    let keys = wanted.configuration_keys.as_ref();
    let asked_for =
        |entry: &ConfigEntry| keys.is_none_or(|keys| keys.iter().any(|k| **k == *entry.key));
    let entries = entries.filter(asked_for).map(|entry| {
        let source = if entry.is_set {
            set_here
        } else {
            DEFAULT_CONFIG
        };
        let key = StrBytes::from_string(entry.key);
        let value = StrBytes::from_string(entry.value);
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(key.clone())
            .with_value(Some(value.clone()))
            .with_read_only(entry.read_only)
            .with_config_source(source);
        if request.include_synonyms {
            let synonym = DescribeConfigsSynonym::default()
                .with_name(key)
                .with_value(Some(value))
                .with_source(source);
            result.synonyms = vec![synonym];
        }
        if call.version >= 3 {
            result.config_type = entry.kind;
            if request.include_documentation {
                let text = StrBytes::from_static_str(entry.documentation);
                result.documentation = Some(text);
            }
        }
        result
    });
    Ok(entries.collect())
}
