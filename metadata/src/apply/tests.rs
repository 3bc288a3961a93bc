use std::collections::BTreeMap;

use weir_base::image::{Durability, FlushMode, NodeState, ReplicationMode};
use weir_base::{NodeEpoch, NodeId, PartitionEpoch, TopicPartition, Uuid};

use super::*;
use crate::command::StartKind;
use crate::controller::fence::plan_fence;
use crate::controller::reassign::plan_progress;
use crate::testing::{cluster, epoch, nodes, proposal, record, registration, run, topic};

#[test]
fn a_boot_gets_the_log_index_as_its_epoch_and_starts_fenced() {
    let mut image = ClusterImage::default();
    let boot = || vec![Command::RegisterNode(registration(1, StartKind::Clean))];
    assert_eq!(run(&mut image, boot()), Ok(Outcome::Node(NodeEpoch(1))));
    assert_eq!(run(&mut image, boot()), Ok(Outcome::Node(NodeEpoch(2))));
    assert_eq!(image.nodes[&NodeId(1)].state, NodeState::Fenced);
    let old = Command::UnfenceNode {
        id: NodeId(1),
        epoch: NodeEpoch(1),
    };
    assert!(matches!(
        run(&mut image, vec![old]),
        Err(Refusal::StaleNodeEpoch { .. })
    ));
}

#[test]
fn another_data_directory_under_a_known_id_is_refused_and_told_what_to_do() {
    let mut image = cluster(1);
    let before = image.clone();
    let mut other = registration(1, StartKind::Clean);
    other.storage = Uuid([9; 16]);
    let refusal = run(&mut image, vec![Command::RegisterNode(other)]).unwrap_err();
    assert!(refusal.to_string().contains("never used"), "{refusal}");
    assert_eq!(image.nodes, before.nodes);
}

#[test]
fn a_topic_is_led_by_its_first_active_replica() {
    let mut image = cluster(3);
    let plan = plan_fence(&image, NodeId(1));
    run(&mut image, plan).unwrap();
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let p = record(&image, at);
    assert_eq!(p.leader, Some(NodeId(2)));
    assert_eq!(p.isr, nodes(&[2, 3]));
    assert_eq!((p.min_isr, p.durability), (2, Durability::default()));
    assert_eq!(record(&image, at).leader_epoch.0, 1);
}

#[test]
fn a_move_never_leaves_fewer_replicas_than_the_min_isr_asked_for() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let alone = topic(&mut image, "alone", &[1], &[]);
    let lower = topic(
        &mut image,
        "lower",
        &[1, 2, 3],
        &[("min.insync.replicas", "1")],
    );
    let start = |image: &ClusterImage, at, target: &[u32]| {
        vec![Command::StartReassignment {
            at,
            partition_epoch: record(image, at).partition_epoch,
            target: nodes(target),
        }]
    };
    let before = record(&image, at);
    let plan = start(&image, at, &[2]);
    let refusal = run(&mut image, plan).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("lower min.insync.replicas first"),
        "{refusal}"
    );
    assert_eq!(record(&image, at), before);
    // As many as are asked for; as few as there are; as few as the topic says.
    for (at, target) in [(at, &[2, 3][..]), (alone, &[2]), (lower, &[3])] {
        let plan = start(&image, at, target);
        run(&mut image, plan).unwrap();
    }
}

#[test]
fn replica_ids_are_never_reused() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2], &[]);
    let first = record(&image, at).replica(NodeId(2)).copied();
    for target in [&[1, 3][..], &[1, 2]] {
        let start = Command::StartReassignment {
            at,
            partition_epoch: record(&image, at).partition_epoch,
            target: nodes(target),
        };
        run(&mut image, vec![start]).unwrap();
        let isr = Command::AlterPartition(proposal(&image, at, &[1, 2, 3]));
        run(&mut image, vec![isr]).unwrap();
        let done = plan_progress(&image, at);
        assert!(!done.is_empty());
        run(&mut image, done).unwrap();
    }
    let again = record(&image, at).replica(NodeId(2)).copied();
    assert!(again.is_some() && again != first, "{first:?} {again:?}");
}

#[test]
fn creating_and_deleting_again_is_done_already() {
    let mut image = cluster(1);
    let at = topic(&mut image, "t", &[1], &[]);
    let create = |id| Command::CreateTopic {
        id,
        name: "t".to_owned(),
        internal: false,
        configs: BTreeMap::new(),
        replicas: vec![nodes(&[1])],
    };
    assert_eq!(
        run(&mut image, vec![create(at.topic)]),
        Ok(Outcome::Topic(at.topic))
    );
    assert_eq!(
        run(&mut image, vec![create(Uuid([8; 16]))]),
        Err(Refusal::TopicExists("t".to_owned()))
    );
    for _ in 0..2 {
        let delete = Command::DeleteTopic { id: at.topic };
        assert_eq!(run(&mut image, vec![delete]), Ok(Outcome::Done));
    }
    assert!(image.topics.is_empty() && image.topic_names.is_empty());
}

#[test]
fn every_epoch_of_an_isr_proposal_must_match() {
    let mut image = cluster(4);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let shrink = Command::AlterPartition(proposal(&image, at, &[1, 2]));
    run(&mut image, vec![shrink.clone()]).unwrap();
    let good = proposal(&image, at, &[1, 2, 3]);
    let mut bad = Vec::new();
    let mut add = |spoil: fn(&mut crate::command::IsrProposal)| {
        let mut proposal = good.clone();
        spoil(&mut proposal);
        bad.push(proposal);
    };
    add(|p| p.partition_epoch = PartitionEpoch(9));
    add(|p| p.leader_epoch = p.leader_epoch.next());
    add(|p| p.node_epoch = p.node_epoch.next());
    add(|p| p.leader = NodeId(2));
    add(|p| p.isr[2].1 = NodeEpoch(1));
    add(|p| p.isr[2].0 = NodeId(4));
    add(|p| {
        p.isr.remove(0);
    });
    add(|p| p.at.index.0 = 7);
    let before = image.clone();
    for proposal in bad {
        run(&mut image, vec![Command::AlterPartition(proposal.clone())])
            .expect_err(&format!("{proposal:?}"));
        assert_eq!(image.topics, before.topics);
    }
    let again = run(&mut image, vec![shrink]).unwrap();
    assert!(
        matches!(again, Outcome::Partition(p) if p.isr == nodes(&[1, 2])),
        "an answer that was lost may be asked for again"
    );
    run(&mut image, vec![Command::AlterPartition(good)]).unwrap();
    assert_eq!(record(&image, at).isr, nodes(&[1, 2, 3]));
}

#[test]
fn who_leaves_a_short_isr_stays_eligible() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    for (isr, elr) in [(&[1, 2][..], &[][..]), (&[1], &[2]), (&[1, 3], &[])] {
        let alter = Command::AlterPartition(proposal(&image, at, isr));
        run(&mut image, vec![alter]).unwrap();
        let p = record(&image, at);
        assert_eq!((p.isr, p.elr), (nodes(isr), nodes(elr)));
    }
}

#[test]
fn an_item_is_applied_whole_or_not_at_all() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[]);
    let before = image.clone();
    let put = Command::PutDocument {
        key: "a/b".to_owned(),
        expected: None,
        value: vec![1],
    };
    let mut item = plan_fence(&image, NodeId(1));
    item.extend([
        put,
        Command::AllocateProducerIds { count: 5 },
        Command::FormCluster {
            cluster_id: Uuid([3; 16]),
        },
        Command::DeleteTopic { id: at.topic },
        Command::SetClusterConfigs {
            configs: [("num.partitions".to_owned(), "4".to_owned())].into(),
        },
        Command::UnfenceNode {
            id: NodeId(9),
            epoch: NodeEpoch(1),
        },
    ]);
    assert_eq!(run(&mut image, item), Err(Refusal::UnknownNode(NodeId(9))));
    image.version = before.version;
    assert_eq!(image, before);
    // Fencing without changing the partitions would leave a fenced leader.
    let lone = Command::FenceNode {
        id: NodeId(1),
        epoch: epoch(&image, 1),
    };
    assert!(matches!(
        run(&mut image, vec![lone]),
        Err(Refusal::Breaks { .. })
    ));
    image.version = before.version;
    assert_eq!(image, before);
}

#[test]
fn sync_flush_comes_into_force_behind_its_barrier() {
    let mut image = cluster(3);
    let at = topic(&mut image, "t", &[1, 2, 3], &[("weir.flush", "async")]);
    assert_eq!(record(&image, at).durability.flush, FlushMode::Async);
    let set = |configs: &[(&str, &str)]| Command::SetTopicConfigs {
        id: at.topic,
        configs: configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    };
    run(&mut image, vec![set(&[])]).unwrap();
    let p = record(&image, at);
    assert_eq!(p.durability.flush, FlushMode::Async);
    assert_eq!(p.pending_durability, Some(Durability::default()));
    let early = Command::SetDurability {
        at,
        partition_epoch: PartitionEpoch(1),
    };
    assert!(run(&mut image, vec![early]).is_err());
    let passed = Command::SetDurability {
        at,
        partition_epoch: p.partition_epoch,
    };
    run(&mut image, vec![passed.clone()]).unwrap();
    run(&mut image, vec![passed]).unwrap();
    let p = record(&image, at);
    assert_eq!(p.durability, Durability::default());
    assert_eq!(p.pending_durability, None);
    run(&mut image, vec![set(&[("weir.replication", "async")])]).unwrap();
    let p = record(&image, at);
    assert_eq!(p.durability.replication, ReplicationMode::Async);
    assert_eq!(p.min_isr, 1);
}

#[test]
fn a_cluster_default_reaches_every_topic_that_does_not_say() {
    let mut image = cluster(3);
    let a = topic(&mut image, "a", &[1, 2, 3], &[]);
    let b = topic(&mut image, "b", &[1, 2, 3], &[("min.insync.replicas", "1")]);
    let configs = [("min.insync.replicas".to_owned(), "3".to_owned())].into();
    run(&mut image, vec![Command::SetClusterConfigs { configs }]).unwrap();
    assert_eq!(record(&image, a).min_isr, 3);
    assert_eq!(record(&image, b).min_isr, 1);
    assert_eq!(record(&image, b).partition_epoch, PartitionEpoch(1));
}

#[test]
fn documents_are_compare_and_set() {
    let mut image = ClusterImage::default();
    let put = |expected, value: &[u8]| Command::PutDocument {
        key: "amqp/exchange/x".to_owned(),
        expected,
        value: value.to_vec(),
    };
    let Outcome::Document(version) = run(&mut image, vec![put(None, b"1")]).unwrap() else {
        panic!("no document");
    };
    assert!(run(&mut image, vec![put(None, b"2")]).is_err());
    assert!(run(&mut image, vec![put(Some(version + 1), b"2")]).is_err());
    run(&mut image, vec![put(Some(version), b"2")]).unwrap();
    let found: Vec<_> = crate::document::with_prefix(&image, "amqp/").collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.value, b"2");
    let expected = found[0].1.version;
    let delete = |expected| Command::DeleteDocument {
        key: "amqp/exchange/x".to_owned(),
        expected,
    };
    assert!(run(&mut image, vec![delete(version)]).is_err());
    run(&mut image, vec![delete(expected)]).unwrap();
    assert!(image.documents.is_empty());
    let unnamed = Command::PutDocument {
        key: "x".to_owned(),
        expected: None,
        value: Vec::new(),
    };
    assert!(run(&mut image, vec![unnamed]).is_err());
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut image = ClusterImage::default();
    let block = || vec![Command::AllocateProducerIds { count: 1000 }];
    assert_eq!(run(&mut image, block()), Ok(Outcome::ProducerIds(0, 1000)));
    assert_eq!(
        run(&mut image, block()),
        Ok(Outcome::ProducerIds(1000, 2000))
    );
    assert!(run(&mut image, vec![Command::AllocateProducerIds { count: 0 }]).is_err());
}

#[test]
fn a_move_ends_only_when_what_stays_is_enough() {
    let mut image = cluster(4);
    let at = topic(&mut image, "t", &[1, 2], &[]);
    let started = record(&image, at).leader_epoch;
    let start = |image: &ClusterImage, target: &[u32]| Command::StartReassignment {
        at,
        partition_epoch: record(image, at).partition_epoch,
        target: nodes(target),
    };
    let item = vec![start(&image, &[3, 4])];
    run(&mut image, item).unwrap();
    let p = record(&image, at);
    assert_eq!(
        (p.adding.clone(), p.removing),
        (nodes(&[3, 4]), nodes(&[1, 2]))
    );
    let grow = Command::AlterPartition(proposal(&image, at, &[1, 2, 3]));
    run(&mut image, vec![grow]).unwrap();
    let complete = |image: &ClusterImage| Command::CompleteReassignment {
        at,
        partition_epoch: record(image, at).partition_epoch,
    };
    assert!(plan_progress(&image, at).is_empty());
    let item = vec![complete(&image)];
    assert!(matches!(
        run(&mut image, item),
        Err(Refusal::ReassignmentNotReady(_))
    ));
    let grow = Command::AlterPartition(proposal(&image, at, &[1, 2, 3, 4]));
    run(&mut image, vec![grow]).unwrap();
    let item = plan_progress(&image, at);
    run(&mut image, item).unwrap();
    let p = record(&image, at);
    assert_eq!(p.isr, nodes(&[3, 4]));
    assert_eq!(p.leader, Some(NodeId(3)));
    assert!(p.leader_epoch > started);
    // Given up half-way, it is as before.
    let item = vec![start(&image, &[3, 1])];
    run(&mut image, item).unwrap();
    let cancel = Command::CancelReassignment {
        at,
        partition_epoch: record(&image, at).partition_epoch,
    };
    run(&mut image, vec![cancel.clone()]).unwrap();
    let p = record(&image, at);
    let held: Vec<_> = p.replicas.iter().map(|r| r.node).collect();
    assert_eq!(
        (held, p.adding, p.removing),
        (nodes(&[3, 4]), vec![], vec![])
    );
    assert_eq!(run(&mut image, vec![cancel]), Err(Refusal::NoReassignment));
}

#[test]
fn commands_keep_their_bytes() {
    // Variants are numbers in the log: a new one goes to the end.
    for (command, tag) in [
        (
            Command::FormCluster {
                cluster_id: Uuid::ZERO,
            },
            0,
        ),
        (Command::DeleteTopic { id: Uuid::ZERO }, 6),
        (
            Command::SetDurability {
                at: TopicPartition::new(Uuid::ZERO, 0),
                partition_epoch: PartitionEpoch(0),
            },
            15,
        ),
        (
            Command::DeleteDocument {
                key: String::new(),
                expected: 0,
            },
            18,
        ),
    ] {
        assert_eq!(
            postcard::to_stdvec(&command).unwrap()[0],
            tag,
            "{command:?}"
        );
    }
}
