//! Leader and follower of one partition: epochs, ISR, high watermark, truncation.
//!
//! [`core`] decides, purely; `partition.rs` is the one task a replica has; `stream.rs`
//! carries batches from leaders to followers. The node uses [`Replication`] and
//! [`PartitionHandle`] and implements [`IsrAgreement`].

#[cfg(feature = "mutants")]
pub mod mutants;

/// Whether the named bug is planted; never in a build without the feature.
macro_rules! mutant {
    ($name:ident) => {{
        #[cfg(feature = "mutants")]
        let planted = crate::mutants::is_planted(crate::mutants::Mutant::$name);
        #[cfg(not(feature = "mutants"))]
        let planted = false;
        planted
    }};
}

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
