//! Deadlines of leases, retries and waits, in one ordered set.
//!
//! What is settled early takes its entry along, so the set holds what is live. An entry
//! that was left behind fires and is found to be of no use.

use std::collections::BTreeSet;

use weir_base::machine::Token;
use weir_base::{Offset, Timestamp};

use crate::ids::{EntryNumber, GroupNumber};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The lease of a message ends.
    Lease(GroupNumber, Offset),
    /// A message may be tried again.
    Retry(GroupNumber, Offset),
    /// A receive has waited long enough.
    Wait(GroupNumber, Token),
    /// A paced group may be given more.
    Pace(GroupNumber),
    /// A group may have expired.
    Expiry(GroupNumber),
    /// A half message is to be asked about.
    Half(EntryNumber),
    /// A producer has waited long enough.
    CheckWait(Token),
    /// A paced replay may go on.
    Replay,
}

/// The set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Timestamp, timer: Timer) {
        self.entries.insert((at, timer));
    }

    pub(crate) fn disarm(&mut self, at: Timestamp, timer: Timer) {
        self.entries.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// Takes the first entry due at `now`.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        let due = self.entries.first().is_some_and(|(at, _)| *at <= now);
        due.then(|| self.entries.pop_first())
            .flatten()
            .map(|(_, timer)| timer)
    }
}
