//! I10: who is fenced acts as nobody's leader: its lease ended before the controller
//! gave up on it. And a lease is for what the node's own image says: who led before does
//! not answer with it, be the replica ever so late.

use weir_base::image::NodeState;

use super::{Check, Told};
use crate::probe::Seen;

pub(super) struct Fenced;

impl Check for Fenced {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let record = seen.newest.nodes.get(node);
            if record.is_none_or(|record| record.state != NodeState::Fenced) {
                continue;
            }
            let answers = inside.replicas.iter().filter(|(_, r)| r.may_answer);
            for (at, replica) in answers {
                let epoch = replica.leader_epoch;
                broken.push(format!(
                    "I10: node {node} is fenced and leads {at} in epoch {epoch}"
                ));
            }
        }
        broken
    }
}

pub(super) struct Replaced;

impl Check for Replaced {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (node, inside) in &seen.nodes {
            let answers = inside.replicas.iter().filter(|(_, r)| r.may_answer);
            for (at, replica) in answers {
                let now = inside.image.partition(*at);
                if now.is_none_or(|record| record.leader_epoch > replica.leader_epoch) {
                    let (epoch, now) = (replica.leader_epoch, now.map(|now| now.leader_epoch));
                    broken.push(format!(
                        "I10: node {node} answers for {at} in epoch {epoch}, and knows of {now:?}"
                    ));
                }
            }
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;

    #[test]
    fn a_fenced_leader_that_answers_is_flagged() {
        let scene = || Scene::new().leader(1, 1, 5);
        let look = |scene: Scene| Fenced.look(&scene.seen(), &Told::new()).len();
        assert_eq!(look(scene()), 0);
        assert_eq!(look(scene().fenced(1)), 1);
        let mut silent = scene().fenced(1);
        silent.replica(1).may_answer = false;
        assert_eq!(look(silent), 0);
    }

    #[test]
    fn a_leader_that_answers_in_an_epoch_its_node_knows_to_be_over_is_flagged() {
        let scene = || Scene::new().leader(1, 1, 5);
        let look = |scene: Scene| Replaced.look(&scene.seen(), &Told::new()).len();
        assert_eq!(look(scene()), 0);
        let late = |answers| {
            let mut scene = scene().leader(2, 2, 5);
            scene.replica(1).may_answer = answers;
            scene
        };
        assert_eq!(look(late(true)), 1);
        assert_eq!(look(late(false)), 0);
    }
}
