//! Arithmetic of blocks and counts.

use weir_base::{Offset, Timestamp};

use crate::record::{BLOCK_OFFSETS, Block, Counts, Ending};

/// The hour of a time, counted from 1970.
pub(crate) fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.0.div_euclid(3_600_000)).unwrap_or(0)
}

impl Counts {
    /// Counts `messages` more.
    pub fn count(&mut self, ending: Ending, messages: u64) {
        let counter = match ending {
            Ending::Acked => &mut self.acked,
            Ending::DeadLettered => &mut self.dead_lettered,
            Ending::Forwarded => &mut self.forwarded,
            Ending::Filtered => &mut self.filtered,
            Ending::Superseded => &mut self.superseded,
            Ending::Dropped => &mut self.dropped,
            Ending::Missing => &mut self.missing,
            Ending::NoMessage => &mut self.no_message,
            Ending::Delayed => &mut self.delayed,
        };
        *counter += messages;
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Counts) {
        self.acked += other.acked;
        self.dead_lettered += other.dead_lettered;
        self.forwarded += other.forwarded;
        self.filtered += other.filtered;
        self.superseded += other.superseded;
        self.dropped += other.dropped;
        self.missing += other.missing;
        self.no_message += other.no_message;
        self.delayed += other.delayed;
        self.sought += other.sought;
    }

    /// All offsets that are accounted for.
    #[must_use]
    pub fn total(&self) -> i64 {
        let counted = self.acked
            + self.dead_lettered
            + self.forwarded
            + self.filtered
            + self.superseded
            + self.dropped
            + self.missing
            + self.no_message
            + self.delayed;
        counted.cast_signed() + self.sought
    }
}

/// The bits of `from..to` in block number `block`.
pub(crate) fn bits(block: u64, from: Offset, to: Offset) -> u128 {
    let base = block * BLOCK_OFFSETS;
    let clamp = |offset: Offset| {
        let within = offset.0.saturating_sub(base).min(BLOCK_OFFSETS);
        u32::try_from(within).unwrap_or(128)
    };
    let below = |end: u32| 1u128.checked_shl(end).map_or(u128::MAX, |bit| bit - 1);
    below(clamp(to)) & !below(clamp(from))
}

impl Block {
    /// Whether the offset, which is one of this block, is final.
    pub(crate) fn holds(&self, offset: Offset) -> bool {
        let bit = offset.0 % BLOCK_OFFSETS;
        self.finished >> bit & 1 == 1
    }

    /// Makes `bits` final; gives how many were not.
    pub(crate) fn mark(&mut self, bits: u128, hour: u32, ending: Ending) -> u64 {
        let fresh = u64::from((bits & !self.finished).count_ones());
        if fresh > 0 {
            self.finished |= bits;
            let at = match self.counts.binary_search_by_key(&hour, |(hour, _)| *hour) {
                Ok(at) => at,
                Err(at) => {
                    self.counts.insert(at, (hour, Counts::default()));
                    at
                }
            };
            self.counts[at].1.count(ending, fresh);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_bits() {
        let bits = |from, to| bits(1, Offset(from), Offset(to));
        assert_eq!(bits(0, 128), 0);
        assert_eq!(bits(0, 500), u128::MAX);
        assert_eq!(bits(130, 132), 0b1100);
        assert_eq!(bits(255, 256), 1 << 127);
        assert_eq!(bits(140, 130), 0);
    }
}
