//! I10: who is fenced acts as nobody's leader: its lease ended before the controller
//! gave up on it.

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
}
