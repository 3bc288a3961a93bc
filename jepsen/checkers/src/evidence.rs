//! What a history proves about each key's log.
//!
//! The log is what polls returned (whatever became of the poll: a consumer may only ever be shown safe
//! data) and what acknowledged sends were told. Offsets may be sparse, because control records take some:
//! the checkers reason in ranks, the position among the offsets known to hold a value.

use crate::history::{History, Key, Kind, Offset, Operation, Send, Value};
use std::collections::BTreeMap;

/// The known part of one key's log.
#[derive(Debug, Default)]
pub struct Log {
    /// Sorted and distinct.
    entries: Vec<(Offset, Value)>,
    /// Sorted and distinct; the position is the rank.
    offsets: Vec<Offset>,
    /// Sorted; a value that is in the log twice has two entries.
    ranks: Vec<(Value, usize)>,
}

impl Log {
    fn new(mut entries: Vec<(Offset, Value)>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let mut offsets: Vec<Offset> = entries.iter().map(|entry| entry.0).collect();
        offsets.dedup();
        let mut log = Self {
            entries,
            offsets,
            ranks: Vec::new(),
        };
        log.ranks = log
            .entries
            .iter()
            .filter_map(|&(offset, value)| Some((value, log.rank(offset)?)))
            .collect();
        log.ranks.sort_unstable();
        log
    }

    /// Offset and value, ascending; an offset with several values has several entries.
    #[must_use]
    pub fn entries(&self) -> &[(Offset, Value)] {
        &self.entries
    }

    /// Offsets known to hold a value, ascending.
    #[must_use]
    pub fn offsets(&self) -> &[Offset] {
        &self.offsets
    }

    /// The position of `offset` among those known to hold a value.
    #[must_use]
    pub fn rank(&self, offset: Offset) -> Option<usize> {
        self.offsets.binary_search(&offset).ok()
    }

    /// Value and rank, grouped by value.
    #[must_use]
    pub fn ranks(&self) -> &[(Value, usize)] {
        &self.ranks
    }

    /// The ranks at which a value lies, ascending.
    #[must_use]
    pub fn ranks_of(&self, value: Value) -> &[(Value, usize)] {
        let from = self.ranks.partition_point(|entry| entry.0 < value);
        let to = self.ranks.partition_point(|entry| entry.0 <= value);
        &self.ranks[from..to]
    }

    /// The first rank of a value.
    #[must_use]
    pub fn first(&self, value: Value) -> Option<usize> {
        self.ranks_of(value).first().map(|entry| entry.1)
    }

    /// The first offset of a value.
    #[must_use]
    pub fn first_offset(&self, value: Value) -> Option<Offset> {
        self.first(value).map(|rank| self.offsets[rank])
    }
}

/// A history with what the checkers look up in it.
#[derive(Debug)]
pub struct Evidence<'h> {
    history: &'h History,
    operations: Vec<Operation<'h>>,
    /// Sorted by key and value; the position in `operations` of the one that sent it.
    writers: Vec<(Key, Value, usize)>,
    /// Sorted: what Ok polls returned.
    read: Vec<(Key, Value)>,
    logs: BTreeMap<Key, Log>,
}

impl<'h> Evidence<'h> {
    /// Reads a history once and sorts it by key.
    #[must_use]
    pub fn new(history: &'h History) -> Self {
        let operations: Vec<Operation<'h>> = history.operations().collect();
        let mut read: Vec<(Key, Value)> = completions(&operations, Kind::Ok)
            .flat_map(|op| op.reads().map(|r| (r.key, r.value)))
            .collect();
        read.sort_unstable();
        read.dedup();
        let mut writers: Vec<(Key, Value, usize)> = operations
            .iter()
            .enumerate()
            .flat_map(|(at, operation)| {
                operation
                    .invoke
                    .sends()
                    .map(move |send| (send.key, send.value, at))
            })
            .collect();
        writers.sort_unstable();
        let mut evidence = Self {
            history,
            operations,
            writers,
            read,
            logs: BTreeMap::new(),
        };
        let mut entries: BTreeMap<Key, Vec<(Offset, Value)>> = BTreeMap::new();
        for operation in &evidence.operations {
            let Some(completion) = operation.completion else {
                continue;
            };
            for read in completion.reads() {
                entries
                    .entry(read.key)
                    .or_default()
                    .push((read.offset, read.value));
            }
            for send in completion
                .sends()
                .filter(|send| evidence.must_have_committed(operation, send))
            {
                entries
                    .entry(send.key)
                    .or_default()
                    .extend(send.offset.map(|offset| (offset, send.value)));
            }
        }
        evidence.logs = entries
            .into_iter()
            .map(|(key, entries)| (key, Log::new(entries)))
            .collect();
        evidence
    }

    /// The history itself.
    #[must_use]
    pub fn history(&self) -> &'h History {
        self.history
    }

    /// Operations in the order of their invocations.
    #[must_use]
    pub fn operations(&self) -> &[Operation<'h>] {
        &self.operations
    }

    /// Each key of which a value is known.
    pub fn logs(&self) -> impl Iterator<Item = (Key, &Log)> {
        self.logs.iter().map(|(key, log)| (*key, log))
    }

    /// The known log of a key.
    #[must_use]
    pub fn log(&self, key: Key) -> Option<&Log> {
        self.logs.get(&key)
    }

    /// Whether an Ok poll returned this value.
    #[must_use]
    pub fn was_read(&self, key: Key, value: Value) -> bool {
        self.read.binary_search(&(key, value)).is_ok()
    }

    /// Who sent a value, and the send as its operation ended.
    #[must_use]
    pub fn writer(&self, key: Key, value: Value) -> Option<(&Operation<'h>, Send)> {
        let at = self
            .writers
            .partition_point(|entry| (entry.0, entry.1) < (key, value));
        let &(found_key, found_value, operation) = self.writers.get(at)?;
        if (found_key, found_value) != (key, value) {
            return None;
        }
        let operation = &self.operations[operation];
        let send = operation
            .last()
            .sends()
            .find(|send| (send.key, send.value) == (key, value));
        Some((
            operation,
            send.unwrap_or(Send {
                key,
                value,
                offset: None,
            }),
        ))
    }

    /// Whether the broker acknowledged the send. In a burst that ended unknown, single records may
    /// have been acknowledged; in a transaction they may not.
    #[must_use]
    pub fn acknowledged(operation: &Operation<'_>, send: &Send) -> bool {
        operation
            .completion
            .is_some_and(|completion| match completion.kind {
                Kind::Ok => true,
                Kind::Info => send.offset.is_some() && !completion.is_transaction(),
                Kind::Fail | Kind::Invoke => false,
            })
    }

    /// Whether the send is certain to be in the log: acknowledged, or unknown and read by somebody
    /// (of a transaction it is enough that any of its values was read).
    #[must_use]
    pub fn must_have_committed(&self, operation: &Operation<'_>, send: &Send) -> bool {
        if Self::acknowledged(operation, send) {
            return true;
        }
        match operation.kind() {
            Kind::Info if operation.invoke.is_transaction() => operation
                .invoke
                .sends()
                .any(|sent| self.was_read(sent.key, sent.value)),
            Kind::Info => self.was_read(send.key, send.value),
            Kind::Ok | Kind::Fail | Kind::Invoke => false,
        }
    }
}

fn completions<'o, 'h: 'o>(
    operations: &'o [Operation<'h>],
    kind: Kind,
) -> impl Iterator<Item = &'h crate::Op> + 'o {
    operations
        .iter()
        .filter_map(|operation| operation.completion)
        .filter(move |op| op.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    #[test]
    fn an_unknown_send_counts_once_somebody_read_it() {
        let history = script::history(
            "p0 info send 0=1
             p1 info send 0=2
             p2 ok poll 0=2@5",
        );
        let evidence = Evidence::new(&history);
        let committed = |value| {
            let (operation, send) = evidence.writer(Key(0), Value(value)).unwrap();
            evidence.must_have_committed(operation, &send)
        };
        assert!(!committed(1) && committed(2));
        assert_eq!(evidence.log(Key(0)).unwrap().entries(), [(5, Value(2))]);
    }

    #[test]
    fn a_transaction_stands_or_falls_as_one_a_burst_does_not() {
        let history = script::history(
            "p0 info txn send 0=1 0=2
             p1 info send 0=3 0=4 0=5@9
             p2 ok poll 0=2@1 0=4@4",
        );
        let evidence = Evidence::new(&history);
        let committed: Vec<u64> = (1..=5)
            .filter(|&value| {
                let (operation, send) = evidence.writer(Key(0), Value(value)).unwrap();
                evidence.must_have_committed(operation, &send)
            })
            .collect();
        assert_eq!(committed, [1, 2, 4, 5]);
    }
}
