use weir_base::{LeaderEpoch, Offset};

use super::*;
use crate::command::StartKind;
use crate::controller::fence::{plan_fence, plan_registration, plan_unfence};
use crate::testing::{cluster, epoch, nodes, proposal, record, registration, run, topic};

fn boot(image: &mut ClusterImage, node: u32, start: StartKind) {
    let item = plan_registration(image, &registration(node, start));
    run(image, item).unwrap();
}

fn admit(image: &mut ClusterImage, node: u32) {
    let item = plan_unfence(image, NodeId(node));
    run(image, item).unwrap();
}

fn tell(ends: &mut LogEnds, image: &ClusterImage, at: TopicPartition, node: u32, end: (u32, u64)) {
    let told = LogEnd {
        at,
        partition_epoch: record(image, at).partition_epoch,
        last_epoch: LeaderEpoch(end.0),
        end: Offset(end.1),
    };
    ends.tell(NodeId(node), epoch(image, node), told);
}

/// All nodes lost power and came back in order, as told: 1 leaves an ISR that is enough
/// without it, 2 and 3 are left.
fn after_power_loss(
    starts: [StartKind; 3],
    configs: &[(&str, &str)],
) -> (ClusterImage, TopicPartition) {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], configs);
    for (node, start) in (1..).zip(starts) {
        boot(&mut image, node, start);
    }
    (image, at)
}

const SUSPECT: StartKind = StartKind::TailSuspect;

#[test]
fn a_whole_copy_leads_and_suspects_wait_for_it() {
    let (mut image, at) = after_power_loss([SUSPECT, SUSPECT, StartKind::Unclean], &[]);
    let p = record(&image, at);
    assert_eq!((p.elr, p.suspects), (nodes(&[2, 3]), nodes(&[2])));
    for node in [1, 2] {
        admit(&mut image, node);
        assert_eq!(record(&image, at).leader, None);
    }
    let mut ends = LogEnds::default();
    tell(&mut ends, &image, at, 2, (9, 900));
    assert_eq!(ends.plan(&image, at), []);
    admit(&mut image, 3);
    assert_eq!(record(&image, at).leader, Some(NodeId(3)));
    // In sync again is suspect no more.
    let item = vec![Command::AlterPartition(proposal(&image, at, &[2, 3]))];
    run(&mut image, item).unwrap();
    let p = record(&image, at);
    assert_eq!((p.isr, p.suspects), (nodes(&[2, 3]), nodes(&[])));
}

#[test]
fn of_suspects_the_longest_leads_once_all_told() {
    let table = [
        ((4, 100), (4, 101), 3),
        ((4, 101), (4, 100), 2),
        ((5, 90), (4, 100), 2),
        ((4, 100), (4, 100), 2),
    ];
    for (two, three, expected) in table {
        let (mut image, at) = after_power_loss([SUSPECT; 3], &[]);
        let mut ends = LogEnds::default();
        for node in [1, 2] {
            admit(&mut image, node);
        }
        tell(&mut ends, &image, at, 2, two);
        tell(&mut ends, &image, at, 3, three);
        assert_eq!(ends.plan(&image, at), [], "3 is not there");
        admit(&mut image, 3);
        let item = ends.plan(&image, at);
        run(&mut image, item).unwrap();
        let p = record(&image, at);
        let other = 5 - expected;
        assert_eq!(p.leader, Some(NodeId(expected)));
        let sets = (p.isr, p.elr, p.suspects);
        assert_eq!(sets, (nodes(&[expected]), nodes(&[other]), nodes(&[other])));
        ends.prune(&image);
        assert!(ends.0.is_empty());
    }
}

#[test]
fn what_was_told_before_a_boot_or_under_another_record_is_void() {
    let (mut image, at) = after_power_loss([SUSPECT; 3], &[]);
    for node in [1, 2, 3] {
        admit(&mut image, node);
    }
    let mut ends = LogEnds::default();
    tell(&mut ends, &image, at, 2, (4, 100));
    tell(&mut ends, &image, at, 3, (4, 90));
    assert_ne!(ends.plan(&image, at), []);
    // The same process, or another one: either may have a longer log by now.
    boot(&mut image, 3, StartKind::SameBoot);
    admit(&mut image, 3);
    assert_eq!(ends.plan(&image, at), []);
    tell(&mut ends, &image, at, 3, (4, 101));
    let p = record(&image, at);
    assert_eq!(
        p.suspects,
        nodes(&[2, 3]),
        "a later clean start changes nothing"
    );
    tell(&mut ends, &image, at, 2, (4, 100));
    let item = ends.plan(&image, at);
    run(&mut image, item).unwrap();
    assert_eq!(record(&image, at).leader, Some(NodeId(3)));
}

#[test]
fn the_only_copy_leads_once_it_told() {
    let mut image = cluster(1);
    let at = topic(&mut image, "t", &[1], &[]);
    boot(&mut image, 1, SUSPECT);
    admit(&mut image, 1);
    assert_eq!(record(&image, at).leader, None);
    let mut ends = LogEnds::default();
    tell(&mut ends, &image, at, 1, (1, 7));
    let item = ends.plan(&image, at);
    run(&mut image, item).unwrap();
    let p = record(&image, at);
    assert_eq!(
        (p.leader, p.isr, p.suspects),
        (Some(NodeId(1)), nodes(&[1]), nodes(&[]))
    );
}

#[test]
fn with_async_flush_a_suspect_is_no_more_eligible_than_any_unclean_copy() {
    let (image, at) = after_power_loss([SUSPECT; 3], &[("weir.flush", "async")]);
    let p = record(&image, at);
    assert_eq!((p.elr, p.suspects), (nodes(&[]), nodes(&[])));
    assert_eq!(p.last_known_elr, nodes(&[2, 3]));
}

#[test]
fn a_suspect_in_sync_again_that_is_fenced_is_trusted() {
    let (mut image, at) = after_power_loss([SUSPECT, SUSPECT, StartKind::Unclean], &[]);
    for node in [1, 2, 3] {
        admit(&mut image, node);
    }
    let item = vec![Command::AlterPartition(proposal(&image, at, &[2, 3]))];
    run(&mut image, item).unwrap();
    for node in [3, 2] {
        let item = plan_fence(&image, NodeId(node));
        run(&mut image, item).unwrap();
    }
    admit(&mut image, 2);
    assert_eq!(record(&image, at).leader, Some(NodeId(2)));
}
