//! Where a run stands, as its scenario tells the clients and they tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_checkers::Key;

/// Shared by its clones.
#[derive(Clone, Default)]
pub(crate) struct Stage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_healed: bool,
    /// With the end of what was written.
    written: BTreeMap<Key, i64>,
    read: BTreeSet<Key>,
    /// Keepers that are not done.
    keepers: u64,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Faults are over: from now on everything has to succeed.
    pub(crate) fn heal(&self) {
        self.lock().is_healed = true;
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.lock().is_healed
    }

    /// What was written after the healing was acknowledged, up to this offset.
    pub(crate) fn set_written(&self, key: Key, end: i64) {
        self.lock().written.insert(key, end);
    }

    /// The end of it, once all of it was acknowledged.
    pub(crate) fn written(&self, key: Key) -> Option<i64> {
        self.lock().written.get(&key).copied()
    }

    /// A keeper begins.
    pub(crate) fn keeper_begins(&self) {
        self.lock().keepers += 1;
    }

    /// A keeper found, or missed, all it was to find.
    pub(crate) fn keeper_ends(&self) {
        self.lock().keepers -= 1;
    }

    /// Whether no keeper is under way.
    pub(crate) fn is_kept(&self) -> bool {
        self.lock().keepers == 0
    }

    /// Everything was read, and once more from the start.
    pub(crate) fn set_read(&self, key: Key) {
        self.lock().read.insert(key);
    }

    pub(crate) fn is_read(&self, key: Key) -> bool {
        self.lock().read.contains(&key)
    }
}
