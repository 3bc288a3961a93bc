//! Leader and follower of one partition: epochs, ISR, high watermark, truncation.
//!
//! [`core`] decides, purely; `partition.rs` is the one task a replica has; `stream.rs`
//! carries batches from leaders to followers. The node uses [`Replication`] and
//! [`PartitionHandle`] and implements [`IsrAgreement`].

mod agreement;
mod catch_up;
pub mod core;
mod error;
mod inbox;
mod node;
mod options;
mod partition;
mod replication;
mod stream;
mod waiters;

pub use agreement::{IsrAgreement, IsrChange, IsrRefusal, ReplicaEvent};
pub use core::CoreOptions;
pub use error::{AppendError, KnownLeader, ReadError};
pub use inbox::AckLevel;
pub use options::ReplicationOptions;
pub use partition::{Fetched, PartitionHandle, PartitionView};
pub use replication::Replication;
pub use waiters::Appended;
