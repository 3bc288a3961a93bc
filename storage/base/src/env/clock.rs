//! Time.

use super::BoxFuture;
use crate::{Monotonic, Timestamp};

/// A node's two clocks.
pub trait Clock: Send + Sync {
    /// The monotonic clock: for deadlines, leases and measurements.
    fn now(&self) -> Monotonic;

    /// The wall clock: for what people and clients read. May jump either way.
    fn wall(&self) -> Timestamp;

    /// Completes once [`Clock::now`] reached `at`.
    fn sleep_until(&self, at: Monotonic) -> BoxFuture<'static, ()>;
}
