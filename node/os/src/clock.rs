//! The machine's clocks.

#![expect(
    clippy::disallowed_methods,
    reason = "this crate is where the machine's clocks are read"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use weir_base::{BoxFuture, Clock, Monotonic, Timestamp};

/// Monotonic time since this clock was made, and the machine's wall clock.
#[derive(Debug, Clone, Copy)]
pub struct OsClock {
    origin: Instant,
}

impl OsClock {
    /// A clock that reads zero now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        Timestamp(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        })
    }

    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()> {
        match self.origin.checked_add(Duration::from_nanos(at.0)) {
            Some(instant) => Box::pin(tokio::time::sleep_until(instant)),
            None => Box::pin(std::future::pending()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_at_its_instant_and_not_before() {
        let clock = OsClock::new();
        let at = clock.now() + Duration::from_millis(5);
        clock.sleep_until(at).await;
        assert!(clock.now() >= at);
        // Any year this code can run in.
        assert!(clock.wall().0 > 1_700_000_000_000);
    }
}
