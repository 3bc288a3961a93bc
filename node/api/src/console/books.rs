//! The ledger of a queue group.

use serde::{Deserialize, Serialize};

/// An hour in which messages were stored, and how they ended for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the queue machine's")]
pub struct LedgerLine {
    /// Hours since 1970; 0 is all that is older than the ledger reaches back.
    pub hour: u32,
    pub partition: u32,
    /// Offsets of the log from the first record of this hour to the first of a later one;
    /// none for hours that the log no longer holds.
    #[serde(default)]
    pub produced: Option<u64>,
    pub acked: u64,
    pub dead_lettered: u64,
    pub forwarded: u64,
    pub filtered: u64,
    pub superseded: u64,
    pub dropped: u64,
    pub missing: u64,
    pub no_message: u64,
    /// Kept until they are due, when they are produced once more.
    #[serde(default)]
    pub delayed: u64,
    pub sought: i64,
    /// Of those that were produced, how many are not final.
    #[serde(default)]
    pub pending: Option<u64>,
    /// What is left of `produced` when all the others are taken off: accounted for under
    /// another hour, since its own time is not that of its neighbours in the log, or since a
    /// seek or a full queue made it final. All hours together it is nothing.
    #[serde(default)]
    pub other_hour: Option<i64>,
}

/// A line of `GET /v1/queues/{topic}/books/{group}?since_hour=`: the ledger of one group on
/// a partition that the answering node leads, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BooksView {
    /// The partition.
    pub partition: u32,
    /// Offsets since the group began.
    pub produced: u64,
    /// Of them, how many are not final.
    pub pending: u64,
    /// By hour.
    pub hours: Vec<LedgerLine>,
    /// Offsets at which the group found no record.
    pub gaps: Vec<GapLine>,
    /// Whether there may be more, which are only counted.
    pub gaps_more: bool,
    /// Offsets that the log no longer holds and that are not final: nobody was given them.
    pub removed: u64,
    /// Final offsets less those that are counted: always 0, or the ledger is wrong.
    pub unaccounted: i64,
}

/// A line of `GET /v1/queues/{topic}/gaps/{group}`: offsets at which a group found no record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GapLine {
    /// The partition.
    pub partition: u32,
    /// The first of them.
    pub from: u64,
    /// How many.
    pub offsets: u64,
}
