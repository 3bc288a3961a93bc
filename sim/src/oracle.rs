//! Judges a finished run: the history of its clients, checked as if nothing may be lost,
//! but for what a weaker mode was allowed to lose and did lose.
//!
//! What is gone is what no reader found that read every log again after the faults. If
//! it was acknowledged and may be gone ([`promise`]), its offset and all that was read of
//! it are struck from the history; everything else stays and is an anomaly.

pub(crate) mod promise;
pub(crate) mod queues;

use std::collections::BTreeSet;

use weir_checkers::registers::{self, Call};
use weir_checkers::{Action, Anomaly, History, Key, Kind, Op, Process, Report, Value, Verdict};

use promise::Promise;

/// What came of it.
#[derive(Default)]
pub(crate) struct Judgement {
    pub(crate) violations: Vec<String>,
    pub(crate) forgiven: u64,
    /// Named states that it met.
    pub(crate) points: Vec<&'static str>,
}

/// Judges `ops`; `is_drained` if every log was read to its end after the faults.
pub(crate) fn judge(ops: Vec<Op>, promise: &Promise, is_drained: bool) -> Judgement {
    let (ops, forgiven) = forgive(ops, promise, is_drained);
    let history = match History::new(ops) {
        Ok(history) => history,
        Err(error) => {
            return Judgement {
                violations: vec![format!("the history is none: {error}")],
                ..Judgement::default()
            };
        }
    };
    let verdict = Verdict {
        idempotent: true,
        drained: is_drained,
        settled: None,
    };
    let report = Report::new(&history, verdict);
    Judgement {
        violations: in_words(&report.anomalies),
        forgiven: forgiven.len() as u64,
        points: met(&[(report.takeovers > 0, "member that went on behind another")]),
    }
}

/// Judges what clients were told of configs (C24): nobody may lose anything of those.
pub(crate) fn judge_registers(calls: &[Call]) -> Judgement {
    let found = registers::check(calls);
    Judgement {
        violations: in_words(&found.anomalies),
        forgiven: 0,
        points: met(&[
            (
                found.contested > 0,
                "config of several writers, one never answered",
            ),
            (found.stale > 0, "old config told"),
        ]),
    }
}

fn in_words(anomalies: &[Anomaly]) -> Vec<String> {
    let mut violations: Vec<String> = anomalies
        .iter()
        .take(10)
        .map(|anomaly| format!("{:?}: {anomaly}", anomaly.checker()))
        .collect();
    if anomalies.len() > violations.len() {
        let more = anomalies.len() - violations.len();
        violations.push(format!("and {more} more anomalies"));
    }
    violations
}

fn met(points: &[(bool, &'static str)]) -> Vec<&'static str> {
    let met = points.iter().filter(|(is_met, _)| *is_met);
    met.map(|(_, point)| *point).collect()
}

/// Takes one acknowledged value that may never be lost out of all that was read.
pub(crate) fn spoil(ops: &mut [Op], promise: &Promise) {
    let acknowledged = ops.iter().flat_map(|op| op.sends().collect::<Vec<_>>());
    let mut acknowledged = acknowledged.filter(|send| send.offset.is_some());
    let Some(lost) = acknowledged.find(|send| promise.keeps_all(send.key)) else {
        return;
    };
    for op in ops {
        if let Action::Poll(reads) = &mut op.action {
            reads.retain(|read| (read.key, read.value) != (lost.key, lost.value));
        }
    }
}

/// The last reader of each key: the highest process number that read it.
fn final_readers(ops: &[Op]) -> BTreeSet<(Process, Key)> {
    let mut last = std::collections::BTreeMap::new();
    for op in ops {
        if let Action::Assign(keys) = &op.action {
            for key in keys {
                let reader = last.entry(*key).or_insert(op.process);
                *reader = (*reader).max(op.process);
            }
        }
    }
    last.into_iter()
        .map(|(key, reader)| (reader, key))
        .collect()
}

type Gone = BTreeSet<(Key, Value)>;

fn forgive(mut ops: Vec<Op>, promise: &Promise, is_drained: bool) -> (Vec<Op>, Gone) {
    let mut gone = Gone::new();
    // Where nobody read to the end, nobody knows what is gone.
    let is_judged = |key| !promise.is_stranded(key) && (is_drained || promise.keeps_all(key));
    ops.retain(|op| {
        let sends = op.sends().all(|send| is_judged(send.key));
        sends && op.reads().all(|read| is_judged(read.key))
    });
    let mut ops = paired(ops);
    if !is_drained {
        return (ops, gone);
    }
    let readers = final_readers(&ops);
    let there: BTreeSet<(Key, Value)> = ops
        .iter()
        .flat_map(|op| op.reads().map(move |read| (op.process, read)))
        .filter(|(process, read)| readers.contains(&(*process, read.key)))
        .map(|(_, read)| (read.key, read.value))
        .collect();
    for op in &ops {
        let is_gone = |key, value| !there.contains(&(key, value));
        for send in op.sends() {
            let (key, value) = (send.key, send.value);
            if let Some(offset) = send.offset
                && is_gone(key, value)
                && promise.may_lose(key, offset, op.t_ns)
            {
                gone.insert((key, value));
            }
        }
        for read in op.reads() {
            let (key, value) = (read.key, read.value);
            if is_gone(key, value) && promise.may_lose_committed(key, op.t_ns) {
                gone.insert((key, value));
            }
        }
    }
    let keys: BTreeSet<Key> = gone.iter().map(|(key, _)| *key).collect();
    for op in &mut ops {
        strike(op, &gone, &keys, &readers);
    }
    (ops, gone)
}

/// Takes what is forgiven out of one operation. Readers that were under way when a log
/// was cut saw another log than the last one: they prove nothing any more.
fn strike(op: &mut Op, gone: &Gone, keys: &BTreeSet<Key>, readers: &BTreeSet<(Process, Key)>) {
    let process = op.process;
    match &mut op.action {
        Action::Send(sends) => {
            let lost = |key, value| gone.contains(&(key, value));
            if sends.iter().any(|send| lost(send.key, send.value)) {
                if op.kind == Kind::Ok {
                    op.kind = Kind::Info;
                }
                for send in sends.iter_mut().filter(|send| lost(send.key, send.value)) {
                    send.offset = None;
                }
            }
        }
        Action::Poll(reads) => {
            reads.retain(|read| !keys.contains(&read.key) || readers.contains(&(process, read.key)))
        }
        Action::Txn(_)
        | Action::Assign(_)
        | Action::Subscribe(_)
        | Action::Share(_)
        | Action::Commit(_)
        | Action::Committed(_) => {}
    }
}

/// Without completions whose invocation was left out: an empty poll names no key.
fn paired(mut ops: Vec<Op>) -> Vec<Op> {
    let mut open: BTreeSet<Process> = BTreeSet::new();
    ops.retain(|op| match (&op.action, op.kind) {
        (Action::Poll(_), Kind::Invoke) => open.insert(op.process),
        (Action::Poll(_), Kind::Ok | Kind::Fail | Kind::Info) => open.remove(&op.process),
        (
            Action::Send(_)
            | Action::Txn(_)
            | Action::Assign(_)
            | Action::Subscribe(_)
            | Action::Share(_)
            | Action::Commit(_)
            | Action::Committed(_),
            _,
        ) => true,
    });
    ops
}
