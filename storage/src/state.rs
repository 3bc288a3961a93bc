//! What a log stores about itself at a checkpoint: where recovery begins, and all that
//! cannot be read off the segments behind that point.
//!
//! Storing it is the commit point of a cut: the generation rises with it, so frames of
//! lower ones behind the checkpoint are void, in the file and in the write-ahead log (S-10, M8).

use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

use crate::epochs::EpochCache;
use crate::producers::Producers;

/// Version of the stored form.
pub(crate) const STATE_FORMAT: u32 = 1;

/// A log at a checkpoint. All below `end` is durable in the segments named here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogState {
    pub(crate) format: u32,
    /// Counts cuts; frames behind `end` of a lower one are void.
    pub(crate) generation: u32,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// Checksum of the last frame before `end`.
    pub(crate) chain: u32,
    /// Never empty; the last is the one written to.
    pub(crate) segments: Vec<SegmentSummary>,
    pub(crate) epochs: EpochCache,
    pub(crate) producers: Producers,
    /// Records of the write-ahead log with lower numbers are of an earlier log of this name.
    pub(crate) floor_lsn: u64,
}

/// One segment up to the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentSummary {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    /// File position behind its last frame.
    pub(crate) bytes: u64,
    /// Largest timestamp in it, and its offset.
    pub(crate) newest: Option<(Offset, Timestamp)>,
    /// Broker time of the log's last append so far.
    pub(crate) appended_at: Timestamp,
    /// Broker time of its making.
    pub(crate) made_at: Timestamp,
}

/// Broker time of the last append to a log that never had one.
pub(crate) const NEVER: Timestamp = Timestamp(i64::MIN);
