//! Single messages: where they stand, how they are found, and what happened to them.

use serde::{Deserialize, Serialize};

/// A line of `GET /v1/queues/{topic}/trace/{partition}/{offset}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingView {
    /// The group.
    pub group: String,
    /// `not-reached`, `final`, `ready`, `queued`, `delayed`, `in-flight` or `retrying`.
    pub standing: String,
    /// Attempts that ended, oldest first: cause and time.
    pub ended: Vec<(String, i64)>,
    /// Who has it, if it is in flight.
    pub member: Option<String>,
    /// When its lease ends, or it is delivered again.
    pub until: Option<i64>,
}

/// `GET /v1/queues/{topic}/find?`: messages of partitions that the answering node leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMessages {
    /// At most about 1,000.
    pub messages: Vec<FoundMessage>,
    /// Whether there may be more among what was looked through.
    pub more: bool,
    /// What was.
    pub looked_through: Vec<LookedThrough>,
}

/// Offsets of a partition that were looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedThrough {
    /// The partition.
    pub partition: u32,
    /// First retained offset.
    pub start: u64,
    /// The first that was looked at; what is before it is asked for with `before`.
    pub from: u64,
    /// All below it were.
    pub end: u64,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FoundMessage {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// When it was stored.
    pub at: i64,
    /// Its id.
    pub id: String,
    /// Its keys, message group first.
    pub keys: Vec<String>,
    /// The dead letter that it was before it was replayed, `topic-partition-offset`.
    pub replayed_from: Option<String>,
    /// The message that it was before it died, if it is a dead letter.
    #[serde(default)]
    pub origin: Option<String>,
}

/// `GET /v1/queues/{topic}/kept?name=`: delayed, half and undeliverable messages of an id or
/// key, on partitions that the answering node leads, as far back as compaction left them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessages {
    /// At most 100 a partition.
    pub messages: Vec<KeptMessage>,
    /// Whether there are more.
    pub more: bool,
}

/// A message that the journal keeps or kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    /// Its partition.
    pub partition: u32,
    /// Names it on its partition.
    pub number: u64,
    /// What befell it.
    pub story: Vec<StoryLine>,
}

/// A line of `GET /v1/queues/{topic}/story/{partition}/{offset}`: what the journal tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    /// When.
    pub at: i64,
    /// What happened, for people.
    pub what: String,
    /// Until when it waits from then on, if it does.
    #[serde(default)]
    pub until: Option<i64>,
    /// Where it, or its copy, goes: `topic-partition`.
    #[serde(default)]
    pub to: Option<String>,
}

/// A line of `GET /v1/queues/{topic}/records/{partition}/{offset}`, and of
/// `GET /v1/dlq/{topic}/letters/{partition}/{offset}`, which leaves out what was moved back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// Where it is.
    pub offset: u64,
    /// When it was stored.
    pub at: i64,
    /// Its key, as text as far as it is.
    pub key: Option<String>,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// Bytes of its value.
    pub bytes: u64,
    /// The first of them, as text as far as they are.
    pub value: String,
}
