//! Things remembered until a time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weir_base::Timestamp;

/// A map whose entries have an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expiring<K: Ord, V> {
    entries: BTreeMap<K, (Timestamp, V)>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K: Ord, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy, V> Expiring<K, V> {
    /// Replaces the entry of `key`, or removes it.
    pub(crate) fn set(&mut self, key: K, entry: Option<(Timestamp, V)>) {
        let until = entry.as_ref().map(|(until, _)| *until);
        let old = match entry {
            Some(entry) => self.entries.insert(key, entry),
            None => self.entries.remove(&key),
        };
        if let Some((old, _)) = old {
            self.order.remove(&(old, key));
        }
        if let Some(until) = until {
            self.order.insert((until, key));
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&(Timestamp, V)> {
        self.entries.get(&key)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first that ends.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.order.first().map(|(until, _)| *until)
    }

    /// Those that have ended, oldest first.
    pub(crate) fn ended(&self, now: Timestamp) -> impl Iterator<Item = K> {
        let ended = self
            .order
            .iter()
            .take_while(move |(until, _)| *until <= now);
        ended.map(|(_, key)| *key)
    }
}
