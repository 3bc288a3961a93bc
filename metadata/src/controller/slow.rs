//! Whose disk is too slow to lead with. Pure: the controller's task feeds it what the
//! heartbeats carry, and time.
//!
//! A disk may be ill without failing: its heartbeats are fine, and every append that it
//! leads is late (S-47). Two signs:
//! - an fsync or append under way for long: judged at once, forgiven when it ends;
//! - the 99th percentile of the fsyncs that ended lately is far above that of the other
//!   nodes, and for a while. Where all are slow, by load or by their make, nobody is:
//!   a leader elsewhere would be no faster.
//!
//! The second is as slow to forgive as to judge, or leaderships would go to and fro.
//! A slow node keeps following. A new controller begins with no judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_base::{Monotonic, NodeId};

use crate::options::MetadataOptions;

/// What a node tells of its data directory, and of what it reads from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskFacts {
    /// How long the oldest fsync or append under way lasts; zero if there is none.
    pub fsync_age: Duration,
    /// 99th percentile of the fsyncs that ended within the last few seconds; `None` if
    /// none did.
    pub fsync_p99: Option<Duration>,
    /// Its groups and queues still read their journals, as after a start: callers would wait
    /// for what it leads from now on. In peace it is given nothing to lead.
    pub reads_journals: bool,
}

/// From when on a disk counts as slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowLimits {
    /// Age of the oldest fsync.
    pub age: Duration,
    /// The percentile must exceed this,
    pub p99: Duration,
    /// ... and this many times the median of the other nodes' percentiles,
    pub times_peers: u32,
    /// ... for this long; and must not for this long to be forgiven.
    pub lasting: Duration,
}

impl From<&MetadataOptions> for SlowLimits {
    fn from(options: &MetadataOptions) -> Self {
        Self {
            age: options.fsync_age_max,
            p99: options.fsync_p99_max,
            times_peers: options.fsync_p99_times_peers,
            lasting: options.fsync_p99_lasting,
        }
    }
}

/// The judgements of one term of office.
#[derive(Debug, Default)]
pub struct SlowDisks {
    stalled: BTreeSet<NodeId>,
    judged: BTreeMap<NodeId, Judgement>,
}

#[derive(Debug, Clone, Copy)]
struct Judgement {
    is_slow: bool,
    /// Since when every report has said the contrary of `is_slow`.
    contrary: Option<Monotonic>,
}

impl SlowDisks {
    /// Judges by what every living node told last. Gives the nodes whose percentile was
    /// judged anew, and how.
    pub fn on_reports(
        &mut self,
        now: Monotonic,
        reports: &BTreeMap<NodeId, DiskFacts>,
        limits: &SlowLimits,
    ) -> Vec<(NodeId, bool)> {
        self.stalled = reports
            .iter()
            .filter(|(_, facts)| facts.fsync_age >= limits.age)
            .map(|(node, _)| *node)
            .collect();
        // Who went away is judged anew when it is back.
        self.judged.retain(|node, _| reports.contains_key(node));
        let mut news = Vec::new();
        for node in reports.keys() {
            let exceeds = exceeds(*node, reports, limits);
            let judgement = self.judged.entry(*node).or_insert(Judgement {
                is_slow: false,
                contrary: None,
            });
            if exceeds == judgement.is_slow {
                judgement.contrary = None;
                continue;
            }
            let since = *judgement.contrary.get_or_insert(now);
            if now.since(since) >= limits.lasting {
                *judgement = Judgement {
                    is_slow: exceeds,
                    contrary: None,
                };
                news.push((*node, exceeds));
            }
        }
        news
    }

    /// Whether a node should lead nothing, and be given nothing to lead.
    #[must_use]
    pub fn is_slow(&self, node: NodeId) -> bool {
        self.stalled.contains(&node) || self.judged.get(&node).is_some_and(|j| j.is_slow)
    }
}

/// Whether a node's percentile is beyond the limits now. Who did not fsync lately is
/// neither slow nor a measure for others.
fn exceeds(node: NodeId, reports: &BTreeMap<NodeId, DiskFacts>, limits: &SlowLimits) -> bool {
    let Some(own) = reports.get(&node).and_then(|facts| facts.fsync_p99) else {
        return false;
    };
    let mut others: Vec<Duration> = reports
        .iter()
        .filter(|(other, _)| **other != node)
        .filter_map(|(_, facts)| facts.fsync_p99)
        .collect();
    others.sort_unstable();
    // The lower of two: of three nodes, the fast one is to lead, if two are slow.
    let median = others.get(others.len().saturating_sub(1) / 2);
    median.is_some_and(|median| own > limits.p99 && own > median.saturating_mul(limits.times_peers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SlowLimits = SlowLimits {
        age: Duration::from_secs(5),
        p99: Duration::from_millis(50),
        times_peers: 5,
        lasting: Duration::from_secs(10),
    };

    /// `1:80` is node 1 with a percentile of 80 ms, `1:-` one without, `1:2+6000` one whose
    /// oldest fsync lasts 6 s besides.
    fn report(word: &str) -> (NodeId, DiskFacts) {
        let (node, facts) = word.split_once(':').unwrap();
        let (p99, age) = facts.split_once('+').unwrap_or((facts, "0"));
        let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
        let facts = DiskFacts {
            fsync_age: millis(age).unwrap(),
            fsync_p99: millis(p99),
            reads_journals: false,
        };
        (NodeId(node.parse().unwrap()), facts)
    }

    /// One line a report of all: seconds, what each node told, then who is slow.
    #[test]
    fn a_disk_is_slow_beside_others_and_for_a_while() {
        let table = include_str!("../../testdata/slow_disks.txt");
        for case in table.split("\n\n").filter(|case| !case.is_empty()) {
            let mut disks = SlowDisks::default();
            for line in case.lines().filter(|line| !line.starts_with('#')) {
                let (told, expected) = line.split_once("->").unwrap();
                let mut words = told.split_whitespace();
                let seconds: u64 = words.next().unwrap().parse().unwrap();
                let reports = words.map(report).collect();
                disks.on_reports(Monotonic(seconds * 1_000_000_000), &reports, &LIMITS);
                let slow: Vec<String> = (1..=5)
                    .filter(|node| disks.is_slow(NodeId(*node)))
                    .map(|node| node.to_string())
                    .collect();
                assert_eq!(slow.join(","), expected.trim(), "{case}\nat: {line}");
            }
        }
    }

    #[test]
    fn it_is_said_once() {
        let mut disks = SlowDisks::default();
        let mut said = Vec::new();
        for second in 0..60u64 {
            let first = if second < 30 { "1:90" } else { "1:3" };
            let reports = [first, "2:2", "3:2"].map(report).into();
            let now = Monotonic(second * 1_000_000_000);
            for (node, is_slow) in disks.on_reports(now, &reports, &LIMITS) {
                said.push((second, node.0, is_slow));
            }
        }
        assert_eq!(said, [(10, 1, true), (40, 1, false)]);
    }
}
