//! One group's place: what is final, what failed, what was counted.
//!
//! ```text
//!   start           cursor (whole blocks)        newest final
//!     |  all final    |  blocks: a bit an offset    |   not reached
//! ----+---------------+-----------------------------+--------------> offsets
//! ```
//! Always: the counts of the ledger and of the blocks add up to the final offsets from
//! `start` on. That is the conservation ledger; the model test holds it after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

use crate::ids::{GroupName, KeyHash};
use crate::record::{BLOCK_OFFSETS, Block, Counts, QueueRecord, StoredAttempts, StoredVersion};
use crate::settings::GroupSettings;

/// One group; none without any record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredGroup {
    pub(crate) name: Option<GroupName>,
    pub(crate) start: Offset,
    pub(crate) settings: Option<Arc<GroupSettings>>,
    /// All blocks below are final.
    cursor: Option<u64>,
    /// Those above it that hold anything final.
    pub(crate) blocks: BTreeMap<u64, Block>,
    pub(crate) attempts: BTreeMap<Offset, StoredAttempts>,
    pub(crate) ledger: BTreeMap<u32, Counts>,
    pub(crate) gaps: BTreeMap<Offset, u64>,
    pub(crate) versions: BTreeMap<KeyHash, StoredVersion>,
    /// The same, by when it changed.
    version_ages: BTreeSet<(Timestamp, KeyHash)>,
}

/// What a group is before its first record.
pub(crate) static NO_GROUP: StoredGroup = StoredGroup {
    name: None,
    start: Offset::ZERO,
    settings: None,
    cursor: None,
    blocks: BTreeMap::new(),
    attempts: BTreeMap::new(),
    ledger: BTreeMap::new(),
    gaps: BTreeMap::new(),
    versions: BTreeMap::new(),
    version_ages: BTreeSet::new(),
};

impl StoredGroup {
    /// All blocks below are final.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.unwrap_or(0)
    }

    /// The first offset that is not final.
    pub(crate) fn position(&self) -> Offset {
        let mut block = self.cursor();
        while let Some(value) = self.blocks.get(&block) {
            if value.finished != u128::MAX {
                let done = value.finished.trailing_ones();
                return Offset(block * BLOCK_OFFSETS + u64::from(done));
            }
            block += 1;
        }
        Offset(block * BLOCK_OFFSETS)
    }

    /// Whether the offset is final.
    pub(crate) fn is_final(&self, offset: Offset) -> bool {
        let block = offset.0 / BLOCK_OFFSETS;
        block < self.cursor() || (self.blocks.get(&block)).is_some_and(|block| block.holds(offset))
    }

    /// What was counted, ledger and blocks.
    pub(crate) fn counts(&self) -> Counts {
        let blocks = self.blocks.values().flat_map(|block| &block.counts);
        let blocks = blocks.map(|(_, counts)| counts);
        let mut sum = Counts::default();
        self.ledger.values().chain(blocks).for_each(|c| sum.add(c));
        sum
    }

    /// Final offsets from the start on; equal to the total of [`StoredGroup::counts`].
    pub(crate) fn finished(&self) -> i64 {
        let above = self.blocks.values();
        let above: u64 = above.map(|b| u64::from(b.finished.count_ones())).sum();
        let finished = (self.cursor() * BLOCK_OFFSETS + above).cast_signed();
        finished - self.start.0.cast_signed()
    }

    /// Final offsets from `cursor` on.
    pub(crate) fn finished_above(&self, cursor: Offset) -> u64 {
        let above = self.blocks.range(cursor.0 / BLOCK_OFFSETS..);
        let finished = above.map(|(block, value)| {
            let settled = crate::counts::bits(*block, Offset::ZERO, cursor);
            u64::from((value.finished & !settled).count_ones())
        });
        finished.sum()
    }

    /// The key whose version changed longest ago.
    pub(crate) fn oldest_version(&self) -> Option<KeyHash> {
        self.version_ages.first().map(|(_, key)| *key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.cursor.is_none()
            && self.blocks.is_empty()
            && self.attempts.is_empty()
            && self.ledger.is_empty()
            && self.gaps.is_empty()
            && self.versions.is_empty()
    }

    pub(super) fn fold(&mut self, record: &QueueRecord) {
        match record {
            QueueRecord::Cursor { block, .. } => {
                self.cursor = *block;
                if let Some(block) = block {
                    while self
                        .blocks
                        .first_key_value()
                        .is_some_and(|(b, _)| b < block)
                    {
                        self.blocks.pop_first();
                    }
                }
            }
            QueueRecord::Block { block, value, .. } => set(&mut self.blocks, block, value),
            QueueRecord::Attempts { offset, value, .. } => set(&mut self.attempts, offset, value),
            QueueRecord::Ledger { hour, value, .. } => set(&mut self.ledger, hour, value),
            QueueRecord::Gap { from, offsets, .. } => set(&mut self.gaps, from, offsets),
            QueueRecord::Version { key, value, .. } => {
                if let Some(old) = self.versions.get(key) {
                    self.version_ages.remove(&(old.at, *key));
                }
                if let Some(value) = value {
                    self.version_ages.insert((value.at, *key));
                }
                set(&mut self.versions, key, value);
            }
            QueueRecord::Reign(_)
            | QueueRecord::Group { .. }
            | QueueRecord::Scheduled { .. }
            | QueueRecord::Cancelled { .. }
            | QueueRecord::Dedup { .. }
            | QueueRecord::Half { .. }
            | QueueRecord::HalfChecks { .. }
            | QueueRecord::Decided { .. }
            | QueueRecord::Outgoing { .. }
            | QueueRecord::Sequence { .. }
            | QueueRecord::Departing { .. }
            | QueueRecord::Replay { .. }
            | QueueRecord::MovedBack { .. }
            | QueueRecord::Aside { .. }
            | QueueRecord::Delays(_)
            | QueueRecord::TakenIn { .. } => {}
        }
    }
}

fn set<K: Ord + Clone, V: Clone>(map: &mut BTreeMap<K, V>, key: &K, value: &Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
}
