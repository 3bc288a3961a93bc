//! What each mode may lose, and when (reliability 3.4).
//!
//! - sync flush, sync replication: nothing, ever.
//! - async flush, sync replication: what was acknowledged shortly before a power loss, if
//!   a second machine lost its power before the first was back in the ISR.
//! - async replication: what the leader alone had when another was elected, which is what
//!   was never below its high watermark; with async flush also what was acknowledged
//!   shortly before any power loss. What was read was committed.
//! - a disk that lies about fsync: with async replication all that was acknowledged before
//!   its machine lost its power, for it may have been the only one to have it.
//!
//! A partition whose mode changes is judged by the weakest it ever had.

use std::collections::{BTreeMap, BTreeSet};

use weir_base::NodeId;
use weir_checkers::Key;

use crate::plan::Mode;

/// "Shortly": the bound on what is not replicated or not flushed is a second or less;
/// the rest is how long it takes until everybody, and the observer, knows.
const BEFORE_MS: u64 = 4_000;
/// An answer may arrive, and a look may come, after the fact.
const AFTER_MS: u64 = 6_000;
/// How long a machine may need to get back into the ISR after a power loss.
const RETURN_MS: u64 = 30_000;

/// What happened in a run that lets weak modes lose.
#[derive(Default)]
pub(crate) struct Promise {
    modes: BTreeMap<Key, Mode>,
    /// Times, in milliseconds, when a partition's leader or its epoch changed.
    elections: BTreeMap<Key, Vec<u64>>,
    /// The leader's watermark whenever it was seen to move, with the time.
    watermarks: BTreeMap<Key, Vec<(u64, u64)>>,
    power_losses: Vec<(u64, NodeId)>,
    /// Whose disk says that it synced and did not.
    liar: Option<NodeId>,
    /// Nobody can read these any more.
    stranded: BTreeSet<Key>,
}

impl Promise {
    pub(crate) fn set_mode(&mut self, key: Key, mode: Mode) {
        self.modes.insert(key, mode);
    }

    pub(crate) fn elected(&mut self, key: Key, at: u64) {
        self.elections.entry(key).or_default().push(at);
    }

    /// The watermark of a partition's leader, as seen at a time.
    pub(crate) fn committed(&mut self, key: Key, at: u64, watermark: u64) {
        let seen = self.watermarks.entry(key).or_default();
        if seen.last().is_none_or(|(_, last)| *last != watermark) {
            seen.push((at, watermark));
        }
    }

    pub(crate) fn set_power_losses(&mut self, losses: Vec<(u64, NodeId)>) {
        self.power_losses = losses;
    }

    pub(crate) fn set_liar(&mut self, node: NodeId) {
        self.liar = Some(node);
    }

    pub(crate) fn strand(&mut self, key: Key) {
        self.stranded.insert(key);
    }

    pub(crate) fn is_stranded(&self, key: Key) -> bool {
        self.stranded.contains(&key)
    }

    pub(crate) fn keeps_all(&self, key: Key) -> bool {
        let mode = self.modes.get(&key);
        mode.is_none_or(|mode| mode.flush_sync && mode.replication_sync)
    }

    /// Whether a value of `key` that was acknowledged at `offset`, at `t_ns`, may be gone.
    pub(crate) fn may_lose(&self, key: Key, offset: u64, t_ns: u64) -> bool {
        let Some(mode) = self.modes.get(&key) else {
            return false;
        };
        let may_fail_over = !mode.replication_sync && self.had_leader_alone(key, offset, t_ns);
        may_fail_over || self.may_lose_committed(key, t_ns)
    }

    /// Whether what was below the watermark at `t_ns` may be gone, as what was read was.
    pub(crate) fn may_lose_committed(&self, key: Key, t_ns: u64) -> bool {
        let at = t_ns / 1_000_000;
        let is_near = |event: u64| event <= at + BEFORE_MS && at <= event + AFTER_MS;
        let lost_power = |alone: bool| {
            self.power_losses.iter().any(|(loss, node)| {
                let others = self.power_losses.iter().filter(|(_, by)| by != node);
                let mut second = others.map(|(other, _)| loss.abs_diff(*other));
                is_near(*loss) && (alone || second.any(|apart| apart <= RETURN_MS))
            })
        };
        let lost_lies = || {
            let mut losses = self.power_losses.iter();
            losses.any(|(loss, node)| Some(*node) == self.liar && at <= loss + AFTER_MS)
        };
        let mode = self.modes.get(&key);
        mode.is_some_and(|mode| {
            let is_alone = !mode.replication_sync;
            !mode.flush_sync && lost_power(is_alone) || is_alone && lost_lies()
        })
    }

    /// Whether another leader was elected after `t_ns` and before the offset was seen to
    /// be committed. Answers of the leader before may still come in after an election.
    fn had_leader_alone(&self, key: Key, offset: u64, t_ns: u64) -> bool {
        let at = t_ns / 1_000_000;
        let elections = self.elections.get(&key).map_or(&[][..], Vec::as_slice);
        if elections
            .iter()
            .any(|event| *event <= at && at <= event + AFTER_MS)
        {
            return true;
        }
        let before = elections.iter().rfind(|event| **event <= at).copied();
        let Some(next) = elections.iter().find(|event| **event > at) else {
            return false;
        };
        let seen = self.watermarks.get(&key).into_iter().flatten();
        let mut seen = seen.filter(|(seen, _)| before.is_none_or(|b| *seen > b) && seen < next);
        !seen.any(|(_, watermark)| *watermark > offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key(1);

    fn promise(flush_sync: bool, replication_sync: bool) -> Promise {
        let mut promise = Promise::default();
        let mode = Mode {
            flush_sync,
            replication_sync,
        };
        promise.set_mode(KEY, mode);
        promise
    }

    fn second(seconds: u64) -> u64 {
        seconds * 1_000_000_000
    }

    #[test]
    fn the_default_mode_may_lose_nothing() {
        let mut promise = promise(true, true);
        promise.elected(KEY, 10_000);
        promise.set_power_losses(vec![(10_000, NodeId(1)), (10_000, NodeId(2))]);
        assert!(!promise.may_lose(KEY, 5, second(10)) && promise.keeps_all(KEY));
        assert!(!promise.may_lose_committed(KEY, second(10)));
    }

    #[test]
    fn async_flush_may_lose_when_two_machines_lose_their_power() {
        let mut flush = promise(false, true);
        flush.elected(KEY, 10_000);
        flush.set_power_losses(vec![(10_000, NodeId(1))]);
        assert!(!flush.may_lose(KEY, 5, second(10)));
        flush.set_power_losses(vec![(10_000, NodeId(1)), (12_000, NodeId(2))]);
        assert!(flush.may_lose(KEY, 5, second(10)) && !flush.may_lose(KEY, 5, second(5)));
    }

    #[test]
    fn a_liar_may_lose_what_it_may_have_had_alone() {
        let mut alone = promise(true, false);
        alone.set_power_losses(vec![(30_000, NodeId(4))]);
        assert!(
            !alone.may_lose_committed(KEY, second(10)),
            "its syncs count"
        );
        alone.set_liar(NodeId(4));
        assert!(alone.may_lose(KEY, 5, second(10)) && !alone.may_lose(KEY, 5, second(40)));
        alone.set_liar(NodeId(5));
        assert!(
            !alone.may_lose(KEY, 5, second(10)),
            "another lost its power"
        );
        for flush_sync in [true, false] {
            let mut both = promise(flush_sync, true);
            both.set_liar(NodeId(4));
            both.set_power_losses(vec![(30_000, NodeId(4))]);
            assert!(!both.may_lose(KEY, 5, second(10)), "others have it");
        }
    }

    #[test]
    fn async_replication_may_lose_what_its_leader_alone_had() {
        let mut replication = promise(true, false);
        assert!(!replication.may_lose(KEY, 5, second(10)));
        replication.elected(KEY, 1_000);
        replication.committed(KEY, 12_000, 6);
        replication.elected(KEY, 30_000);
        assert!(
            !replication.may_lose(KEY, 5, second(10)),
            "it was committed"
        );
        assert!(
            replication.may_lose(KEY, 6, second(12)),
            "the election came first"
        );
        assert!(
            !replication.may_lose(KEY, 6, second(40)),
            "nobody else was elected"
        );
        assert!(!replication.may_lose_committed(KEY, second(12)));
    }
}
