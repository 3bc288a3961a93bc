use weir_base::companion::name_of;
use weir_base::{TopicId, Uuid};

use super::*;
use crate::command::{Item, Refusal, StartKind};
use crate::controller::{elect, fence, reassign};
use crate::testing::{cluster, nodes, proposal, record, registration, run, topic};

const JOURNAL: Uuid = Uuid([7; 16]);

fn make_companion(parent: TopicId) -> Command {
    Command::CreateTopic {
        id: JOURNAL,
        name: name_of(parent),
        internal: true,
        configs: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
        replicas: Vec::new(),
    }
}

/// A topic of one partition on nodes 1 to 3, and its companion.
fn pair(of: u32) -> (ClusterImage, TopicPartition, TopicPartition) {
    let mut image = cluster(of);
    let parent = topic(&mut image, "t", &[1, 2, 3], &[]);
    step(&mut image, vec![make_companion(parent.topic)]).unwrap();
    (image, parent, TopicPartition::new(JOURNAL, 0))
}

/// Applies an item as the controller does: with what follows for companions.
fn step(image: &mut ClusterImage, item: Item) -> Result<(), Refusal> {
    run(image, item.clone())?;
    let next = plan_align(image, &item);
    if !next.is_empty() {
        run(image, next)?;
    }
    Ok(())
}

fn leaders(image: &ClusterImage, at: [TopicPartition; 2]) -> [u32; 2] {
    at.map(|at| record(image, at).leader.map_or(0, |node| node.0))
}

fn set_isr(image: &mut ClusterImage, at: TopicPartition, isr: &[u32]) {
    let alter = Command::AlterPartition(proposal(image, at, isr));
    step(image, vec![alter]).unwrap();
}

/// One line a step: what happens, then who leads parent and companion.
#[test]
fn the_companion_is_led_where_its_parent_is() {
    let table = include_str!("../../../testdata/companion_leaders.txt");
    for case in table.split("\n\n").filter(|case| !case.is_empty()) {
        let (mut image, parent, journal) = pair(3);
        for line in case.lines().filter(|line| !line.starts_with('#')) {
            let (event, expected) = line.split_once(" -> ").unwrap();
            let words: Vec<&str> = event.split_whitespace().collect();
            let node = |at: usize| NodeId(words[at].parse().unwrap());
            let item = match words[0] {
                "fence" => fence::plan_fence(&image, node(1)),
                "boot" => {
                    let boot = registration(node(1).0, StartKind::SameBoot);
                    fence::plan_registration(&image, &boot)
                }
                "unfence" => fence::plan_unfence(&image, node(1)),
                "drain" => fence::plan_drain(&image, node(1)),
                "rebalance" => elect::plan_rebalance(&image, 10),
                "topic" | "journal" => {
                    let at = if words[0] == "topic" { parent } else { journal };
                    let isr: Vec<u32> = words[2].split(',').map(|n| n.parse().unwrap()).collect();
                    set_isr(&mut image, at, &isr);
                    Vec::new()
                }
                other => panic!("{other}"),
            };
            step(&mut image, item).unwrap();
            let led = leaders(&image, [parent, journal]).map(|n| n.to_string());
            assert_eq!(led.join(" "), expected, "{case}\nat: {line}");
            let settled = plan_align_all(&image, 10);
            assert_eq!(settled, Vec::new(), "{case}\nat: {line}");
        }
    }
}

#[test]
fn of_those_who_are_not_hindered_one_that_can_lead_both_is_elected() {
    let mut image = cluster(4);
    let parent = topic(&mut image, "t", &[1, 2, 3, 4], &[]);
    step(&mut image, vec![make_companion(parent.topic)]).unwrap();
    let journal = TopicPartition::new(JOURNAL, 0);
    set_isr(&mut image, journal, &[1, 2, 4]);
    let mut item = fence::plan_fence(&image, NodeId(1));
    elect::spare(&image, &mut item, &[NodeId(2)].into());
    step(&mut image, item).unwrap();
    assert_eq!(leaders(&image, [parent, journal]), [4, 4]);
}

#[test]
fn it_is_made_grown_moved_and_deleted_with_its_parent() {
    let (mut image, parent, journal) = pair(4);
    let topic = parent.topic;
    let held = |image: &ClusterImage, at| -> Vec<NodeId> {
        record(image, at).replicas.iter().map(|r| r.node).collect()
    };
    assert_eq!(held(&image, journal), nodes(&[1, 2, 3]));
    let grow = Command::CreatePartitions {
        id: topic,
        from: 1,
        replicas: vec![nodes(&[4, 1])],
    };
    step(&mut image, vec![grow]).unwrap();
    let second = [topic, JOURNAL].map(|topic| TopicPartition::new(topic, 1));
    assert_eq!(leaders(&image, second), [4, 4]);
    let start = reassign::plan_start(&image, parent, &nodes(&[4, 3])).unwrap();
    step(&mut image, start).unwrap();
    assert_eq!(held(&image, journal), nodes(&[4, 3, 1, 2]));
    set_isr(&mut image, parent, &[1, 2, 3, 4]);
    // The topic's data is there, its queues' is not.
    assert!(reassign::plan_progress(&image, parent).is_empty());
    let early = Command::CompleteReassignment {
        at: parent,
        partition_epoch: record(&image, parent).partition_epoch,
    };
    let refused = step(&mut image, vec![early]);
    assert!(
        matches!(refused, Err(Refusal::ReassignmentNotReady(_))),
        "{refused:?}"
    );
    set_isr(&mut image, journal, &[1, 2, 3, 4]);
    let item = reassign::plan_progress(&image, journal);
    step(&mut image, item).unwrap();
    for at in [parent, journal] {
        assert_eq!(held(&image, at), nodes(&[4, 3]));
    }
    assert_eq!(leaders(&image, [parent, journal]), [4, 4]);
    step(&mut image, vec![Command::DeleteTopic { id: topic }]).unwrap();
    assert!(image.topics.is_empty() && image.topic_names.is_empty());
}

#[test]
fn one_made_while_its_parent_moves_moves_along() {
    let mut image = cluster(4);
    let parent = topic(&mut image, "t", &[1, 2, 3], &[]);
    let start = reassign::plan_start(&image, parent, &nodes(&[4, 2])).unwrap();
    step(&mut image, start).unwrap();
    step(&mut image, vec![make_companion(parent.topic)]).unwrap();
    let journal = TopicPartition::new(JOURNAL, 0);
    let (here, there) = (record(&image, parent), record(&image, journal));
    assert_eq!((here.adding, here.removing), (there.adding, there.removing));
    let cancel = reassign::plan_cancel(&image, parent).unwrap();
    step(&mut image, cancel).unwrap();
    assert_eq!(record(&image, journal).replicas.len(), 3);
    assert_eq!(leaders(&image, [parent, journal]), [1, 1]);
}

#[test]
fn one_beside_a_parent_without_a_leader_waits_with_it() {
    let mut image = cluster(2);
    let parent = topic(&mut image, "t", &[1], &[]);
    let item = fence::plan_fence(&image, NodeId(1));
    step(&mut image, item).unwrap();
    step(&mut image, vec![make_companion(parent.topic)]).unwrap();
    let both = [parent, TopicPartition::new(JOURNAL, 0)];
    assert_eq!(leaders(&image, both), [0, 0]);
    let item = fence::plan_unfence(&image, NodeId(1));
    step(&mut image, item).unwrap();
    assert_eq!(leaders(&image, both), [1, 1]);
}

#[test]
fn what_would_part_the_two_is_refused() {
    let (mut image, parent, journal) = pair(4);
    let before = image.clone();
    let named = |name: String, internal, replicas| Command::CreateTopic {
        id: Uuid([8; 16]),
        name,
        internal,
        configs: [].into(),
        replicas,
    };
    let placed = || vec![nodes(&[1, 2])];
    let epoch = record(&image, journal).partition_epoch;
    for bad in [
        named(name_of(Uuid([9; 16])), true, Vec::new()),
        named("__queue.mine".to_owned(), true, placed()),
        named("__queue.mine".to_owned(), false, placed()),
        named(name_of(parent.topic), true, Vec::new()),
        named(name_of(JOURNAL), true, Vec::new()),
        Command::DeleteTopic { id: JOURNAL },
        Command::CreatePartitions {
            id: JOURNAL,
            from: 1,
            replicas: placed(),
        },
        Command::SetTopicConfigs {
            id: JOURNAL,
            configs: [].into(),
        },
        Command::StartReassignment {
            at: journal,
            partition_epoch: epoch,
            target: nodes(&[1, 4]),
        },
    ] {
        let refused = run(&mut image, vec![bad.clone()]);
        assert!(refused.is_err(), "{bad:?}");
        image.version = before.version;
        assert_eq!(image, before, "{bad:?}");
    }
}
