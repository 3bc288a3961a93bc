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
    /// Bytes so read, of all partitions of one follower together, that it has not on its disk
    /// yet, at most. Default 8 MiB, at least 1.
    pub catch_up_window_bytes: usize,
    /// How long they may wait on that way for one another, as what is appended now waits for
    /// them: there are fewer of them if they wait longer. Default 1 ms.
    pub catch_up_delay: Duration,
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
            catch_up_window_bytes: 8 * 1024 * 1024,
            catch_up_delay: Duration::from_millis(1),
            catch_up_reads_max: 4,
            connect_deadline: Duration::from_secs(3),
            reconnect_backoff: Duration::from_millis(20),
            reconnect_backoff_max: Duration::from_secs(1),
            proposal_deadline: Duration::from_secs(5),
        }
    }
}

impl ReplicationOptions {
    /// Checks the bounds.
    ///
    /// # Errors
    /// Names the first field that is out of its own.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("append_queue_len_max", self.append_queue_len_max),
            ("append_queue_bytes_max", self.append_queue_bytes_max),
            ("group_bytes_max", self.group_bytes_max),
            ("window_bytes", self.window_bytes),
            ("frame_bytes_max", self.frame_bytes_max),
            ("catch_up_read_bytes", self.catch_up_read_bytes),
            ("catch_up_window_bytes", self.catch_up_window_bytes),
            ("catch_up_reads_max", self.catch_up_reads_max),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must be at least 1"));
        }
        if self.streams_per_peer == 0 {
            return Err("streams_per_peer must be at least 1".to_owned());
        }
        let times = [
            ("lag_max", self.core.lag_max),
            ("hold_max", self.core.hold_max),
            ("proposal_backoff", self.core.proposal_backoff),
            ("open_backoff", self.core.open_backoff),
            ("open_timeout", self.core.open_timeout),
            ("catch_up_delay", self.catch_up_delay),
            ("connect_deadline", self.connect_deadline),
            ("reconnect_backoff", self.reconnect_backoff),
            ("proposal_deadline", self.proposal_deadline),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(format!("{name} must be longer than zero"));
        }
        if self.reconnect_backoff_max < self.reconnect_backoff {
            return Err("reconnect_backoff_max must be at least reconnect_backoff".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_bounds_and_zeroes_are_not() {
        let mut options = ReplicationOptions::default();
        assert_eq!(options.validate(), Ok(()));
        options.window_bytes = 0;
        assert!(
            options
                .validate()
                .is_err_and(|e| e.contains("window_bytes"))
        );
        let mut options = ReplicationOptions::default();
        options.core.hold_max = Duration::ZERO;
        assert!(options.validate().is_err_and(|e| e.contains("hold_max")));
    }
}
