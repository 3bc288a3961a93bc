//! Queues of a run: when they are done, and what is judged of them.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::{Offset, TopicPartition, companion};
use weir_checkers::queue::Patience;

use super::Run;
use crate::env::EPOCH;
use crate::nemesis::{ClockFault, Fault, ProcessFault};
use crate::oracle::queues::{Terms, judge};
use crate::probe::{ReplicaSeen, Seen};
use crate::workload::workers::QUEUES;

/// A step of the network and the milliseconds that are rounded away.
const SLACK: i64 = 10;
/// How far two wall clocks may be apart that were set wrong.
const JUMP: i64 = 2 * 60_000;
/// The same for clocks that run fast or slow, through a whole run.
const DRIFT: i64 = 2 * 8_000;

/// Milliseconds that a release, or a question, may take while queues lack nothing: an append
/// that is given up and made again takes five, and there are two in a row.
const LATE: i64 = 15_000;
/// Milliseconds that a leader may wait for its followers and not count as without them.
const STALL: u64 = 500;
/// Milliseconds after the faults until whoever can be asked is there again.
const RETURN: i64 = 10_000;
/// How long a question may be under way, in milliseconds, where nobody stands still.
const UNDER_WAY: i64 = 10_000;
/// The longest pause of a process.
const PAUSE: i64 = 30_000;

/// When queues lacked what they need: one leader of a partition and its journal, with its
/// lease, that has its followers.
#[derive(Default)]
pub(super) struct Outages {
    /// From and to, in simulated milliseconds.
    spans: Vec<(u64, u64)>,
    /// Where watermarks stand that are not at their log's end, and since when.
    stalls: BTreeMap<TopicPartition, (Offset, u64)>,
    looked_at: u64,
}

impl Outages {
    /// Looks at all queues.
    pub(super) fn look(&mut self, now: u64, seen: &Seen) {
        let before = std::mem::replace(&mut self.looked_at, now);
        let mut all = true;
        for queue in QUEUES {
            let Some(topic) = seen.newest.topics.get(queue.topic) else {
                all = false;
                continue;
            };
            for index in (0..).take(topic.partitions.len()) {
                let at = TopicPartition::new(topic.id, index);
                all &= self.has_all(now, seen, at);
            }
        }
        if all {
            return;
        }
        match self.spans.last_mut() {
            Some((_, until)) if *until == before => *until = now,
            Some(_) | None => self.spans.push((before, now)),
        }
    }

    fn has_all(&mut self, now: u64, seen: &Seen, at: TopicPartition) -> bool {
        let leader = |at| {
            let record = seen.newest.partition(at)?;
            record.leader
        };
        let Some((journal, _)) = seen.newest.partner(at) else {
            return false;
        };
        let Some(node) = leader(at).filter(|node| leader(journal) == Some(*node)) else {
            return false;
        };
        let Some(node) = seen.nodes.get(&node) else {
            return false;
        };
        let mut replicas = [at, journal]
            .map(|at| (at, node.replicas.get(&at)))
            .into_iter();
        replicas.all(|(at, replica)| {
            replica.is_some_and(|replica| replica.may_answer && !self.stalls(now, at, replica))
        })
    }

    /// Whether what a leader wrote waits for its followers.
    fn stalls(&mut self, now: u64, at: TopicPartition, replica: &ReplicaSeen) -> bool {
        let mark = replica.high_watermark;
        if mark == replica.log_end {
            self.stalls.remove(&at);
            return false;
        }
        let (stood_at, since) = self.stalls.entry(at).or_insert((mark, now));
        if *stood_at != mark {
            (*stood_at, *since) = (mark, now);
        }
        now - *since > STALL
    }
}

/// As clients tell the time.
fn wall(simulated: u64) -> i64 {
    EPOCH.0.saturating_add_unsigned(simulated)
}

impl Run<'_> {
    /// What may be late in this run, and by how much.
    fn terms(&self, end: u64) -> Terms {
        let slack = self.clocks_differ();
        let outages = self.outages.spans.iter();
        let faults_end = wall(self.plan.end) + RETURN;
        let mut events = self.plan.events.iter();
        let pauses = events
            .any(|(_, event)| matches!(event.fault, Fault::Process(ProcessFault::Pause { .. })));
        Terms {
            slack,
            release: Patience {
                most: LATE + slack,
                excused: outages.map(|(from, to)| (wall(*from), wall(*to))).collect(),
            },
            check: Patience {
                most: LATE + slack,
                excused: vec![(0, faults_end)],
            },
            under_way: UNDER_WAY + slack + if pauses { PAUSE } else { 0 },
            end: wall(end),
        }
    }

    /// By how much the clocks of two leaders may differ, in milliseconds.
    fn clocks_differ(&self) -> i64 {
        let mut slack = SLACK;
        let has = |wanted: fn(&ClockFault) -> bool| {
            let mut events = self.plan.events.iter();
            events.any(|(_, event)| matches!(&event.fault, Fault::Clock(fault) if wanted(fault)))
        };
        if has(|fault| matches!(fault, ClockFault::Wall { .. })) {
            slack += JUMP;
        }
        if has(|fault| matches!(fault, ClockFault::Drift { .. })) {
            slack += DRIFT;
        }
        slack
    }

    /// How much longer queues may take than all else: what one leader put off by its clock
    /// comes when that of the next has got there.
    pub(super) fn queues_may_lag(&self) -> Duration {
        if !self.plan.has_queues {
            return Duration::ZERO;
        }
        Duration::from_millis(self.clocks_differ().unsigned_abs())
    }

    /// Whether nothing is pending any more, or nothing can be asked of them.
    pub(super) fn queues_are_done(&self) -> bool {
        !self.plan.has_queues || self.book.is_closed() || self.queues_are_stranded()
    }

    /// Whether only an operator can bring back what some queue needs.
    fn queues_are_stranded(&self) -> bool {
        let image = &self.seen.newest;
        let is_ours = |name: &str| {
            QUEUES
                .iter()
                .any(|queue| [queue.topic, queue.letters].contains(&name))
        };
        let mut partitions = image.partitions();
        partitions.any(|(at, record)| {
            let Some(name) = image.topic_names.get(&at.topic) else {
                return false;
            };
            (is_ours(name) || companion::parent_of(name).is_some())
                && self.standing().is_stranded(at, record)
        })
    }

    /// What the clients of queues saw that must not be.
    pub(super) fn judge_queues(&mut self, end: u64) -> Vec<String> {
        if !self.plan.has_queues || self.queues_are_stranded() {
            return Vec::new();
        }
        let judgement = judge(&self.book, &self.terms(end));
        for point in judgement.points {
            self.points.reach(point);
        }
        judgement.violations
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_base::image::ClusterImage;

    use super::*;
    use crate::invariants::testing::{AT, Scene};

    /// A look at the queues, each of one partition and its journal, all led by one node whose
    /// logs end at `end`.
    fn seen(mark: u64, end: u64, may_answer: bool) -> Seen {
        let mut scene = Scene::new().leader(1, 1, end);
        let replica = scene.replica(1);
        (replica.high_watermark, replica.may_answer) = (Offset(mark), may_answer);
        let replica = replica.clone();
        let mut seen = scene.seen();
        let any = Arc::clone(seen.newest.topics.values().next().unwrap());
        let mut image = ClusterImage::default();
        let replicas = &mut seen.nodes.values_mut().next().unwrap().replicas;
        for (number, queue) in (1..).zip(QUEUES) {
            let id = weir_base::Uuid([number; 16]);
            let journal = weir_base::Uuid([number + 100; 16]);
            for (id, name) in [
                (id, queue.topic.to_owned()),
                (journal, companion::name_of(id)),
            ] {
                let mut record = (*any).clone();
                (record.id, record.name) = (id, name.as_str().into());
                image.topic_names.insert(id, name.as_str().into());
                image.topics.insert(name.as_str().into(), Arc::new(record));
                let at = TopicPartition { topic: id, ..AT };
                replicas.insert(at, replica.clone().into());
            }
        }
        seen.newest = Arc::new(image);
        seen
    }

    #[test]
    fn only_time_without_a_leader_or_its_followers_is_excused() {
        let mut outages = Outages::default();
        outages.look(6, &Seen::default());
        outages.look(12, &seen(5, 5, true));
        outages.look(18, &seen(5, 5, false));
        outages.look(24, &seen(5, 5, false));
        outages.look(30, &seen(5, 9, true));
        assert_eq!(outages.spans, [(0, 6), (12, 24)]);
        outages.look(30 + STALL, &seen(5, 9, true));
        assert_eq!(outages.spans.len(), 2, "followers take their time");
        outages.look(36 + STALL, &seen(5, 9, true));
        assert_eq!(outages.spans[2..], [(30 + STALL, 36 + STALL)]);
        outages.look(42 + STALL, &seen(7, 9, true));
        assert_eq!(outages.spans.len(), 3, "they are back");
    }
}
