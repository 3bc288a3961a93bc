//! What an operator may tune about links.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Smallest payload that every QUIC path carries.
const MTU_MIN: u16 = 1200;
/// Above it quinn's batch of ten segments passes the 65,507 bytes of one UDP send, and
/// the link hangs (measured; quinn issue 1457 found the same).
const MTU_MAX: u16 = 6000;

/// Tuning of the links between nodes. All fields need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Silence after which a link counts as lost. Default 2 s, 200 ms to 60 s. Raise it
    /// on machines that stall.
    pub idle_timeout: Duration,
    /// Longest pause between two packets on an idle link. Default 500 ms, at most half
    /// of `idle_timeout`.
    pub keep_alive: Duration,
    /// Longest time for one attempt to connect. Default 1 s, 50 ms to 60 s.
    pub connect_timeout: Duration,
    /// First pause after a failed attempt; it doubles from there. Default 50 ms, at
    /// least 1 ms.
    pub backoff_min: Duration,
    /// Longest pause between attempts. Default 1 s, at least `backoff_min`.
    pub backoff_max: Duration,
    /// UDP payload size to start from, 1,200 to 6,000 bytes. Default none: QUIC starts
    /// at 1,200 and finds up to 1,452 by itself. Set it only where the whole path carries
    /// it, such as loopback or jumbo frames; both ends must agree.
    pub mtu: Option<u16>,
    /// Streams that a peer may hold open on a link; beyond it the peer waits. Default
    /// 4,096, 16 to 65,536.
    pub streams_max: u32,
    /// Requests of one peer that may run at once; beyond it they are turned away, as
    /// not delivered. Default 1,024, 1 to 65,536.
    pub requests_max: u32,
    /// Bytes that a peer may send ahead of a reader on one stream. Default 8 MiB, 64 KiB
    /// to 1 GiB. Raise it to bandwidth times delay on long links.
    pub stream_window_bytes: u32,
    /// The same over all streams of a link, and the limit of bytes sent but not yet
    /// acknowledged. Default 64 MiB, at least `stream_window_bytes`, at most 1 GiB.
    pub link_window_bytes: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            mtu: None,
            streams_max: 4096,
            requests_max: 1024,
            stream_window_bytes: 8 << 20,
            link_window_bytes: 64 << 20,
        }
    }
}

/// A field of [`Options`] is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("peer option {field} is out of bounds: {rule}")]
pub struct OptionsError {
    /// The field.
    pub field: &'static str,
    /// What must hold.
    pub rule: &'static str,
}

impl Options {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first field that breaks its bounds.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let millis = Duration::from_millis;
        let minute = Duration::from_secs(60);
        let rules = [
            (
                "idle_timeout",
                "200 ms to 60 s",
                (millis(200)..=minute).contains(&self.idle_timeout),
            ),
            (
                "keep_alive",
                "above 0, at most half of idle_timeout",
                !self.keep_alive.is_zero() && self.keep_alive <= self.idle_timeout / 2,
            ),
            (
                "connect_timeout",
                "50 ms to 60 s",
                (millis(50)..=minute).contains(&self.connect_timeout),
            ),
            (
                "backoff_min",
                "at least 1 ms",
                self.backoff_min >= millis(1),
            ),
            (
                "backoff_max",
                "backoff_min to 60 s",
                (self.backoff_min..=minute).contains(&self.backoff_max),
            ),
            (
                "mtu",
                "1200 to 6000",
                self.mtu
                    .is_none_or(|mtu| (MTU_MIN..=MTU_MAX).contains(&mtu)),
            ),
            (
                "streams_max",
                "16 to 65536",
                (16..=65_536).contains(&self.streams_max),
            ),
            (
                "requests_max",
                "1 to 65536",
                (1..=65_536).contains(&self.requests_max),
            ),
            (
                "stream_window_bytes",
                "64 KiB to 1 GiB",
                (64 << 10..=1 << 30).contains(&self.stream_window_bytes),
            ),
            (
                "link_window_bytes",
                "stream_window_bytes to 1 GiB",
                (self.stream_window_bytes..=1 << 30).contains(&self.link_window_bytes),
            ),
        ];
        match rules.into_iter().find(|(_, _, holds)| !holds) {
            Some((field, rule, _)) => Err(OptionsError { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_bounds_bite() {
        assert_eq!(Options::default().validate(), Ok(()));
        let jumbo = Options {
            mtu: Some(6001),
            ..Options::default()
        };
        assert_eq!(jumbo.validate().map_err(|e| e.field), Err("mtu"));
        let deaf = Options {
            keep_alive: Duration::from_millis(1500),
            ..Options::default()
        };
        assert_eq!(deaf.validate().map_err(|e| e.field), Err("keep_alive"));
    }
}
