//! The history of one run: operations as clients invoked them and as they ended.
//!
//! One JSON object a line: `{"index":0,"process":1,"type":"invoke","f":"send","value":[[0,7,null]],"t_ns":5}`.
//! A send is `[key, value, offset or null]`, a read `[key, offset, value]`. Values are unique per key.
//!
//! A process has one operation outstanding at a time, except that it may pipeline sends, as an idempotent
//! producer does: a completion is matched to its invocation by the first key and value it sends.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

#[cfg(test)]
pub(crate) mod script;

/// One client thread. After [`Kind::Info`] the driver retires the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Process(pub u32);

/// One ordered log: a partition, numbered by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub u32);

/// What was sent. No two sends of one key carry the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Value(pub u64);

/// Position in the log of a key, as the broker gave it. Not every offset need hold a value.
pub type Offset = u64;

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It began.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen, and the broker said so.
    Fail,
    /// It may have happened or may happen yet.
    Info,
}

/// One send: key, value, and the offset once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "(Key, Value, Option<Offset>)",
    into = "(Key, Value, Option<Offset>)"
)]
pub struct Send {
    /// Where to.
    pub key: Key,
    /// What.
    pub value: Value,
    /// Present when the broker acknowledged this very record.
    pub offset: Option<Offset>,
}

impl From<(Key, Value, Option<Offset>)> for Send {
    fn from((key, value, offset): (Key, Value, Option<Offset>)) -> Self {
        Self { key, value, offset }
    }
}

impl From<Send> for (Key, Value, Option<Offset>) {
    fn from(send: Send) -> Self {
        (send.key, send.value, send.offset)
    }
}

/// One record that a poll returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Key, Offset, Value)", into = "(Key, Offset, Value)")]
pub struct Read {
    /// Where from.
    pub key: Key,
    /// At which offset.
    pub offset: Offset,
    /// What.
    pub value: Value,
}

impl From<(Key, Offset, Value)> for Read {
    fn from((key, offset, value): (Key, Offset, Value)) -> Self {
        Self { key, offset, value }
    }
}

impl From<Read> for (Key, Offset, Value) {
    fn from(read: Read) -> Self {
        (read.key, read.offset, read.value)
    }
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Micro {
    /// Send one value.
    Send(Send),
    /// Poll once.
    Poll(Vec<Read>),
}

/// What was asked for; on completion, what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "lowercase")]
pub enum Action {
    /// Records sent in this order, each acknowledged or not by itself.
    Send(Vec<Send>),
    /// Records in the order in which the consumer got them; empty when invoked.
    Poll(Vec<Read>),
    /// All or nothing.
    Txn(Vec<Micro>),
    /// From now on the process polls these keys and no others, from where it stands.
    Assign(BTreeSet<Key>),
    /// From now on a consumer group decides which of these keys the process polls.
    Subscribe(BTreeSet<Key>),
    /// Take what a consumer group gives the process in its next generation; no keys when invoked.
    /// From then on the process polls these keys and no others, each from the group's position.
    Share(Share),
    /// Store the offsets of a group: the next offset to read, per key.
    Commit(Offsets),
    /// Fetch the stored offsets of a group; a key that has none is absent.
    Committed(Offsets),
}

/// What a consumer group gave one of its members in one generation. A member has a process
/// of its own in each, which goes on when a commit ends unknown: that changes nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The group's name.
    pub group: String,
    /// The generation, as the coordinator numbers them.
    pub generation: i32,
    /// What the member is to consume.
    pub keys: BTreeSet<Key>,
}

/// Offsets of one consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// The group's name.
    pub group: String,
    /// `[key, next offset]`; when [`Action::Committed`] is invoked, the keys asked for, with any offset.
    pub offsets: Vec<(Key, Offset)>,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Position in the history; rises.
    pub index: u64,
    /// Who.
    pub process: Process,
    /// Invocation or outcome.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// Nanoseconds of the driver's monotonic clock; never falls.
    pub t_ns: u64,
    /// The node asked, where the client knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// Keys that a group took away or gave while this operation ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rebalanced: Vec<Key>,
}

impl Op {
    /// The sends in order, a transaction's included.
    pub fn sends(&self) -> impl Iterator<Item = Send> + '_ {
        let (plain, steps) = match &self.action {
            Action::Send(sends) => (sends.as_slice(), [].as_slice()),
            Action::Txn(steps) => ([].as_slice(), steps.as_slice()),
            Action::Poll(_)
            | Action::Assign(_)
            | Action::Subscribe(_)
            | Action::Share(_)
            | Action::Commit(_)
            | Action::Committed(_) => ([].as_slice(), [].as_slice()),
        };
        let of_steps = steps.iter().filter_map(|step| match step {
            Micro::Send(send) => Some(*send),
            Micro::Poll(_) => None,
        });
        plain.iter().copied().chain(of_steps)
    }

    /// The records read in order, a transaction's included.
    pub fn reads(&self) -> impl Iterator<Item = Read> + '_ {
        let (plain, steps) = match &self.action {
            Action::Poll(reads) => (reads.as_slice(), [].as_slice()),
            Action::Txn(steps) => ([].as_slice(), steps.as_slice()),
            Action::Send(_)
            | Action::Assign(_)
            | Action::Subscribe(_)
            | Action::Share(_)
            | Action::Commit(_)
            | Action::Committed(_) => ([].as_slice(), [].as_slice()),
        };
        let of_steps = steps.iter().flat_map(|step| match step {
            Micro::Send(_) => [].as_slice(),
            Micro::Poll(reads) => reads.as_slice(),
        });
        plain.iter().copied().chain(of_steps.copied())
    }

    /// Whether the sends stand or fall together.
    #[must_use]
    pub fn is_transaction(&self) -> bool {
        matches!(self.action, Action::Txn(_))
    }
}

/// An invocation and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'h> {
    /// How it began.
    pub invoke: &'h Op,
    /// How it ended; `None` when the history ends first.
    pub completion: Option<&'h Op>,
}

impl<'h> Operation<'h> {
    /// The outcome; one that never came is [`Kind::Info`].
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.completion.map_or(Kind::Info, |op| op.kind)
    }

    /// The line that knows most: the completion where there is one.
    #[must_use]
    pub fn last(&self) -> &'h Op {
        self.completion.unwrap_or(self.invoke)
    }
}

/// Why lines are no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The input could not be read.
    #[error("line {line}: {source}")]
    Io {
        /// Counted from 1.
        line: usize,
        /// What the reader said.
        source: std::io::Error,
    },
    /// The line is no operation.
    #[error("line {line}: {source}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Index or time went backwards.
    #[error("operation {index}: index or time falls behind the operation before it")]
    OutOfOrder {
        /// Its index.
        index: u64,
    },
    /// A completion that nobody invoked.
    #[error("operation {index}: process {} completes what it did not invoke", process.0)]
    NotInvoked {
        /// Its index.
        index: u64,
        /// Who.
        process: Process,
    },
    /// A second invocation while the first is outstanding.
    #[error("operation {index}: process {} is still busy", process.0)]
    Busy {
        /// Its index.
        index: u64,
        /// Who.
        process: Process,
    },
}

/// A checked sequence of operations.
#[derive(Debug, Default)]
pub struct History {
    ops: Vec<Op>,
    /// Positions in `ops` of each invocation and its completion.
    pairs: Vec<(usize, Option<usize>)>,
    /// For each of `ops`, its position in `pairs`.
    owners: Vec<usize>,
}

impl History {
    /// Matches completions to invocations.
    ///
    /// # Errors
    /// When index or time fall, a process completes what it did not invoke, or invokes while busy.
    pub fn new(ops: Vec<Op>) -> Result<Self, HistoryError> {
        let mut pairs: Vec<(usize, Option<usize>)> = Vec::with_capacity(ops.len() / 2);
        let mut owners = Vec::with_capacity(ops.len());
        let mut outstanding: BTreeMap<(Process, Option<(Key, Value)>), usize> = BTreeMap::new();
        for (at, op) in ops.iter().enumerate() {
            if at > 0 && (ops[at - 1].index >= op.index || ops[at - 1].t_ns > op.t_ns) {
                return Err(HistoryError::OutOfOrder { index: op.index });
            }
            let name = (
                op.process,
                op.sends().next().map(|send| (send.key, send.value)),
            );
            if op.kind == Kind::Invoke {
                if outstanding.insert(name, pairs.len()).is_some() {
                    return Err(HistoryError::Busy {
                        index: op.index,
                        process: op.process,
                    });
                }
                owners.push(pairs.len());
                pairs.push((at, None));
            } else {
                let pair = outstanding.remove(&name).ok_or(HistoryError::NotInvoked {
                    index: op.index,
                    process: op.process,
                })?;
                owners.push(pair);
                pairs[pair].1 = Some(at);
            }
        }
        Ok(Self { ops, pairs, owners })
    }

    /// Reads JSON lines; empty lines are skipped.
    ///
    /// # Errors
    /// When a line cannot be read or is no operation, and as [`History::new`].
    pub fn read(reader: impl BufRead) -> Result<Self, HistoryError> {
        let mut ops = Vec::new();
        for (number, line) in reader.lines().enumerate() {
            let line = line.map_err(|source| HistoryError::Io {
                line: number + 1,
                source,
            })?;
            if !line.trim().is_empty() {
                ops.push(
                    serde_json::from_str(&line).map_err(|source| HistoryError::Json {
                        line: number + 1,
                        source,
                    })?,
                );
            }
        }
        Self::new(ops)
    }

    /// All lines in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Operations in the order of their invocations.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        self.pairs.iter().map(|pair| self.operation(pair))
    }

    /// All lines in order, each with the operation that it begins or ends.
    pub fn lines(&self) -> impl Iterator<Item = (&Op, Operation<'_>)> {
        self.ops
            .iter()
            .zip(&self.owners)
            .map(|(op, &owner)| (op, self.operation(&self.pairs[owner])))
    }

    fn operation(&self, &(invoke, completion): &(usize, Option<usize>)) -> Operation<'_> {
        Operation {
            invoke: &self.ops[invoke],
            completion: completion.map(|at| &self.ops[at]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<History, HistoryError> {
        History::read(lines.as_bytes())
    }

    #[test]
    fn lines_survive_a_round_trip() {
        let lines = [
            r#"{"index":0,"process":1,"type":"invoke","f":"send","value":[[0,7,null]],"t_ns":5}"#,
            r#"{"index":1,"process":2,"type":"invoke","f":"poll","value":[],"t_ns":5,"node":3}"#,
            r#"{"index":2,"process":1,"type":"ok","f":"send","value":[[0,7,4]],"t_ns":6}"#,
            r#"{"index":3,"process":2,"type":"ok","f":"poll","value":[[0,4,7]],"t_ns":9,"rebalanced":[1]}"#,
            r#"{"index":4,"process":3,"type":"invoke","f":"txn","value":[{"send":[0,8,null]},{"poll":[]}],"t_ns":9}"#,
            r#"{"index":5,"process":4,"type":"invoke","f":"assign","value":[0,1],"t_ns":9}"#,
            r#"{"index":6,"process":5,"type":"invoke","f":"commit","value":{"group":"g","offsets":[[0,5]]},"t_ns":9}"#,
            r#"{"index":7,"process":6,"type":"invoke","f":"share","value":{"group":"g","generation":2,"keys":[0]},"t_ns":9}"#,
        ];
        let history = read(&lines.join("\n")).unwrap();
        let written: Vec<String> = history
            .ops()
            .iter()
            .map(|op| serde_json::to_string(op).unwrap())
            .collect();
        assert_eq!(written, lines);
        assert_eq!(
            history
                .operations()
                .filter(|o| o.kind() == Kind::Ok)
                .count(),
            2
        );
        assert_eq!(
            history
                .operations()
                .filter(|o| o.kind() == Kind::Info)
                .count(),
            4,
            "no answer is no outcome"
        );
    }

    #[test]
    fn what_is_no_history_is_refused() {
        assert!(matches!(
            read("{}"),
            Err(HistoryError::Json { line: 1, .. })
        ));
        let invoke = r#"{"index":1,"process":1,"type":"invoke","f":"poll","value":[],"t_ns":5}"#;
        let again = r#"{"index":2,"process":1,"type":"invoke","f":"poll","value":[],"t_ns":6}"#;
        let ok = r#"{"index":2,"process":2,"type":"ok","f":"poll","value":[],"t_ns":6}"#;
        let early = r#"{"index":2,"process":2,"type":"invoke","f":"poll","value":[],"t_ns":4}"#;
        assert!(matches!(
            read(&format!("{invoke}\n{again}")),
            Err(HistoryError::Busy { index: 2, .. })
        ));
        assert!(matches!(
            read(&format!("{invoke}\n{ok}")),
            Err(HistoryError::NotInvoked { index: 2, .. })
        ));
        assert!(matches!(
            read(&format!("{invoke}\n{early}")),
            Err(HistoryError::OutOfOrder { index: 2 })
        ));
        assert!(matches!(
            read(&format!("{invoke}\n{invoke}")),
            Err(HistoryError::OutOfOrder { index: 1 })
        ));
    }

    #[test]
    fn pipelined_sends_find_their_own_completions() {
        let history = script::history(
            "p0 invoke send 0=1
             p0 invoke send 0=2
             p0 end-info send 0=2
             p0 end-ok send 0=1@0",
        );
        let kinds: Vec<Kind> = history.operations().map(|o| o.kind()).collect();
        assert_eq!(kinds, [Kind::Ok, Kind::Info]);
    }
}
