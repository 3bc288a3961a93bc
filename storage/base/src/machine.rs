//! The replicated automaton that queues and group coordinators share.
//!
//! A machine is pure: the host gives it commands and the time, appends the
//! records it decides on to a journal partition, and lets a reply go only when
//! everything it was decided on is committed. Losing leadership drops the whole
//! machine, so there is no rollback code anywhere.

use crate::{Offset, Timestamp};

/// Names one caller waiting for a reply. Given by the host, unique while the machine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What one `decide` call wants done.
#[derive(Debug)]
pub struct Decision<R, A> {
    /// To be appended to the journal, in this order, as one batch.
    pub records: Vec<R>,
    /// Answers to this or earlier callers; each leaves when `records` so far are committed.
    pub replies: Vec<(Token, A)>,
}

impl<R, A> Default for Decision<R, A> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            replies: Vec::new(),
        }
    }
}

/// A pure automaton over a replicated journal.
pub trait Machine {
    /// Changed by [`Machine::apply`] alone: replaying the journal rebuilds it.
    type Durable: Default + Send;
    /// Leases, sessions, caches: dropped on fail-over.
    type Volatile: Default + Send;
    /// One caller's wish.
    type Command: Send;
    /// One journal entry. Encodings are append-only: new variants go to the end.
    type Record: Send;
    /// The answer to a command.
    type Reply: Send;

    /// Decides on one command. Must not change what `apply` owns; the host applies
    /// `out.records` at their predicted offsets before the next `decide`.
    fn decide(
        durable: &Self::Durable,
        volatile: &mut Self::Volatile,
        now: Timestamp,
        token: Token,
        command: Self::Command,
        out: &mut Decision<Self::Record, Self::Reply>,
    );

    /// Folds one journal record, found at `at`, into the durable state.
    fn apply(durable: &mut Self::Durable, at: Offset, record: &Self::Record);

    /// Called at [`Machine::next_deadline`] or later: sessions and delays that ran out.
    fn on_tick(
        durable: &Self::Durable,
        volatile: &mut Self::Volatile,
        now: Timestamp,
        out: &mut Decision<Self::Record, Self::Reply>,
    );

    /// When `on_tick` is wanted next, if at all.
    fn next_deadline(durable: &Self::Durable, volatile: &Self::Volatile) -> Option<Timestamp>;
}
