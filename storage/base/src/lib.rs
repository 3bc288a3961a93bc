//! The nouns and the seams of Weir, shared by every other crate.
//!
//! Owns: identifiers, offsets, epochs, the Kafka v2 record batch, the cluster
//! image, and [`Env`] (clock, entropy, disk, net, tasks). It performs no I/O and
//! starts no task: `node/os` implements the seams for the machine, `sim` for the
//! simulator. Invariants are numbered in [`invariant`].

pub mod batch;
pub mod companion;
pub mod env;
pub mod epoch;
pub mod fault;
pub mod ids;
pub mod image;
pub mod invariant;
pub mod limits;
pub mod machine;
pub mod mutant;
pub mod offset;
pub mod time;

pub use batch::{BatchError, BatchHeader, RecordBatch};
pub use env::{
    BoxFuture, ByteStream, CacheHint, Clock, Disk, DiskFile, Entropy, Env, Listener, Net, OpenMode,
    Tasks, WriteSource,
};
pub use epoch::{LeaderEpoch, NodeEpoch, PartitionEpoch};
pub use fault::{FaultClass, WriteOutcome};
pub use ids::{NodeId, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition, Uuid};
pub use image::ClusterImage;
pub use offset::Offset;
pub use time::{Monotonic, Timestamp};
