//! Bounds that hold in every room. What an operator may tune is in that room's
//! `Options`; what is here protects memory and formats.

/// Largest record batch, and so the largest message, accepted unless a topic says less.
pub const BATCH_BYTES_MAX_DEFAULT: u32 = 4 * 1024 * 1024;
/// Hard ceiling of a record batch, whatever a topic says.
pub const BATCH_BYTES_CEILING: u32 = 64 * 1024 * 1024;
/// Most that compaction decompresses of one batch; larger ones stay as they are.
pub const DECOMPRESSED_BYTES_CEILING: usize = 64 * 1024 * 1024;
/// Bytes that one connection may make a node hold before it is authenticated.
pub const BYTES_BEFORE_AUTHENTICATION_MAX: usize = 16 * 1024;
/// Largest frame between two nodes: a batch at its ceiling and its header.
pub const PEER_FRAME_BYTES_MAX: usize = BATCH_BYTES_CEILING as usize + 64 * 1024;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Replicas of one partition.
pub const REPLICAS_MAX: usize = 9;
