//! Which messages became final in a turn, and the records that say so.
//!
//! A block in `marks` is whole: what is on record and what came since. Blocks that only
//! lost messages to the filter are not recorded until they are full and all before them
//! is: a successor filters again and comes to the same. Whatever was decided on a message
//! (settled, dead-lettered, dropped) is recorded in the turn that decided it.

use weir_base::Offset;

use super::LiveGroup;
use crate::counts::{bits, hour_of};
use crate::record::{BLOCK_OFFSETS, Block, Counts, Ending, QueueRecord};
use crate::turn::Turn;

impl LiveGroup {
    /// The block as it stands, to be changed.
    fn block<'m>(&'m mut self, turn: &Turn<'_>, block: u64) -> &'m mut Block {
        let stored = turn.stored(self.number);
        self.marks
            .entry(block)
            .or_insert_with(|| stored.blocks.get(&block).cloned().unwrap_or_default())
    }

    /// Makes one offset final by a decision.
    pub(super) fn mark(&mut self, turn: &Turn<'_>, offset: Offset, hour: u32, ending: Ending) {
        let number = offset.0 / BLOCK_OFFSETS;
        if number < turn.stored(self.number).cursor() {
            return;
        }
        self.block(turn, number)
            .mark(1 << (offset.0 % BLOCK_OFFSETS), hour, ending);
        if self.touched.last() != Some(&number) {
            self.touched.push(number);
        }
        self.marked = true;
    }

    /// Makes all of `from..to` final that is not and is not in flight, which is for its holder
    /// to say; gives how many. `decided` if it would not come out the same when the messages
    /// were read again.
    pub(super) fn mark_range(
        &mut self,
        turn: &Turn<'_>,
        (from, to): (Offset, Offset),
        hour: u32,
        ending: Ending,
        decided: bool,
    ) -> u64 {
        if from >= to {
            return 0;
        }
        let first = (from.0 / BLOCK_OFFSETS).max(turn.stored(self.number).cursor());
        let mut marked = 0;
        for number in first..to.0.div_ceil(BLOCK_OFFSETS) {
            let mut offsets = bits(number, from, to);
            let base = Offset(number * BLOCK_OFFSETS);
            let here = from.max(base)..to.min(base + BLOCK_OFFSETS);
            for (held, _) in self.leases.range(here) {
                offsets &= !(1 << (held.0 % BLOCK_OFFSETS));
            }
            let fresh = self.block(turn, number).mark(offsets, hour, ending);
            if fresh > 0 && decided {
                self.touched.push(number);
            }
            marked += fresh;
        }
        self.marked = true;
        marked
    }

    /// Records what became final in this turn, and moves the cursor over full blocks.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) {
        if !std::mem::take(&mut self.marked) {
            return;
        }
        let (group, stored) = (self.number, turn.stored(self.number));
        let mut cursor = stored.cursor();
        let mut passed: Vec<(u32, Counts)> = Vec::new();
        while let Some(block) = self
            .marks
            .get(&cursor)
            .or_else(|| stored.blocks.get(&cursor))
        {
            let full = block.finished == u128::MAX
                || (weir_base::mutant!(CursorLeaps) && block.finished.count_ones() > 125);
            if !full {
                break;
            }
            passed.extend(&block.counts);
            if stored.blocks.contains_key(&cursor) {
                turn.record(QueueRecord::Block {
                    group,
                    block: cursor,
                    value: None,
                });
            }
            self.marks.remove(&cursor);
            cursor += 1;
        }
        if cursor > stored.cursor() {
            turn.record(QueueRecord::Cursor {
                group,
                block: Some(cursor),
            });
            self.record_hours(turn, passed);
        }
        self.touched.sort_unstable();
        self.touched.dedup();
        for block in std::mem::take(&mut self.touched) {
            if block >= cursor
                && let Some(value) = self.marks.remove(&block)
            {
                let value = Some(value);
                turn.record(QueueRecord::Block {
                    group,
                    block,
                    value,
                });
            }
        }
    }

    /// Adds what blocks counted to the ledger; its oldest hours are summed up as hour 0.
    pub(super) fn record_hours(&self, turn: &mut Turn<'_>, mut counted: Vec<(u32, Counts)>) {
        let (group, stored) = (self.number, turn.stored(self.number));
        let hours_max = turn.core.options.ledger_hours;
        let oldest = hour_of(turn.now).saturating_sub(hours_max);
        let hours = stored.ledger.range(1..oldest.max(1));
        let expired: Vec<(u32, Counts)> = hours.map(|(hour, counts)| (*hour, *counts)).collect();
        for (hour, counts) in expired {
            turn.record(QueueRecord::Ledger {
                group,
                hour,
                value: None,
            });
            counted.push((0, counts));
        }
        for (hour, _) in &mut counted {
            if *hour < oldest {
                *hour = 0;
            }
        }
        counted.sort_unstable_by_key(|(hour, _)| *hour);
        for same in counted.chunk_by(|a, b| a.0 == b.0) {
            let hour = same[0].0;
            let mut value = stored.ledger.get(&hour).copied().unwrap_or_default();
            same.iter().for_each(|(_, counts)| value.add(counts));
            turn.record(QueueRecord::Ledger {
                group,
                hour,
                value: Some(value),
            });
        }
    }
}
