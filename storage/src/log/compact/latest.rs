//! The latest offset of each key in a stretch of a log, in bounded memory.
//!
//! A key is its 128-bit hash: two keys that share one would displace each other's records.
//! Among 2^40 keys that happens with a chance of one in 2^49, and nobody can look for such
//! keys with less than 2^64 work; damage would be to that topic alone.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use weir_base::Offset;
use weir_base::batch::Record;

/// Bytes in memory counted for a key: hash and offset in a tree two thirds full.
const ENTRY_BYTES: usize = 40;

/// What one round of compaction knows.
#[derive(Debug)]
pub(super) struct Latest {
    offsets: BTreeMap<u128, Offset>,
    keys_max: usize,
    /// All below was looked at, from where the round before ended.
    covered: Offset,
}

impl Latest {
    /// Nothing, of a log of which all below `covered` was looked at before.
    pub(super) fn new(covered: Offset, bytes_max: usize) -> Self {
        Self {
            offsets: BTreeMap::new(),
            keys_max: (bytes_max / ENTRY_BYTES).max(1),
            covered,
        }
    }

    /// Learns of a batch that ends at `end`, records in offset order.
    pub(super) fn learn(&mut self, records: &[Record], end: Offset) {
        for record in records {
            if let Some(key) = &record.key {
                self.offsets.insert(hash(key), record.offset);
            }
        }
        self.covered = self.covered.max(end);
    }

    /// Whether no more should be learned: what comes next is the next round's.
    pub(super) fn is_full(&self) -> bool {
        self.offsets.len() >= self.keys_max
    }

    pub(super) fn covered(&self) -> Offset {
        self.covered
    }

    /// Whether a record of a round that ended at [`covered`](Self::covered) stays.
    ///
    /// A tombstone goes only where all that it deletes went before or goes with it: older
    /// records of its key stay as long as it was not learned.
    pub(super) fn keeps(&self, record: &Record, drop_tombstones: bool) -> bool {
        let Some(key) = &record.key else {
            return true;
        };
        if record.offset >= self.covered {
            return true;
        }
        let newest = self.offsets.get(&hash(key));
        newest.is_none_or(|newest| *newest <= record.offset)
            && (record.value.is_some() || !drop_tombstones)
    }
}

/// Two SipHashes of 64 bits, of the key behind either of two prefixes.
fn hash(key: &[u8]) -> u128 {
    let half = |prefix: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(prefix);
        hasher.write(key);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}
