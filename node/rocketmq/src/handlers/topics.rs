//! Topics as RocketMQ sees them: found or made, with the message types they take.

use std::sync::Arc;
use std::time::Duration;

use weir_api::image::{ClusterImage, TopicRecord};
use weir_api::{AdminError, NewTopic};
use weir_base::limits::BATCH_BYTES_MAX_DEFAULT;

use crate::context::Shared;
use crate::errors::{self, Refusal};
use crate::proto::{Code, MessageType};

/// The config that says which message types a topic takes.
pub(super) const MESSAGE_TYPE: &str = "weir.message.type";
/// The config that says over how many partitions message groups are spread.
const GROUP_PARTITIONS: &str = "weir.message.group.partitions";
/// The configs that say what of a message may be there once only, and for how long.
const DEDUP: &str = "weir.dedup";
const DEDUP_WINDOW: &str = "weir.dedup.window.ms";
/// The config that says how large a batch, and so a message, may be.
const BATCH_BYTES_MAX: &str = "max.message.bytes";
/// More than everything beside the body of a message takes.
const BATCH_ROOM: usize = 64 * 1024;
/// What a topic takes that nobody restricted.
const MIXED: [MessageType; 4] = [
    MessageType::Normal,
    MessageType::Fifo,
    MessageType::Delay,
    MessageType::Transaction,
];

/// The topic `name`; internal ones do not exist for clients.
pub(super) fn find<'a>(image: &'a ClusterImage, name: &str) -> Option<&'a Arc<TopicRecord>> {
    image.topics.get(name).filter(|topic| !topic.internal)
}

/// The refusal for a topic that does not exist.
pub(super) fn not_found(name: &str) -> Refusal {
    Refusal::new(
        Code::TopicNotFound,
        format!("topic '{name}' does not exist: make it with `weir topic create {name}`"),
    )
}

/// The topic `name` once it is in this node's image: a client may have it from another
/// node, which heard of it earlier.
pub(super) async fn find_within(
    shared: &Shared,
    name: &str,
    wait: Duration,
) -> Result<Arc<TopicRecord>, Refusal> {
    let mut images = shared.api.cluster.images();
    let known = async {
        let known = images.wait_for(|image| find(image, name).is_some()).await;
        known.map(|image| find(&image, name).cloned())
    };
    match shared.env.timeout(wait, known).await {
        Some(Ok(Some(topic))) => Ok(topic),
        Some(Ok(None) | Err(_)) | None => Err(not_found(name)),
    }
}

/// The message types that a topic takes.
pub(super) fn accepted(topic: &TopicRecord) -> &'static [MessageType] {
    match topic.configs.get(MESSAGE_TYPE).map(String::as_str) {
        Some("normal") => &MIXED[0..1],
        Some("fifo") => &MIXED[1..2],
        Some("delay") => &MIXED[2..3],
        Some("transaction") => &MIXED[3..4],
        Some(_) | None => &MIXED,
    }
}

/// What of a message may be there once only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once {
    /// Its id.
    Id,
    /// The first of its keys, if it has any.
    Key,
}

/// What of a topic's messages may be there once only, and for how long if the topic says.
pub(super) fn once(topic: &TopicRecord) -> Option<(Once, Option<Duration>)> {
    let once = match topic.configs.get(DEDUP).map(String::as_str) {
        Some("id") => Once::Id,
        Some("key") => Once::Key,
        Some(_) | None => return None,
    };
    let window = topic.configs.get(DEDUP_WINDOW);
    let window = window.and_then(|millis| millis.trim().parse().ok());
    Some((once, window.map(Duration::from_millis)))
}

/// Over how many of the first partitions message groups are spread: over those that there
/// were before any were added.
pub(super) fn group_partitions(topic: &TopicRecord) -> u32 {
    let all = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let told = topic.configs.get(GROUP_PARTITIONS);
    let told = told.and_then(|told| told.trim().parse().ok());
    told.filter(|told| *told > 0)
        .map_or(all, |told: u32| told.min(all))
}

/// The largest batch that a topic takes.
pub(super) fn batch_bytes_max(topic: &TopicRecord) -> usize {
    let told = topic.configs.get(BATCH_BYTES_MAX);
    let told = told.and_then(|told| told.parse().ok());
    told.unwrap_or_else(|| usize::try_from(BATCH_BYTES_MAX_DEFAULT).unwrap_or(usize::MAX))
}

/// The image once it has the topic `name` with leaders, which is made if that is allowed.
/// What is not led in time is told as it is.
pub(super) async fn find_or_make(
    shared: &Shared,
    name: &str,
) -> Result<Arc<ClusterImage>, Refusal> {
    let image = shared.image();
    if image.topics.contains_key(name) || !shared.options.auto_create_topics {
        return Ok(image);
    }
    let wait = shared.options.topic_wait;
    let batch_max = shared.options.body_bytes_max + BATCH_ROOM;
    let topic = NewTopic {
        name: name.to_owned(),
        configs: [(BATCH_BYTES_MAX.to_owned(), batch_max.to_string())].into(),
        ..NewTopic::default()
    };
    match shared.api.admin.create_topic(topic, false, wait).await {
        Ok(_) | Err(AdminError::TopicExists(_)) => {}
        Err(error) => return Err(errors::admin(&error)),
    }
    let mut images = shared.api.cluster.images();
    let led = |image: &Arc<ClusterImage>| {
        let topic = image.topics.get(name);
        topic.is_some_and(|t| t.partitions.iter().all(|p| p.leader.is_some()))
    };
    let led = async { images.wait_for(led).await.map(|image| Arc::clone(&image)) };
    match shared.env.timeout(wait, led).await {
        Some(Ok(image)) => Ok(image),
        Some(Err(_)) | None => Ok(shared.image()),
    }
}
