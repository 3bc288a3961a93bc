//! Which leader epoch began where: the fold of a log's batches that truncation rests on.
//!
//! Followers find where they diverge by asking for the end of an epoch (S-03), so the
//! list must match the log exactly (S-12): it changes only with an append, a cut or a
//! raised start, and is stored beside the checkpoint it belongs to.

use serde::{Deserialize, Serialize};
use weir_base::{LeaderEpoch, Offset};

use crate::log::EpochEnd;

/// Epochs with their first offsets, both strictly rising.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochCache {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl EpochCache {
    /// The newest epoch; 0 if there never was one.
    #[must_use]
    pub fn last(&self) -> LeaderEpoch {
        self.starts
            .last()
            .map(|(epoch, _)| *epoch)
            .unwrap_or_default()
    }

    /// Notes a batch of `epoch` at `base`. Panics if the epoch falls (I9).
    pub fn on_append(&mut self, epoch: LeaderEpoch, base: Offset) {
        let last = self.last();
        assert!(
            epoch >= last,
            "I9: epoch {epoch} appended at {base} after {last}"
        );
        if self.starts.is_empty() || epoch > last {
            self.starts.push((epoch, base));
        }
    }

    /// Forgets epochs that began at or above `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        self.starts.retain(|(_, start)| *start < end);
    }

    /// Raises the start: forgets epochs that ended below it, but for the last two that
    /// began there. A log cut down to its start, even in the midst of a batch, then still
    /// knows its last epoch.
    pub fn set_start(&mut self, start: Offset) {
        let began = self.starts.partition_point(|(_, first)| *first < start);
        self.starts.drain(..began.saturating_sub(2));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.starts.clear();
    }

    /// The largest epoch at most `asked` and where it ended, in a log that ends at `end`.
    #[must_use]
    pub fn end_of(&self, asked: LeaderEpoch, end: Offset) -> Option<EpochEnd> {
        let found = self
            .starts
            .partition_point(|(epoch, _)| *epoch <= asked)
            .checked_sub(1)?;
        Some(EpochEnd {
            epoch: self.starts[found].0,
            end: self.starts.get(found + 1).map_or(end, |(_, next)| *next),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(list: &[(u32, u64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, base) in list {
            cache.on_append(LeaderEpoch(*epoch), Offset(*base));
        }
        cache
    }

    fn end_of(cache: &EpochCache, asked: u32) -> Option<(u32, u64)> {
        cache
            .end_of(LeaderEpoch(asked), Offset(50))
            .map(|found| (found.epoch.0, found.end.0))
    }

    #[test]
    fn the_answer_is_the_largest_epoch_at_most_the_one_asked() {
        let cache = cache(&[(1, 0), (1, 5), (3, 10), (7, 30)]);
        assert_eq!(end_of(&cache, 0), None);
        assert_eq!(end_of(&cache, 1), Some((1, 10)));
        assert_eq!(end_of(&cache, 2), Some((1, 10)));
        assert_eq!(end_of(&cache, 6), Some((3, 30)));
        assert_eq!(end_of(&cache, 9), Some((7, 50)));
    }

    #[test]
    fn cuts_forget_what_began_above_them() {
        let mut cache = cache(&[(1, 0), (3, 10), (7, 30)]);
        cache.truncate_to(Offset(30));
        assert_eq!(cache.last(), LeaderEpoch(3));
        cache.truncate_to(Offset(0));
        assert_eq!(cache.last(), LeaderEpoch(0));
    }

    #[test]
    fn a_raised_start_keeps_the_epochs_it_needs() {
        let mut cache = cache(&[(1, 0), (2, 5), (3, 10), (7, 30)]);
        cache.set_start(Offset(12));
        assert_eq!(end_of(&cache, 1), None);
        assert_eq!(end_of(&cache, 3), Some((3, 30)));
        cache.set_start(Offset(30));
        assert_eq!(end_of(&cache, 6), Some((3, 30)));
        cache.truncate_to(Offset(30));
        assert_eq!(cache.last(), LeaderEpoch(3));
    }

    #[test]
    #[should_panic(expected = "I9")]
    fn a_falling_epoch_is_a_bug() {
        cache(&[(3, 0), (2, 1)]);
    }
}
