//! The configs of a topic: every key that Kafka's tools expect, and Weir's own.
//!
//! Owns the table of keys with type, default, bounds and one line of documentation,
//! and what follows from it: the durability and the min ISR of a partition. The value
//! in force is the topic's, else the cluster's (under the broker's name of the key),
//! else the default. Called by `apply`, the controller, the broker and the fronts.

use std::collections::BTreeMap;

use weir_base::image::{
    ClusterImage, Durability, FlushMode, PartitionRecord, ReplicationMode, TopicRecord,
};

mod table;

pub use table::{CLUSTER_OPTIONS, TOPIC_OPTIONS};

/// Type of a value, with Kafka's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
#[expect(missing_docs, reason = "the names are Kafka's")]
pub enum Kind {
    Bool = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What values are legal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both inclusive.
    Whole(i64, i64),
    /// A decimal number within bounds, both inclusive.
    Decimal(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A comma-separated list of these words, not empty.
    ListOf(&'static [&'static str]),
    /// Anything.
    Any,
    /// Only this value: the feature behind it does not exist here.
    Fixed(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigOption {
    /// Its name.
    pub key: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The value where nothing is set.
    pub default: &'static str,
    /// What is legal.
    pub rule: Rule,
    /// The cluster-wide key that changes the default, if there is one.
    pub cluster_key: Option<&'static str>,
    /// One line.
    pub documentation: &'static str,
}

impl ConfigOption {
    /// Checks a value.
    ///
    /// # Errors
    /// A sentence for the person who set it, naming the key, the value and the bounds.
    pub fn validate(&self, value: &str) -> Result<(), String> {
        let key = self.key;
        let refuse = |wanted: String| Err(format!("{key}={value}: {wanted}"));
        match self.rule {
            Rule::Any => Ok(()),
            Rule::Bool => match value {
                "true" | "false" => Ok(()),
                _ => refuse("must be true or false".to_owned()),
            },
            Rule::Whole(min, max) => match value.trim().parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(_) | Err(_) => refuse(format!("must be a whole number in {min}..={max}")),
            },
            Rule::Decimal(min, max) => match value.trim().parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(_) | Err(_) => refuse(format!("must be a number in {min}..={max}")),
            },
            Rule::OneOf(words) if words.contains(&value) => Ok(()),
            Rule::OneOf(words) => refuse(format!("must be one of {}", words.join(", "))),
            Rule::ListOf(words) => {
                if value.split(',').all(|word| words.contains(&word.trim())) {
                    Ok(())
                } else {
                    refuse(format!("must be a list of {}", words.join(", ")))
                }
            }
            Rule::Fixed(only) if value == only => Ok(()),
            Rule::Fixed(only) => refuse(format!("not supported here, only {only} is")),
        }
    }
}

/// A topic option by key.
#[must_use]
pub fn topic_option(key: &str) -> Option<&'static ConfigOption> {
    TOPIC_OPTIONS.iter().find(|option| option.key == key)
}

/// A cluster option by key.
#[must_use]
pub fn cluster_option(key: &str) -> Option<&'static ConfigOption> {
    CLUSTER_OPTIONS.iter().find(|option| option.key == key)
}

/// Checks what is set for a topic.
///
/// # Errors
/// What is wrong with the first bad key or value.
pub fn validate_topic(configs: &BTreeMap<String, String>) -> Result<(), String> {
    configs
        .iter()
        .try_for_each(|(key, value)| match topic_option(key) {
            Some(option) => option.validate(value),
            None => Err(format!("unknown topic config '{key}'")),
        })?;
    let elsewhere = configs
        .get("weir.queue.redirect")
        .map_or("", String::as_str);
    if !elsewhere.is_empty() && !weir_base::ids::is_topic_name(elsewhere) {
        return Err(format!(
            "weir.queue.redirect={elsewhere}: must be a topic's name"
        ));
    }
    let is_redirect = configs
        .get("weir.queue.on.full")
        .is_some_and(|word| word == "redirect");
    if is_redirect && elsewhere.is_empty() {
        return Err("weir.queue.on.full=redirect: set weir.queue.redirect as well".to_owned());
    }
    Ok(())
}

/// Checks what is set for the cluster.
///
/// # Errors
/// What is wrong with the first bad key or value.
pub fn validate_cluster(configs: &BTreeMap<String, String>) -> Result<(), String> {
    configs
        .iter()
        .try_for_each(|(key, value)| match cluster_option(key) {
            Some(option) => option.validate(value),
            None => Err(format!("unknown cluster config '{key}'")),
        })
}

/// The value in force of a topic's option.
#[must_use]
pub fn value<'a>(
    option: &'static ConfigOption,
    cluster: &'a BTreeMap<String, String>,
    topic: &'a BTreeMap<String, String>,
) -> &'a str {
    topic
        .get(option.key)
        .or_else(|| option.cluster_key.and_then(|key| cluster.get(key)))
        .map_or(option.default, String::as_str)
}

/// The value in force of a cluster option; `None` for an unknown key.
#[must_use]
pub fn cluster_value<'a>(image: &'a ClusterImage, key: &str) -> Option<&'a str> {
    let option = cluster_option(key)?;
    Some(
        image
            .configs
            .get(key)
            .map_or(option.default, String::as_str),
    )
}

/// The value of a cluster option that is a whole number, in bounds by validation.
pub(crate) fn cluster_number(image: &ClusterImage, key: &str) -> u32 {
    cluster_value(image, key)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1)
}

/// A topic's options in force, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// `cleanup.policy` has `delete`.
    pub cleanup_delete: bool,
    /// `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// `retention.ms`; `None` for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes` of each partition; `None` without bound.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `max.message.bytes`: the largest record batch.
    pub max_message_bytes: u32,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: u64,
    /// `delete.retention.ms` of tombstones.
    pub delete_retention_ms: u64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: u64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: u64,
    /// `compression.type`; `producer` keeps what the producer chose.
    pub compression: String,
    /// `weir.flush` and `weir.replication`, as asked for (a partition's record says
    /// what is in force).
    pub durability: Durability,
    /// `min.insync.replicas`, not yet capped to a partition's replicas.
    pub min_isr: u32,
}

/// A topic's options in force.
#[must_use]
pub fn settings(image: &ClusterImage, topic: &TopicRecord) -> TopicSettings {
    let text = |key: &str| {
        topic_option(key).map_or("", |option| value(option, &image.configs, &topic.configs))
    };
    // Values were validated when they were set, so a parse can only fail for -1 in an
    // unsigned type, which means "no bound".
    let bound = |key: &str| text(key).trim().parse::<u64>().ok();
    let policy = text("cleanup.policy");
    TopicSettings {
        cleanup_delete: policy.contains("delete"),
        cleanup_compact: policy.contains("compact"),
        retention_ms: bound("retention.ms"),
        retention_bytes: bound("retention.bytes"),
        segment_bytes: bound("segment.bytes").unwrap_or(u64::MAX),
        segment_ms: bound("segment.ms").unwrap_or(u64::MAX),
        max_message_bytes: text("max.message.bytes")
            .trim()
            .parse()
            .unwrap_or(weir_base::limits::BATCH_BYTES_MAX_DEFAULT),
        log_append_time: text("message.timestamp.type") == "LogAppendTime",
        timestamp_before_max_ms: bound("message.timestamp.before.max.ms").unwrap_or(u64::MAX),
        timestamp_after_max_ms: bound("message.timestamp.after.max.ms").unwrap_or(u64::MAX),
        delete_retention_ms: bound("delete.retention.ms").unwrap_or(u64::MAX),
        min_compaction_lag_ms: bound("min.compaction.lag.ms").unwrap_or(0),
        file_delete_delay_ms: bound("file.delete.delay.ms").unwrap_or(0),
        compression: text("compression.type").to_owned(),
        durability: durability(&image.configs, topic.internal, &topic.configs),
        min_isr: min_isr(&image.configs, topic.internal, &topic.configs),
    }
}

/// The durability that configs ask for. Internal topics are always sync and sync.
#[must_use]
pub fn durability(
    cluster: &BTreeMap<String, String>,
    internal: bool,
    topic: &BTreeMap<String, String>,
) -> Durability {
    if internal {
        return Durability::default();
    }
    let is = |key: &str, word: &str| {
        topic_option(key).is_some_and(|option| value(option, cluster, topic) == word)
    };
    // Kafka's way to say it: a flush after every message. Weir's own key wins.
    let flushes_each = topic
        .get("flush.messages")
        .is_some_and(|count| count.trim() == "1");
    let flush_set = topic.contains_key("weir.flush");
    let flush = if is("weir.flush", "sync") || (!flush_set && flushes_each) {
        FlushMode::Sync
    } else {
        FlushMode::Async
    };
    let replication = if is("weir.replication", "sync") {
        ReplicationMode::Sync
    } else {
        ReplicationMode::Async
    };
    Durability { flush, replication }
}

/// The min ISR that configs ask for, before it is capped to a partition's replicas.
/// With async replication it is 1 unless the topic itself says otherwise.
#[must_use]
pub fn min_isr(
    cluster: &BTreeMap<String, String>,
    internal: bool,
    topic: &BTreeMap<String, String>,
) -> u32 {
    let is_async = durability(cluster, internal, topic).replication == ReplicationMode::Async;
    let own = topic.get("min.insync.replicas").map(String::as_str);
    let asked = match (own, is_async) {
        (Some(own), _) => Some(own),
        (None, true) => return 1,
        (None, false) => topic_option("min.insync.replicas").map(|o| value(o, cluster, topic)),
    };
    asked
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1)
        .max(1)
}

/// What a queue does that is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnFullPolicy {
    /// Producers are refused.
    Reject,
    /// The oldest messages are dropped.
    DropOldest,
    /// New messages go to the partition of the same number of this topic.
    Redirect(String),
}

/// How many messages may wait for a queue group without a limit of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimit {
    /// On each partition.
    pub messages_max: u64,
    /// What happens to more.
    pub policy: OnFullPolicy,
}

/// The limit of a topic's queues, if there is one.
#[must_use]
pub fn queue_limit(image: &ClusterImage, topic: &TopicRecord) -> Option<QueueLimit> {
    let text = |key: &str| {
        topic_option(key).map_or("", |option| value(option, &image.configs, &topic.configs))
    };
    // -1 is "no limit".
    let messages_max = text("weir.queue.capacity").trim().parse::<u64>().ok()?;
    let elsewhere = text("weir.queue.redirect");
    let policy = match text("weir.queue.on.full") {
        "drop-oldest" => OnFullPolicy::DropOldest,
        "redirect" if !elsewhere.is_empty() => OnFullPolicy::Redirect(elsewhere.to_owned()),
        _ => OnFullPolicy::Reject,
    };
    Some(QueueLimit {
        messages_max,
        policy,
    })
}

/// The largest record batch that a topic takes from clients.
#[must_use]
pub fn batch_bytes_max(image: &ClusterImage, topic: &TopicRecord) -> usize {
    let told = topic_option("max.message.bytes")
        .map(|option| value(option, &image.configs, &topic.configs))
        .and_then(|text| text.trim().parse().ok());
    told.unwrap_or(weir_base::limits::BATCH_BYTES_MAX_DEFAULT as usize)
}

/// Caps a min ISR to the replicas that a partition has, or will have after its move.
#[must_use]
pub fn capped_min_isr(asked: u32, record: &PartitionRecord) -> u32 {
    let now = record.replicas.len() - record.adding.len().min(record.replicas.len());
    let then = record.replicas.len() - record.removing.len().min(record.replicas.len());
    asked.clamp(1, u32::try_from(now.min(then).max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
