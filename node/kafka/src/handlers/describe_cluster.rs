//! DescribeCluster: the brokers, since version 2 fenced ones too.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::metadata::{cluster_id, controller};
use crate::context::{Call, ENDPOINT, broker_id, text};

/// The endpoint type of brokers; 2 asks for controllers of their own, which there are not.
const BROKERS: i8 = 1;

pub(super) async fn handle(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let image = call.shared.image();
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(cluster_id(&image)))
        .with_controller_id(controller(&call.shared, &image));
    if call.version >= 1 && request.endpoint_type != BROKERS {
        return response
            .with_endpoint_type(request.endpoint_type)
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(StrBytes::from_static_str(
                "these are brokers; no node is only a controller",
            )));
    }
    let with_fenced = call.version >= 2 && request.include_fenced_brokers;
    let nodes = image
        .nodes
        .values()
        .filter(|n| with_fenced || n.is_active());
    let brokers = nodes.filter_map(|node| {
        let endpoint = node.endpoints.get(ENDPOINT)?;
        let mut broker = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker_id(node.id)))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_rack(node.rack.as_deref().map(text));
        if call.version >= 2 {
            broker.is_fenced = !node.is_active();
        }
        Some(broker)
    });
    response.brokers = brokers.collect();
    response
}
