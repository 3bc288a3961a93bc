//! One partition's log on a disk, and the node's shared write-ahead log.

pub mod log;

pub use log::{
    AppendOutcome, EpochEnd, LogError, LogPosition, PartitionLog, ReadChunk, SequenceError,
};
