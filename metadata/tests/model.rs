//! Random histories of a cluster: whatever happens, the planners' commands are
//! accepted by `apply`, and I1, I5, I6, I7, I9 and I10 hold after every step; a companion
//! has its parent's replicas, and its leader wherever its ISR allows it.
//!
//! Beside the image the test keeps its own truth: which nodes lost unflushed writes
//! and so may not lead an async-flush partition before they were in sync again (S-04).

#![expect(
    clippy::unwrap_used,
    reason = "a test; the lint exempts test functions only"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_base::companion::name_of;
use weir_base::image::{ClusterImage, FlushMode, NodeState, PartitionRecord};
use weir_base::{NodeId, TopicPartition, Uuid};
use weir_metadata::apply::apply;
use weir_metadata::command::{
    Command, IsrProposal, Item, ItemResult, Proposal, Registration, StartKind,
};
use weir_metadata::controller::{companion, elect, fence, place, reassign, resign};
use weir_metadata::invariants::{check_image, check_step};

const NODES: u32 = 5;

#[derive(Debug, Clone)]
enum Event {
    Boot(u32, StartKind),
    Fence(u32),
    Unfence(u32),
    Drain(u32),
    Create(u8, u16, bool),
    Delete(u8),
    Grow(u8),
    Shrink(u8, u8),
    Extend(u8),
    Move(u8, u8),
    Cancel(u8),
    Prefer(u8),
    Rebalance,
    Flush(u8, bool),
    MinIsr(u8, u8),
    ClusterMinIsr(u8),
    Barrier(u8),
    Resign(u8, u32),
    Depose(u8),
    Companion(u8),
    ShrinkCompanion(u8, u8),
    ExtendCompanion(u8),
}

fn start_kind() -> impl Strategy<Value = StartKind> {
    prop_oneof![
        Just(StartKind::Clean),
        Just(StartKind::SameBoot),
        Just(StartKind::Unclean)
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let node = 1..=NODES;
    let topic = 0..4_u8;
    prop_oneof![
        3 => (node.clone(), start_kind()).prop_map(|(n, s)| Event::Boot(n, s)),
        4 => node.clone().prop_map(Event::Fence),
        6 => node.clone().prop_map(Event::Unfence),
        1 => node.prop_map(Event::Drain),
        2 => (topic.clone(), 1..4_u16, any::<bool>()).prop_map(|(t, r, a)| Event::Create(t, r, a)),
        1 => topic.clone().prop_map(Event::Delete),
        1 => topic.clone().prop_map(Event::Grow),
        3 => (topic.clone(), any::<u8>()).prop_map(|(t, k)| Event::Shrink(t, k)),
        5 => topic.clone().prop_map(Event::Extend),
        2 => (topic.clone(), any::<u8>()).prop_map(|(t, k)| Event::Move(t, k)),
        1 => topic.clone().prop_map(Event::Cancel),
        1 => topic.clone().prop_map(Event::Prefer),
        1 => Just(Event::Rebalance),
        1 => (topic.clone(), any::<bool>()).prop_map(|(t, s)| Event::Flush(t, s)),
        1 => (topic.clone(), 1..4_u8).prop_map(|(t, m)| Event::MinIsr(t, m)),
        1 => (1..4_u8).prop_map(Event::ClusterMinIsr),
        2 => (topic.clone(), 1..=NODES).prop_map(|(t, n)| Event::Resign(t, n)),
        1 => topic.clone().prop_map(Event::Depose),
        3 => topic.clone().prop_map(Event::Companion),
        3 => (topic.clone(), any::<u8>()).prop_map(|(t, k)| Event::ShrinkCompanion(t, k)),
        4 => topic.clone().prop_map(Event::ExtendCompanion),
        1 => topic.prop_map(Event::Barrier),
    ]
}

#[derive(Default)]
struct World {
    image: ClusterImage,
    /// Copies of partitions that may lack acknowledged records.
    spoiled: BTreeSet<(TopicPartition, NodeId)>,
    leaders: BTreeMap<(TopicPartition, u32), NodeId>,
    fresh: u8,
}

fn name(topic: u8) -> String {
    format!("t{topic}")
}

impl World {
    /// As the controller does: an item, and what follows from it for companions.
    fn propose(&mut self, item: Item) -> ItemResult {
        let outcome = self.propose_one(item.clone())?;
        let follows = companion::plan_align(&self.image, &item);
        if !follows.is_empty() {
            self.propose_one(follows)
                .unwrap_or_else(|r| panic!("{r}\nafter {item:?}\n{:?}", self.image));
        }
        self.check_companions();
        Ok(outcome)
    }

    fn check_companions(&self) {
        for (at, record) in self.image.partitions() {
            if !self.image.is_companion(at) {
                continue;
            }
            let (_, parent) = self.image.partner(at).unwrap();
            let nodes = |p: &PartitionRecord| p.replicas.iter().map(|r| r.node).collect::<Vec<_>>();
            assert_eq!(nodes(record), nodes(parent), "{at}");
            assert_eq!(
                (&record.adding, &record.removing),
                (&parent.adding, &parent.removing)
            );
        }
        // Whoever can be led by the same node, is.
        assert_eq!(companion::plan_align_all(&self.image, 1), Vec::new());
    }

    fn propose_one(&mut self, item: Item) -> ItemResult {
        let before = self.image.clone();
        let index = before.version + 1;
        let result = apply(&mut self.image, index, &Proposal { items: vec![item] }).remove(0);
        check_image(&self.image).unwrap_or_else(|v| panic!("{v}"));
        check_step(&before, &self.image).unwrap_or_else(|v| panic!("{v}"));
        if result.is_err() {
            let mut same = before;
            same.version = index;
            assert_eq!(self.image, same, "a refused item changed something");
        }
        for (at, record) in self.image.partitions() {
            let Some(leader) = record.leader else {
                continue;
            };
            let former = self
                .leaders
                .insert((at, record.leader_epoch.0), leader)
                .unwrap_or(leader);
            assert_eq!(former, leader, "I1: two leaders of {at} in one epoch");
            assert!(
                !self.spoiled.contains(&(at, leader)),
                "S-04: {leader} may have lost records of {at} and leads it: {record:?}"
            );
        }
        result
    }

    /// What a planner made of the present image is never refused.
    fn plan(&mut self, item: Item) {
        if !item.is_empty() {
            let said = format!("{item:?}");
            self.propose(item)
                .unwrap_or_else(|r| panic!("{r}\n{said}\n{:?}", self.image));
        }
    }

    fn first_partition(&self, topic: u8) -> Option<TopicPartition> {
        let topic = self.image.topics.get(name(topic).as_str())?;
        Some(TopicPartition::new(topic.id, 0))
    }

    fn companion(&self, topic: u8) -> Option<TopicPartition> {
        let at = self.first_partition(topic)?;
        self.image.partner(at).map(|(at, _)| at)
    }

    fn shrink(&mut self, at: TopicPartition, keep: u8) {
        let record = self.image.partition(at).unwrap();
        let leader = record.leader;
        let isr = record.isr.iter().copied();
        let stays = |n: &NodeId| Some(*n) == leader || keep >> (n.0 % 8) & 1 == 1;
        let isr: Vec<NodeId> = isr.filter(stays).collect();
        self.alter(at, &isr);
    }

    fn extend(&mut self, at: TopicPartition) {
        let record = self.image.partition(at).unwrap();
        let nodes = record.replicas.iter().map(|r| r.node);
        let is_active = |n: &NodeId| self.image.nodes[n].state == NodeState::Active;
        let isr: Vec<NodeId> = nodes
            .filter(|n| record.isr.contains(n) || is_active(n))
            .collect();
        self.alter(at, &isr);
    }

    fn alter(&mut self, at: TopicPartition, isr: &[NodeId]) {
        let record = self.image.partition(at).unwrap().clone();
        let Some(leader) = record.leader else { return };
        let proposal = IsrProposal {
            at,
            leader,
            node_epoch: self.image.nodes[&leader].epoch,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            isr: isr
                .iter()
                .map(|n| (*n, self.image.nodes[n].epoch))
                .collect(),
        };
        // In sync means caught up: such a copy is whole again.
        for node in isr {
            self.spoiled.remove(&(at, *node));
        }
        self.plan(vec![Command::AlterPartition(proposal)]);
        let next = reassign::plan_progress(&self.image, at);
        self.plan(next);
    }

    fn set(&mut self, topic: u8, key: &str, value: &str) {
        if let Some(at) = self.first_partition(topic) {
            let mut configs = self.image.topic(at.topic).unwrap().configs.clone();
            configs.insert(key.to_owned(), value.to_owned());
            self.plan(vec![Command::SetTopicConfigs {
                id: at.topic,
                configs,
            }]);
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Boot(node, start) => {
                let id = NodeId(node);
                if start == StartKind::Unclean {
                    let lost: Vec<_> = self
                        .image
                        .partitions()
                        .filter(|(_, p)| p.durability.flush == FlushMode::Async)
                        .filter(|(_, p)| p.has_replica(id))
                        .map(|(at, _)| (at, id))
                        .collect();
                    self.spoiled.extend(lost);
                }
                let registration = Registration {
                    id,
                    name: format!("n{node}"),
                    storage: Uuid([u8::try_from(node).unwrap(); 16]),
                    peer_address: String::new(),
                    endpoints: BTreeMap::new(),
                    rack: Some(format!("r{}", node % 2)),
                    start,
                };
                let item = fence::plan_registration(&self.image, &registration);
                self.plan(item);
            }
            Event::Fence(node) => {
                let item = fence::plan_fence(&self.image, NodeId(node));
                self.plan(item);
            }
            Event::Unfence(node) => {
                let item = fence::plan_unfence(&self.image, NodeId(node));
                self.plan(item);
            }
            Event::Drain(node) => {
                let item = fence::plan_drain(&self.image, NodeId(node));
                self.plan(item);
            }
            Event::Create(topic, factor, is_async) => {
                if let Ok(replicas) = place::place(&self.image, 2, factor) {
                    self.fresh = self.fresh.wrapping_add(1);
                    let flush = if is_async { "async" } else { "sync" };
                    // Refused where the name is taken.
                    drop(self.propose(vec![Command::CreateTopic {
                        id: Uuid([
                            self.fresh.max(1),
                            1,
                            topic,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                            9,
                        ]),
                        name: name(topic),
                        internal: false,
                        configs: [("weir.flush".to_owned(), flush.to_owned())].into(),
                        replicas,
                    }]));
                }
            }
            Event::Delete(topic) => {
                if let Some(at) = self.first_partition(topic) {
                    self.plan(vec![Command::DeleteTopic { id: at.topic }]);
                }
            }
            Event::Grow(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                let has = self.image.topic(at.topic).unwrap().partitions.len();
                if let Ok(replicas) = place::place(&self.image, 1, 2)
                    && has < 6
                {
                    self.plan(vec![Command::CreatePartitions {
                        id: at.topic,
                        from: u32::try_from(has).unwrap(),
                        replicas,
                    }]);
                }
            }
            Event::Shrink(topic, keep) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                self.shrink(at, keep);
            }
            Event::Extend(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                self.extend(at);
            }
            Event::Move(topic, pick) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                let mut target: Vec<NodeId> = (1..=NODES)
                    .filter(|n| pick >> n & 1 == 1)
                    .map(NodeId)
                    .take(3)
                    .collect();
                if pick & 1 == 1 {
                    target.reverse();
                }
                if let Ok(item) = reassign::plan_start(&self.image, at, &target) {
                    let before: BTreeSet<NodeId> = self
                        .image
                        .partition(at)
                        .unwrap()
                        .replicas
                        .iter()
                        .map(|r| r.node)
                        .collect();
                    // Refused where what stays of the ISR would not be enough.
                    if self.propose(item).is_ok() {
                        let record = self.image.partition(at).unwrap();
                        // A new copy is empty.
                        let added: Vec<_> = record
                            .replicas
                            .iter()
                            .map(|r| r.node)
                            .filter(|n| !before.contains(n))
                            .collect();
                        self.spoiled.extend(added.into_iter().map(|n| (at, n)));
                        let next = reassign::plan_progress(&self.image, at);
                        self.plan(next);
                    }
                }
            }
            Event::Cancel(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                if let Ok(item) = reassign::plan_cancel(&self.image, at) {
                    drop(self.propose(item));
                }
            }
            Event::Prefer(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                if let Ok(item) = elect::plan_preferred(&self.image, at) {
                    self.plan(item);
                }
            }
            Event::Rebalance => {
                let item = elect::plan_rebalance(&self.image, 3);
                self.plan(item);
            }
            Event::Flush(topic, is_sync) => {
                self.set(topic, "weir.flush", if is_sync { "sync" } else { "async" });
            }
            Event::MinIsr(topic, min) => {
                self.set(topic, "min.insync.replicas", &min.to_string());
            }
            Event::ClusterMinIsr(min) => self.plan(vec![Command::SetClusterConfigs {
                configs: [("min.insync.replicas".to_owned(), min.to_string())].into(),
            }]),
            Event::Resign(topic, node) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                let (node, record) = (NodeId(node), self.image.partition(at).unwrap().clone());
                let Some(replica) = record.replica(node) else {
                    return;
                };
                match resign::plan_replica(&self.image, at, node, replica.id) {
                    Ok(item) => {
                        assert!(!item.is_empty());
                        // From here on the copy is empty.
                        self.spoiled.insert((at, node));
                        self.plan(item);
                        let after = self.image.partition(at).unwrap();
                        assert_ne!(after.replica(node).unwrap().id, replica.id);
                        assert!(!after.isr.contains(&node) && !after.elr.contains(&node));
                    }
                    Err(_) => {
                        let mut members = record.isr.iter().chain(&record.elr);
                        assert!(members.all(|member| *member == node), "{record:?}");
                    }
                }
            }
            Event::Companion(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                self.fresh = self.fresh.wrapping_add(1);
                // Refused where there is one already.
                drop(self.propose(vec![Command::CreateTopic {
                    id: Uuid([
                        self.fresh.max(1),
                        2,
                        topic,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                        9,
                    ]),
                    name: name_of(at.topic),
                    internal: true,
                    configs: [].into(),
                    replicas: Vec::new(),
                }]));
            }
            Event::ShrinkCompanion(topic, keep) => {
                if let Some(at) = self.companion(topic) {
                    self.shrink(at, keep);
                }
            }
            Event::ExtendCompanion(topic) => {
                if let Some(at) = self.companion(topic) {
                    self.extend(at);
                }
            }
            Event::Depose(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                let record = self.image.partition(at).unwrap().clone();
                let Some(leader) = record.leader else { return };
                let epoch = record.leader_epoch;
                let item = resign::plan_leadership(&self.image, at, leader, epoch).unwrap();
                self.plan(item);
                let after = self.image.partition(at).unwrap();
                assert_eq!(after.leader_epoch, epoch.next());
                assert_eq!(
                    (after.isr.clone(), after.elr.clone()),
                    (record.isr, record.elr)
                );
            }
            Event::Barrier(topic) => {
                let Some(at) = self.first_partition(topic) else {
                    return;
                };
                let partition_epoch = self.image.partition(at).unwrap().partition_epoch;
                self.plan(vec![Command::SetDurability {
                    at,
                    partition_epoch,
                }]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_in_every_history(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::default();
        for node in 1..=NODES {
            world.step(Event::Boot(node, StartKind::Clean));
            world.step(Event::Unfence(node));
        }
        for event in events {
            world.step(event);
        }
    }

    /// From any state: once every node is back and caught up, every partition has a
    /// leader, unless no copy is left that may lead.
    #[test]
    fn a_healed_cluster_leads_everything(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::default();
        for node in 1..=NODES {
            world.step(Event::Boot(node, StartKind::Clean));
            world.step(Event::Unfence(node));
        }
        for event in events {
            world.step(event);
        }
        for node in 1..=NODES {
            world.step(Event::Boot(node, StartKind::SameBoot));
            world.step(Event::Unfence(node));
        }
        for (at, record) in world.image.partitions() {
            let none_eligible = record.isr.is_empty() && record.elr.is_empty();
            prop_assert!(record.leader.is_some() || none_eligible, "{at}: {record:?}");
        }
    }
}
