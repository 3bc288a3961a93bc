//! `google.protobuf.Duration` and `Timestamp`.

use std::time::Duration;

use weir_base::Timestamp;

/// Milliseconds a second.
const MILLIS: i64 = 1_000;
/// Nanoseconds a millisecond.
const NANOS: i32 = 1_000_000;

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, ::prost::Message)]
pub(crate) struct WireDuration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, ::prost::Message)]
pub(crate) struct WireTimestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl WireDuration {
    /// The duration; `None` for a negative or malformed one.
    pub(crate) fn to_duration(self) -> Option<Duration> {
        let nanos = u32::try_from(self.nanos)
            .ok()
            .filter(|n| *n < 1_000_000_000)?;
        Some(Duration::new(u64::try_from(self.seconds).ok()?, nanos))
    }
}

impl From<Duration> for WireDuration {
    fn from(duration: Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
        }
    }
}

impl WireTimestamp {
    /// Milliseconds since the epoch, rounded down; what does not fit is the last
    /// instant that does, so that an absurd time meets its bound and not an overflow.
    pub(crate) fn to_timestamp(self) -> Timestamp {
        let millis = self.seconds.saturating_mul(MILLIS);
        Timestamp(millis.saturating_add(i64::from(self.nanos.div_euclid(NANOS))))
    }
}

impl From<Timestamp> for WireTimestamp {
    fn from(at: Timestamp) -> Self {
        let millis = i32::try_from(at.0.rem_euclid(MILLIS)).unwrap_or(0);
        Self {
            seconds: at.0.div_euclid(MILLIS),
            nanos: millis * NANOS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_to_the_millisecond() {
        for millis in [0, 1, 999, 1_000, 1_700_000_000_123, -1, -1_001] {
            let at = Timestamp(millis);
            assert_eq!(WireTimestamp::from(at).to_timestamp(), at);
        }
        let far = WireTimestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(far.to_timestamp(), Timestamp(i64::MAX));
        let duration = Duration::from_millis(1_500);
        assert_eq!(WireDuration::from(duration).to_duration(), Some(duration));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(WireDuration { seconds, nanos }.to_duration(), None);
        }
    }
}
