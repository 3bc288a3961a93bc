//! C24: metadata as registers: one a key, each write with a value of its own.
//!
//! What is promised of them:
//! - writes are linearizable: all agree on one order, and it never contradicts what clients saw: what ended
//!   before another began lies before it. One whose outcome is not known may be anywhere after its
//!   beginning, or nowhere; one that failed is nowhere;
//! - a read tells what its node has applied, which may be old. What a client saw over one connection,
//!   which is one process of one node, never goes back, and it holds what was acknowledged over that connection;
//! - a read behind a write over the same connection, of any register, is linearizable from the beginning of
//!   that write on: the node applied it before it answered, and whatever was committed before;
//! - no read tells what nobody had begun to write, and none the state before the first write again.
//!
//! Each value names its write, so who read what from where is known, and nothing has to be searched for:
//! all of the above says of two writes which one comes first, and an order exists if and only if
//! these say nothing in a circle (`decisions/0002`). Of `n` operations on a key it costs `O(n^2)`; what is
//! meant are a few hundred.

use crate::queue::Outcome;
use crate::{Anomaly, Key, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One connection to one node: to one process of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session(pub u32);

/// What was asked for, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A value that no other write of this register has.
    Write(Value, Outcome),
    /// What the register holds; `None` before the first write. Only reads that were answered.
    Read(Option<Value>),
}

/// One operation. Times are any that rise in the order in which things happened, and no two
/// ends are equal to beginnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which register.
    pub key: Key,
    /// Over which connection.
    pub session: Session,
    /// When it began.
    pub began: u64,
    /// When it was answered; of no meaning for a write whose outcome is not known.
    pub ended: u64,
    /// What it was.
    pub access: Access,
}

/// Why one write comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Nothing comes before the first.
    First,
    /// It was acknowledged, or read, before the other began.
    Time,
    /// The same connection told the other later, or had it acknowledged before.
    Session,
    /// It was there before a write began behind which the other was read.
    Barrier,
}

/// One link of a circle: the first was before the second.
pub type Link = (Option<Value>, Option<Value>, Because);

/// What was found.
#[derive(Debug, Default)]
pub struct Registers {
    /// What must not be.
    pub anomalies: Vec<Anomaly>,
    /// Registers that were written by several at a time, one of whom never learned that
    /// its value came to be: how often there was something to judge.
    pub contested: usize,
    /// Reads that told less than what had been acknowledged elsewhere, as they may.
    pub stale: usize,
}

/// Judges all registers.
#[must_use]
pub fn check(calls: &[Call]) -> Registers {
    let mut found = Registers::default();
    let barriers = Barriers::new(calls);
    let mut keys: BTreeMap<Key, Vec<Call>> = BTreeMap::new();
    for call in calls {
        keys.entry(call.key).or_default().push(*call);
    }
    for (key, calls) in keys {
        let mut register = Register::new(key, &calls, &mut found.anomalies);
        found.contested += usize::from(register.is_contested());
        found.stale += register.stale_reads();
        register.relate(&barriers);
        found.anomalies.extend(register.circle());
    }
    found
}

/// The acknowledged writes of each connection, whatever the register.
struct Barriers(BTreeMap<Session, Vec<(u64, u64)>>);

impl Barriers {
    fn new(calls: &[Call]) -> Self {
        let mut sessions: BTreeMap<Session, Vec<(u64, u64)>> = BTreeMap::new();
        for call in calls {
            if let Access::Write(_, Outcome::Ok) = call.access {
                let writes = sessions.entry(call.session).or_default();
                writes.push((call.ended, call.began));
            }
        }
        Self(sessions)
    }

    /// The latest beginning of those that ended before a read began.
    fn before(&self, read: &Read) -> Option<u64> {
        let writes = self.0.get(&read.session)?.iter();
        let ended = writes.filter(|(ended, _)| *ended < read.began);
        ended.map(|(_, began)| *began).max()
    }
}

/// A write that certainly was, or the state before the first.
struct Write {
    value: Option<Value>,
    began: u64,
    /// Since when it certainly has been: acknowledged, or read by somebody.
    known: u64,
    /// Over which connection, and when it was acknowledged there.
    acknowledged: Option<(Session, u64)>,
    is_unknown: bool,
}

/// A read of a write, by its place among the writes.
struct Read {
    write: usize,
    session: Session,
    began: u64,
    ended: u64,
}

struct Register {
    key: Key,
    writes: Vec<Write>,
    reads: Vec<Read>,
    /// For each write those that come after it.
    after: Vec<BTreeMap<usize, Because>>,
}

impl Register {
    /// Takes in what was written and read; reads that no write explains are anomalies.
    fn new(key: Key, calls: &[Call], found: &mut Vec<Anomaly>) -> Self {
        let mut read: BTreeMap<Option<Value>, u64> = BTreeMap::new();
        for call in calls {
            if let Access::Read(value) = call.access {
                let first = read.entry(value).or_insert(call.ended);
                *first = call.ended.min(*first);
            }
        }
        let mut writes = vec![Write {
            value: None,
            began: 0,
            known: 0,
            acknowledged: None,
            is_unknown: false,
        }];
        let mut failed = BTreeSet::new();
        for call in calls {
            let Access::Write(value, outcome) = call.access else {
                continue;
            };
            let seen = read.get(&Some(value)).copied();
            let (known, acknowledged) = match (outcome, seen) {
                (Outcome::Ok, _) => (
                    seen.unwrap_or(u64::MAX).min(call.ended),
                    Some((call.session, call.ended)),
                ),
                (Outcome::Info, Some(seen)) => (seen, None),
                // Nobody can tell whether it was.
                (Outcome::Info, None) => continue,
                (Outcome::Fail, _) => {
                    failed.insert(value);
                    continue;
                }
            };
            writes.push(Write {
                value: Some(value),
                began: call.began,
                known,
                acknowledged,
                is_unknown: outcome == Outcome::Info,
            });
        }
        let places: BTreeMap<Option<Value>, usize> =
            (0..).zip(&writes).map(|(at, w)| (w.value, at)).collect();
        let mut reads = Vec::new();
        for call in calls {
            let Access::Read(value) = call.access else {
                continue;
            };
            match places.get(&value) {
                Some(&write) if writes[write].began <= call.ended => reads.push(Read {
                    write,
                    session: call.session,
                    began: call.began,
                    ended: call.ended,
                }),
                Some(_) | None => found.extend(value.map(|value| Anomaly::UnwrittenRead {
                    key,
                    value,
                    session: call.session.0,
                    failed: failed.contains(&value),
                })),
            }
        }
        let after = writes.iter().map(|_| BTreeMap::new()).collect();
        Self {
            key,
            writes,
            reads,
            after,
        }
    }

    /// Whether two writes were under way at a time, and one that was read was never acknowledged.
    fn is_contested(&self) -> bool {
        let mut writes = self.writes.iter().skip(1);
        let overlap = |a: &Write, b: &Write| a.began < b.known && b.began < a.known;
        let concurrent = self.writes.iter().skip(1).enumerate().any(|(at, a)| {
            let others = self.writes.iter().skip(at + 2);
            others.into_iter().any(|b| overlap(a, b))
        });
        concurrent && writes.any(|write| write.is_unknown)
    }

    /// Reads of a value that a later write had replaced for certain when they began.
    fn stale_reads(&self) -> usize {
        let is_replaced = |read: &&Read| {
            let told = self.writes[read.write].known;
            let mut writes = self.writes.iter();
            writes.any(|write| told < write.began && write.known < read.began)
        };
        self.reads.iter().filter(is_replaced).count()
    }

    /// Writes down which write comes before which.
    fn relate(&mut self, barriers: &Barriers) {
        let mut links: Vec<(usize, usize, Because)> = Vec::new();
        for (at, write) in self.writes.iter().enumerate() {
            if at > 0 {
                links.push((0, at, Because::First));
            }
            for (later, other) in self.writes.iter().enumerate().skip(1) {
                if write.known < other.began {
                    links.push((at, later, Because::Time));
                }
            }
        }
        for read in &self.reads {
            let barrier = barriers.before(read);
            for (at, write) in self.writes.iter().enumerate() {
                let is_own = |(session, ended): (Session, u64)| {
                    session == read.session && ended < read.began
                };
                if write.acknowledged.is_some_and(is_own) {
                    links.push((at, read.write, Because::Session));
                }
                if barrier.is_some_and(|barrier| write.known < barrier) {
                    links.push((at, read.write, Because::Barrier));
                }
            }
            for earlier in &self.reads {
                if earlier.session == read.session && earlier.ended < read.began {
                    links.push((earlier.write, read.write, Because::Session));
                }
            }
        }
        for (before, after, why) in links {
            if before != after {
                self.after[before].entry(after).or_insert(why);
            }
        }
    }

    /// The shortest circle through the first write that is on one.
    fn circle(&self) -> Option<Anomaly> {
        let mut left: Vec<usize> = vec![0; self.writes.len()];
        for &after in self.after.iter().flat_map(BTreeMap::keys) {
            left[after] += 1;
        }
        let mut free: Vec<usize> = (0..left.len()).filter(|at| left[*at] == 0).collect();
        while let Some(at) = free.pop() {
            for &after in self.after[at].keys() {
                left[after] -= 1;
                if left[after] == 0 {
                    free.push(after);
                }
            }
        }
        // What is left is on a circle or behind one.
        let mut stuck = (0..left.len()).filter(|at| left[*at] > 0);
        let links = stuck.find_map(|at| self.way_back(at))?;
        Some(Anomaly::RegisterCircle {
            key: self.key,
            links,
        })
    }

    /// The shortest way from a write to itself.
    fn way_back(&self, from: usize) -> Option<Vec<Link>> {
        let mut came: BTreeMap<usize, usize> = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            for &after in self.after[at].keys() {
                if after == from {
                    return Some(self.links(&came, from, at));
                }
                came.entry(after).or_insert_with(|| {
                    next.push_back(after);
                    at
                });
            }
        }
        None
    }

    /// The links of a circle that was found from its end.
    fn links(&self, came: &BTreeMap<usize, usize>, from: usize, last: usize) -> Vec<Link> {
        let mut links = Vec::new();
        let (mut before, mut after) = (last, from);
        loop {
            let because = self.after[before].get(&after).copied();
            let because = because.unwrap_or(Because::Time);
            let (earlier, later) = (self.writes[before].value, self.writes[after].value);
            links.push((earlier, later, because));
            if before == from {
                break;
            }
            after = before;
            before = came.get(&before).copied().unwrap_or(from);
        }
        links.reverse();
        links
    }
}

#[cfg(test)]
mod tests;
