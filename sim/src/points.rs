//! Named states that a good simulation reaches: one that never does tests less than it
//! seems to. Reached by what nodes look like, by what they log, or by what faults did.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_base::image::{ClusterImage, NodeState, PartitionRecord};

use crate::focus::FOCI;
use crate::oracle::queues;
use crate::probe::Seen;
use crate::queue_steps;

/// Messages in nodes' logs, and the state that each tells of.
const HEARD: &[(&str, &str)] = &[
    ("leads the metadata group", "metadata leader elected"),
    ("fenced for silence", "node fenced for silence"),
    (
        "its control port is refused: the process is gone",
        "node fenced for a refused probe",
    ),
    ("registered", "node registered"),
    ("not registered yet", "registration waited"),
    ("resigned", "resignation"),
    ("ALARM: the last copy is bad", "last copy bad"),
    ("log cut to match its leader's", "diverging truncation"),
    (
        "log begins anew where its leader's does",
        "follower behind the log start",
    ),
    ("log cut", "log cut"),
    ("torn tail cut off", "torn tail"),
    ("replica failed", "replica failed"),
    ("data directory failed", "data directory failed"),
    ("log not opened", "log not opened"),
    (
        "log removed: this copy begins anew",
        "quarantine and repair",
    ),
    ("log removed: no longer placed here", "log removed"),
    (
        "the copy here was given up; nobody leads to begin anew from",
        "bad copy waits for a leader",
    ),
    ("cut batches saved", "cut batches saved"),
    (
        "leadership refused after a restart",
        "leadership refused after a restart",
    ),
    (
        "elected in an epoch that was led before",
        "elected in an epoch led before",
    ),
    ("what is cut cannot be saved", "cut batches not saved"),
    (
        "batches from the leader not appended",
        "batches from the leader refused",
    ),
    ("peer turned away", "peer turned away"),
    ("task panicked", "process stopped itself"),
    ("cannot stand for election", "no candidate"),
    ("leadership was not moved away", "drain without success"),
    ("left without saying so", "stop without farewell"),
    ("bad copy not given up yet", "bad copy kept for now"),
    ("topic was not auto-created", "topic not auto-created"),
];

/// States seen by looking at nodes.
const LOOKED: &[&str] = &[
    "isr below min isr",
    "isr of one",
    "elr member",
    "election from the elr",
    "last known elr member",
    "partition without a leader",
    "leader of an old epoch",
    "leader not ready",
    "leader without a lease",
    "two leaders in different epochs",
    "follower beyond the watermark",
    "durable end behind log end",
    "replica failed and still open",
    "reassignment under way",
    "replica added by a reassignment",
    "durability pending",
    "node fenced",
    "node draining",
    "image behind by 10",
    "logs of different epochs",
];

/// States that supervisors and scenarios tell.
const TOLD: &[&str] = &[
    "crash amid disk operations",
    "killed right after a cut",
    "leader killed at a shrink of its ISR",
    "leader killed that was ahead",
    "power lost right after a vote",
    "power lost at a machine without a process",
    "power lost with a tail",
    "stopped cleanly",
    "not stopped in time",
    "given up: its disk is beyond use",
    "refused to start on a bad disk",
    "stopped itself for a failed disk",
    "core beside a disk that stands still",
    "core without one node",
    "partition that only an operator can bring back",
    "copies of a log compared",
];

/// States that no number of runs has to reach: the design rules them out, or no client
/// here does what leads there. They are counted all the same.
const NOT_DEMANDED: &[&str] = &[
    // A start ends every epoch that the node led before.
    "elected in an epoch led before",
    "leadership refused after a restart",
    // No log of a run is shortened at its start.
    "follower behind the log start",
    // Topics are made before they are used.
    "topic not auto-created",
    // Only of a metadata group that is being stopped.
    "no candidate",
    // Faults that only some focus has.
    "core beside a disk that stands still",
    "killed right after a cut",
    "leader killed at a shrink of its ISR",
    "leader killed that was ahead",
    "power lost right after a vote",
    "power lost with a tail",
];

/// Which states one run reached.
#[derive(Default)]
pub(crate) struct Points {
    reached: BTreeMap<&'static str, u64>,
    /// The newest image at the look before.
    image: Arc<ClusterImage>,
}

impl Points {
    /// Every state there is a name for.
    pub(crate) fn all() -> impl Iterator<Item = &'static str> {
        let heard = HEARD.iter().map(|(_, point)| *point);
        heard
            .chain(LOOKED.iter().copied())
            .chain(TOLD.iter().copied())
            .chain(Self::of_queues())
            .chain(Self::of_foci())
    }

    /// The states that only the clients or the faults of some focus reach for sure.
    fn of_foci() -> impl Iterator<Item = &'static str> {
        let all = FOCI.iter().flat_map(|focus| focus.points);
        all.copied()
    }

    /// The states that are reached where queues have clients.
    pub(crate) fn of_queues() -> impl Iterator<Item = &'static str> {
        let clients_see = queues::POINTS.iter();
        clients_see.chain(queue_steps::POINTS).copied()
    }

    /// The states that a long enough row of runs has to reach.
    pub(crate) fn demanded() -> impl Iterator<Item = &'static str> {
        let demanded = |point: &&str| !NOT_DEMANDED.contains(point);
        let of_some: Vec<&str> = Self::of_queues().chain(Self::of_foci()).collect();
        Self::all()
            .filter(demanded)
            .filter(move |point| !of_some.contains(point))
    }

    pub(crate) fn reach(&mut self, point: &'static str) {
        *self.reached.entry(point).or_default() += 1;
    }

    /// Takes in how often each message was logged.
    pub(crate) fn hear(&mut self, said: &BTreeMap<String, u64>) {
        for (message, count) in said {
            let known = HEARD.iter().find(|(begins, _)| message.starts_with(begins));
            if let Some((_, point)) = known {
                *self.reached.entry(point).or_default() += count;
            }
        }
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.reached.iter();
        counts
            .map(|(point, count)| ((*point).to_owned(), *count))
            .collect()
    }

    /// Looks at all nodes.
    pub(crate) fn look(&mut self, seen: &Seen) {
        let before = std::mem::replace(&mut self.image, Arc::clone(&seen.newest));
        for (at, record) in seen.newest.partitions() {
            let known = before.partition(at);
            if known.is_some_and(|known| was_elected_from_elr(known, record)) {
                self.reach("election from the elr");
            }
            let reached = [
                (
                    record.isr.len() < record.min_isr as usize,
                    "isr below min isr",
                ),
                (record.isr.len() == 1, "isr of one"),
                (!record.elr.is_empty(), "elr member"),
                (!record.last_known_elr.is_empty(), "last known elr member"),
                (record.leader.is_none(), "partition without a leader"),
                (!record.removing.is_empty(), "reassignment under way"),
                (!record.adding.is_empty(), "replica added by a reassignment"),
                (record.pending_durability.is_some(), "durability pending"),
            ];
            for (_, point) in reached.into_iter().filter(|(is, _)| *is) {
                self.reach(point);
            }
            let mut leaders = 0;
            let mut epochs = Vec::new();
            for (_, replica) in seen.replicas(at) {
                let is_leader = replica.is_leader;
                leaders += u32::from(is_leader);
                epochs.extend(replica.epochs.first().map(|(epoch, _)| *epoch));
                let reached = [
                    (
                        is_leader && replica.leader_epoch < record.leader_epoch,
                        "leader of an old epoch",
                    ),
                    (is_leader && !replica.is_ready, "leader not ready"),
                    (
                        is_leader && replica.is_ready && !replica.may_answer,
                        "leader without a lease",
                    ),
                    (
                        !is_leader && replica.log_end > replica.high_watermark,
                        "follower beyond the watermark",
                    ),
                    (
                        replica.durable_end < replica.log_end,
                        "durable end behind log end",
                    ),
                    (replica.is_failed, "replica failed and still open"),
                ];
                for (_, point) in reached.into_iter().filter(|(is, _)| *is) {
                    self.reach(point);
                }
            }
            if leaders > 1 {
                self.reach("two leaders in different epochs");
            }
            if epochs.windows(2).any(|pair| pair[0] != pair[1]) {
                self.reach("logs of different epochs");
            }
        }
        for record in seen.newest.nodes.values() {
            match record.state {
                NodeState::Fenced => self.reach("node fenced"),
                NodeState::Draining => self.reach("node draining"),
                NodeState::Active => {}
            }
        }
        let behind = |version: u64| version + 10 <= seen.newest.version;
        if seen
            .nodes
            .values()
            .any(|inside| behind(inside.image.version))
        {
            self.reach("image behind by 10");
        }
    }
}

/// Whether an eligible leader outside the ISR came to lead between two records.
fn was_elected_from_elr(before: &PartitionRecord, now: &PartitionRecord) -> bool {
    let is_elected = now.leader_epoch > before.leader_epoch;
    is_elected
        && now
            .leader
            .is_some_and(|leader| before.elr.contains(&leader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{AT, Scene};
    use weir_base::NodeId;

    #[test]
    fn what_is_not_demanded_has_a_name() {
        for point in NOT_DEMANDED {
            assert!(Points::all().any(|named| named == *point), "{point}");
        }
    }

    #[test]
    fn an_election_from_the_elr_is_told_from_one_of_the_isr() {
        let look = |eligible: &[u32], leader: u32| {
            let mut before = (*Scene::new().isr(&[]).seen().newest).clone();
            for topic in before.topics.values_mut() {
                let record = &mut Arc::make_mut(topic).partitions[0];
                record.elr = eligible.iter().copied().map(NodeId).collect();
            }
            let before = before.partition(AT).unwrap().clone();
            let now = Scene::new().leader(leader, 1, 5).seen().newest;
            was_elected_from_elr(&before, now.partition(AT).unwrap())
        };
        assert!(look(&[1, 2], 2));
        assert!(!look(&[1], 2));
    }
}
