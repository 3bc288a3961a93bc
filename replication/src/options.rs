//! What an operator or a test may tune.

use std::time::Duration;

use crate::core::CoreOptions;

/// Options of replication on one node. All take effect at the start only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationOptions {
    /// Time limits and bounds of the protocol.
    pub core: CoreOptions,
    /// Appends that may wait for one partition's task; more are answered `Overloaded`.
    /// Default 8,192, at least 1.
    pub append_queue_len_max: usize,
    /// Their bytes. Default 32 MiB; one batch is always admitted.
    pub append_queue_bytes_max: usize,
    /// Bytes appended as one group. Default 4 MiB: larger groups delay the first of them.
    pub group_bytes_max: usize,
    /// Streams between a follower node and a leader node; partitions are spread over
    /// them. Default 4, at least 1: more use more cores.
    pub streams_per_peer: u32,
    /// Bytes on their way to one follower of one partition that it has not claimed yet.
    /// Default 8 MiB: at least bandwidth times round trip and fsync.
    pub window_bytes: usize,
    /// Bytes of one frame of data, but for a batch that is larger. Default 1 MiB.
    pub frame_bytes_max: usize,
    /// Bytes read from the disk at once for a follower that is behind. Default 1 MiB.
    pub catch_up_read_bytes: usize,
    /// Such reads at the same time on this node: bounds what catching up takes from the
    /// disk and from memory. Default 4, at least 1.
    pub catch_up_reads_max: usize,
    /// How long to wait for a stream to a leader. Default 3 s.
    pub connect_deadline: Duration,
    /// First pause before a lost stream is opened again; doubles up to the next. Default 20 ms.
    pub reconnect_backoff: Duration,
    /// Longest such pause. Default 1 s.
    pub reconnect_backoff_max: Duration,
    /// How long the controller may take to answer a proposal. Default 5 s.
    pub proposal_deadline: Duration,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self {
            core: CoreOptions::default(),
            append_queue_len_max: 8_192,
            append_queue_bytes_max: 32 * 1024 * 1024,
            group_bytes_max: 4 * 1024 * 1024,
            streams_per_peer: 4,
            window_bytes: 8 * 1024 * 1024,
            frame_bytes_max: 1024 * 1024,
            catch_up_read_bytes: 1024 * 1024,
            catch_up_reads_max: 4,
            connect_deadline: Duration::from_secs(3),
            reconnect_backoff: Duration::from_millis(20),
            reconnect_backoff_max: Duration::from_secs(1),
            proposal_deadline: Duration::from_secs(5),
        }
    }
}
