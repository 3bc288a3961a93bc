//! Which of two live connections with one peer to use. Pure.
//!
//! Both ends judge the same pair of connections and must come to the same choice, or
//! at worst to a harmless one: each end uses its own, both serve both.

use std::time::Duration;

use weir_base::{Monotonic, NodeId};

/// What both ends know about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Random number that the peer drew when its process started.
    pub(crate) boot: u64,
    /// Whether this node opened it.
    pub(crate) dialled: bool,
    /// When the handshake ended here.
    pub(crate) established: Monotonic,
}

/// What becomes of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The old one is dead and does not know it: use the new one, close the old one now.
    Replace,
    /// Both are alive: use the new one, let the old one run dry.
    PreferNew,
    /// Both are alive: keep using the old one, let the new one run dry.
    KeepOld,
}

/// Judges a `new` connection with `peer` beside a live `old` one.
///
/// A peer that restarted, or that dials again, has lost the old connection: the new one
/// replaces it. Only two that crossed, each opened by one end within `crossing` of the
/// other, are both alive; then the one opened by the lower node id wins on both ends.
pub(crate) fn judge(
    me: NodeId,
    peer: NodeId,
    crossing: Duration,
    old: Facts,
    new: Facts,
) -> Verdict {
    let crossed = old.boot == new.boot
        && old.dialled != new.dialled
        && new.established.since(old.established) <= crossing;
    if !crossed {
        return Verdict::Replace;
    }
    let new_is_by_lower = new.dialled == (me < peer);
    if new_is_by_lower {
        Verdict::PreferNew
    } else {
        Verdict::KeepOld
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    fn facts(boot: u64, dialled: bool, millis: u64) -> Facts {
        Facts {
            boot,
            dialled,
            established: Monotonic(millis * 1_000_000),
        }
    }

    /// The connection that one end uses after it judged two that crossed, named by who
    /// dialled it.
    fn used(me: u32, peer: u32, first_is_mine: bool) -> u32 {
        let by = |mine: bool| if mine { me } else { peer };
        let (old, new) = (facts(1, first_is_mine, 0), facts(1, !first_is_mine, 10));
        match judge(NodeId(me), NodeId(peer), WINDOW, old, new) {
            Verdict::KeepOld => by(first_is_mine),
            Verdict::PreferNew => by(!first_is_mine),
            Verdict::Replace => panic!("crossed connections are both alive"),
        }
    }

    #[test]
    fn both_ends_of_crossed_connections_choose_alike_in_any_order() {
        for a in [false, true] {
            for b in [false, true] {
                assert_eq!(used(1, 2, a), 1);
                assert_eq!(used(2, 1, b), 1);
            }
        }
    }

    #[test]
    fn a_peer_that_restarted_or_dials_again_replaces() {
        let judge = |old, new| judge(NodeId(1), NodeId(2), WINDOW, old, new);
        let old = facts(1, true, 0);
        assert_eq!(judge(old, facts(2, false, 10)), Verdict::Replace);
        assert_eq!(judge(old, facts(1, false, 1001)), Verdict::Replace);
        let inbound = facts(1, false, 0);
        assert_eq!(judge(inbound, facts(1, false, 10)), Verdict::Replace);
    }
}
