//! The history of a run as its clients write it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_checkers::history::Offset;
use weir_checkers::{Action, Key, Kind, Op, Process, Read, Send, Value};

use crate::trace::{Trace, sim_now};

/// Writes a history, and into the trace what writers were told; clones write the same.
#[derive(Clone)]
pub(crate) struct Recorder {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    processes: u32,
    values: u64,
    /// One past the last offset acknowledged, by key.
    acknowledged: BTreeMap<Key, Offset>,
    acknowledgements: u64,
    complaints: Vec<String>,
}

impl Recorder {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self {
            state: Arc::default(),
            trace: trace.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no process had before.
    pub(crate) fn process(&self) -> Process {
        let mut state = self.lock();
        state.processes += 1;
        Process(state.processes)
    }

    /// A value that nobody sent before.
    pub(crate) fn value(&self) -> Value {
        let mut state = self.lock();
        state.values += 1;
        Value(state.values)
    }

    /// A send begins or ends.
    pub(crate) fn send(&self, process: Process, kind: Kind, sends: Vec<Send>) {
        for Send { key, value, offset } in &sends {
            let (key, value) = (key.0, value.0);
            let what = format_args!("{kind:?} value {value} of key {key} at {offset:?}");
            self.trace
                .note(&format_args!("process {}", process.0), what);
        }
        let mut state = self.lock();
        for send in &sends {
            if let Some(offset) = send.offset {
                let end = state.acknowledged.entry(send.key).or_default();
                *end = (*end).max(offset + 1);
                state.acknowledgements += 1;
            }
        }
        state.push(process, kind, Action::Send(sends));
    }

    /// A process begins to read one key.
    pub(crate) fn assign(&self, process: Process, key: Key) {
        let mut state = self.lock();
        state.push(process, Kind::Invoke, Action::Assign([key].into()));
        state.push(process, Kind::Ok, Action::Assign([key].into()));
    }

    /// A poll returned.
    pub(crate) fn poll(&self, process: Process, reads: Vec<Read>) {
        let mut state = self.lock();
        state.push(process, Kind::Invoke, Action::Poll(vec![]));
        state.push(process, Kind::Ok, Action::Poll(reads));
    }

    /// A group's position is committed or asked for. Each try is an operation of a process of
    /// its own: one that got no answer may come into effect at any time.
    pub(crate) fn position(&self, process: Process, kind: Kind, action: Action) {
        self.trace.note(
            &format_args!("process {}", process.0),
            format_args!("{kind:?} {action:?}"),
        );
        self.lock().push(process, kind, action);
    }

    /// A process has read all that it will, as it was told by whom; something was written
    /// up to `end`.
    pub(crate) fn reads_no_further(
        &self,
        process: Process,
        next: i64,
        end: i64,
        by: Option<SocketAddr>,
    ) {
        let what = format_args!("reads no further than {next} of {end}, as told by {by:?}");
        self.trace
            .note(&format_args!("process {}", process.0), what);
    }

    /// A client saw what it must never see.
    pub(crate) fn complain(&self, what: String) {
        self.trace.note(&"client", format_args!("{what}"));
        self.lock().complaints.push(what);
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.lock().complaints.clone()
    }

    /// One past the last offset acknowledged of a key.
    pub(crate) fn acknowledged_end(&self, key: Key) -> Offset {
        self.lock().acknowledged.get(&key).copied().unwrap_or(0)
    }

    /// How many values were acknowledged.
    pub(crate) fn acknowledgements(&self) -> u64 {
        self.lock().acknowledgements
    }

    /// In the order of their times: within a step of the simulation machines run one
    /// after the other, each through all of the step's time.
    pub(crate) fn ops(&self) -> Vec<Op> {
        let mut ops = self.lock().ops.clone();
        ops.sort_by_key(|op| op.t_ns);
        for (index, op) in (0..).zip(&mut ops) {
            op.index = index;
        }
        ops
    }
}

impl State {
    fn push(&mut self, process: Process, kind: Kind, action: Action) {
        self.ops.push(Op {
            index: self.ops.len() as u64,
            process,
            kind,
            action,
            t_ns: u64::try_from(sim_now().as_nanos()).unwrap_or(u64::MAX),
            node: None,
            rebalanced: vec![],
        });
    }
}
