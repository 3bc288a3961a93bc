//! One partition's log on a disk, and the node's shared write-ahead log.

pub mod epochs;
pub mod log;
pub mod mem;
pub mod producers;
mod record_time;

pub use log::{
    AppendOutcome, EpochEnd, LogError, LogPosition, PartitionLog, ProducerSummary, ReadChunk,
    SequenceError,
};
pub use mem::MemLog;
