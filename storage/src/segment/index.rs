//! A segment's sparse index: every so many bytes, which offset begins where and the
//! largest timestamp so far. Serves lookups by offset and, since that maximum never
//! falls, by time. Never trusted for content: a lookup gives a place to start walking
//! frames from. Lost or bad, it is rebuilt by walking the segment.

use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

/// Bytes of log between two entries, of 24 bytes each in memory.
pub const INDEX_INTERVAL_BYTES: u64 = 64 * 1024;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// First offset of the frame at `position`.
    pub base: Offset,
    /// Byte position in the file.
    pub position: u64,
    /// Largest timestamp in the segment before `position`.
    pub newest_before: Timestamp,
}

/// The index of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentIndex {
    entries: Vec<IndexEntry>,
    newest: Timestamp,
    /// Where the next entry is due.
    next_position: u64,
    /// Bytes walked so far.
    end_position: u64,
}

impl SegmentIndex {
    /// The index of a segment whose first frame is at `position`.
    #[must_use]
    pub fn new(position: u64) -> Self {
        Self {
            entries: Vec::new(),
            newest: Timestamp(i64::MIN),
            next_position: position,
            end_position: position,
        }
    }

    /// Notes the next frame. Frames it knows already are skipped, and a frame beyond its
    /// end (it was rebuilt only in part) leaves it as it is.
    pub fn on_frame(&mut self, base: Offset, position: u64, size: u64, newest: Timestamp) {
        if position != self.end_position {
            return;
        }
        if position >= self.next_position {
            self.entries.push(IndexEntry {
                base,
                position,
                newest_before: self.newest,
            });
            self.next_position = position + INDEX_INTERVAL_BYTES;
        }
        self.newest = self.newest.max(newest);
        self.end_position = position + size;
    }

    /// Bytes of the segment it covers, from the front.
    #[must_use]
    pub fn covered_to(&self) -> u64 {
        self.end_position
    }

    /// Where to start walking to find the frame that holds `offset`.
    #[must_use]
    pub fn entry_of(&self, offset: Offset) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.base <= offset);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// Where to start walking to find the first frame that reaches `timestamp`; `None`
    /// if what it covers holds none.
    #[must_use]
    pub fn entry_at_time(&self, timestamp: Timestamp) -> Option<IndexEntry> {
        if self.newest < timestamp {
            return None;
        }
        let after = self
            .entries
            .partition_point(|entry| entry.newest_before < timestamp);
        self.entries.get(after.checked_sub(1)?).copied()
    }

    /// Forgets what lies at or above `position`. The maximum may then be too high, which
    /// costs a walk and no more.
    pub fn truncate_to(&mut self, position: u64) {
        self.entries.retain(|entry| entry.position < position);
        self.end_position = self.end_position.min(position);
        self.next_position = match self.entries.last() {
            Some(last) => last.position + INDEX_INTERVAL_BYTES,
            None => position.min(self.next_position),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_start_at_or_before_the_frame() {
        let mut index = SegmentIndex::new(64);
        for frame in 0..100u64 {
            let time = i64::try_from(frame).unwrap() * 10;
            index.on_frame(
                Offset(frame * 5),
                64 + frame * 10_000,
                10_000,
                Timestamp(time),
            );
        }
        assert_eq!(index.entries.len(), 15);
        for frame in 0..100u64 {
            let IndexEntry { base, position, .. } = index.entry_of(Offset(frame * 5 + 4)).unwrap();
            let frame_position = 64 + frame * 10_000;
            assert!(position <= frame_position, "{frame}");
            assert_eq!(64 + base.0 / 5 * 10_000, position);
            assert!(frame_position - position <= INDEX_INTERVAL_BYTES + 10_000);
            let time = Timestamp(i64::try_from(frame).unwrap() * 10);
            assert!(index.entry_at_time(time).unwrap().position <= frame_position);
        }
        assert_eq!(index.entry_at_time(Timestamp(991)), None);
        index.truncate_to(64 + 50 * 10_000);
        assert_eq!(index.covered_to(), 64 + 50 * 10_000);
        assert!(index.entry_of(Offset(499)).unwrap().position < 64 + 50 * 10_000);
    }
}
