//! What a queue keeps beside the log: delayed, half and undeliverable messages.

use serde::{Deserialize, Serialize};

/// A line of `GET /v1/queues/{topic}/undeliverable`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UndeliverableLine {
    /// Its partition.
    pub partition: u32,
    /// Names it on its partition.
    pub number: u64,
    /// When it was set aside.
    pub at: i64,
    /// Where it was to go: a topic and a partition.
    pub to: String,
    /// Why it was refused.
    pub reason: String,
    /// Its message id; empty if it has none.
    pub id: String,
}

/// `POST /v1/queues/{topic}/undeliverable/{partition}`: sends messages on, at most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendOn {
    /// Which; none: all of the partition.
    #[serde(default)]
    pub numbers: Vec<u64>,
    /// To partition 0 of this topic; none: where they were to go.
    #[serde(default)]
    pub to: Option<String>,
}

/// A line of `GET /v1/queues/{topic}/delayed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DelayedLine {
    /// When it is due.
    pub deliver_at: i64,
    /// Its partition.
    pub partition: u32,
    /// Names it, to cancel it.
    pub handle: String,
    /// Its message id; empty if it has none.
    pub id: String,
}

/// A line of `GET /v1/queues/{topic}/halves`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HalfView {
    /// When it was prepared.
    pub prepared_at: i64,
    /// Its partition.
    pub partition: u32,
    /// Names it, to decide on it.
    pub handle: String,
    /// Its message id; empty if it has none.
    pub id: String,
    /// The group of producers that can be asked.
    pub producers: String,
    /// How often it was asked about.
    pub checks: u32,
    /// Whether it is asked about no more.
    pub parked: bool,
}

/// `POST /v1/queues/{topic}/halves/{handle}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideHalf {
    /// Whether it is committed; else rolled back.
    pub commit: bool,
}
