//! Deadlines of all groups in one ordered set.
//!
//! Lazy: a heartbeat only moves the member's own deadline. Its entry here still fires
//! at the old time, is found to be early, and is armed again. So a heartbeat costs no
//! change here, and a member has one entry (a few, after its timeout was lowered).

use std::collections::BTreeSet;

use weir_base::Timestamp;

use crate::command::{GroupId, MemberId};

/// What a deadline is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The group's rebalance or sync barrier.
    Group(GroupId),
    /// A member's session.
    Member(GroupId, MemberId),
    /// An id that was handed out and not used yet.
    Pending(GroupId, MemberId),
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

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// Takes the first entry due at `now`.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        self.entries
            .first()
            .is_some_and(|(at, _)| *at <= now)
            .then(|| self.entries.pop_first())
            .flatten()
            .map(|(_, timer)| timer)
    }
}
