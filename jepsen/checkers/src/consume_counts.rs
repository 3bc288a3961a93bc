//! C13: what a consumer group gives its members, by generation. A group's members are told apart by
//! their shares ([`Share`]), each held by a process of its own.
//!
//! Jepsen's test for Kafka and Redpanda counts how often a subscribed process polled a value: once at
//! most. That stands here as it is, because a process holds one share. What else a generation promises
//! (G1, G2; S-24 is what comes of it when it does not hold) is judged here and nowhere else:
//!
//! - a key belongs to one member in a generation;
//! - a commit of a generation is refused once a member was told its share of a later one;
//! - the first value that a share is given is the first one at a position the group may have: some commit
//!   that was not certainly overwritten, or the log's start where nothing was. What was committed
//!   does not come again, and what was not is not left out.
//!
//! The last differs from C22, which judges fetched positions, in two things. It judges what was delivered.
//! And a generation ends: a commit in it whose outcome is not known came into effect before the next one
//! was told, or never, where C22 allows it for ever after. A commit by a process without a share of the
//! group is a reset and allowed from its beginning on. From the first value on a share's order is C8's.
//!
//! What a member that was replaced and does not know it goes on to poll is right by this: nobody fences
//! fetches. Members seek nowhere, and begin at the log's start where their group has no position.

use crate::evidence::Log;
use crate::history::{Offset, Share};
use crate::{Action, Anomaly, Evidence, Key, Kind, Operation, Process, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What was found.
#[derive(Debug, Default)]
pub struct ConsumeCounts {
    /// What must not be.
    pub anomalies: Vec<Anomaly>,
    /// Shares that were given values of a key that another process had been given values of: how
    /// often there was something to judge.
    pub takeovers: usize,
}

/// A commit of one group and key, in lines of the history.
struct Commit {
    began: u64,
    /// From then on it is in effect, if it ever is.
    settled: u64,
    offset: Offset,
    is_ok: bool,
}

/// All commits of one group and key.
#[derive(Default)]
struct Commits {
    /// By offset.
    all: BTreeMap<Offset, Vec<Commit>>,
    /// Of the Ok ones, by when they were in effect: the latest beginning of those up to then.
    floors: Vec<(u64, u64)>,
}

impl Commits {
    fn finish(&mut self) {
        let of_offset = self.all.values().flatten().filter(|commit| commit.is_ok);
        self.floors = of_offset.map(|c| (c.settled, c.began)).collect();
        self.floors.sort_unstable();
        let mut latest = 0;
        for (_, began) in &mut self.floors {
            latest = latest.max(*began);
            *began = latest;
        }
    }

    /// The latest beginning of those that were in effect at a line.
    fn floor(&self, line: u64) -> Option<u64> {
        let at = self.floors.partition_point(|floor| floor.0 <= line);
        self.floors[..at].last().map(|floor| floor.1)
    }
}

/// A share that a process holds.
struct Held<'h> {
    share: &'h Share,
    /// The line at which the process was told.
    told: u64,
    /// What it was given.
    given: BTreeSet<(Key, Value)>,
    /// The keys of which it was given something.
    begun: BTreeSet<Key>,
}

/// When each generation of a group was first told, in lines.
type Generations = BTreeMap<i32, u64>;

struct Groups<'h> {
    generations: BTreeMap<&'h str, Generations>,
    commits: BTreeMap<(&'h str, Key), Commits>,
}

/// Judges all groups whose members have shares.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> ConsumeCounts {
    let mut found = ConsumeCounts::default();
    let mut groups = Groups {
        generations: owners(evidence, &mut found.anomalies),
        commits: BTreeMap::new(),
    };
    if groups.generations.is_empty() {
        return found;
    }
    collect_commits(evidence, &mut groups, &mut found.anomalies);
    let mut holders: BTreeMap<Process, Held<'_>> = BTreeMap::new();
    let mut last: BTreeMap<(&str, Key), Process> = BTreeMap::new();
    for (op, _) in evidence.history().lines() {
        match (&op.action, op.kind) {
            (Action::Share(share), Kind::Ok) => {
                let held = Held {
                    share,
                    told: op.index,
                    given: BTreeSet::new(),
                    begun: BTreeSet::new(),
                };
                holders.insert(op.process, held);
            }
            (Action::Poll(reads), Kind::Ok) => {
                let Some(held) = holders.get_mut(&op.process) else {
                    continue;
                };
                for read in reads {
                    if !held.share.keys.contains(&read.key) {
                        continue;
                    }
                    let group = held.share.group.as_str();
                    if held.begun.insert(read.key) {
                        let before = last.insert((group, read.key), op.process);
                        found.takeovers +=
                            usize::from(before.is_some_and(|before| before != op.process));
                        let log = evidence.log(read.key);
                        let began = log.and_then(|log| {
                            groups.began(log, held, read.key, read.offset, op.index)
                        });
                        found.anomalies.extend(began);
                    }
                    if !held.given.insert((read.key, read.value)) {
                        found.anomalies.push(Anomaly::ConsumedTwice {
                            process: op.process,
                            group: group.to_owned(),
                            key: read.key,
                            value: read.value,
                        });
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// When generations were told; keys that two members were given in one are anomalies.
fn owners<'h>(evidence: &Evidence<'h>, found: &mut Vec<Anomaly>) -> BTreeMap<&'h str, Generations> {
    let mut generations: BTreeMap<&str, Generations> = BTreeMap::new();
    let mut owners: BTreeMap<(&str, i32, Key), Process> = BTreeMap::new();
    for op in evidence.history().ops() {
        let (Action::Share(share), Kind::Ok) = (&op.action, op.kind) else {
            continue;
        };
        let told = generations.entry(&share.group).or_default();
        told.entry(share.generation).or_insert(op.index);
        for &key in &share.keys {
            let owner = *owners
                .entry((&share.group, share.generation, key))
                .or_insert(op.process);
            if owner != op.process {
                found.push(Anomaly::SharedKey {
                    group: share.group.clone(),
                    generation: share.generation,
                    key,
                    processes: [owner, op.process],
                });
            }
        }
    }
    // Of each the time when it, or any after it, was told.
    for told in generations.values_mut() {
        let mut first = u64::MAX;
        for line in told.values_mut().rev() {
            first = first.min(*line);
            *line = first;
        }
    }
    generations
}

/// Commits with their time of effect; those that should have been refused are anomalies.
fn collect_commits<'h>(evidence: &Evidence<'h>, groups: &mut Groups<'h>, found: &mut Vec<Anomaly>) {
    let mut holders: BTreeMap<Process, &Share> = BTreeMap::new();
    for (op, operation) in evidence.history().lines() {
        match (&op.action, op.kind) {
            (Action::Share(share), Kind::Ok) => {
                holders.insert(op.process, share);
            }
            (Action::Commit(commit), Kind::Invoke) => {
                let Some(told) = groups.generations.get(commit.group.as_str()) else {
                    continue;
                };
                let share = holders.get(&op.process);
                let generation = share
                    .filter(|share| share.group == commit.group)
                    .map(|share| share.generation);
                let over = generation
                    .and_then(|generation| told.range(generation + 1..).next())
                    .map_or(u64::MAX, |(_, line)| *line);
                let (ended, is_ok) = match ended(&operation) {
                    Some(ended) => ended,
                    None => continue,
                };
                if op.index > over {
                    if let (true, Some(generation)) = (is_ok, generation) {
                        found.push(Anomaly::UnfencedCommit {
                            process: op.process,
                            group: commit.group.clone(),
                            generation,
                        });
                    }
                    continue;
                }
                for &(key, offset) in &commit.offsets {
                    let commits = groups.commits.entry((&commit.group, key)).or_default();
                    commits.all.entry(offset).or_default().push(Commit {
                        began: op.index,
                        settled: ended.min(over),
                        offset,
                        is_ok,
                    });
                }
            }
            _ => {}
        }
    }
    groups.commits.values_mut().for_each(Commits::finish);
}

/// The line at which a commit ended, and whether it was acknowledged; `None` if it failed.
fn ended(commit: &Operation<'_>) -> Option<(u64, bool)> {
    match commit.completion {
        Some(end) if end.kind == Kind::Fail => None,
        Some(end) if end.kind == Kind::Ok => Some((end.index, true)),
        Some(_) | None => Some((u64::MAX, false)),
    }
}

impl Groups<'_> {
    /// Judges the first offset that a share was given of a key, at a line.
    fn began(
        &self,
        log: &Log,
        held: &Held<'_>,
        key: Key,
        first: Offset,
        line: u64,
    ) -> Option<Anomaly> {
        let group = held.share.group.as_str();
        let nothing = Commits::default();
        let commits = self.commits.get(&(group, key)).unwrap_or(&nothing);
        let floor = commits.floor(held.told);
        let may_be = |c: &&Commit| c.began < line && floor.is_none_or(|latest| c.settled >= latest);
        // Positions between the value before the first one and that lead to the first.
        let rank = log.rank(first)?;
        let before = rank.checked_sub(1).map(|before| log.offsets()[before]);
        let from = before.map_or(0, |before| before + 1);
        let near = commits.all.range(from..=first).flat_map(|(_, all)| all);
        let from_the_start = floor.is_none() && from == 0;
        if from_the_start || near.into_iter().any(|commit| may_be(&commit)) {
            return None;
        }
        let start = floor.is_none().then_some(0);
        let all = commits.all.values().flatten().filter(may_be);
        let positions: BTreeSet<Offset> = all.map(|commit| commit.offset).chain(start).collect();
        let group = group.to_owned();
        let generation = held.share.generation;
        Some(match positions.range(..=first).next_back() {
            Some(&position) => Anomaly::ConsumeSkip {
                group,
                generation,
                key,
                position,
                first,
            },
            None => Anomaly::ConsumedAgain {
                group,
                generation,
                key,
                position: positions.first().copied().unwrap_or(0),
                first,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    fn anomalies(text: &str) -> Vec<Anomaly> {
        check(&Evidence::new(&script::history(text))).anomalies
    }

    /// Four values of key 0.
    const LOG: &str = "p0 ok send 0=10@0 0=11@1 0=12@2 0=13@3\n";

    #[test]
    fn members_that_take_turns_pass() {
        let history = script::history(&format!(
            "{LOG}
             p1 ok share g 1 0
             p1 ok poll 0=10@0 0=11@1
             p1 ok commit g 0@1
             p2 ok share g 2 0
             p2 ok poll 0=11@1 0=12@2
             p2 info commit g 0@3
             p3 ok share g 3 0
             p3 ok poll 0=13@3
             p4 ok share g 4 0
             p4 ok poll 0=11@1 0=12@2"
        ));
        let found = check(&Evidence::new(&history));
        assert_eq!(found.anomalies, []);
        assert_eq!(
            found.takeovers, 3,
            "from 1, 3 and 1: p2's commit may count or not"
        );
    }

    #[test]
    fn what_a_share_is_given_twice_is_flagged_and_what_two_are_given_is_not() {
        let twice = anomalies(&format!(
            "{LOG}
             p1 ok share g 1 0
             p1 ok poll 0=10@0 0=11@1
             p1 ok poll 0=11@1"
        ));
        assert_eq!(
            twice,
            [Anomaly::ConsumedTwice {
                process: Process(1),
                group: "g".to_owned(),
                key: Key(0),
                value: Value(11),
            }]
        );
        let two = "p1 ok share g 1 0
             p1 ok poll 0=10@0 0=11@1
             p2 ok share g 2 0
             p2 ok poll 0=10@0 0=11@1
             p3 ok share h 1 0
             p3 ok poll 0=10@0";
        assert_eq!(anomalies(&format!("{LOG}{two}")), []);
    }

    #[test]
    fn what_was_committed_and_comes_again_is_flagged() {
        let again = |position, first| Anomaly::ConsumedAgain {
            group: "g".to_owned(),
            generation: 2,
            key: Key(0),
            position,
            first,
        };
        let found = anomalies(&format!(
            "{LOG}
             p1 ok share g 1 0
             p1 ok poll 0=10@0 0=11@1
             p1 ok commit g 0@2
             p2 ok share g 2 0
             p2 ok poll 0=11@1"
        ));
        assert_eq!(found, [again(2, 1)]);
        // The member that was replaced may go on, and a reset is what it says.
        let zombie = "p1 ok share g 1 0
             p1 ok poll 0=10@0
             p2 ok share g 2 0
             p2 ok poll 0=10@0 0=11@1
             p2 ok commit g 0@2
             p1 ok poll 0=11@1
             p9 info commit g 0@1
             p3 ok share g 3 0
             p3 ok poll 0=11@1";
        assert_eq!(anomalies(&format!("{LOG}{zombie}")), []);
    }

    #[test]
    fn an_unknown_commit_of_an_ended_generation_is_no_excuse() {
        let late = "p1 ok share g 1 0
             p1 ok poll 0=10@0
             p1 info commit g 0@1
             p2 ok share g 2 0
             p2 ok poll 0=11@1 0=12@2
             p2 ok commit g 0@3
             p3 ok share g 3 0
             p3 ok poll 0=11@1";
        let found = anomalies(&format!("{LOG}{late}"));
        assert_eq!(
            found,
            [Anomaly::ConsumedAgain {
                group: "g".to_owned(),
                generation: 3,
                key: Key(0),
                position: 3,
                first: 1,
            }]
        );
        // In the same generation it may have come late.
        let same = late.replace("share g 2", "share g 1");
        let same = anomalies(&format!("{LOG}{same}"));
        assert!(matches!(same[..], [Anomaly::SharedKey { .. }]), "{same:?}");
    }

    #[test]
    fn what_was_not_committed_and_is_left_out_is_flagged() {
        let found = anomalies(&format!(
            "{LOG}
             p1 ok share g 1 0
             p1 ok poll 0=10@0 0=11@1
             p1 ok commit g 0@1
             p2 ok share g 2 0
             p2 ok poll 0=12@2"
        ));
        assert_eq!(
            found,
            [Anomaly::ConsumeSkip {
                group: "g".to_owned(),
                generation: 2,
                key: Key(0),
                position: 1,
                first: 2,
            }]
        );
        // Offsets without a value are no values left out, and neither is the log's start.
        let sparse = "p0 ok send 0=10@2 0=11@5
             p1 ok share g 1 0
             p1 ok poll 0=10@2
             p1 ok commit g 0@3
             p2 ok share g 2 0
             p2 ok poll 0=11@5";
        assert_eq!(anomalies(sparse), []);
    }

    #[test]
    fn a_commit_of_a_generation_that_is_over_is_flagged_if_it_was_accepted() {
        let history = |outcome: &str| {
            anomalies(&format!(
                "{LOG}
                 p1 ok share g 1 0
                 p1 ok poll 0=10@0
                 p2 ok share g 2 0
                 p1 {outcome} commit g 0@1"
            ))
        };
        assert_eq!(
            history("ok"),
            [Anomaly::UnfencedCommit {
                process: Process(1),
                group: "g".to_owned(),
                generation: 1,
            }]
        );
        assert_eq!(history("fail"), []);
        assert_eq!(history("info"), []);
        let under_way = "p1 ok share g 1 0
             p1 invoke commit g 0@0
             p2 ok share g 2 0
             p1 end-ok commit g 0@0";
        assert_eq!(anomalies(&format!("{LOG}{under_way}")), []);
    }

    #[test]
    fn a_key_of_two_members_in_a_generation_is_flagged_and_a_share_told_again_is_not() {
        let found = anomalies("p1 ok share g 4 0 1\np2 ok share g 4 1 2");
        assert_eq!(
            found,
            [Anomaly::SharedKey {
                group: "g".to_owned(),
                generation: 4,
                key: Key(1),
                processes: [Process(1), Process(2)],
            }]
        );
        let fine = "p1 ok share g 4 0 1
             p1 ok share g 4 0 1
             p2 ok share g 4 2
             p2 ok share g 5 0 1
             p3 ok share h 4 1";
        assert_eq!(anomalies(fine), []);
    }
}
