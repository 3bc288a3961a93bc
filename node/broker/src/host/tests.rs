//! The host on a toy journal: what is answered when, and what a fault leaves behind.

mod groups;
mod outbox;
pub(super) mod toy;

use std::time::Duration;

use weir_base::batch::BatchBuilder;
use weir_base::{Entropy, Offset, Timestamp, TopicPartition, Uuid};

use super::snapshot::{Snapshot, SnapshotName};
use super::{HostError, JournalError, MachineHost};
use toy::{Adder, Command, Node, Shared, Sum, settle};

fn pair() -> (Shared, Node, Node) {
    let cluster = Shared::new(2);
    let nodes = (Node::new(&cluster, 0), Node::new(&cluster, 1));
    (cluster, nodes.0, nodes.1)
}

#[tokio::test]
async fn no_reply_leaves_before_what_it_was_decided_on_is_committed() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    assert_eq!(node.read().sum().await, Ok(0));
    let mut add = node.add(5);
    assert_eq!(add.now().await, None);
    // A read sees the addition, so it waits for it; a later batch waits for both.
    let (mut read, mut second) = (node.read(), node.add(6));
    assert_eq!((read.now().await, second.now().await), (None, None));
    cluster.get().commit(1);
    assert_eq!(add.sum().await, Ok(5));
    assert_eq!(read.sum().await, Ok(5));
    assert_eq!(second.now().await, None);
    cluster.get().commit(1);
    assert_eq!(second.sum().await, Ok(11));
}

#[tokio::test]
async fn commands_that_wait_share_a_batch_at_the_predicted_offsets() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let first = node.call(Command::Add(vec![1, 2]));
    settle().await;
    let more: Vec<_> = (0..50).map(|n| node.add(n)).collect();
    settle().await;
    cluster.get().commit(2);
    assert_eq!(first.sum().await, Ok(3));
    settle().await;
    cluster.get().commit(1);
    for answer in more {
        assert!(answer.sum().await.is_ok());
    }
    let mut read = node.read();
    let state = read.now().await.unwrap().unwrap();
    assert_eq!(state, cluster.get().committed());
    // The barrier is at 0.
    assert_eq!(state.added[0], (Offset(1), 1));
    assert_eq!(cluster.get().end(), Offset(53));
}

#[tokio::test]
async fn who_does_not_lead_or_is_not_ready_says_so() {
    let (cluster, node, other) = pair();
    assert_eq!(node.read().sum().await, Err(HostError::NotLeader));
    cluster.get().elect(0, true);
    assert_eq!(node.read().sum().await, Err(HostError::Loading));
    assert_eq!(other.read().sum().await, Err(HostError::NotLeader));
    cluster.get().commit_all();
    assert_eq!(node.read().sum().await, Ok(0));
}

#[tokio::test]
async fn a_lost_suffix_is_indeterminate_and_gone_from_every_state() {
    let (cluster, old, new) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let kept = old.add(5);
    settle().await;
    cluster.get().commit_all();
    assert_eq!(kept.sum().await, Ok(5));
    let (lost, pending, read) = (old.add(7), old.add(8), old.read());
    settle().await;
    let timer = old.call(Command::ReadAfter(Duration::from_secs(1)));
    settle().await;
    cluster.get().lead(1, false);
    for answer in [lost, pending, read, timer] {
        assert_eq!(answer.sum().await, Err(HostError::Indeterminate));
    }
    assert_eq!(old.add(9).sum().await, Err(HostError::NotLeader));
    assert_eq!(new.read().sum().await, Ok(5));
    let more = new.add(1);
    settle().await;
    cluster.get().commit_all();
    assert_eq!(more.sum().await, Ok(6));
    settle().await;
    cluster.get().lead(0, true);
    settle().await;
    let state = old.read().now().await.unwrap().unwrap();
    assert_eq!(state, cluster.get().committed());
    assert_eq!(state.total(), 6);
}

#[tokio::test]
async fn a_suffix_that_survives_is_in_the_next_leaders_state() {
    let (cluster, old, new) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let add = old.add(7);
    settle().await;
    cluster.get().lead(1, true);
    assert_eq!(add.sum().await, Err(HostError::Indeterminate));
    assert_eq!(new.read().sum().await, Ok(7));
    // The old leader applied it once, not twice.
    cluster.get().lead(0, true);
    settle().await;
    assert_eq!(old.read().sum().await, Ok(7));
}

#[tokio::test]
async fn the_same_node_in_a_new_epoch_starts_from_what_is_committed() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let add = node.add(7);
    settle().await;
    cluster.get().lead(0, false);
    assert_eq!(add.sum().await, Err(HostError::Indeterminate));
    assert_eq!(node.read().sum().await, Ok(0));
}

#[tokio::test]
async fn a_follower_is_warm() {
    let (cluster, old, new) = pair();
    cluster.get().lead(0, true);
    settle().await;
    for number in 1..=20 {
        let add = old.add(number);
        settle().await;
        cluster.get().commit_all();
        assert!(add.sum().await.is_ok());
    }
    settle().await;
    cluster.get().reads.clear();
    let end = cluster.get().end();
    cluster.get().lead(1, true);
    assert_eq!(new.read().sum().await, Ok(210));
    let reads = cluster.get().reads.clone();
    assert!(
        reads.iter().all(|from| *from >= end),
        "only the barrier was read: {reads:?}"
    );
}

#[tokio::test]
async fn a_machine_is_behind_until_it_read_its_journal() {
    let cluster = Shared::new(1);
    let mut node = with_snapshot(&cluster).await;
    assert!(!node.host().is_behind());
    node.disk.files().clear();
    node.options.snapshot_after_bytes = u64::MAX;
    node.options.unread_max = 20;
    cluster.get().reads.clear();
    node.start();
    while node.host().is_behind() {
        tokio::task::yield_now().await;
    }
    let first = cluster.get().reads.len();
    assert!(first >= 79, "{first} of 100 were read");
}

#[tokio::test]
async fn a_refused_batch_is_sent_again_in_its_place() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let refusals = [(JournalError::Retry, false); 2];
    cluster.get().refusals.extend(refusals);
    let (first, second) = (node.add(1), node.add(2));
    for _ in 0..3 {
        settle().await;
        node.clock.pass(node.options.retry_after);
    }
    settle().await;
    cluster.get().commit_all();
    assert_eq!(first.sum().await, Ok(1));
    settle().await;
    cluster.get().commit_all();
    assert_eq!(second.sum().await, Ok(3));
    let state = node.read().now().await.unwrap().unwrap();
    assert_eq!(state, cluster.get().committed());
}

#[tokio::test]
async fn an_append_of_unknown_fate_drops_the_state_and_serves_again() {
    for appended in [false, true] {
        let (cluster, node, _) = pair();
        cluster.get().lead(0, true);
        settle().await;
        let refusal = (JournalError::Indeterminate, appended);
        cluster.get().refusals.push_back(refusal);
        let add = node.add(4);
        assert_eq!(add.sum().await, Err(HostError::Indeterminate));
        assert_eq!(node.read().sum().await, Err(HostError::Loading));
        node.clock.pass(node.options.retry_after);
        let read = node.read().sum().await;
        if appended {
            assert_eq!(read, Err(HostError::Loading), "its fate is not known yet");
        }
        cluster.get().commit_all();
        let expected = if appended { 4 } else { 0 };
        assert_eq!(node.read().sum().await, Ok(expected));
    }
}

#[tokio::test]
async fn an_epoch_that_refuses_is_not_served_again() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let refusal = (JournalError::NotLeader, false);
    cluster.get().refusals.push_back(refusal);
    assert_eq!(node.add(4).sum().await, Err(HostError::Indeterminate));
    assert_eq!(node.read().sum().await, Err(HostError::Loading));
    cluster.get().lead(0, true);
    assert_eq!(node.read().sum().await, Ok(0));
}

#[tokio::test]
async fn a_leader_without_its_lease_answers_nothing() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    assert_eq!(node.read().sum().await, Ok(0));
    cluster.get().lease = false;
    assert_eq!(node.read().sum().await, Err(HostError::NoLease));
    cluster.get().lease = true;
    assert_eq!(node.read().sum().await, Ok(0));
}

#[tokio::test]
async fn a_foreign_append_stops_the_node() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let stranger = BatchBuilder::new(Timestamp(0)).record(None, Some(&[0; 8]));
    cluster.get().push(&stranger.build());
    let add = node.add(1);
    settle().await;
    cluster.get().commit_all();
    assert_eq!(add.sum().await, Err(HostError::Indeterminate));
    assert!(node.has_failed());
}

#[tokio::test]
async fn a_full_mailbox_pushes_back() {
    let cluster = Shared::new(1);
    let mut node = Node::new(&cluster, 0);
    node.options.mailbox_max = 4;
    node.options.parked_max = 3;
    node.start();
    cluster.get().lead(0, true);
    settle().await;
    let mut answers = Vec::new();
    for number in 0..8 {
        answers.push(node.add(number));
        settle().await;
    }
    // Three are parked, four are in the mailbox, one is refused.
    let refused = answers.pop().unwrap();
    assert_eq!(refused.sum().await, Err(HostError::Overloaded));
    for _ in 0..8 {
        cluster.get().commit_all();
        settle().await;
    }
    for answer in answers {
        assert!(answer.sum().await.is_ok());
    }
    node.options.callers_max = 2;
    node.start();
    settle().await;
    let wait = || Command::ReadAfter(Duration::from_secs(1));
    let mut waiting = [node.call(wait()), node.call(wait())];
    assert_eq!(node.read().sum().await, Err(HostError::Overloaded));
    for answer in &mut waiting {
        assert_eq!(answer.now().await, None);
    }
}

#[tokio::test]
async fn ticks_come_by_the_monotonic_clock() {
    let (cluster, node, _) = pair();
    cluster.get().lead(0, true);
    settle().await;
    let mut late = node.call(Command::ReadAfter(Duration::from_secs(60)));
    let mut soon = node.call(Command::ReadAfter(Duration::from_secs(10)));
    settle().await;
    node.clock.set_wall(Timestamp(i64::MAX / 2));
    node.clock.pass(Duration::from_millis(9_999));
    assert_eq!(soon.now().await, None);
    node.clock.pass(Duration::from_millis(1));
    assert!(soon.now().await.is_some());
    assert_eq!(late.now().await, None);
    node.clock.pass(Duration::from_secs(50));
    assert!(late.now().await.is_some());
}

/// A node with snapshots after every few records, and some records.
async fn with_snapshot(cluster: &Shared) -> Node {
    let mut node = Node::new(cluster, 0);
    node.options.snapshot_after_bytes = 40;
    node.options.read_bytes_max = 1;
    node.start();
    cluster.get().lead(0, true);
    for number in 1..=100 {
        let add = node.add(number);
        settle().await;
        cluster.get().commit_all();
        assert!(add.sum().await.is_ok());
    }
    settle().await;
    node
}

#[tokio::test]
async fn a_restart_replays_from_the_snapshot() {
    let cluster = Shared::new(1);
    let mut node = with_snapshot(&cluster).await;
    cluster.get().reads.clear();
    node.start();
    assert_eq!(node.read().sum().await, Ok(5050));
    let first = cluster.get().reads.first().copied();
    assert!(first.is_none_or(|from| from > Offset(20)), "{first:?}");
    let state = node.read().now().await.unwrap().unwrap();
    assert_eq!(state, cluster.get().committed());
}

#[tokio::test]
async fn a_bad_snapshot_is_ignored() {
    let cluster = Shared::new(1);
    let mut node = with_snapshot(&cluster).await;
    let (path, good) = node.disk.files().pop_first().unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        node.disk.files().insert(path.clone(), bad);
        // No new snapshot meanwhile.
        node.options.snapshot_after_bytes = u64::MAX;
        node.start();
        settle().await;
        settle().await;
        assert_eq!(node.read().sum().await, Ok(5050), "byte {at}");
        assert_eq!(cluster.get().reads.last(), Some(&Offset(100)));
    }
}

#[tokio::test]
async fn an_old_snapshot_is_ignored() {
    let cluster = Shared::new(1);
    let mut node = with_snapshot(&cluster).await;
    for (later, first) in [(12 * 3600 * 1000, false), (12 * 3600 * 1000 + 1, true)] {
        node.clock.set_wall(Timestamp(1_000_000 + later));
        node.options.snapshot_after_bytes = u64::MAX;
        cluster.get().reads.clear();
        node.start();
        settle().await;
        assert_eq!(node.read().sum().await, Ok(5050));
        let from_start = cluster.get().reads.contains(&Offset(0));
        assert_eq!(from_start, first);
    }
}

#[tokio::test]
async fn a_replica_that_leaves_takes_its_snapshot_along() {
    let cluster = Shared::new(1);
    let node = with_snapshot(&cluster).await;
    assert_eq!(node.disk.files().len(), 1);
    for _ in 0..2 {
        MachineHost::<Adder>::remove_snapshot(node.env(), node.id()).await;
        assert!(node.disk.files().is_empty());
    }
}

#[test]
fn snapshots_are_of_one_machine_and_one_journal() {
    let journal = TopicPartition::new(Uuid([3; 16]), 7);
    let name = SnapshotName::new("adder", journal);
    let state = Sum {
        added: vec![(Offset(3), 9)],
    };
    let bytes = name.encode(&state, Offset(4), Timestamp(5)).unwrap();
    let whole = Snapshot {
        durable: state,
        offset: Offset(4),
        written: Timestamp(5),
    };
    assert_eq!(name.decode::<Sum>(&bytes), Some(whole));
    let others = [
        SnapshotName::new("adder2", journal),
        SnapshotName::new("adder", TopicPartition::new(Uuid([3; 16]), 8)),
        SnapshotName::new("adder", TopicPartition::new(Uuid([4; 16]), 7)),
    ];
    for other in others {
        assert_eq!(other.decode::<Sum>(&bytes), None);
    }
    for len in 0..bytes.len() {
        assert_eq!(name.decode::<Sum>(&bytes[..len]), None);
    }
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused_not_guessed() {
    let (cluster, node, _) = pair();
    let newer = BatchBuilder::new(Timestamp(0)).record(None, Some(b"unheard of"));
    cluster.get().push(&newer.build());
    cluster.get().lead(0, true);
    settle().await;
    let answer = node.read().sum().await;
    assert!(
        matches!(answer, Err(HostError::Unreadable(_))),
        "{answer:?}"
    );
}

/// Random calls, commits, elections and crashes on three nodes. Whatever happens: an
/// acknowledged addition is in the journal with exactly the sum before it, a read shows
/// a state that was committed and no older than what was acknowledged before it began,
/// and in the end every node folds the same.
#[tokio::test]
async fn acknowledged_means_committed_whatever_fails() {
    let mut answered = 0;
    for seed in 0..40 {
        answered += run_seed(seed).await;
    }
    assert!(
        answered > 40 * 10,
        "{answered} calls answered: too few to prove anything"
    );
}

/// Returns how many calls were answered.
async fn run_seed(seed: u8) -> u32 {
    let random = Entropy::from_seed([seed; 32]);
    let cluster = Shared::new(3);
    let mut nodes: Vec<Node> = (0..3).map(|node| Node::new(&cluster, node)).collect();
    for node in &mut nodes {
        node.options.snapshot_after_bytes = 60;
        node.options.read_bytes_max = 200;
        node.start();
    }
    let mut calls = Vec::new();
    let mut acknowledged = 0;
    let mut answered = 0;
    for step in 0..150u64 {
        let node = usize::try_from(random.below(3)).unwrap();
        // Most callers know who leads.
        let leader = cluster.get().leader().filter(|_| random.below(8) > 0);
        let asked = &nodes[leader.unwrap_or(node)];
        match random.below(40) {
            0..=15 => {
                let number = 1 + step;
                calls.push((Some(number), 0, asked.add(number)));
            }
            16..=19 => calls.push((None, acknowledged, asked.read())),
            20..=34 => {
                let batches = usize::try_from(random.below(3)).unwrap();
                cluster.get().commit(batches);
            }
            35 | 36 => cluster.get().commit_all(),
            37 => cluster.get().elect(node, random.below(2) == 0),
            38 => nodes[node].start(),
            _ => {
                let refusal = [
                    (JournalError::Retry, false),
                    (JournalError::Indeterminate, false),
                    (JournalError::Indeterminate, true),
                ][usize::try_from(random.below(3)).unwrap()];
                cluster.get().refusals.push_back(refusal);
            }
        }
        nodes[node].clock.pass(Duration::from_millis(20));
        let mut open = Vec::new();
        for (number, known, mut answer) in calls {
            match answer.now().await {
                None => open.push((number, known, answer)),
                Some(Ok(state)) => {
                    answered += 1;
                    let committed = cluster.get().committed();
                    if let Some(number) = number {
                        let sum = state.total();
                        let mut before = 0;
                        let found = committed.added.iter().any(|(_, added)| {
                            before += added;
                            *added == number && before == sum
                        });
                        assert!(
                            found,
                            "seed {seed}: {number} was acknowledged and is not there"
                        );
                        acknowledged = acknowledged.max(sum);
                    } else {
                        assert!(committed.added.starts_with(&state.added), "seed {seed}");
                        assert!(state.total() >= known, "seed {seed}: a stale read");
                    }
                }
                Some(Err(_)) => {}
            }
        }
        calls = open;
    }
    cluster.get().refusals.clear();
    for (at, node) in nodes.iter().enumerate() {
        settle().await;
        cluster.get().lead(at, true);
        for _ in 0..5 {
            settle().await;
            node.clock.pass(Duration::from_secs(1));
            cluster.get().commit_all();
        }
        let state = node.read().now().await.unwrap().unwrap();
        assert_eq!(state, cluster.get().committed(), "seed {seed}, node {at}");
    }
    answered
}
