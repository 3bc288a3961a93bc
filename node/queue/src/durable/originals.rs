//! Which records of the log are originals: delayed messages that were taken in and that
//! nobody is given from there (`intake.rs`).
//!
//! What waits for a group is counted from its position to the end of the log. An original
//! does not wait there: its message is in the timeline, and a copy of it in the log when it
//! is due. So originals are left out, or the message would count twice (decisions/0007).
//!
//! A bit an offset, in blocks; blocks that all groups have passed are forgotten (`intake.rs`).
//! Those behind an offset are counted by the wide block: a backlog of ten millions is some
//! 150 of them, and at most 512 blocks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_base::Offset;

use crate::counts::bits;
use crate::record::BLOCK_OFFSETS;

/// Blocks that are counted as one.
const WIDE: u64 = 512;

/// All that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Originals {
    /// Bit n: offset `block * 128 + n` is one. No block is empty.
    blocks: BTreeMap<u64, u128>,
    /// How many are in `WIDE` blocks. None is 0.
    wide: BTreeMap<u64, u64>,
}

impl Originals {
    /// Those of a block.
    pub(crate) fn of(&self, block: u64) -> u128 {
        self.blocks.get(&block).copied().unwrap_or(0)
    }

    /// How many there are at `offset` and behind it.
    pub(crate) fn from(&self, offset: Offset) -> u64 {
        let block = offset.0 / BLOCK_OFFSETS;
        let here = self.of(block) & !bits(block, Offset::ZERO, offset);
        let next_wide = block / WIDE + 1;
        let near = self.blocks.range(block + 1..next_wide * WIDE);
        let near: u64 = near.map(|(_, bits)| u64::from(bits.count_ones())).sum();
        let far: u64 = self.wide.range(next_wide..).map(|(_, count)| count).sum();
        u64::from(here.count_ones()) + near + far
    }

    /// How many messages wait from `offset` to `end` for who has not passed any of them.
    pub(crate) fn waiting(&self, offset: Offset, end: Offset) -> u64 {
        let offsets = end.0.saturating_sub(offset.0);
        offsets.saturating_sub(self.from(offset))
    }

    /// The first offset from which on no more than `messages_max` wait.
    pub(crate) fn room_from(&self, messages_max: u64, end: Offset) -> Offset {
        let (mut low, mut high) = (0, end.0);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.waiting(Offset(middle), end) > messages_max {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Offset(low)
    }

    /// Blocks below `block`.
    pub(crate) fn below(&self, block: u64) -> impl Iterator<Item = u64> {
        self.blocks.range(..block).map(|(block, _)| *block)
    }

    pub(super) fn set(&mut self, block: u64, bits: Option<u128>) {
        let bits = bits.unwrap_or(0);
        let old = if bits == 0 {
            self.blocks.remove(&block)
        } else {
            self.blocks.insert(block, bits)
        };
        let wide = self.wide.entry(block / WIDE).or_default();
        *wide += u64::from(bits.count_ones());
        *wide -= u64::from(old.unwrap_or(0).count_ones());
        if *wide == 0 {
            self.wide.remove(&(block / WIDE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A plain set is the twin, over several wide blocks.
    #[test]
    fn they_are_counted_from_any_offset() {
        let mut random = 9u64;
        let mut draw = |most: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 30) % most
        };
        let (mut originals, mut twin) = (Originals::default(), BTreeSet::new());
        let end = 3 * WIDE * BLOCK_OFFSETS + 77;
        for _ in 0..4_000 {
            let block = draw(end / BLOCK_OFFSETS);
            let known = u128::from(draw(1 << 34)) << draw(95);
            let value = (draw(4) > 0).then_some(known);
            originals.set(block, value);
            let first = block * BLOCK_OFFSETS;
            twin.retain(|offset| !(first..first + BLOCK_OFFSETS).contains(offset));
            let known = value.unwrap_or(0);
            let offsets = (0..BLOCK_OFFSETS).filter(|bit| known >> bit & 1 == 1);
            twin.extend(offsets.map(|bit| first + bit));
        }
        for _ in 0..300 {
            let from = draw(end + 500);
            let behind = twin.range(from..).count() as u64;
            assert_eq!(originals.from(Offset(from)), behind);
            let waiting = |from: u64| (end - from) - twin.range(from..).count() as u64;
            let most = draw(end);
            let room = originals.room_from(most, Offset(end)).0;
            assert!(waiting(room) <= most);
            assert!(room == 0 || waiting(room - 1) > most);
        }
        for block in originals.below(u64::MAX).collect::<Vec<_>>() {
            originals.set(block, None);
        }
        assert_eq!(originals, Originals::default());
    }
}
