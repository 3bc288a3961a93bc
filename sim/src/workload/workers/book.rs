//! What queue clients saw, in the order they saw it, and how far they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_base::Timestamp;
use weir_checkers::queue::{Event, QueueHistory};

use super::QUEUES;
use crate::env::EPOCH;
use crate::trace::{Trace, sim_now};

/// Shared by its clones.
#[derive(Clone)]
pub(crate) struct Book {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

#[derive(Default)]
struct State {
    histories: [QueueHistory; QUEUES.len()],
    counts: [Counted; QUEUES.len()],
    numbers: u64,
    /// Receipts of attempts that ended, by queue and id.
    old_receipts: BTreeMap<(usize, String), String>,
    /// Senders that still send.
    senders: u64,
    /// Somebody is asked about the half messages of the ordered queue, and says nothing.
    has_mute: bool,
    is_open: bool,
    is_closed: bool,
    waits_for: String,
}

/// What the brokers count of one queue, over all partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) acked: u64,
    pub(crate) dead_lettered: u64,
}

impl Book {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self {
            state: Arc::default(),
            trace: trace.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into the trace what a client did that is no event.
    pub(super) fn say(&self, who: &str, what: fmt::Arguments<'_>) {
        self.trace.note(&who, what);
    }

    /// What clients take for the time.
    pub(super) fn now() -> Timestamp {
        EPOCH + sim_now()
    }

    pub(super) fn set_mute(&self, has_mute: bool) {
        self.lock().has_mute = has_mute;
    }

    pub(crate) fn has_mute(&self) -> bool {
        self.lock().has_mute
    }

    /// A number that no message had before.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.lock();
        state.numbers += 1;
        state.numbers
    }

    pub(super) fn note(&self, queue: usize, event: Event) {
        let topic = QUEUES[queue].topic;
        self.trace.note(&topic, format_args!("{event:?}"));
        self.lock().histories[queue].events.push(event);
    }

    /// A message was returned, and its receipt is over.
    pub(super) fn keep_receipt(&self, queue: usize, id: &str, receipt: &str) {
        let mut state = self.lock();
        let old = &mut state.old_receipts;
        old.insert((queue, id.to_owned()), receipt.to_owned());
    }

    /// The receipt of an earlier attempt at a message, given out once.
    pub(super) fn old_receipt(&self, queue: usize, id: &str) -> Option<String> {
        let mut state = self.lock();
        state.old_receipts.remove(&(queue, id.to_owned()))
    }

    /// How many events there are of a queue by now.
    pub(super) fn noted(&self, queue: usize) -> usize {
        self.lock().histories[queue].events.len()
    }

    pub(super) fn sender_begins(&self) {
        self.lock().senders += 1;
    }

    pub(super) fn sender_ends(&self) {
        self.lock().senders -= 1;
    }

    pub(super) fn is_sending(&self) -> bool {
        self.lock().senders > 0
    }

    /// Topics and groups are made.
    pub(super) fn open(&self) {
        self.lock().is_open = true;
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Nothing is pending any more, and all was read back.
    pub(super) fn close(&self, counts: [Counted; QUEUES.len()]) {
        let mut state = self.lock();
        state.is_closed = true;
        state.counts = counts;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Why it cannot be closed yet.
    pub(super) fn wait_for(&self, what: String) {
        self.lock().waits_for = what;
    }

    pub(crate) fn waits_for(&self) -> String {
        self.lock().waits_for.clone()
    }

    /// All that was seen of each queue, with what brokers count.
    pub(crate) fn histories(&self) -> Vec<(usize, QueueHistory, Counted)> {
        let state = self.lock();
        let histories = state.histories.iter().zip(state.counts);
        let histories = histories.enumerate();
        histories
            .map(|(queue, (history, counted))| (queue, history.clone(), counted))
            .collect()
    }
}
