//! Broker-paced delivery: a rate, kept by the time at which the next message is due.
//!
//! That time moves on by one interval a message, so the rate holds over any stretch; a
//! group that was idle is owed 20 ms of messages at most, and at least one.

use weir_base::Timestamp;

use super::LiveGroup;
use crate::settings::Rate;
use crate::turn::Turn;

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;
/// How much of what was not used in time may still be used.
const BURST: i64 = 20 * MILLI;

impl LiveGroup {
    /// Time from one delivery to the next, on a topic of so many partitions.
    fn interval(&self, partitions: u32) -> Option<i64> {
        let (rate, of) = match self.settings.pacing.rate {
            Rate::Unlimited => return None,
            Rate::Partition(rate) => (rate, 1),
            Rate::Topic(rate) => (rate, partitions.max(1)),
        };
        Some(SECOND * i64::from(of) / i64::from(rate.max(1)))
    }

    /// Whether the rate allows one more now.
    pub(super) fn pace_allows(&self, now: Timestamp) -> bool {
        self.settings.pacing.rate == Rate::Unlimited
            || self.paced_until <= now.0.saturating_mul(MILLI)
    }

    /// One was delivered.
    pub(super) fn pace(&mut self, turn: &Turn<'_>) {
        if let Some(interval) = self.interval(turn.core.partitions) {
            let now = turn.now.0.saturating_mul(MILLI);
            let earliest = now.saturating_sub(BURST);
            self.paced_until = self.paced_until.max(earliest).saturating_add(interval);
        }
    }

    /// When the rate allows the next.
    pub(super) fn pace_at(&self) -> Timestamp {
        Timestamp(self.paced_until.saturating_add(MILLI - 1) / MILLI)
    }
}
