//! QueryRoute: a topic's queues, each with the node that leads it.

use std::net::IpAddr;

use weir_api::image::{ClusterImage, Endpoint, TopicRecord};
use weir_base::NodeId;

use super::topics;
use crate::context::{Call, endpoint_of};
use crate::errors::{Refusal, ok};
use crate::names;
use crate::proto::{
    Address, AddressScheme, Broker, Code, Endpoints, MessageQueue, Permission, QueryRouteRequest,
    QueryRouteResponse, Resource,
};

pub(crate) async fn handle(
    call: Call,
    request: QueryRouteRequest,
) -> Result<QueryRouteResponse, Refusal> {
    let name = names::topic(request.topic.as_ref())?;
    let image = topics::find_or_make(&call.shared, &name).await?;
    let topic = topics::find(&image, &name).ok_or_else(|| topics::not_found(&name))?;
    let message_queues = queues(&image, topic, request.topic.as_ref(), |node| {
        !call.shared.api.cluster.is_gone(node)
    });
    // Clients choose queues by their number and by how many there are, so they get all
    // of them or none: none keeps the route that they have.
    if message_queues.len() < topic.partitions.len() {
        return Err(Refusal::new(
            Code::HaNotAvailable,
            format!("topic '{name}' has partitions without a leader just now"),
        ));
    }
    Ok(QueryRouteResponse {
        status: Some(ok()),
        message_queues,
    })
}

/// The queues of a topic that can be reached, by number. `asked` is the topic in the
/// client's words.
pub(super) fn queues(
    image: &ClusterImage,
    topic: &TopicRecord,
    asked: Option<&Resource>,
    is_alive: impl Fn(NodeId) -> bool,
) -> Vec<MessageQueue> {
    let types = topics::accepted(topic).iter().copied();
    let types: Vec<i32> = types.map(i32::from).collect();
    let partitions = (0..).zip(&topic.partitions);
    let led = partitions.filter_map(|(id, partition)| {
        let leader = partition.leader.filter(|node| is_alive(*node))?;
        Some(MessageQueue {
            topic: asked.cloned(),
            id,
            permission: Permission::ReadWrite.into(),
            broker: Some(broker(image, leader)?),
            accept_message_types: types.clone(),
        })
    });
    led.collect()
}

/// A node as a broker. Clients take id 0 for a master and send to no other.
pub(super) fn broker(image: &ClusterImage, node: NodeId) -> Option<Broker> {
    let endpoint = endpoint_of(image, node)?;
    Some(Broker {
        name: format!("weir-{node}"),
        id: 0,
        endpoints: Some(endpoints(endpoint)),
    })
}

fn endpoints(endpoint: &Endpoint) -> Endpoints {
    let scheme = match endpoint.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => AddressScheme::Ipv4,
        Ok(IpAddr::V6(_)) => AddressScheme::Ipv6,
        Err(_) => AddressScheme::DomainName,
    };
    Endpoints {
        scheme: scheme.into(),
        addresses: vec![Address {
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
        }],
    }
}
