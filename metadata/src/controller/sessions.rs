//! Who was heard of when. Pure: the controller's task feeds it heartbeats and time.
//!
//! Sessions are not in the Raft log, so a new controller knows none: it treats every
//! node as heard of when it took office, and so fences nobody for silence before one
//! full session has passed (M30).

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::{Monotonic, NodeEpoch, NodeId};

use super::slow::DiskFacts;

/// One node's signs of life.
#[derive(Debug, Clone, Copy)]
struct Session {
    epoch: NodeEpoch,
    heard: Monotonic,
    applied: u64,
    disk: DiskFacts,
}

/// The sessions of one term of office.
#[derive(Debug)]
pub struct Sessions {
    took_office: Monotonic,
    nodes: BTreeMap<NodeId, Session>,
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new(took_office: Monotonic) -> Self {
        Self {
            took_office,
            nodes: BTreeMap::new(),
        }
    }

    /// A heartbeat came in.
    pub fn on_heartbeat(
        &mut self,
        now: Monotonic,
        node: NodeId,
        epoch: NodeEpoch,
        applied: u64,
        disk: DiskFacts,
    ) {
        let session = Session {
            epoch,
            heard: now,
            applied,
            disk,
        };
        self.nodes.insert(node, session);
    }

    /// Forgets a node that was fenced: it is not silent, it is out.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// How long this boot of a node has been silent.
    #[must_use]
    pub fn silence(&self, now: Monotonic, node: NodeId, epoch: NodeEpoch) -> Duration {
        let heard = self
            .nodes
            .get(&node)
            .filter(|session| session.epoch == epoch)
            .map_or(self.took_office, |session| session.heard);
        if weir_base::mutant!(M30) && !self.nodes.contains_key(&node) {
            return Duration::MAX;
        }
        now.since(heard)
    }

    /// Whether this boot of a node was heard of within `limit` and had applied the log
    /// up to `version`.
    #[must_use]
    pub fn is_caught_up(
        &self,
        now: Monotonic,
        node: NodeId,
        epoch: NodeEpoch,
        version: u64,
        limit: Duration,
    ) -> bool {
        self.nodes.get(&node).is_some_and(|session| {
            session.epoch == epoch
                && session.applied >= version
                && now.since(session.heard) <= limit
        })
    }

    /// How long a node's oldest fsync lasts, as it last told.
    #[must_use]
    pub fn fsync_age(&self, node: NodeId) -> Duration {
        self.nodes
            .get(&node)
            .map_or(Duration::ZERO, |s| s.disk.fsync_age)
    }

    /// What a boot of a node last told of its disk, if it was heard of within `limit`.
    #[must_use]
    pub fn disk(
        &self,
        now: Monotonic,
        node: NodeId,
        epoch: NodeEpoch,
        limit: Duration,
    ) -> Option<DiskFacts> {
        let session = self.nodes.get(&node)?;
        let is_current = session.epoch == epoch && now.since(session.heard) <= limit;
        is_current.then_some(session.disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: NodeId = NodeId(1);
    const LIMIT: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    #[test]
    fn a_new_controller_counts_silence_from_its_first_day() {
        let sessions = Sessions::new(at(5000));
        assert_eq!(
            sessions.silence(at(5400), N, NodeEpoch(3)),
            Duration::from_millis(400)
        );
        assert!(!sessions.is_caught_up(at(5000), N, NodeEpoch(3), 0, LIMIT));
    }

    #[test]
    fn a_heartbeat_of_another_boot_is_no_sign_of_this_one() {
        let mut sessions = Sessions::new(at(0));
        sessions.on_heartbeat(at(900), N, NodeEpoch(3), 7, DiskFacts::default());
        assert_eq!(
            sessions.silence(at(1000), N, NodeEpoch(3)),
            Duration::from_millis(100)
        );
        assert_eq!(
            sessions.silence(at(1000), N, NodeEpoch(4)),
            Duration::from_secs(1)
        );
        assert!(sessions.is_caught_up(at(1000), N, NodeEpoch(3), 7, LIMIT));
        assert!(!sessions.is_caught_up(at(1000), N, NodeEpoch(3), 8, LIMIT));
        assert!(!sessions.is_caught_up(at(2000), N, NodeEpoch(3), 7, LIMIT));
        assert!(!sessions.is_caught_up(at(1000), N, NodeEpoch(4), 7, LIMIT));
    }

    #[test]
    fn what_was_told_of_a_disk_counts_while_its_teller_lives() {
        let mut sessions = Sessions::new(at(0));
        let facts = DiskFacts {
            fsync_age: Duration::from_secs(2),
            fsync_p99: Some(LIMIT),
            reads_journals: false,
        };
        sessions.on_heartbeat(at(900), N, NodeEpoch(3), 7, facts);
        assert_eq!(sessions.disk(at(1900), N, NodeEpoch(3), LIMIT), Some(facts));
        assert_eq!(sessions.disk(at(1901), N, NodeEpoch(3), LIMIT), None);
        assert_eq!(sessions.disk(at(1000), N, NodeEpoch(4), LIMIT), None);
        assert_eq!(sessions.fsync_age(N), Duration::from_secs(2));
    }
}
