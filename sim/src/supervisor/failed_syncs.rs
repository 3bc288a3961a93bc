//! A process that was told that an fsync of its write-ahead log failed ends: what the page
//! cache holds is not on the disk, and the next fsync says that all is well (S-41).

use std::collections::BTreeMap;

use weir_base::NodeId;

/// How long it may take to end, in milliseconds: that the operation failed may be told half
/// a second later, on a slow disk.
const PATIENCE: u64 = 1_000;

/// Since when each process knows, or could if it was not stopped.
#[derive(Default)]
pub(super) struct FailedSyncs(BTreeMap<NodeId, u64>);

impl FailedSyncs {
    /// Looks at a running process: whether such an fsync failed in its life, and whether it
    /// can act on it. Says what is broken.
    pub(super) fn look(
        &mut self,
        node: NodeId,
        now: u64,
        has_failed: bool,
        can_act: bool,
    ) -> Option<String> {
        if !has_failed || !can_act {
            self.0.remove(&node);
            return None;
        }
        let since = *self.0.entry(node).or_insert(now);
        (now - since > PATIENCE).then(|| {
            format!("S-41: node {node} goes on after an fsync of its write-ahead log failed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks three times a second at what happened by then; says whether it was flagged.
    fn is_flagged(looks: &[(bool, bool)]) -> bool {
        let mut check = FailedSyncs::default();
        let mut times = (0..).map(|look| look * 333);
        looks.iter().any(|(has_failed, can_act)| {
            let now = times.next().unwrap_or_default();
            let broken = check.look(NodeId(1), now, *has_failed, *can_act);
            broken.is_some()
        })
    }

    #[test]
    fn a_process_that_goes_on_is_flagged_and_one_that_ends_or_stands_still_is_not() {
        const FAILED: (bool, bool) = (true, true);
        const STOPPED: (bool, bool) = (true, false);
        const SOUND: (bool, bool) = (false, true);
        assert!(is_flagged(&[SOUND, FAILED, FAILED, FAILED, FAILED, FAILED]));
        assert!(!is_flagged(&[FAILED, FAILED, FAILED, SOUND, SOUND, FAILED]));
        assert!(!is_flagged(&[
            FAILED, STOPPED, STOPPED, STOPPED, STOPPED, FAILED
        ]));
        assert!(!is_flagged(&[SOUND; 9]));
    }
}
