//! A queue group's settings in the admin API's JSON, and the words they are written in:
//! the same when they are shown as when they are set.
//!
//! Durations are milliseconds. Bounds are the queue machine's to check.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::queue::dead_letter_topic;
use crate::queues::{Backoff, Filter, GroupSettings, OnFull, Rate, Target};

/// The pause before another attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "pauses in ms such as [1000,3000], \"ladder\", or {\"initial\",\"max\",\"multiplier_percent\",\"jitter_percent\"}"
)]
pub enum BackoffView {
    /// Before the second, third, ... attempt; the last one repeats.
    List(Vec<u64>),
    /// Growing from one to the next.
    Exponential(ExponentialView),
    /// By name.
    Named(NamedBackoff),
}

/// A pause that grows; what is left out is the machine's default.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExponentialView {
    /// After the first attempt.
    pub initial: u64,
    /// The longest.
    pub max: u64,
    /// Growth from one to the next: 200 doubles.
    pub multiplier_percent: u16,
    /// Each is longer or shorter by up to this much.
    pub jitter_percent: u8,
}

/// Pauses that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedBackoff {
    /// RocketMQ's: 10 s, 30 s, 1 to 10 min, 20 min, 30 min, 1 h, 2 h.
    Ladder,
}

impl Default for ExponentialView {
    fn default() -> Self {
        match BackoffView::from(&Backoff::default()) {
            BackoffView::Exponential(view) => view,
            BackoffView::List(_) | BackoffView::Named(_) => Self {
                initial: 0,
                max: 0,
                multiplier_percent: 100,
                jitter_percent: 0,
            },
        }
    }
}

impl Default for BackoffView {
    fn default() -> Self {
        Self::from(&Backoff::default())
    }
}

impl From<&Backoff> for BackoffView {
    fn from(backoff: &Backoff) -> Self {
        match backoff {
            Backoff::List(steps) => Self::List(steps.iter().copied().map(millis).collect()),
            Backoff::Exponential {
                initial,
                max,
                multiplier_percent,
                jitter_percent,
            } => Self::Exponential(ExponentialView {
                initial: millis(*initial),
                max: millis(*max),
                multiplier_percent: *multiplier_percent,
                jitter_percent: *jitter_percent,
            }),
            Backoff::Ladder => Self::Named(NamedBackoff::Ladder),
        }
    }
}

impl From<&BackoffView> for Backoff {
    fn from(view: &BackoffView) -> Self {
        let duration = Duration::from_millis;
        match view {
            BackoffView::List(steps) => Self::List(steps.iter().copied().map(duration).collect()),
            BackoffView::Exponential(view) => Self::Exponential {
                initial: duration(view.initial),
                max: duration(view.max),
                multiplier_percent: view.multiplier_percent,
                jitter_percent: view.jitter_percent,
            },
            BackoffView::Named(NamedBackoff::Ladder) => Self::Ladder,
        }
    }
}

/// A group's settings on one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSettingsView {
    /// Deliveries of one message before it is dead-lettered.
    pub attempts: u16,
    /// The pause before another one.
    pub backoff: BackoffView,
    /// Whether messages of one message group are delivered one after the other.
    pub fifo: bool,
    /// Lease of a receive that names none.
    pub lease: u64,
    /// Which messages it wants: `tags: a || b` or `sql: ...`; none: all.
    pub filter: Option<String>,
    /// Deliveries a second of all partitions of the topic together. None: no such limit.
    pub rate: Option<u32>,
    /// The same of each partition by itself, as groups of earlier versions had it.
    pub partition_rate: Option<u32>,
    /// Messages delivered and not settled; this partition's share. None: no limit.
    pub concurrency: Option<u32>,
    /// The same of one message group or key.
    pub key_concurrency: Option<u32>,
    /// Where messages go that failed too often: `topic` or `topic:partition`.
    pub dead_letter: String,
    /// The group's own limit of messages that wait, a partition; none: the topic's.
    pub capacity: Option<u64>,
    /// What happens to more: `reject`, `drop-oldest` or `redirect:topic:partition`; none
    /// without a limit of its own.
    pub on_full: Option<String>,
    /// The broadcast that it subscribes to; none: a group that competes.
    pub broadcast: Option<String>,
    /// Whether an older version of a key is left out once a newer one was delivered.
    pub versioned: bool,
    /// Forgotten after so long without a receive; none: never.
    pub expires: Option<u64>,
}

impl QueueSettingsView {
    /// What is set for `group`.
    #[must_use]
    pub fn of(group: &str, settings: &GroupSettings) -> Self {
        let capacity = settings.capacity.as_ref();
        Self {
            attempts: settings.attempts_max,
            backoff: (&settings.backoff).into(),
            fifo: settings.fifo,
            lease: millis(settings.invisible),
            filter: match &settings.filter {
                Filter::All => None,
                Filter::Tags(tags) => Some(format!("tags: {tags}")),
                Filter::Sql(sql) => Some(format!("sql: {sql}")),
            },
            rate: match settings.pacing.rate {
                Rate::Topic(rate) => Some(rate),
                Rate::Partition(_) | Rate::Unlimited => None,
            },
            partition_rate: match settings.pacing.rate {
                Rate::Partition(rate) => Some(rate),
                Rate::Topic(_) | Rate::Unlimited => None,
            },
            concurrency: settings.pacing.concurrency,
            key_concurrency: settings.pacing.key_concurrency,
            dead_letter: settings
                .dead_letter
                .as_ref()
                .map_or_else(|| dead_letter_topic(group), show_target),
            capacity: capacity.map(|own| own.messages_max),
            on_full: capacity.map(|own| show_on_full(&own.on_full)),
            broadcast: settings.broadcast.as_deref().map(str::to_owned),
            versioned: settings.versioned,
            expires: settings.expiry().map(millis),
        }
    }
}

/// Reads `topic` (its partition 0) or `topic:partition`; none if it is neither.
#[must_use]
pub fn parse_target(text: &str) -> Option<Target> {
    let (topic, partition) = match text.split_once(':') {
        Some((topic, partition)) => (topic, partition.parse().ok()?),
        None => (text, 0),
    };
    (!topic.is_empty()).then(|| Target {
        topic: topic.into(),
        partition,
    })
}

/// The same, written.
#[must_use]
pub fn show_target(target: &Target) -> String {
    match target.partition {
        0 => target.topic.to_string(),
        partition => format!("{}:{partition}", target.topic),
    }
}

/// Reads what a full queue does: `reject`, `drop-oldest` or `redirect:topic:partition`, or
/// RabbitMQ's words `reject-publish` and `drop-head`; none if it is none of them.
#[must_use]
pub fn parse_on_full(text: &str) -> Option<OnFull> {
    match text {
        "reject" | "reject-publish" => Some(OnFull::Reject),
        "drop-oldest" | "drop-head" => Some(OnFull::DropOldest),
        text => parse_target(text.strip_prefix("redirect:")?).map(OnFull::Redirect),
    }
}

/// The same, written.
#[must_use]
pub fn show_on_full(on_full: &OnFull) -> String {
    match on_full {
        OnFull::Reject => "reject".to_owned(),
        OnFull::DropOldest => "drop-oldest".to_owned(),
        OnFull::Redirect(target) => format!("redirect:{}", show_target(target)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_set() {
        for text in ["reject", "drop-oldest", "redirect:more", "redirect:more:3"] {
            assert_eq!(show_on_full(&parse_on_full(text).unwrap()), text);
        }
        for bad in ["", "drop", "redirect:", "redirect", "redirect:more:x"] {
            assert_eq!(parse_on_full(bad), None, "{bad}");
        }
        for json in [
            "[1000,3000]",
            "\"ladder\"",
            r#"{"initial":1000,"max":60000,"multiplier_percent":150,"jitter_percent":0}"#,
        ] {
            let view: BackoffView = serde_json::from_str(json).unwrap();
            assert_eq!(BackoffView::from(&Backoff::from(&view)), view);
            assert_eq!(serde_json::to_string(&view).unwrap(), json);
        }
        let bad = serde_json::from_str::<BackoffView>("\"slow\"").unwrap_err();
        assert!(bad.to_string().contains("\"ladder\""), "{bad}");
    }
}
