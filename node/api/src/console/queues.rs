//! Queue groups: how they stand, and how they are set, moved and deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::settings::{BackoffView, QueueSettingsView};

/// A line of `GET /v1/queues`: one group on one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueLine {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The group.
    pub group: String,
    /// All messages below are final for it, in blocks of 128.
    pub cursor: u64,
    /// End of the partition.
    pub end: u64,
    /// Messages that are not final.
    pub lag: u64,
    /// Read ahead and not delivered.
    pub ready: u64,
    /// Delivered and not settled.
    pub in_flight: u64,
    /// Waiting for a retry.
    pub retrying: u64,
    /// Receives that wait.
    pub waiting: u64,
    /// Acknowledged so far.
    pub acked: u64,
    /// Moved to the dead letters so far.
    pub dead_lettered: u64,
    /// The node that leads it.
    pub node: u32,
    /// When the oldest message that is not final was stored; none if there is none.
    #[serde(default)]
    pub oldest: Option<i64>,
    /// How many messages may wait: the group's own limit or the topic's; none: no limit.
    #[serde(default)]
    pub capacity: Option<u64>,
    /// What happens to more: `reject`, `drop-oldest` or `redirect`.
    #[serde(default)]
    pub on_full: String,
    /// What is set for it.
    #[serde(default)]
    pub settings: QueueSettingsView,
    /// When it is forgotten, should nobody ask for messages until then; none: never.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

/// A line of `GET /v1/queues-watch`: what one partition's queues keep beside their groups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueStoreLine {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Delayed messages that are not due.
    pub delayed: u64,
    /// Half messages that nobody decided on.
    pub halves: u64,
    /// Of them, those that are asked about no more: an operator must decide.
    pub halves_parked: u64,
    /// Messages on their way elsewhere.
    pub outgoing: u64,
    /// Messages that were refused elsewhere: an operator must send them on.
    pub undeliverable: u64,
    /// What became of all delayed messages so far.
    #[serde(default)]
    pub delays: DelaysView,
}

/// All delayed messages that one partition was ever given: those that wait and those of
/// `releasing` are the rest of `kept`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DelaysView {
    /// Kept until their time.
    pub kept: u64,
    /// Of them, in the log by now.
    pub released: u64,
    /// Of them, taken back.
    pub cancelled: u64,
    /// Of them, due and not known to be in the log.
    pub releasing: u64,
}

/// `PATCH /v1/queues/{topic}/groups/{group}`: what is left out stays, or is the default of
/// a group that this makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlterQueueGroup {
    /// Deliveries of one message before it is dead-lettered.
    pub attempts: Option<u16>,
    /// The pause before another one.
    pub backoff: Option<BackoffView>,
    /// Whether messages of one message group are delivered one after the other.
    pub fifo: Option<bool>,
    /// Lease of a receive that names none, ms.
    pub lease: Option<u64>,
    /// Deliveries a second, of all partitions together; 0: as fast as it asks.
    pub rate: Option<u32>,
    /// Messages delivered and not settled, of all partitions together; 0: no limit.
    pub concurrency: Option<u32>,
    /// The same of one message group or key; 0: no limit.
    pub key_concurrency: Option<u32>,
    /// Where messages go that failed too often: `topic` or `topic:partition`; empty:
    /// `dlq.<group>`.
    pub dead_letter: Option<String>,
    /// How many messages may wait for it on each partition; 0: as many as for the topic.
    pub capacity: Option<u64>,
    /// What happens to more: `reject`, `drop-oldest` or `redirect:topic:partition`.
    pub on_full: Option<String>,
    /// The broadcast that it subscribes to; empty: it competes.
    pub broadcast: Option<String>,
    /// Whether an older version of a key is left out once a newer one was delivered.
    pub versioned: Option<bool>,
    /// Forgotten after so long without a receive, ms; 0: 24 h for a subscriber of a
    /// broadcast, else never.
    pub expires: Option<u64>,
    /// Whether a group that this makes begins at the start of the topic; else at its end.
    pub from_start: bool,
}

/// The answer: on how many partitions, those that the node leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlteredQueueGroup {
    /// How many.
    pub partitions: usize,
}

/// `POST /v1/queues/{topic}/groups/{group}/seek`: moves the group on partitions that the
/// answering node leads; others are left to theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeekQueueGroup {
    /// By partition: the next offset to be delivered, within what the log holds.
    pub offsets: BTreeMap<u32, u64>,
    /// Only check.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a change of a group on one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueStep {
    /// The partition.
    pub partition: u32,
    /// `done`, `checked` (a dry run), `absent` (the group is not there) or `failed`.
    pub outcome: String,
    /// For a seek: where the group was.
    pub from: Option<u64>,
    /// ... and is to be.
    pub to: Option<u64>,
    /// Messages from there to the end.
    pub lag: Option<u64>,
    /// Why it failed, for people; else empty.
    pub why: String,
}
