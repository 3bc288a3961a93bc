//! Checks that concern more than one option. What one option alone may be is in its
//! bounds.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{NodeOptions, Section, Voter};

/// An option that does not fit the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The option, `section.key`.
    pub key: &'static str,
    /// What is wrong and what to write instead.
    pub problem: String,
}

fn invalid(key: &'static str, problem: impl Into<String>) -> Invalid {
    Invalid {
        key,
        problem: problem.into(),
    }
}

impl NodeOptions {
    /// Whether the options fit together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_names()?;
        self.validate_addresses()?;
        self.validate_voters()?;
        self.validate_timing()
    }

    fn validate_names(&self) -> Result<(), Invalid> {
        let cluster = &self.node.cluster;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=40).contains(&cluster.len()) || !cluster.chars().all(legal) {
            return Err(invalid(
                "node.cluster",
                "not a cluster name: write 1 to 40 letters, digits and hyphens",
            ));
        }
        if self.node.name.len() > 100 {
            return Err(invalid("node.name", "longer than 100 bytes"));
        }
        Ok(())
    }

    fn validate_addresses(&self) -> Result<(), Invalid> {
        let listeners = [
            (
                "kafka.listen",
                self.kafka.listen,
                self.kafka.advertised.is_some(),
            ),
            (
                "rocketmq.listen",
                self.rocketmq.listen,
                self.rocketmq.advertised.is_some(),
            ),
            (
                "admin.listen",
                self.admin.listen,
                self.admin.advertised.is_some(),
            ),
            (
                "peer.listen",
                self.peer.listen,
                self.peer.advertised.is_some(),
            ),
        ];
        for (key, address, advertised) in listeners {
            if address.port() == 0 {
                return Err(invalid(
                    key,
                    "port 0: write the port that others are to use",
                ));
            }
            if address.ip().is_unspecified() && !advertised {
                let option = key.replace("listen", "advertised");
                return Err(invalid(
                    key,
                    format!(
                        "listens on every interface, so others must be told one address: set {option}"
                    ),
                ));
            }
        }
        // Peers listen on UDP and, to prove that the process lives, on TCP.
        for (nth, (key, address, _)) in listeners.iter().enumerate() {
            let mut earlier = listeners.iter().take(nth);
            if let Some((other, ..)) = earlier.find(|(_, other, _)| collide(*address, *other)) {
                return Err(invalid(
                    key,
                    format!("the same port as {other}: choose another"),
                ));
            }
        }
        let tls = [&self.peer.tls_cert, &self.peer.tls_key, &self.peer.tls_ca];
        let set = tls.iter().filter(|path| path.is_some()).count();
        if set != 0 && set != tls.len() {
            return Err(invalid(
                "peer.tls_cert",
                "peer.tls_cert, peer.tls_key and peer.tls_ca go together: set all three or none",
            ));
        }
        let front = [&self.rocketmq.tls_cert, &self.rocketmq.tls_key];
        if front.iter().filter(|path| path.is_some()).count() == 1 {
            return Err(invalid(
                "rocketmq.tls_cert",
                "rocketmq.tls_cert and rocketmq.tls_key go together: set both or none",
            ));
        }
        if set == 0 && !self.stands_alone() {
            return Err(invalid(
                "peer.tls_cert",
                "nodes only talk over mutual TLS: set peer.tls_cert, peer.tls_key and peer.tls_ca",
            ));
        }
        Ok(())
    }

    fn validate_voters(&self) -> Result<(), Invalid> {
        let voters = &self.metadata.voters;
        let ids: BTreeSet<u32> = voters.iter().map(|voter| voter.node).collect();
        let addresses: BTreeSet<_> = voters.iter().map(|voter| &voter.address).collect();
        if ids.len() != voters.len() || addresses.len() != voters.len() {
            return Err(invalid(
                "metadata.voters",
                "names a node or an address twice",
            ));
        }
        if voters.len() > 5 || (!voters.is_empty() && voters.len().is_multiple_of(2)) {
            return Err(invalid(
                "metadata.voters",
                format!("{} voters: write 1, 3 or 5", voters.len()),
            ));
        }
        if self.metadata.seeds.len() > 32 {
            return Err(invalid("metadata.seeds", "more than 32 seeds"));
        }
        Ok(())
    }

    fn validate_timing(&self) -> Result<(), Invalid> {
        let metadata = &self.metadata;
        let rules = [
            (
                metadata.session_timeout >= metadata.heartbeat_interval * 3,
                "metadata.session_timeout",
                "less than three times metadata.heartbeat_interval: one late heartbeat would fence the node",
            ),
            (
                metadata.election_timeout_min >= metadata.raft_heartbeat * 3,
                "metadata.election_timeout_min",
                "less than three times metadata.raft_heartbeat: one late heartbeat would start an election",
            ),
            (
                metadata.election_timeout_max > metadata.election_timeout_min,
                "metadata.election_timeout_max",
                "not above metadata.election_timeout_min: voters would stand at the same time",
            ),
            (
                self.peer.idle_timeout >= self.peer.keep_alive * 2,
                "peer.idle_timeout",
                "less than twice peer.keep_alive: idle links would be lost",
            ),
            (
                self.peer.link_window_bytes >= self.peer.stream_window_bytes,
                "peer.link_window_bytes",
                "below peer.stream_window_bytes, which could then never be used",
            ),
            (
                self.storage.wal_queue_bytes >= self.storage.async_flush_bytes,
                "storage.wal_queue_bytes",
                "below storage.async_flush_bytes: appends would always wait for the timer",
            ),
            (
                self.groups.session_timeout_max >= self.groups.session_timeout_min,
                "groups.session_timeout_max",
                "below groups.session_timeout_min",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, problem)) => Err(invalid(key, problem)),
            None => Ok(()),
        }
    }

    /// Whether this node is its whole cluster.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        let others = |voter: &Voter| voter.node != self.node.id;
        self.metadata.seeds.is_empty() && !self.metadata.voters.iter().any(others)
    }

    /// The listeners that other machines can reach, as `section.key` and address.
    #[must_use]
    pub fn beyond_loopback(&self) -> Vec<(&'static str, SocketAddr)> {
        // Not the peers' one: it takes nobody without a certificate of the cluster.
        [
            ("kafka.listen", self.kafka.listen),
            ("rocketmq.listen", self.rocketmq.listen),
            ("admin.listen", self.admin.listen),
        ]
        .into_iter()
        .filter(|(_, address)| !address.ip().is_loopback())
        .collect()
    }

    /// The value of `section.key`, as written in TOML.
    pub(super) fn show(&self, path: &str) -> String {
        let Some((name, key)) = path.split_once('.') else {
            return String::new();
        };
        let sections = self.sections();
        let section: Option<&&dyn Section> = sections.iter().find(|s| s.name() == name);
        section.map(|s| s.show(key)).unwrap_or_default()
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && (a.ip() == b.ip() || everywhere)
}
