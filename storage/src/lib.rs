//! One partition's log on a disk, and the node's shared write-ahead log.
//!
//! Reading order: [`log`] (what a log promises), [`mem`] (the promise at its plainest),
//! [`storage`] (a data directory), then `log/disk.rs` and the files beside it, `segment`,
//! and `wal`.

mod cache;
pub mod contract;
pub mod epochs;
mod error;
pub mod fault_disk;
mod health;
pub mod log;
pub mod mem;
mod node_record;
mod options;
pub mod producers;
mod record_time;
pub mod segment;
mod shared;
mod sidecar;
mod state;
pub mod storage;
mod timed_disk;
mod two_slot;
mod wal;
mod write_back;

pub use error::StorageError;
pub use fault_disk::{Crash, SimDisk, SimFaults};
pub use health::{FSYNC_BOUNDS, StorageCounters, StorageHealth};
pub use log::compact::CompactionReport;
pub use log::recover::{RecoveredTail, RecoveryReport};
pub use log::scrub::ScrubStep;
pub use log::{
    AppendOutcome, EpochEnd, LogError, LogPosition, PartitionLog, ProducerSummary, ReadChunk,
    SequenceError,
};
pub use mem::MemLog;
pub use node_record::StartKind;
pub use options::{LogConfig, StorageOptions};
pub use storage::Storage;
pub use wal::record::batches_in;
