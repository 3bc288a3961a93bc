//! I2: below the lesser of two high watermarks, two logs agree on which epoch wrote what.

use super::{Check, Told};
use crate::probe::{ReplicaSeen, Seen};

pub(super) struct LogMatching;

impl Check for LogMatching {
    fn look(&mut self, seen: &Seen, _: &Told) -> Vec<String> {
        let mut broken = Vec::new();
        for (at, _) in seen.strict() {
            let all: Vec<_> = seen.replicas(at).filter(|(_, r)| !r.is_failed).collect();
            for (index, (a, one)) in all.iter().enumerate() {
                for (b, two) in &all[..index] {
                    if let Some(how) = differ(one, two) {
                        broken.push(format!("I2: {at}: nodes {a} and {b}: {how}"));
                    }
                }
            }
        }
        broken
    }
}

/// Where one log changed epochs below both watermarks, and the other did not.
fn differ(one: &ReplicaSeen, two: &ReplicaSeen) -> Option<String> {
    let common = one.high_watermark.min(two.high_watermark);
    for (epoch, end) in &one.epochs {
        let other = two.epochs.iter().find(|(other, _)| other == epoch);
        if let Some((_, other_end)) = other
            && end != other_end
            && end.min(other_end) < &common
        {
            return Some(format!(
                "epoch {epoch} ends at {end} and at {other_end}, both are committed to {common}"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::Scene;
    use weir_base::{LeaderEpoch, Offset};

    #[test]
    fn logs_that_part_below_both_watermarks_are_flagged() {
        let look = |watermark| {
            let mut scene = Scene::new()
                .leader(1, 2, watermark)
                .follower(2, 2, watermark);
            scene.replica(1).epochs =
                vec![(LeaderEpoch(2), Offset(9)), (LeaderEpoch(1), Offset(5))];
            scene.replica(2).epochs =
                vec![(LeaderEpoch(2), Offset(9)), (LeaderEpoch(1), Offset(7))];
            LogMatching.look(&scene.seen(), &Told::new())
        };
        assert_eq!(look(9).len(), 1);
        assert_eq!(look(6).len(), 1);
        assert!(look(5).is_empty(), "above the watermark they may differ");
    }
}
