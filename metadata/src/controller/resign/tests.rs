use std::fmt::Write;

use weir_base::image::PartitionRecord;

use super::*;
use crate::ask::{Ask, Resignation};
use crate::controller::fence::plan_fence;
use crate::controller::plan::plan;
use crate::testing::{cluster, epoch, nodes, proposal, record, run, topic};

/// "leader isr/elr/last known", such as `2 23/-/1`.
fn text(p: &PartitionRecord) -> String {
    let list = |set: &[NodeId]| match set {
        [] => "-".to_owned(),
        set => set.iter().fold(String::new(), |mut text, node| {
            write!(text, "{node}").unwrap();
            text
        }),
    };
    let leader = p
        .leader
        .map_or_else(|| "-".to_owned(), |node| node.to_string());
    let sets = [&p.isr, &p.elr, &p.last_known_elr].map(|set| list(set));
    format!("{leader} {}", sets.join("/"))
}

fn id_of(p: &PartitionRecord, node: u32) -> Uuid {
    p.replica(NodeId(node)).unwrap().id
}

/// Of replicas 1, 2, 3: min ISR, the ISR, who is fenced then, who resigns, and the result.
type Row = (
    &'static str,
    &'static [u32],
    &'static [u32],
    u32,
    &'static str,
);

#[test]
fn a_bad_copy_leaves_and_another_leads() {
    let table: [Row; 9] = [
        ("2", &[1, 2, 3], &[], 1, "2 23/-/-"),
        ("2", &[1, 2, 3], &[], 3, "1 12/-/-"),
        ("2", &[1, 2], &[], 1, "2 2/-/1"),
        ("2", &[1, 2], &[], 2, "1 1/-/2"),
        // Not in sync: only what it claimed is void.
        ("2", &[1, 2], &[], 3, "1 12/-/-"),
        ("3", &[1, 2, 3], &[2], 1, "3 3/2/1"),
        // An eligible leader gives that up.
        ("3", &[1, 2, 3], &[2], 2, "1 13/-/2"),
        // Nobody who is there may lead: the partition waits.
        ("2", &[1, 2], &[2], 1, "- -/2/1"),
        ("1", &[1, 2], &[], 1, "2 2/-/-"),
    ];
    for (row, (min_isr, isr, fenced, who, expected)) in table.into_iter().enumerate() {
        let mut image = cluster(3);
        let at = topic(
            &mut image,
            "t",
            &[1, 2, 3],
            &[("min.insync.replicas", min_isr)],
        );
        if isr.len() < 3 {
            let shrink = Command::AlterPartition(proposal(&image, at, isr));
            run(&mut image, vec![shrink]).unwrap();
        }
        for node in fenced {
            let item = plan_fence(&image, NodeId(*node));
            run(&mut image, item).unwrap();
        }
        let before = record(&image, at);
        let id = id_of(&before, who);
        let item = plan_replica(&image, at, NodeId(who), id).unwrap();
        run(&mut image, item).unwrap();
        let after = record(&image, at);
        assert_eq!(text(&after), expected, "row {row}: {before:?}");
        assert_ne!(id_of(&after, who), id, "row {row}");
        assert!(after.partition_epoch > before.partition_epoch);
        assert_eq!(
            after.leader_epoch > before.leader_epoch,
            after.leader != before.leader,
            "row {row}"
        );
        // Asked again, it is done.
        assert_eq!(plan_replica(&image, at, NodeId(who), id), Ok(vec![]));
    }
}

#[test]
fn the_last_copy_stays() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let shrink = Command::AlterPartition(proposal(&image, at, &[1]));
    run(&mut image, vec![shrink]).unwrap();
    // The ISR is below min ISR, so 2 and 3 are eligible; 2 gives up, then 3, then 1 may not.
    for who in [2, 3] {
        let p = record(&image, at);
        let item = plan_replica(&image, at, NodeId(who), id_of(&p, who)).unwrap();
        run(&mut image, item).unwrap();
    }
    let p = record(&image, at);
    let refused = plan_replica(&image, at, NodeId(1), id_of(&p, 1));
    let node = NodeId(1);
    assert_eq!(refused, Err(Refusal::LastCopy { at, node }));
    assert_eq!(text(&p), "1 1/-/23");
    // Nor is a copy thrown away while nobody at all may lead.
    let item = plan_fence(&image, NodeId(1));
    run(&mut image, item).unwrap();
    let p = record(&image, at);
    assert_eq!(text(&p), "- -/1/23");
    assert!(plan_replica(&image, at, NodeId(1), id_of(&p, 1)).is_err());
}

#[test]
fn a_copy_that_is_relied_on_is_not_renewed() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2], &[]);
    let partition_epoch = record(&image, at).partition_epoch;
    let renew = |node| Command::RenewReplica {
        at,
        partition_epoch,
        node: NodeId(node),
    };
    assert!(matches!(
        run(&mut image, vec![renew(2)]),
        Err(Refusal::Breaks { .. })
    ));
    let node = NodeId(3);
    assert_eq!(
        run(&mut image, vec![renew(3)]),
        Err(Refusal::NoReplica { at, node })
    );
}

#[test]
fn a_proposal_from_before_the_resignation_does_not_bring_it_back() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let stale = proposal(&image, at, &[1, 2, 3]);
    let p = record(&image, at);
    let item = plan_replica(&image, at, NodeId(3), id_of(&p, 3)).unwrap();
    run(&mut image, item).unwrap();
    let refused = run(&mut image, vec![Command::AlterPartition(stale)]);
    assert!(matches!(refused, Err(Refusal::StalePartitionEpoch { .. })));
}

#[test]
fn leadership_alone_goes_to_another_or_to_a_new_epoch() {
    for (isr, next) in [(&[1, 2, 3][..], 2), (&[1], 1)] {
        let mut image = cluster(3);
        let at = topic(&mut image, "t", &[1, 2, 3], &[]);
        if isr.len() < 3 {
            let shrink = Command::AlterPartition(proposal(&image, at, isr));
            run(&mut image, vec![shrink]).unwrap();
        }
        let before = record(&image, at);
        let item = plan_leadership(&image, at, NodeId(1), before.leader_epoch).unwrap();
        run(&mut image, item).unwrap();
        let after = record(&image, at);
        assert_eq!(after.leader, Some(NodeId(next)));
        assert_eq!(after.leader_epoch, before.leader_epoch.next());
        assert_eq!(after.isr, nodes(isr));
        // That epoch is over.
        let again = plan_leadership(&image, at, NodeId(1), before.leader_epoch);
        assert_eq!(again, Ok(vec![]));
    }
}

#[test]
fn only_the_present_boot_resigns() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let id = id_of(&record(&image, at), 1);
    let ask = |epoch| Ask::Resign {
        at,
        node: NodeId(1),
        epoch,
        what: Resignation::Replica {
            id,
            why: "checksum".to_owned(),
        },
    };
    let current = epoch(&image, 1);
    let stale = plan(
        &image,
        &ask(weir_base::NodeEpoch(current.0 - 1)),
        Uuid::ZERO,
    );
    assert!(matches!(stale, Err(Refusal::StaleNodeEpoch { .. })));
    assert_eq!(plan(&image, &ask(current), Uuid::ZERO).unwrap().len(), 2);
    assert!(ask(current).is_from(NodeId(1)) && !ask(current).is_from(NodeId(2)));
    let item = plan(&image, &ask(current), Uuid::ZERO).unwrap();
    run(&mut image, item).unwrap();
    assert_eq!(plan(&image, &ask(current), Uuid::ZERO), Ok(vec![]));
}
