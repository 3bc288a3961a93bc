//! A node's clocks on simulated time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use weir_base::{BoxFuture, Clock, Monotonic, Timestamp};

use crate::trace::sim_now;

/// When every run starts, by the wall clock: 2026-01-01T00:00:00Z.
pub(crate) const EPOCH: Timestamp = Timestamp(1_767_225_600_000);

/// What is wrong with one node's clocks; shared with the nemesis.
#[derive(Debug, Default)]
pub struct ClockFaults {
    wall_offset_millis: AtomicI64,
    drift_ppm: AtomicI64,
}

impl ClockFaults {
    /// Moves the wall clock, at once.
    pub fn set_wall_offset_millis(&self, millis: i64) {
        self.wall_offset_millis.store(millis, Ordering::Relaxed);
    }

    /// Makes both clocks run fast (or slow, if negative) by parts per million, from the
    /// node's next start on.
    pub fn set_drift_ppm(&self, ppm: i64) {
        self.drift_ppm.store(ppm, Ordering::Relaxed);
    }
}

/// Clocks of one run of a node.
pub struct SimClock {
    started: Duration,
    drift_ppm: i64,
    faults: Arc<ClockFaults>,
}

impl SimClock {
    /// Clocks of a node that starts now.
    #[must_use]
    pub fn new(faults: Arc<ClockFaults>) -> Self {
        Self {
            started: sim_now(),
            drift_ppm: faults.drift_ppm.load(Ordering::Relaxed),
            faults,
        }
    }

    /// What this node's clock makes of `time` that really passed.
    fn drifted(&self, time: Duration) -> Duration {
        scale(time, MILLION + self.drift_ppm, MILLION)
    }

    /// The time that really passes while this node's clock counts `time`.
    fn real(&self, time: Duration) -> Duration {
        scale(time, MILLION, MILLION + self.drift_ppm)
    }
}

const MILLION: i64 = 1_000_000;

fn scale(time: Duration, by: i64, per: i64) -> Duration {
    let by = u128::try_from(by).unwrap_or(0);
    let per = u128::try_from(per).unwrap_or(1).max(1);
    // Rounded up, so that a sleep never ends before its time.
    Duration::from_nanos(u64::try_from((time.as_nanos() * by).div_ceil(per)).unwrap_or(u64::MAX))
}

impl Clock for SimClock {
    fn now(&self) -> Monotonic {
        Monotonic::default() + self.drifted(sim_now().saturating_sub(self.started))
    }

    fn wall(&self) -> Timestamp {
        let offset = self.faults.wall_offset_millis.load(Ordering::Relaxed);
        let drifted = self.drifted(sim_now().saturating_sub(self.started));
        let now = EPOCH + self.started + drifted;
        Timestamp(now.0.saturating_add(offset))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "tokio's clock is the simulated one inside a host"
    )]
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        let pause = self.real(at - self.now());
        Box::pin(tokio::time::sleep(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_scales_both_ways() {
        let faults = Arc::new(ClockFaults::default());
        faults.set_drift_ppm(50_000);
        let clock = SimClock::new(faults);
        let second = Duration::from_secs(1);
        assert_eq!(clock.drifted(second), Duration::from_millis(1050));
        assert_eq!(clock.real(Duration::from_millis(1050)), second);
    }
}
