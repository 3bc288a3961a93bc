use std::collections::BTreeSet;

use super::*;
use crate::command::Command;
use crate::testing::{cluster, nodes, run, topic};
use weir_base::Uuid;

fn spread(placed: &[Vec<NodeId>], pick: impl Fn(&[NodeId]) -> Vec<NodeId>) -> Vec<usize> {
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for replicas in placed {
        for node in pick(replicas) {
            *counts.entry(node).or_default() += 1;
        }
    }
    counts.into_values().collect()
}

#[test]
fn replicas_and_leaders_are_balanced() {
    let image = cluster(5);
    let placed = place(&image, 50, 3).unwrap();
    assert_eq!(spread(&placed, |r| vec![r[0]]), vec![10; 5]);
    let all = spread(&placed, <[NodeId]>::to_vec);
    assert!(all.iter().all(|n| (29..=31).contains(n)), "{all:?}");
    assert!(
        placed
            .iter()
            .all(|r| r.iter().collect::<BTreeSet<_>>().len() == 3)
    );
}

#[test]
fn what_is_there_counts() {
    let mut image = cluster(3);
    topic(&mut image, "t", &[1, 2], &[]);
    // Node 3 leads least and carries least, then 1 and 2 carry alike but 1 leads one.
    assert_eq!(place(&image, 1, 2).unwrap(), [nodes(&[3, 2])]);
}

#[test]
fn racks_are_kept_apart() {
    let mut image = cluster(4);
    for (id, node) in &mut image.nodes {
        node.rack = Some(if id.0 <= 2 { "a" } else { "b" }.to_owned());
    }
    for replicas in place(&image, 20, 2).unwrap() {
        let racks: BTreeSet<_> = replicas
            .iter()
            .map(|n| image.nodes[n].rack.clone())
            .collect();
        assert_eq!(racks.len(), 2, "{replicas:?}");
    }
}

#[test]
fn too_few_nodes_are_told() {
    let image = cluster(2);
    assert!(place(&image, 1, 3).is_err());
    assert!(place(&image, 1, 0).is_err());
    assert_eq!(default_replication_factor(&image), 2);
    assert_eq!(default_replication_factor(&cluster(5)), 3);
    assert_eq!(default_partitions(&image), 1);
}

#[test]
fn nodes_that_are_away_are_the_last_choice() {
    let mut image = cluster(3);
    let drain = crate::controller::fence::plan_drain(&image, NodeId(2));
    run(&mut image, drain).unwrap();
    assert!(
        place(&image, 9, 2)
            .unwrap()
            .iter()
            .all(|r| !r.contains(&NodeId(2)))
    );
    assert!(place(&image, 9, 3).unwrap().iter().all(|r| r[2].0 == 2));
    assert_eq!(default_replication_factor(&image), 3);
}

#[test]
fn a_given_assignment_is_checked() {
    let mut image = cluster(2);
    assert!(check_given(&image, &[nodes(&[1, 2]), nodes(&[2, 1])]).is_ok());
    for bad in [
        vec![nodes(&[1, 1])],
        vec![nodes(&[1]), nodes(&[1, 2])],
        vec![nodes(&[9])],
        vec![vec![]],
    ] {
        assert!(check_given(&image, &bad).is_err(), "{bad:?}");
    }
    let create = Command::CreateTopic {
        id: Uuid([1; 16]),
        name: "t".to_owned(),
        internal: false,
        configs: BTreeMap::new(),
        replicas: vec![nodes(&[7])],
    };
    assert!(run(&mut image, vec![create]).is_err());
}
