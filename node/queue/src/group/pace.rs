//! Broker-paced delivery: a rate, kept by the time at which the next message is due.
//!
//! That time moves on by one interval a message, so the rate holds over any stretch in which
//! members ask. What was not asked for in time is owed for 200 ms, longer than a busy member
//! takes from one receive to the next, or a busy node to come round to a tick: with less, each
//! such pause would be taken off the rate.
//!
//! Members in wait are served in strides, not message by message: what the rate allows in
//! 50 ms is given at once. A thousand answers a second, each with its acknowledgement and that
//! one's commit, would cost all others more than what is paced.

use weir_base::Timestamp;

use super::LiveGroup;
use crate::settings::Rate;
use crate::turn::Turn;

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;
/// How much of what was not used in time may still be used.
const BURST: i64 = 200 * MILLI;
/// For how long members in wait are not served before they are given all of it.
const STRIDE: i64 = 50 * MILLI;

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
        let resumes = self.paced_until.max(self.stride_until);
        self.settings.pacing.rate == Rate::Unlimited || resumes <= now.0.saturating_mul(MILLI)
    }

    /// How many more the rate allows now.
    pub(super) fn pace_room(&self, turn: &Turn<'_>) -> usize {
        let Some(interval) = self.interval(turn.core.partitions) else {
            return usize::MAX;
        };
        let now = turn.now.0.saturating_mul(MILLI);
        let owed = now.saturating_sub(self.paced_until).min(BURST);
        match self.pace_allows(turn.now) {
            true => usize::try_from(owed / interval.max(1) + 1).unwrap_or(usize::MAX),
            false => 0,
        }
    }

    /// One was delivered.
    pub(super) fn pace(&mut self, turn: &Turn<'_>) {
        if let Some(interval) = self.interval(turn.core.partitions) {
            let now = turn.now.0.saturating_mul(MILLI);
            let earliest = now.saturating_sub(BURST);
            self.paced_until = self.paced_until.max(earliest).saturating_add(interval);
        }
    }

    /// Members wait for what the rate does not allow yet: gives when it allows a stride, or
    /// all that is ready if that is less.
    pub(super) fn pause(&mut self, turn: &Turn<'_>) -> Timestamp {
        let now = turn.now.0.saturating_mul(MILLI);
        if let Some(interval) = self.interval(turn.core.partitions)
            && self.stride_until <= now
        {
            let ready = i64::try_from(self.ready.len()).unwrap_or(i64::MAX);
            let others = (STRIDE / interval.max(1))
                .min(ready)
                .saturating_sub(1)
                .max(0);
            self.stride_until = self.paced_until.saturating_add(others * interval);
        }
        let resumes = self.paced_until.max(self.stride_until);
        Timestamp(resumes.saturating_add(MILLI - 1) / MILLI)
    }

    /// The rate was set anew: what was due by the old one is not.
    pub(super) fn forget_pace(&mut self) {
        (self.paced_until, self.stride_until) = (0, 0);
    }
}
