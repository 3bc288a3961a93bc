//! Metadata: the cluster as clients see it. Makes topics on first sight, if allowed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use weir_api::image::{ClusterImage, PartitionRecord, TopicRecord};
use weir_api::{AdminError, NewTopic};
use weir_base::ids::is_topic_name;
use weir_base::{NodeId, Uuid};

use super::topics::{topic_id, wire_id};
use crate::context::{Call, ENDPOINT, Shared, broker_id, endpoint_of, text};
use crate::errors;

/// How long a node that was fenced stays in the list of brokers. librdkafka loses track
/// of a partition whose old leader leaves the list together with the leader's change, and
/// finds it again only by its next refresh, a second later.
const LINGER: Duration = Duration::from_secs(10);

/// How long an answer waits for the next leader of a partition whose leader's process
/// ended. Elections take a fifth of that; meanwhile later answers on the connection wait.
const LEADER_WAIT: Duration = Duration::from_millis(500);

/// The image, and who is known to be gone before it says so.
#[derive(Clone, Copy)]
struct Seen<'a> {
    image: &'a ClusterImage,
    gone: &'a BTreeSet<NodeId>,
}

pub(super) async fn handle(call: Call, request: MetadataRequest) -> MetadataResponse {
    // Version 0 has no null: an empty list means all.
    let wanted = request.topics.filter(|t| call.version > 0 || !t.is_empty());
    let may_create = call.version < 4 || request.allow_auto_topic_creation;
    if may_create
        && call.shared.options.auto_create_topics
        && let Some(wanted) = &wanted
    {
        create_missing(&call.shared, wanted).await;
    }
    let image = with_leaders(&call.shared, wanted.as_deref()).await;
    let cluster = &call.shared.api.cluster;
    let nodes = image.nodes.keys().copied();
    let gone: BTreeSet<NodeId> = nodes.filter(|node| cluster.is_gone(*node)).collect();
    let seen = Seen {
        image: &image,
        gone: &gone,
    };
    let topics = match wanted {
        None => image.topics.values().map(|t| topic(seen, t)).collect(),
        Some(wanted) => wanted.into_iter().map(|w| lookup(seen, w)).collect(),
    };
    let mut response = MetadataResponse::default()
        .with_brokers(brokers(&call.shared, &image))
        .with_controller_id(controller(&call.shared, &image))
        .with_topics(topics);
    if call.version >= 2 {
        response.cluster_id = Some(StrBytes::from_string(cluster_id(&image)));
    }
    response
}

/// The image, once no partition of what is asked for is led by a node whose process is
/// gone, or the wait for its next leader is over. librdkafka asks once when it loses a
/// leader; told of the old one or of none it asks again a second later.
async fn with_leaders(
    shared: &Shared,
    wanted: Option<&[MetadataRequestTopic]>,
) -> Arc<ClusterImage> {
    let cluster = &shared.api.cluster;
    let image = cluster.image();
    let me = cluster.node();
    let others = leaders(&image, wanted).filter(|node| *node != me);
    let others: BTreeSet<NodeId> = others.collect();
    if others.is_empty() {
        return image;
    }
    cluster.sign_of_life(others.into_iter().collect()).await;
    let is_led =
        |image: &Arc<ClusterImage>| !leaders(image, wanted).any(|node| cluster.is_gone(node));
    let mut images = cluster.images();
    let elected = async { drop(images.wait_for(is_led).await) };
    let _in_time: Option<()> = shared.env.timeout(LEADER_WAIT, elected).await;
    cluster.image()
}

/// The leaders of all partitions of what is asked for.
fn leaders<'a>(
    image: &'a ClusterImage,
    wanted: Option<&'a [MetadataRequestTopic]>,
) -> impl Iterator<Item = NodeId> + 'a {
    let named = wanted.into_iter().flatten().filter_map(|wanted| {
        if let Some(id) = topic_id(wanted.topic_id) {
            return image.topic(id);
        }
        image.topics.get(wanted.name.as_ref()?.as_str())
    });
    let all = image.topics.values().filter(move |_| wanted.is_none());
    let partitions = named.chain(all).flat_map(|topic| &topic.partitions);
    partitions.filter_map(|partition| partition.leader)
}

/// The cluster's id in the form that clients print: base64 of 16 bytes.
pub(super) fn cluster_id(image: &ClusterImage) -> String {
    use base64::Engine as _;
    let id = image.cluster_id.unwrap_or(Uuid::ZERO);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.0)
}

/// Where clients send what is for the controller: any node passes it on, so this one
/// will do while there is none.
pub(super) fn controller(shared: &Shared, image: &ClusterImage) -> BrokerId {
    let cluster = &shared.api.cluster;
    let known = cluster.controller();
    let reachable = known.filter(|node| endpoint_of(image, *node).is_some());
    BrokerId(broker_id(reachable.unwrap_or_else(|| cluster.node())))
}

fn brokers(shared: &Shared, image: &ClusterImage) -> Vec<MetadataResponseBroker> {
    let now = shared.env.clock.now();
    let mut fenced = shared.fenced();
    fenced.retain(|node, _| image.nodes.get(node).is_some_and(|node| !node.is_active()));
    let nodes = image.nodes.values().filter(|node| {
        node.is_active() || now.since(*fenced.entry(node.id).or_insert(now)) < LINGER
    });
    let brokers = nodes.filter_map(|node| {
        let endpoint = node.endpoints.get(ENDPOINT)?;
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker_id(node.id)))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_rack(node.rack.as_deref().map(text));
        Some(broker)
    });
    brokers.collect()
}

fn lookup(seen: Seen<'_>, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
    if let Some(id) = topic_id(wanted.topic_id) {
        return match seen.image.topic(id) {
            Some(found) => topic(seen, found),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(wanted.topic_id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    }
    let name = wanted.name.unwrap_or_default();
    if let Some(found) = seen.image.topics.get(name.as_str()) {
        return topic(seen, found);
    }
    let error = if is_topic_name(&name) {
        ResponseError::UnknownTopicOrPartition
    } else {
        ResponseError::InvalidTopicException
    };
    MetadataResponseTopic::default()
        .with_name(Some(name))
        .with_error_code(error.code())
}

fn topic(seen: Seen<'_>, topic: &Arc<TopicRecord>) -> MetadataResponseTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(at, p)| partition(seen, at, p));
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(wire_id(topic.id))
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
}

fn partition(seen: Seen<'_>, index: i32, of: &PartitionRecord) -> MetadataResponsePartition {
    let Seen { image, gone } = seen;
    let leader = of
        .leader
        .filter(|node| endpoint_of(image, *node).is_some() && !gone.contains(node));
    let error = match leader {
        Some(_) => errors::NONE,
        None => ResponseError::LeaderNotAvailable.code(),
    };
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.map_or(-1, broker_id)))
        .with_leader_epoch(of.leader_epoch.to_wire())
        .with_replica_nodes(wire_nodes(of.replicas.iter().map(|replica| replica.node)))
        .with_isr_nodes(wire_nodes(of.isr.iter().copied()))
        .with_offline_replicas(wire_nodes(offline(image, of)))
}

/// Replicas on nodes that cannot serve them.
pub(super) fn offline<'a>(
    image: &'a ClusterImage,
    of: &'a PartitionRecord,
) -> impl Iterator<Item = NodeId> + 'a {
    let nodes = of.replicas.iter().map(|replica| replica.node);
    nodes.filter(|node| !image.nodes.get(node).is_some_and(|n| n.is_active()))
}

pub(super) fn wire_nodes(nodes: impl Iterator<Item = NodeId>) -> Vec<BrokerId> {
    nodes.map(|node| BrokerId(broker_id(node))).collect()
}

/// Makes the topics that do not exist, and waits until they have leaders or the
/// metadata wait is over; what is not ready then is answered as such, and clients ask again.
async fn create_missing(shared: &Shared, wanted: &[MetadataRequestTopic]) {
    let image = shared.image();
    let names = wanted.iter().filter_map(|w| w.name.as_ref());
    let missing = names.filter(|n| is_topic_name(n) && !image.topics.contains_key(n.as_str()));
    let missing: Vec<&TopicName> = missing.collect();
    if missing.is_empty() {
        return;
    }
    let wait = shared.options.metadata_wait;
    let making = async {
        for name in &missing {
            let topic = NewTopic {
                name: name.to_string(),
                ..NewTopic::default()
            };
            match shared.api.admin.create_topic(topic, false, wait).await {
                Ok(_) | Err(AdminError::TopicExists(_)) => {}
                Err(error) => {
                    tracing::info!(topic = %***name, %error, "topic was not auto-created")
                }
            }
        }
        let mut images = shared.api.cluster.images();
        let led = |image: &Arc<ClusterImage>| {
            missing.iter().all(|name| {
                let topic = image.topics.get(name.as_str());
                topic.is_some_and(|t| t.partitions.iter().all(|p| p.leader.is_some()))
            })
        };
        drop(images.wait_for(led).await);
    };
    let _in_time: Option<()> = shared.env.timeout(wait, making).await;
}
