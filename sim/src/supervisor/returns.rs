//! Waits for a node that was killed to come back, and cuts it off from all others as soon as
//! they count on it: it opens its logs then, and what it finds there it can tell nobody.

use weir_base::NodeId;

use crate::nemesis::network::{Way, both};

#[derive(Default)]
pub(super) struct Returns {
    /// Who is waited for, and for how many milliseconds it is to be cut off.
    awaited: Option<(NodeId, u64)>,
    /// Who is cut off, and until when.
    caught: Option<(NodeId, u64)>,
}

impl Returns {
    /// From now on waits for this node, which does not run.
    pub(super) fn arm(&mut self, node: NodeId, away: u64) {
        self.awaited = Some((node, away));
    }

    /// Waits for nobody any more; who is cut off stays so for its time.
    pub(super) fn disarm(&mut self) {
        self.awaited = None;
    }

    /// All of it is over.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_on(&self) -> bool {
        self.awaited.is_some() || self.caught.is_some()
    }

    /// Looks who is back. Says whether somebody is cut off from now on.
    pub(super) fn look(&mut self, now: u64, is_back: impl Fn(NodeId) -> bool) -> bool {
        self.caught = self.caught.filter(|(_, until)| now < *until);
        let returned = self.awaited.take_if(|(node, _)| is_back(*node));
        if let Some((node, away)) = returned {
            self.caught = Some((node, now + away));
        }
        returned.is_some()
    }

    /// What is cut of the ways between these nodes.
    pub(super) fn severed(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<Way> {
        let Some((caught, _)) = self.caught else {
            return Vec::new();
        };
        let others = nodes.filter(|node| *node != caught);
        both(others.map(|other| (caught, other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
    const NODE: NodeId = NODES[0];

    /// How many ways are cut after looks at these times, from the second on with the node
    /// back.
    fn cut_after(returns: &mut Returns, looks: &[u64]) -> Vec<usize> {
        returns.arm(NODE, 9);
        let looked = looks.iter().map(|now| {
            let is_back = |node| node != NODE || *now != looks[0];
            let is_new = returns.look(*now, is_back);
            assert_eq!(is_new, *now == looks[1], "at {now}");
            returns.severed(NODES.into_iter()).len()
        });
        looked.collect()
    }

    #[test]
    fn who_comes_back_is_cut_off_for_its_time() {
        let mut returns = Returns::default();
        assert!(!returns.is_on());
        let cut = cut_after(&mut returns, &[2, 4, 12, 13]);
        assert_eq!(cut, [0, 4, 4, 0], "from two others, both ways");
        assert!(!returns.is_on());
    }

    #[test]
    fn what_is_under_way_goes_on_until_all_ends() {
        let mut returns = Returns::default();
        cut_after(&mut returns, &[2, 4]);
        returns.disarm();
        assert_eq!(returns.severed(NODES.into_iter()).len(), 4);
        returns.end();
        assert!(!returns.is_on() && returns.severed(NODES.into_iter()).is_empty());
        returns.arm(NODE, 9);
        returns.disarm();
        assert!(!returns.look(6, |_| true), "it is waited for no more");
    }
}
