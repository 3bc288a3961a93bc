//! What an operator may tune about metadata. All durations are read at start only.

use std::time::Duration;

/// Timeouts and bounds of the metadata group, the controller and its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataOptions {
    /// Least time without a leader before a voter stands for election. Default 500 ms;
    /// at least 10 times the fsync latency of the voters' disks.
    pub election_min: Duration,
    /// Most of it, and the lease that voters grant a leader. Default 1 s. Lower both
    /// where disks and links are local (`weir dev`).
    pub election_max: Duration,
    /// How often the leader of the group tells its voters that it lives. Default 100 ms.
    pub raft_heartbeat: Duration,
    /// How often every node tells the controller that it lives. Default 250 ms.
    pub heartbeat: Duration,
    /// Silence after which a node is fenced without further proof. Default 1.5 s.
    pub session: Duration,
    /// How long a probe of a suspect's control port may take. Default 100 ms.
    pub probe_deadline: Duration,
    /// How long one request between nodes may take. Default 500 ms.
    pub request_deadline: Duration,
    /// How long sending or installing a snapshot may take. Default 10 s.
    pub snapshot_deadline: Duration,
    /// Entries of the log between two snapshots. Default 5,000.
    pub snapshot_every: u64,
    /// Requests waiting at the controller; more are refused as overloaded. Default 1,024.
    pub requests_max: usize,
    /// Age of a node's oldest fsync at which its leaderships are moved away. Default 5 s.
    pub fsync_age_max: Duration,
    /// 99th percentile of a node's latest fsyncs above which its leaderships are moved
    /// away, if it is also `fsync_p99_times_peers` times the median of the other nodes'
    /// and stays so for `fsync_p99_lasting`. Default 50 ms.
    pub fsync_p99_max: Duration,
    /// See `fsync_p99_max`. Default 5.
    pub fsync_p99_times_peers: u32,
    /// See `fsync_p99_max`; and how long a disk must have been within the limits to be
    /// given leaderships again. Default 10 s.
    pub fsync_p99_lasting: Duration,
    /// How often preferred leaders are restored and stuck moves are ended. Default 30 s.
    pub rebalance: Duration,
    /// How often gossip probes a member. Default 500 ms.
    pub gossip_period: Duration,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            raft_heartbeat: Duration::from_millis(100),
            heartbeat: Duration::from_millis(250),
            session: Duration::from_millis(1500),
            probe_deadline: Duration::from_millis(100),
            request_deadline: Duration::from_millis(500),
            snapshot_deadline: Duration::from_secs(10),
            snapshot_every: 5000,
            requests_max: 1024,
            fsync_age_max: Duration::from_secs(5),
            fsync_p99_max: Duration::from_millis(50),
            fsync_p99_times_peers: 5,
            fsync_p99_lasting: Duration::from_secs(10),
            rebalance: Duration::from_secs(30),
            gossip_period: Duration::from_millis(500),
        }
    }
}

impl MetadataOptions {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Which do not.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("raft_heartbeat", self.raft_heartbeat),
            ("heartbeat", self.heartbeat),
            ("probe_deadline", self.probe_deadline),
            ("request_deadline", self.request_deadline),
            ("snapshot_deadline", self.snapshot_deadline),
            ("fsync_age_max", self.fsync_age_max),
            ("fsync_p99_max", self.fsync_p99_max),
            ("fsync_p99_lasting", self.fsync_p99_lasting),
            ("rebalance", self.rebalance),
            ("gossip_period", self.gossip_period),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, d)| d.as_millis() == 0) {
            return Err(format!("{name}: must be at least 1 ms"));
        }
        if self.election_min < self.raft_heartbeat * 3 {
            return Err(format!(
                "election_min {:?}: must be at least three times raft_heartbeat {:?}",
                self.election_min, self.raft_heartbeat
            ));
        }
        if self.election_max <= self.election_min {
            return Err(format!(
                "election_max {:?}: must be more than election_min {:?}",
                self.election_max, self.election_min
            ));
        }
        if self.session < self.heartbeat * 3 {
            return Err(format!(
                "session {:?}: must be at least three times heartbeat {:?}",
                self.session, self.heartbeat
            ));
        }
        if self.snapshot_every < 10 || self.requests_max == 0 {
            return Err("snapshot_every: at least 10; requests_max: at least 1".to_owned());
        }
        if self.fsync_p99_times_peers == 0 {
            return Err("fsync_p99_times_peers: must be at least 1".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_nonsense_is_not() {
        assert_eq!(MetadataOptions::default().validate(), Ok(()));
        for spoil in [
            (|o| o.election_min = o.raft_heartbeat) as fn(&mut MetadataOptions),
            |o| o.election_max = o.election_min,
            |o| o.session = o.heartbeat,
            |o| o.heartbeat = Duration::ZERO,
            |o| o.requests_max = 0,
            |o| o.fsync_p99_times_peers = 0,
        ] {
            let mut options = MetadataOptions::default();
            spoil(&mut options);
            assert!(options.validate().is_err(), "{options:?}");
        }
    }
}
