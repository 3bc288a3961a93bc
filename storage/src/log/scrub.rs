//! Reading what nobody reads, so that rot is found while another copy is still whole.
//!
//! Every closed segment is read and checked once in a period (reliability 3.5), in steps
//! of about 1 MiB with pauses between them, whoever asks: the caller walks one log after
//! the other, [`plan_pause`] sets the pace. A step reads the disk, not the cache of recent
//! batches; what the operating system still holds of a file hides the medium's state.
//! Nothing is remembered over a restart.

use std::time::Duration;

use weir_base::Offset;

use super::LogError;
use super::disk::DiskLog;
use super::read::{Wanted, bad_at, corrupt};

/// Bytes after which a step ends.
const STEP_BYTES: u64 = 1024 * 1024;

/// A step of a scrub, done: all it read was good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubStep {
    /// Where the next step begins.
    pub next: Offset,
    /// How long to wait before it.
    pub pause: Duration,
}

/// The pause after a step that read `bytes` of `total`, so that all is read about once in
/// a `period`, but never faster than `rate_max` bytes a second.
pub(crate) fn plan_pause(bytes: u64, total: u64, period: Duration, rate_max: u64) -> Duration {
    let share = |whole: Duration, of: u64| {
        let nanos = whole.as_nanos() * u128::from(bytes) / u128::from(of.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    share(period, total).max(share(Duration::from_secs(1), rate_max))
}

impl DiskLog {
    /// Reads and checks closed segments from `from` on, up to the end of a segment or
    /// [`STEP_BYTES`]. Where it got and what it read; `None` if there is nothing more.
    pub(crate) async fn scrub(&self, from: Offset) -> Result<Option<(Offset, u64)>, LogError> {
        loop {
            self.usable()?;
            let (entry, edition) = {
                let view = self.view();
                let closed = view.segments.len().saturating_sub(1);
                let mut closed = view.segments.iter().take(closed);
                let entry = closed.find(|entry| entry.summary.end > from);
                (entry.cloned(), view.edition())
            };
            let Some(entry) = entry else {
                return Ok(None);
            };
            let step = self.scrub_segment(&entry, from).await;
            // A cut or a compaction replaced what was read: it proves nothing.
            if self.view().edition() == edition {
                return step.map(Some);
            }
        }
    }

    async fn scrub_segment(
        &self,
        entry: &super::disk::SegmentEntry,
        from: Offset,
    ) -> Result<(Offset, u64), LogError> {
        let mut next = from.max(entry.summary.base);
        let mut bytes = 0;
        let step = usize::try_from(STEP_BYTES).unwrap_or(usize::MAX);
        let place = self.look(entry, Wanted::Offset(next), step).await?;
        let (mut walk, mut found) = place.map_err(|bad| corrupt(entry, &bad))?;
        while let Some(here) = found {
            if here.frame.batch(&here.bytes).is_none() {
                return Err(corrupt(entry, &bad_at(here.frame.base, here.position)));
            }
            next = here.frame.end;
            bytes += here.frame.size() as u64;
            if bytes >= STEP_BYTES {
                return Ok((next, bytes));
            }
            walk.pass(&here.frame);
            found = self
                .next_frame(&mut walk, entry, next)
                .await?
                .map_err(|bad| corrupt(entry, &bad))?;
        }
        Ok((entry.summary.end, bytes))
    }

    /// Bytes of closed segments.
    pub(crate) fn closed_bytes(&self) -> u64 {
        let view = self.view();
        let closed = view.segments.len().saturating_sub(1);
        let closed = view.segments.iter().take(closed);
        closed.map(|entry| entry.summary.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_read_once_in_a_period_at_a_bounded_rate() {
        const MIB: u64 = 1024 * 1024;
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(plan_pause(MIB, 7 * MIB, week, 16 * MIB), week / 7);
        // More than the rate can read in a period takes longer.
        let pause = plan_pause(MIB, 1 << 60, week, 16 * MIB);
        assert_eq!(pause, Duration::from_secs(1) / 16);
        assert_eq!(plan_pause(0, 0, week, 16 * MIB), Duration::ZERO);
    }
}
