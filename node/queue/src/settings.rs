//! What can be set about one group: it lives in the journal, as a record.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_base::ids::{TopicName, is_topic_name};

use crate::error::SettingsError;
use crate::filter::Filter;

/// Longest group name, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 255;
/// Most attempts a group may ask for.
pub const ATTEMPTS_MAX: u16 = 10_000;
/// Shortest lease, and shortest a lease may be changed to.
pub const INVISIBLE_MIN: Duration = Duration::from_secs(1);
/// Longest lease.
pub const INVISIBLE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Most steps of a backoff list.
pub const BACKOFF_STEPS_MAX: usize = 64;
/// Longest pause before a retry.
pub const BACKOFF_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a subscriber of a broadcast is kept that asks for nothing, unless it says.
pub const BROADCAST_EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// A partition that messages can be moved to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// By name: a dead-letter topic is made when it is first written to.
    pub topic: TopicName,
    /// Partition of it.
    pub partition: u32,
}

/// Settings of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupSettings {
    /// Deliveries of one message before it is dead-lettered (default 16; 1 to 10,000).
    pub attempts_max: u16,
    /// Pause before a message is delivered again (default exponential, 1 s to 2 h).
    pub backoff: Backoff,
    /// Whether messages of one message group are delivered one after the other (default no).
    pub fifo: bool,
    /// Lease of a receive that names none (default 30 s; 1 s to 12 h).
    pub invisible: Duration,
    /// Which messages the group wants; the others are final for it (default all).
    pub filter: Filter,
    /// How fast it is served (default as fast as it asks).
    pub pacing: Pacing,
    /// Where messages go that failed too often; `None`: partition 0 of `dlq.<group>`.
    pub dead_letter: Option<Target>,
    /// How many messages may wait for it (default as many as the log holds).
    pub capacity: Option<Capacity>,
    /// Forgotten after so long without a receive; see [`GroupSettings::expiry`] for `None`.
    pub expires_after: Option<Duration>,
    /// The broadcast that it subscribes to, of which every subscriber is a group of its own:
    /// it is listed with the others, and does expire. `None`: a group that competes.
    pub broadcast: Option<Arc<str>>,
    /// Whether a message with an older `weir.version` of a key is left out once a newer one
    /// was delivered (default no).
    pub versioned: bool,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            attempts_max: 16,
            backoff: Backoff::default(),
            fifo: false,
            invisible: Duration::from_secs(30),
            filter: Filter::default(),
            pacing: Pacing::default(),
            dead_letter: None,
            capacity: None,
            expires_after: None,
            broadcast: None,
            versioned: false,
        }
    }
}

/// The pause after an ended attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// One pause an attempt; the last one repeats. At least one, at most 64.
    List(Vec<Duration>),
    /// `initial`, then `multiplier_percent` of the one before, at most `max`.
    Exponential {
        /// After the first attempt.
        initial: Duration,
        /// The longest.
        max: Duration,
        /// Growth from one to the next: 200 doubles; 100 to 1,000.
        multiplier_percent: u16,
        /// Each is longer or shorter by up to this much: 0 to 50.
        jitter_percent: u8,
    },
    /// RocketMQ's: 10 s, 30 s, 1 to 10 min, 20 min, 30 min, 1 h, 2 h; none after a lease
    /// that ran out, which was a pause itself.
    Ladder,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::Exponential {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(2 * 3600),
            multiplier_percent: 200,
            jitter_percent: 20,
        }
    }
}

/// How fast a group is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pacing {
    /// Deliveries a second.
    pub rate: Rate,
    /// Messages delivered and not settled, of one partition; `None`: no limit but the
    /// machine's.
    pub concurrency: Option<u32>,
    /// The same of one message group (or record key).
    pub key_concurrency: Option<u32>,
}

/// How many deliveries a second: 1 to 1,000,000. Its bytes are those of an optional number, which
/// it once was; later variants are later versions'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// As fast as members ask.
    #[default]
    Unlimited,
    /// By one partition, whatever the others do.
    Partition(u32),
    /// By all partitions of the topic together. Each delivers an equal part, which is worked
    /// out anew when their number changes.
    Topic(u32),
}

impl Rate {
    fn number(self) -> Option<u32> {
        match self {
            Rate::Unlimited => None,
            Rate::Partition(rate) | Rate::Topic(rate) => Some(rate),
        }
    }
}

/// How many messages may wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// The limit: offsets between the cursor and the end of the log, and messages that are
    /// kept till they may go there.
    pub messages_max: u64,
    /// What happens to more.
    pub on_full: OnFull,
}

/// What a full queue does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Producers are told that it is full.
    Reject,
    /// The oldest messages are final for the group, counted as dropped.
    DropOldest,
    /// New messages go elsewhere.
    Redirect(Target),
}

impl GroupSettings {
    /// How long the group is kept without a receive: as it says, else 24 h for a subscriber
    /// of a broadcast, and for ever (`None`) for a group that competes.
    #[must_use]
    pub fn expiry(&self) -> Option<Duration> {
        let subscribes = self.broadcast.is_some();
        self.expires_after
            .or_else(|| subscribes.then_some(BROADCAST_EXPIRY))
    }

    /// Checks every field against its bounds, and that the filter compiles.
    ///
    /// # Errors
    /// [`SettingsError`], naming the field, the value and the bounds.
    pub fn validate(&self) -> Result<(), SettingsError> {
        within(
            "attempts_max",
            self.attempts_max.into(),
            1,
            ATTEMPTS_MAX.into(),
        )?;
        let lease = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let millis =
            |name, value, least, most| within(name, lease(value), lease(least), lease(most));
        millis("invisible ms", self.invisible, INVISIBLE_MIN, INVISIBLE_MAX)?;
        match &self.backoff {
            Backoff::List(steps) => {
                within(
                    "backoff steps",
                    steps.len() as u64,
                    1,
                    BACKOFF_STEPS_MAX as u64,
                )?;
                for step in steps {
                    millis("backoff ms", *step, Duration::ZERO, BACKOFF_MAX)?;
                }
            }
            Backoff::Exponential {
                initial,
                max,
                multiplier_percent,
                jitter_percent,
            } => {
                millis("backoff initial ms", *initial, Duration::ZERO, *max)?;
                millis("backoff max ms", *max, Duration::ZERO, BACKOFF_MAX)?;
                within(
                    "multiplier_percent",
                    (*multiplier_percent).into(),
                    100,
                    1_000,
                )?;
                within("jitter_percent", (*jitter_percent).into(), 0, 50)?;
            }
            Backoff::Ladder => {}
        }
        let Pacing {
            rate,
            concurrency,
            key_concurrency,
        } = self.pacing;
        for (name, value) in [
            ("pacing rate", rate.number()),
            ("pacing concurrency", concurrency),
            ("pacing key_concurrency", key_concurrency),
        ] {
            within(name, value.unwrap_or(1).into(), 1, 1_000_000)?;
        }
        if let Some(capacity) = &self.capacity {
            within("capacity messages_max", capacity.messages_max, 1, u64::MAX)?;
        }
        if let Some(expiry) = self.expires_after {
            millis("expires_after ms", expiry, INVISIBLE_MIN, Duration::MAX)?;
        }
        if let Some(broadcast) = &self.broadcast {
            let (bytes, most) = (broadcast.len() as u64, GROUP_NAME_BYTES_MAX as u64);
            within("broadcast name's bytes", bytes, 1, most)?;
        }
        let redirect = self.capacity.as_ref().and_then(|capacity| {
            if let OnFull::Redirect(target) = &capacity.on_full {
                Some(target)
            } else {
                None
            }
        });
        for target in self.dead_letter.iter().chain(redirect) {
            target.validate()?;
        }
        self.filter.compile()?;
        Ok(())
    }
}

impl Target {
    /// Checks the topic's name; whether it exists is for the host to see.
    ///
    /// # Errors
    /// [`SettingsError::Topic`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        if is_topic_name(&self.topic) {
            return Ok(());
        }
        let topic = self.topic.clone();
        Err(SettingsError::Topic { topic })
    }
}

fn within(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), SettingsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SettingsError::OutOfBounds {
        field,
        value,
        least,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_the_bytes_of_an_optional_number() {
        let bytes = |rate: Rate| postcard::to_stdvec(&rate).unwrap();
        for old in [None, Some(1u32), Some(1_000_000)] {
            let new = old.map_or(Rate::Unlimited, Rate::Partition);
            assert_eq!(bytes(new), postcard::to_stdvec(&old).unwrap());
        }
        let of_all = bytes(Rate::Topic(5));
        assert_eq!(postcard::from_bytes(&of_all), Ok(Rate::Topic(5)));
    }
}
