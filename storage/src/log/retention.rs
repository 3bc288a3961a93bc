//! Which old segments may go: by broker time of their last append (S-45), and by size.

use weir_base::{Offset, Timestamp};

use super::disk::DiskLog;
use crate::LogConfig;
use crate::state::SegmentSummary;

/// The log start that retention asks for, if it is above `start`. Whole segments only,
/// and nothing at or above `below`, which the caller bounds by the high watermark.
pub(crate) fn plan(
    segments: &[SegmentSummary],
    start: Offset,
    below: Offset,
    now: Timestamp,
    config: &LogConfig,
) -> Option<Offset> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut wanted = start;
    for segment in segments.iter().filter(|segment| segment.end > segment.base) {
        let expired = config
            .retention
            .is_some_and(|retention| segment.appended_at + retention < now);
        let left = bytes - segment.bytes;
        let too_many = config.retention_bytes.is_some_and(|limit| left >= limit);
        if segment.end > below || !(expired || too_many) {
            break;
        }
        bytes = left;
        wanted = wanted.max(segment.end);
    }
    (wanted > start).then_some(wanted)
}

impl DiskLog {
    /// The log start that retention asks for now, below `below`.
    pub(crate) fn plan_retention(&self, now: Timestamp, below: Offset) -> Option<Offset> {
        let view = self.view();
        let segments: Vec<_> = view.segments.iter().map(|entry| entry.summary).collect();
        plan(&segments, view.start, below, now, &self.config())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn segments() -> Vec<SegmentSummary> {
        (0..4u32)
            .map(|n| SegmentSummary {
                base: Offset(u64::from(n) * 10),
                end: Offset(u64::from(n) * 10 + 10),
                bytes: 100,
                newest: None,
                appended_at: Timestamp(i64::from(n) * 1000),
                made_at: Timestamp(0),
            })
            .collect()
    }

    fn wanted(config: &LogConfig, below: u64, now: i64) -> Option<u64> {
        plan(
            &segments(),
            Offset(0),
            Offset(below),
            Timestamp(now),
            config,
        )
        .map(|o| o.0)
    }

    #[test]
    fn by_time_segments_go_whole_and_only_below_the_bound() {
        let config = LogConfig {
            retention: Some(Duration::from_millis(500)),
            ..LogConfig::default()
        };
        assert_eq!(wanted(&config, 40, 500), None);
        assert_eq!(wanted(&config, 40, 501), Some(10));
        assert_eq!(wanted(&config, 40, 2501), Some(30));
        assert_eq!(wanted(&config, 25, 9999), Some(20));
        assert_eq!(wanted(&config, 40, 9999), Some(40));
    }

    #[test]
    fn by_size_at_least_the_limit_stays() {
        let config = LogConfig {
            retention: None,
            retention_bytes: Some(150),
            ..LogConfig::default()
        };
        assert_eq!(wanted(&config, 40, 0), Some(20));
        let config = LogConfig {
            retention_bytes: Some(400),
            ..config
        };
        assert_eq!(wanted(&config, 40, 0), None);
    }
}
