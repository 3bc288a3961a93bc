//! The checkers checked: each invariant has a history that breaks it and must be flagged,
//! and a good look-alike that must pass.

use std::collections::BTreeSet;

use weir_base::image::{Durability, FlushMode, PartitionRecord, Replica};
use weir_base::invariant::Invariant;
use weir_base::{LeaderEpoch, NodeId, PartitionEpoch, Uuid};

use crate::checks::{Entry, History, NodeView, View};

fn log(entries: &[(u32, u64)]) -> Vec<Entry> {
    entries
        .iter()
        .map(|(epoch, value)| Entry {
            epoch: *epoch,
            value: *value,
        })
        .collect()
}

fn node(id: u32, entries: &[(u32, u64)], high_watermark: usize) -> NodeView {
    NodeView {
        id: NodeId(id),
        running: true,
        log: log(entries),
        durable: entries.len(),
        high_watermark,
        leader_epoch: 1,
        partition_epoch: 1,
        leads: None,
        ready: false,
        in_sync: None,
    }
}

fn set(nodes: &[u32]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

/// Node 1 leads in epoch 1 and committed two entries that both nodes hold.
fn good() -> View {
    let entries = [(1, 10), (1, 11)];
    let mut leader = node(1, &entries, 2);
    leader.leads = Some(1);
    leader.ready = true;
    leader.in_sync = Some((set(&[1, 2]), set(&[1, 2])));
    View {
        nodes: vec![leader, node(2, &entries, 1)],
        record: PartitionRecord {
            replicas: [1, 2]
                .map(|id| Replica {
                    node: NodeId(id),
                    id: Uuid::ZERO,
                })
                .to_vec(),
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            isr: vec![NodeId(1), NodeId(2)],
            elr: vec![],
            last_known_elr: vec![],
            suspects: vec![],
            adding: vec![],
            removing: vec![],
            min_isr: 2,
            durability: Durability::default(),
            pending_durability: None,
        },
    }
}

/// Observes `good`, then `good` changed; the change must break exactly this.
fn flags(invariant: Invariant, change: impl FnOnce(&mut View)) {
    let mut history = History::default();
    history.observe(&good()).unwrap();
    history.observe(&good()).unwrap();
    let mut bad = good();
    change(&mut bad);
    let violation = history.observe(&bad).unwrap_err();
    assert_eq!(violation.0, invariant, "{violation:?}");
}

/// The same, for a change that is fine.
fn passes(change: impl FnOnce(&mut View)) {
    let mut history = History::default();
    history.observe(&good()).unwrap();
    let mut next = good();
    change(&mut next);
    history.observe(&next).unwrap();
}

#[test]
fn i1_two_leaders_of_one_epoch() {
    flags(Invariant::I1, |view| view.nodes[1].leads = Some(1));
    passes(|view| view.nodes[0].leads = None);
}

#[test]
fn i2_same_place_other_bytes() {
    flags(Invariant::I2, |view| {
        view.nodes[1].log = log(&[(1, 10), (1, 99)])
    });
    passes(|view| {
        view.nodes[1].log.push(Entry {
            epoch: 1,
            value: 12,
        })
    });
}

#[test]
fn i3_a_new_leader_lacks_what_was_committed() {
    let elect = |view: &mut View, entries: &[(u32, u64)], ready| {
        view.record.leader = Some(NodeId(2));
        view.record.leader_epoch = LeaderEpoch(2);
        view.nodes[0].in_sync = None;
        view.nodes[1].log = log(entries);
        view.nodes[1].leads = Some(2);
        view.nodes[1].ready = ready;
    };
    flags(Invariant::I3, |view| {
        elect(view, &[(1, 10), (2, 20)], false)
    });
    flags(Invariant::I3, |view| elect(view, &[(1, 10), (1, 11)], true));
    passes(|view| {
        elect(view, &[(1, 10), (1, 11), (2, 20)], false);
        view.nodes[1].durable = 2;
    });
}

#[test]
fn i4_a_member_lacks_what_was_committed() {
    flags(Invariant::I4, |view| view.nodes[1].durable = 1);
    flags(Invariant::I4, |view| {
        view.record.isr = vec![NodeId(1)];
        view.record.elr = vec![NodeId(2)];
        view.nodes[1].log.truncate(1);
    });
    passes(|view| {
        view.record.durability.flush = FlushMode::Async;
        view.nodes[1].durable = 1;
    });
    passes(|view| {
        view.record.isr = vec![NodeId(1)];
        view.nodes[1].durable = 1;
    });
}

#[test]
fn i5_the_watermark_counts_too_few() {
    flags(Invariant::I5, |view| {
        view.record.min_isr = 1;
        view.nodes[0].in_sync = Some((set(&[1]), set(&[1])));
    });
    passes(|view| view.nodes[0].in_sync = Some((set(&[1]), set(&[1]))));
}

#[test]
fn i6_isr_and_elr_overlap_or_are_unknown() {
    flags(Invariant::I6, |view| {
        view.record.isr = vec![NodeId(1)];
        view.record.elr = vec![NodeId(1), NodeId(2)];
    });
    flags(Invariant::I6, |view| {
        view.record.replicas.truncate(1);
        view.nodes[0].in_sync = None;
    });
    passes(|view| {
        view.record.isr = vec![NodeId(1)];
        view.record.elr = vec![NodeId(2)];
    });
}

#[test]
fn i8_a_follower_shows_what_is_not_committed() {
    flags(Invariant::I8, |view| {
        view.nodes[1].log.push(Entry {
            epoch: 1,
            value: 12,
        });
        view.nodes[1].high_watermark = 3;
    });
    passes(|view| view.nodes[1].high_watermark = 2);
}

#[test]
fn i9_an_epoch_falls() {
    flags(Invariant::I9, |view| view.nodes[1].leader_epoch = 0);
    flags(Invariant::I9, |view| {
        view.record.partition_epoch = PartitionEpoch(0)
    });
    passes(|view| view.nodes[1].leader_epoch = 2);
}
