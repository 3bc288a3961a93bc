//! What handlers ask of the image about topics.

use std::sync::Arc;

use weir_api::NotLeader;
use weir_api::image::{ClusterImage, TopicRecord};
use weir_base::limits::BATCH_BYTES_MAX_DEFAULT;
use weir_base::{NodeId, TopicId, TopicPartition};

use crate::codec::fetch::{LeaderEndpoint, TopicKey};
use crate::context::{broker_id, endpoint_of};

/// A partition by topic name, if it exists.
pub(super) fn named(image: &ClusterImage, topic: &str, index: i32) -> Option<TopicPartition> {
    partition(image.topics.get(topic)?, index)
}

/// A partition of a topic, if it exists.
pub(super) fn partition(topic: &TopicRecord, index: i32) -> Option<TopicPartition> {
    let index = u32::try_from(index).ok()?;
    let exists = usize::try_from(index).ok()? < topic.partitions.len();
    exists.then(|| TopicPartition::new(topic.id, index))
}

/// A topic as a request names it.
pub(super) fn by_key<'a>(image: &'a ClusterImage, key: &TopicKey) -> Option<&'a Arc<TopicRecord>> {
    match key {
        TopicKey::Name(name) => image.topics.get(name.as_str()),
        TopicKey::Id(id) => image.topic(*id),
    }
}

/// A topic id from the wire; zero means "by name".
pub(super) fn topic_id(id: uuid::Uuid) -> Option<TopicId> {
    let id = weir_base::Uuid(*id.as_bytes());
    (!id.is_zero()).then_some(id)
}

/// A topic id for the wire.
pub(super) fn wire_id(id: TopicId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id.0)
}

/// Who leads instead, for the response's leader tag: node and epoch.
pub(super) fn leader_hint(elsewhere: &NotLeader) -> (i32, i32) {
    let leader = elsewhere.leader.map_or(-1, broker_id);
    (leader, elsewhere.epoch.to_wire())
}

/// Adds where clients reach `node`, once.
pub(super) fn add_endpoint(
    endpoints: &mut Vec<LeaderEndpoint>,
    image: &ClusterImage,
    node: Option<NodeId>,
) {
    let Some((node, endpoint)) = node.and_then(|node| Some((node, endpoint_of(image, node)?)))
    else {
        return;
    };
    let node = broker_id(node);
    if endpoints.iter().all(|known| known.node != node) {
        endpoints.push(LeaderEndpoint {
            node,
            host: endpoint.host.clone(),
            port: endpoint.port,
        });
    }
}

/// What a topic demands of the batches written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteRules {
    pub(super) batch_bytes_max: usize,
    pub(super) log_append_time: bool,
    pub(super) compacted: bool,
    /// How far a timestamp may lie behind and ahead of the broker's clock, milliseconds.
    pub(super) behind_max: i64,
    pub(super) ahead_max: i64,
}

impl WriteRules {
    const DEFAULT: WriteRules = WriteRules {
        batch_bytes_max: BATCH_BYTES_MAX_DEFAULT as usize,
        log_append_time: false,
        compacted: false,
        behind_max: i64::MAX,
        ahead_max: 60 * 60 * 1000,
    };

    /// The topic's settings over the cluster's over the defaults.
    pub(super) fn of(image: &ClusterImage, topic: &TopicRecord) -> WriteRules {
        if topic.configs.is_empty() && image.configs.is_empty() {
            return Self::DEFAULT;
        }
        let get = |key: &str, cluster_key: &str| {
            let of_topic = topic.configs.get(key);
            of_topic.or_else(|| image.configs.get(cluster_key))
        };
        let number = |key: &str, default: i64| -> i64 {
            let value = get(key, &format!("log.{key}"));
            value.and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        let bytes = get("max.message.bytes", "message.max.bytes");
        let kind = get("message.timestamp.type", "log.message.timestamp.type");
        let policy = get("cleanup.policy", "log.cleanup.policy");
        WriteRules {
            batch_bytes_max: bytes
                .and_then(|v| v.parse().ok())
                .unwrap_or(Self::DEFAULT.batch_bytes_max),
            log_append_time: kind.is_some_and(|v| v == "LogAppendTime"),
            compacted: policy.is_some_and(|v| v.split(',').any(|p| p.trim() == "compact")),
            behind_max: number("message.timestamp.before.max.ms", Self::DEFAULT.behind_max),
            ahead_max: number("message.timestamp.after.max.ms", Self::DEFAULT.ahead_max),
        }
    }
}
