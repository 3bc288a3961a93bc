//! The clock all processes of the machine share.

use std::time::Duration;

/// `CLOCK_MONOTONIC` in nanoseconds, as the client programs stamp their lines.
#[must_use]
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Waits in real time.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness drives real processes and has no simulated clock"
)]
pub fn sleep(length: Duration) {
    std::thread::sleep(length);
}

/// Waits until `t_ns` of [`now_ns`].
pub fn sleep_until(t_ns: u64) {
    sleep(Duration::from_nanos(t_ns.saturating_sub(now_ns())));
}
