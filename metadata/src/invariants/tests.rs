//! Every checker has a bad image that it flags and the good one beside it.

use weir_base::image::NodeState;
use weir_base::invariant::Invariant;
use weir_base::{LeaderEpoch, PartitionEpoch};

use super::*;
use crate::testing::{cluster, nodes, record, topic};

fn flagged(spoil: impl FnOnce(&mut ClusterImage, &mut PartitionRecord)) -> Option<Invariant> {
    let mut image = cluster(4);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    assert_eq!(check_image(&image), Ok(()));
    let mut partition = record(&image, at);
    spoil(&mut image, &mut partition);
    check_partition(&image, at, &partition)
        .err()
        .map(|v| v.invariant)
}

#[test]
fn bad_images_are_flagged() {
    use Invariant::{I1, I5, I6, I10};
    assert_eq!(flagged(|_, _| ()), None);
    assert_eq!(flagged(|_, p| p.replicas.clear()), Some(I6));
    assert_eq!(
        flagged(|_, p| p.replicas.push(p.replicas[0])),
        Some(I6),
        "one node twice"
    );
    assert_eq!(flagged(|_, p| p.isr = nodes(&[3, 1])), Some(I6), "unsorted");
    assert_eq!(
        flagged(|_, p| p.isr = nodes(&[1, 4])),
        Some(I6),
        "no replica"
    );
    assert_eq!(flagged(|_, p| p.elr = nodes(&[4])), Some(I6));
    assert_eq!(
        flagged(|_, p| p.elr = nodes(&[2])),
        Some(I6),
        "elr and isr overlap"
    );
    assert_eq!(
        flagged(|_, p| {
            p.isr = nodes(&[1, 2]);
            p.elr = nodes(&[3]);
        }),
        Some(I6),
        "an elr beside a full isr"
    );
    assert_eq!(
        flagged(|_, p| {
            p.isr = nodes(&[1]);
            p.elr = nodes(&[3]);
        }),
        None
    );
    assert_eq!(flagged(|_, p| p.isr = nodes(&[2, 3])), Some(I5));
    assert_eq!(flagged(|_, p| p.leader_epoch = LeaderEpoch(0)), Some(I1));
    let fence = |image: &mut ClusterImage, id| {
        image.nodes.get_mut(&NodeId(id)).unwrap().state = NodeState::Fenced;
    };
    assert_eq!(flagged(|image, _| fence(image, 1)), Some(I10), "leader");
    assert_eq!(flagged(|image, _| fence(image, 2)), Some(I10), "isr member");
}

fn step_flagged(change: impl FnOnce(&mut PartitionRecord)) -> Option<Invariant> {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let mut before = record(&image, at);
    before.leader_epoch = LeaderEpoch(5);
    let mut after = before.clone();
    change(&mut after);
    check_partition_step(at, &before, &after)
        .err()
        .map(|v| v.invariant)
}

#[test]
fn bad_steps_are_flagged() {
    use Invariant::{I1, I7, I9};
    let next = |p: &mut PartitionRecord| p.partition_epoch = p.partition_epoch.next();
    assert_eq!(step_flagged(|_| ()), None);
    assert_eq!(step_flagged(next), None);
    assert_eq!(
        step_flagged(|p| {
            next(p);
            p.leader_epoch = LeaderEpoch(4);
        }),
        Some(I9)
    );
    assert_eq!(
        step_flagged(|p| p.partition_epoch = PartitionEpoch(0)),
        Some(I9)
    );
    assert_eq!(step_flagged(|p| p.isr = nodes(&[1, 2])), Some(I9));
    assert_eq!(
        step_flagged(|p| {
            next(p);
            p.leader = Some(NodeId(2));
        }),
        Some(I1)
    );
    assert_eq!(
        step_flagged(|p| {
            next(p);
            p.isr = nodes(&[1]);
        }),
        Some(I7),
        "who left was forgotten"
    );
    assert_eq!(
        step_flagged(|p| {
            next(p);
            p.isr = nodes(&[1]);
            p.last_known_elr = nodes(&[2]);
        }),
        None
    );
}

#[test]
fn a_node_epoch_that_falls_is_flagged() {
    let before = cluster(2);
    assert_eq!(check_step(&before, &before), Ok(()));
    let mut after = before.clone();
    after.nodes.get_mut(&NodeId(1)).unwrap().epoch.0 -= 1;
    assert_eq!(
        check_step(&before, &after).unwrap_err().invariant,
        Invariant::I9
    );
    let mut after = before.clone();
    after.nodes.remove(&NodeId(2));
    assert!(check_step(&before, &after).is_err());
    let mut after = before.clone();
    after.version = 0;
    assert!(check_step(&before, &after).is_err());
}
