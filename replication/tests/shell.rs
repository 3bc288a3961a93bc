//! Whole nodes but for disk and network: the shell around the core.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

#[path = "shell/faulty.rs"]
mod faulty;
#[path = "shell/toy.rs"]
mod toy;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use faulty::Faulty;
use toy::{AT, Cluster, batch, offset};
use weir_base::image::{Durability, FlushMode, ReplicationMode};
use weir_base::{CacheHint, Entropy, NodeId, Offset, RecordBatch, Timestamp, WriteOutcome};
use weir_replication::{AckLevel, AppendError, ReadError, ReplicaEvent, ReplicationOptions};
use weir_storage::{LogError, PartitionLog};

const SYNC: Durability = Durability {
    flush: FlushMode::Sync,
    replication: ReplicationMode::Sync,
};

fn three() -> Arc<Cluster> {
    Cluster::start(3, 2, SYNC, ReplicationOptions::default())
}

#[tokio::test(start_paused = true)]
async fn an_append_is_acknowledged_once_all_in_sync_hold_it() {
    let cluster = three();
    cluster.until_ready(1).await;
    let first = cluster.produce(1, "a").await;
    assert_eq!(offset(&first), Offset(0), "a new log needs no barrier");
    for id in 1..=3 {
        assert!(
            cluster.log(id).position().durable_end >= Offset(1),
            "node {id}"
        );
    }
    cluster.assert_alike(1, &[2, 3]).await;
    assert_eq!(cluster.values(3).await, [(0, "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn appends_of_one_caller_keep_their_order_and_share_frames() {
    let cluster = three();
    cluster.until_ready(1).await;
    let before = cluster.wires.frames.load(Ordering::Relaxed);
    let handle = cluster.handle(1);
    let calls: Vec<_> = (0..1_000)
        .map(|n| handle.append(batch(&n.to_string()), AckLevel::All, Duration::from_secs(9)))
        .collect();
    for (n, call) in (0..).zip(calls) {
        assert_eq!(offset(&call.await), Offset(n));
    }
    let frames = cluster.wires.frames.load(Ordering::Relaxed) - before;
    assert!(frames < 50, "{frames} frames for one group");
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_through_leader_changes() {
    let cluster = three();
    let mut acknowledged = vec![];
    for round in 0..9u32 {
        let leader = round % 3 + 1;
        if round > 0 {
            cluster.elect(leader);
        }
        cluster.until_ready(leader).await;
        for n in 0..5 {
            let text = format!("{round}.{n}");
            let at = offset(&cluster.produce(leader, &text).await);
            acknowledged.push((at.0, text));
        }
        // One more that the change of leader races with: it may survive or not.
        drop(
            cluster
                .handle(leader)
                .append(batch("racer"), AckLevel::All, Duration::from_secs(1)),
        );
    }
    cluster.assert_alike(3, &[1, 2]).await;
    let mut found = cluster.values(3).await;
    found.retain(|(_, text)| text != "racer");
    assert_eq!(found, acknowledged);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_replaced_and_comes_back() {
    let cluster = three();
    cluster.until_ready(1).await;
    let kept = offset(&cluster.produce(1, "kept").await);
    cluster.kill(1);
    cluster.fence(1);
    cluster.until_ready(2).await;
    cluster.produce(2, "meanwhile").await.unwrap();
    cluster.boot(1);
    cluster.until_in_sync(2, 3).await;
    cluster.assert_alike(2, &[1, 3]).await;
    assert_eq!(cluster.values(1).await[0], (kept.0, "kept".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_leader_needs_a_new_epoch() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "a").await.unwrap();
    cluster.kill(1);
    cluster.boot(1); // registering elects it anew
    cluster.until_ready(1).await;
    assert_eq!(cluster.handle(1).view().leader_epoch.0, 2);
    cluster.produce(1, "b").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    assert!(cluster.events.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_isolated_leader_acknowledges_nothing_and_cuts_its_tail() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "kept").await.unwrap();
    for other in [0, 2, 3] {
        cluster.wires.cut(1, other);
    }
    let lost = cluster
        .handle(1)
        .append(batch("lost"), AckLevel::All, Duration::from_secs(20));
    cluster.fence(1);
    cluster.until_ready(2).await;
    cluster.produce(2, "instead").await.unwrap();
    let lost = lost.await.unwrap_err();
    assert!(matches!(lost, AppendError::TimedOut(_)), "{lost}");
    assert_eq!(lost.outcome(), WriteOutcome::Indeterminate);
    assert!(cluster.handle(1).view().is_leader, "it cannot know better");
    let late = cluster
        .handle(1)
        .append(batch("late"), AckLevel::All, Duration::from_secs(30));
    cluster.sleep(Duration::from_millis(1)).await; // until it is appended
    cluster.wires.heal();
    cluster.unfence(1);
    let late = late.await.unwrap_err();
    assert!(matches!(late, AppendError::LeadershipLost(_)), "{late}");
    cluster.until_in_sync(2, 3).await;
    cluster.assert_alike(2, &[1, 3]).await;
    let values: Vec<String> = cluster.values(1).await.into_iter().map(|v| v.1).collect();
    assert_eq!(values, ["kept", "instead"]);
}

#[tokio::test(start_paused = true)]
async fn below_min_isr_writes_are_refused_and_waiting_ones_indeterminate() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.wires.cut(1, 2);
    cluster.wires.cut(1, 3);
    let waiting = cluster
        .handle(1)
        .append(batch("w"), AckLevel::All, Duration::from_secs(60));
    let error = waiting.await.unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::NotEnoughReplicasAfterAppend { isr: 1, min_isr: 2 }
        ),
        "{error}"
    );
    assert_eq!(cluster.record().isr, [NodeId(1)]);
    let refused = cluster.produce(1, "r").await.unwrap_err();
    assert!(
        matches!(
            refused,
            AppendError::NotEnoughReplicas { isr: 1, min_isr: 2 }
        ),
        "{refused}"
    );
    assert_eq!(refused.outcome(), WriteOutcome::NotAppended);
    let watermark = cluster.handle(1).view().high_watermark;
    // acks=1 is still taken, and not committed.
    let handle = cluster.handle(1);
    let alone = handle.append(batch("1"), AckLevel::Leader, Duration::from_secs(1));
    alone.await.unwrap();
    assert_eq!(handle.view().high_watermark, watermark);
    cluster.wires.heal();
    cluster.until_in_sync(1, 3).await;
    cluster.produce(1, "ok").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn one_slow_member_is_dropped_after_two_seconds_and_returns() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.wires.cut(1, 3);
    let began = cluster.handle(1);
    drop(began);
    cluster.produce(1, "a").await.unwrap();
    assert_eq!(cluster.record().isr, [NodeId(1), NodeId(2)]);
    cluster.wires.heal();
    cluster.until_in_sync(1, 3).await;
    cluster.assert_alike(1, &[2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_proposal_without_an_answer_keeps_the_maximal_isr() {
    let cluster = three();
    cluster.until_ready(1).await;
    *cluster.deaf.lock().unwrap() = true;
    cluster.wires.cut(1, 3);
    let waiting = cluster.produce(1, "a");
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::select! {
        biased;
        done = &mut waiting => Some(done),
        () = cluster.sleep(Duration::from_secs(20)) => None,
    };
    assert!(early.is_none(), "acknowledged without node 3: {early:?}");
    *cluster.deaf.lock().unwrap() = false;
    waiting.await.unwrap();
    assert_eq!(cluster.record().isr, [NodeId(1), NodeId(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_cold_follower_catches_up_in_a_small_window() {
    let options = ReplicationOptions {
        window_bytes: 64 * 1024,
        frame_bytes_max: 16 * 1024,
        catch_up_read_bytes: 16 * 1024,
        ..ReplicationOptions::default()
    };
    let cluster = Cluster::start(3, 2, SYNC, options);
    cluster.until_ready(1).await;
    cluster.kill(3);
    cluster.fence(3);
    let text = "x".repeat(4_000);
    for n in 0..1_000 {
        cluster.produce(1, &format!("{n}{text}")).await.unwrap();
    }
    cluster.boot(3);
    cluster.until_in_sync(1, 3).await;
    cluster.assert_alike(1, &[2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_behind_the_log_start_begins_anew() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "old").await.unwrap();
    cluster.kill(3);
    cluster.fence(3);
    for n in 0..10 {
        cluster.produce(1, &n.to_string()).await.unwrap();
    }
    let start = cluster.handle(1).set_start(Offset(8)).await.unwrap();
    assert_eq!(start, Offset(8));
    let beyond = cluster.handle(1).set_start(Offset(1_000)).await;
    assert!(matches!(beyond, Err(ReadError::OutOfRange { .. })));
    cluster.until(2, |view| view.log_start == Offset(8)).await;
    cluster.boot(3);
    cluster.until_in_sync(1, 3).await;
    assert_eq!(cluster.log(3).position().start, Offset(8));
    cluster.assert_alike(1, &[2, 3]).await;
    let early = cluster.handle(3).read(Offset(2), 100).await;
    assert!(matches!(early, Err(ReadError::OutOfRange { .. })));
}

#[tokio::test(start_paused = true)]
async fn async_replication_acknowledges_alone_and_counts_what_a_fail_over_cuts() {
    let durability = Durability {
        replication: ReplicationMode::Async,
        ..SYNC
    };
    let cluster = Cluster::start(3, 1, durability, ReplicationOptions::default());
    cluster.until_ready(1).await;
    cluster.produce(1, "kept").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    for other in [0, 2, 3] {
        cluster.wires.cut(1, other);
    }
    cluster.produce(1, "acknowledged, then lost").await.unwrap();
    cluster.produce(1, "this too").await.unwrap();
    // Nothing above the watermark moves, so after a second writes stall.
    cluster.sleep(Duration::from_secs(2)).await;
    let stalled = cluster
        .handle(1)
        .append(batch("s"), AckLevel::All, Duration::from_secs(1));
    assert!(matches!(stalled.await, Err(AppendError::TimedOut(_))));
    cluster.fence(1);
    cluster.until_ready(2).await;
    cluster.wires.heal();
    cluster.unfence(1);
    cluster.until_in_sync(2, 3).await;
    cluster.assert_alike(2, &[1, 3]).await;
    assert_eq!(cluster.replication(1).acknowledged_cut(), 2);
    let events = cluster.events.lock().unwrap();
    let [
        ReplicaEvent::AcknowledgedCut {
            at: AT,
            offsets: 2,
            batches,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    let saved = RecordBatch::parse_all(batches.concat().into()).unwrap();
    let first = saved[0].records().unwrap().remove(0).value.unwrap();
    assert_eq!(&first[..], b"acknowledged, then lost");
}

#[tokio::test(start_paused = true)]
async fn writes_that_stalled_go_on_when_followers_return() {
    let durability = Durability {
        replication: ReplicationMode::Async,
        ..SYNC
    };
    let mut options = ReplicationOptions::default();
    options.core.unreplicated_bytes_max = 100;
    options.core.hold_max = Duration::from_secs(1_000);
    options.core.lag_max = Duration::from_secs(1_000);
    let cluster = Cluster::start(2, 1, durability, options);
    cluster.until_ready(1).await;
    cluster.assert_alike(1, &[2]).await;
    cluster.wires.cut(1, 2);
    cluster.produce(1, &"x".repeat(100)).await.unwrap();
    let stalled = cluster.produce(1, "y");
    let mut stalled = std::pin::pin!(stalled);
    tokio::select! {
        biased;
        done = &mut stalled => panic!("not stalled: {done:?}"),
        () = cluster.sleep(Duration::from_secs(5)) => {}
    }
    cluster.wires.heal();
    stalled.await.unwrap();
}

/// What a queue sends and forgets is not lost with a leader that acknowledges alone.
#[tokio::test(start_paused = true)]
async fn a_caller_may_wait_for_the_watermark_under_async_replication() {
    let durability = Durability {
        replication: ReplicationMode::Async,
        ..SYNC
    };
    let cluster = Cluster::start(3, 1, durability, ReplicationOptions::default());
    cluster.until_ready(1).await;
    cluster.assert_alike(1, &[2, 3]).await;
    for other in [0, 2, 3] {
        cluster.wires.cut(1, other);
    }
    let handle = cluster.handle(1);
    let moment = Duration::from_millis(500);
    let alone = handle.append(batch("alone"), AckLevel::All, moment);
    alone.await.unwrap();
    let early = handle.append(batch("early"), AckLevel::Committed, moment);
    let error = early.await.unwrap_err();
    assert!(matches!(error, AppendError::TimedOut(_)), "{error}");
    cluster.wires.heal();
    let sent = handle.append(batch("sent"), AckLevel::Committed, Duration::from_secs(9));
    let end = sent.await.unwrap().end;
    assert!(handle.view().high_watermark >= end);
}

#[tokio::test(start_paused = true)]
async fn async_flush_counts_what_is_written() {
    let durability = Durability {
        flush: FlushMode::Async,
        ..SYNC
    };
    let cluster = Cluster::start(3, 2, durability, ReplicationOptions::default());
    cluster.until_ready(1).await;
    cluster.produce(1, "a").await.unwrap();
    assert_eq!(cluster.log(2).position().durable_end, Offset(0));
    // The way back to sync flush leads through a barrier.
    cluster.change(|record| record.pending_durability = Some(SYNC));
    cluster.sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.record().durability, durability);
    for id in 1..=3 {
        cluster.log(id).flush().await.unwrap();
    }
    cluster.sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.record().durability, SYNC);
    cluster.produce(1, "b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_nothing_is_acknowledged_alone() {
    let durability = Durability {
        replication: ReplicationMode::Async,
        ..SYNC
    };
    let cluster = Cluster::start(3, 1, durability, ReplicationOptions::default());
    cluster.until_ready(1).await;
    assert!(cluster.handle(1).may_answer());
    cluster.replication(1).set_lease(weir_base::Monotonic(0));
    assert!(!cluster.handle(1).may_answer());
    let error = cluster.produce(1, "a").await.unwrap_err();
    assert!(matches!(error, AppendError::NotLeader(_)), "{error}");
}

/// A fenced node has a lease again before it leads anything: as soon as it is heard of.
#[tokio::test(start_paused = true)]
async fn a_lease_is_for_the_leaders_of_the_newest_image_alone() {
    let durability = Durability {
        replication: ReplicationMode::Async,
        ..SYNC
    };
    let cluster = Cluster::start(3, 1, durability, ReplicationOptions::default());
    cluster.until_ready(1).await;
    cluster.busy.lock().unwrap().insert(NodeId(1));
    cluster.fence(1);
    cluster.until_ready(2).await;
    let old = cluster.handle(1);
    assert!(old.view().is_ready, "it has not been told");
    assert!(!old.is_sure_to_lead() && !old.may_answer());
    let error = cluster.produce(1, "a").await.unwrap_err();
    assert!(matches!(error, AppendError::NotLeader(_)), "{error}");
    assert!(cluster.handle(2).may_answer());
    cluster.busy.lock().unwrap().clear();
    cluster.unfence(1);
    cluster.until_in_sync(2, 3).await;
    cluster.elect(1);
    cluster
        .until(1, |view| view.is_ready && view.leader_epoch.0 == 3)
        .await;
    assert!(cluster.handle(1).may_answer());
}

#[tokio::test(start_paused = true)]
async fn followers_and_closed_replicas_say_so() {
    let cluster = three();
    cluster.until_ready(1).await;
    let error = cluster.produce(2, "a").await.unwrap_err();
    let AppendError::NotLeader(known) = error else {
        panic!("{error}");
    };
    assert_eq!(known.leader, Some(NodeId(1)));
    let handle = cluster.handle(1);
    cluster.replication(1).close(AT);
    let error = handle
        .append(batch("a"), AckLevel::All, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error, AppendError::Closed), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_partition_costs_nothing() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "a").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    cluster.sleep(Duration::from_secs(60)).await; // old alarms ring out
    let alarms = cluster.clock.alarms.load(Ordering::Relaxed);
    let frames = cluster.wires.frames.load(Ordering::Relaxed);
    cluster.sleep(Duration::from_secs(86_400)).await;
    // The one alarm is this test's own.
    assert_eq!(cluster.clock.alarms.load(Ordering::Relaxed), alarms + 1);
    assert_eq!(cluster.wires.frames.load(Ordering::Relaxed), frames);
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_bad_data_resigns_and_is_replaced() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "kept").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    cluster.kill(1);
    let rotten = Arc::new(Faulty::new(cluster.log(1)));
    cluster.set_log(1, Arc::clone(&rotten) as Arc<dyn PartitionLog>);
    cluster.boot(1);
    cluster.until_ready(1).await;
    rotten.rot();
    let waiting = cluster.wires.clone();
    waiting.cut(1, 2);
    waiting.cut(1, 3);
    let append = cluster
        .handle(1)
        .append(batch("w"), AckLevel::All, Duration::from_secs(60));
    cluster.sleep(Duration::from_millis(1)).await;
    let read = cluster.handle(1).read(Offset(0), 100).await;
    assert!(matches!(
        read,
        Err(ReadError::Storage(LogError::Corrupt { .. }))
    ));
    let error = append.await.unwrap_err();
    assert!(matches!(error, AppendError::Storage(_)), "{error}");
    assert_eq!(error.outcome(), WriteOutcome::Indeterminate);
    cluster
        .until(1, |view| view.is_failed && !view.is_leader)
        .await;
    assert!(matches!(
        cluster.events.lock().unwrap()[..],
        [ReplicaEvent::Failed {
            at: AT,
            error: LogError::Corrupt { .. }
        }]
    ));
    // The controller acts on the event; the failed replica takes part in nothing.
    cluster.wires.heal();
    cluster.fence(1);
    cluster.until_ready(2).await;
    cluster.produce(2, "more").await.unwrap();
    cluster.assert_alike(2, &[3]).await;
    assert!(cluster.handle(1).view().is_failed);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_led_the_epoch_before_refuses() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "before").await.unwrap();
    let replica = cluster.record().replica(NodeId(1)).unwrap().id;
    // As a restart would do if registering did not end its epochs.
    cluster.replication(1).open(AT, replica, cluster.log(1));
    cluster.publish();
    cluster.sleep(Duration::from_secs(1)).await;
    assert!(!cluster.handle(1).view().is_leader);
    assert!(matches!(
        cluster.events.lock().unwrap()[..],
        [ReplicaEvent::LeadershipRefused { at: AT, .. }]
    ));
    cluster.elect(1);
    cluster.until_ready(1).await;
    cluster.produce(1, "a").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
}

/// Cuts, kills, fencing and elections at random while producers append wherever they
/// believe the leader to be; then everything heals.
#[tokio::test(start_paused = true)]
async fn random_faults_lose_nothing_acknowledged_and_keep_nothing_refused() {
    let seeds = std::env::var("WEIR_MODEL_SEEDS").map_or(25, |seeds| seeds.parse().unwrap());
    let (mut acknowledged, mut refused) = (0, 0);
    for seed in 0..seeds {
        let (yes, no) = chaos(seed).await;
        acknowledged += yes;
        refused += no;
    }
    assert!(acknowledged > 40 * seeds, "{acknowledged}");
    assert!(refused > seeds, "{refused}");
}

async fn chaos(seed: u64) -> (u64, u64) {
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let entropy = Entropy::from_seed(bytes);
    let pick = |bound: u32| u32::try_from(entropy.below(u64::from(bound))).unwrap();
    let options = ReplicationOptions {
        window_bytes: 4_096,
        frame_bytes_max: 1_024,
        catch_up_read_bytes: 1_024,
        ..ReplicationOptions::default()
    };
    let cluster = Cluster::start(3, 2, SYNC, options);
    let mut calls = vec![];
    for step in 0..80 {
        let mut node = pick(3) + 1;
        if step % 2 == 0 {
            node = cluster.record().leader.map_or(node, |leader| leader.0);
        }
        match pick(16) {
            0 => cluster.wires.cut(pick(4), node),
            1 | 2 => cluster.wires.heal(),
            3 if cluster.is_running(node) => cluster.kill(node),
            4 if !cluster.is_running(node) => cluster.boot(node),
            5 if cluster.record().isr.iter().any(|id| *id != NodeId(node)) => {
                cluster.fence(node);
            }
            6 => cluster.unfence(node),
            7 if cluster.record().isr.contains(&NodeId(node)) => cluster.elect(node),
            8..16 if cluster.is_running(node) => {
                for n in 0..pick(20) {
                    let text = format!("{step}.{n}.{}", "x".repeat(pick(300) as usize));
                    let wait = Duration::from_secs(5);
                    let call = cluster
                        .handle(node)
                        .append(batch(&text), AckLevel::All, wait);
                    calls.push((text, call));
                }
            }
            _ => {}
        }
        let pause = Duration::from_millis(u64::from(pick(1_500)));
        cluster.sleep(pause * (pick(3) / 2)).await;
    }
    cluster.wires.heal();
    for node in 1..=3 {
        if !cluster.is_running(node) {
            cluster.boot(node);
        }
        cluster.unfence(node);
    }
    let leader = cluster.record().leader.unwrap().0;
    cluster.until_in_sync(leader, 3).await;
    cluster.produce(leader, "last").await.unwrap();
    let others: Vec<u32> = (1..=3).filter(|node| *node != leader).collect();
    cluster.assert_alike(leader, &others).await;
    let values = cluster.values(leader).await;
    let (mut acknowledged, mut refused) = (0, 0);
    for (text, call) in calls {
        let found: Vec<u64> = values
            .iter()
            .filter(|(_, value)| *value == text)
            .map(|(at, _)| *at)
            .collect();
        match call.await {
            Ok(appended) => {
                assert_eq!(found, [appended.base.0], "seed {seed}: acknowledged {text}");
                acknowledged += 1;
            }
            Err(error) if error.outcome() == WriteOutcome::NotAppended => {
                assert!(
                    found.is_empty(),
                    "seed {seed}: {error}, but {text} is there"
                );
                refused += 1;
            }
            Err(_) => assert!(found.len() <= 1, "seed {seed}: {text} at {found:?}"),
        }
    }
    (acknowledged, refused)
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_on_a_full_disk_begins_when_there_is_space() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "before").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    cluster.kill(2);
    let full = Arc::new(Faulty::new(cluster.log(2)));
    full.set_full(true);
    cluster.set_log(2, Arc::clone(&full) as Arc<dyn PartitionLog>);
    cluster.boot(2);
    cluster.until_in_sync(1, 3).await;
    cluster.elect(2);
    cluster.until(2, |view| view.is_leader).await;
    cluster.sleep(Duration::from_secs(5)).await;
    let refused = cluster.produce(2, "refused").await.unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull), "{refused}");
    let view = cluster.handle(2).view();
    assert!(!view.is_failed && !view.is_ready, "{view:?}");
    full.set_full(false);
    // Nobody need produce for it.
    cluster.until_ready(2).await;
    cluster.produce(2, "after").await.unwrap();
    cluster.assert_alike(2, &[1, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_follower_out_of_sync_appends_is_not_to_be_held_in_memory() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.kill(2);
    cluster.fence(2);
    cluster.until_in_sync(1, 2).await;
    let missed = cluster.produce(1, "missed").await.unwrap();
    let watched = Arc::new(Faulty::new(cluster.log(2)));
    cluster.set_log(2, Arc::clone(&watched) as Arc<dyn PartitionLog>);
    cluster.boot(2);
    cluster.unfence(2);
    cluster.until_in_sync(1, 3).await;
    let new = cluster.produce(1, "new").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    let hints = watched.hints();
    assert!(hints.contains(&(missed.base, CacheHint::Drop)), "{hints:?}");
    assert!(hints.contains(&(new.base, CacheHint::Keep)), "{hints:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_without_space_to_be_cut_is_cut_later() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "kept").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    // The leader alone takes one more, and comes back as a follower to be cut.
    for other in [2, 3] {
        cluster.wires.cut(1, other);
    }
    let lonely = cluster.handle(1);
    let lost = lonely.append(batch("lost"), AckLevel::All, Duration::from_secs(1));
    lost.await.unwrap_err();
    cluster.kill(1);
    let full = Arc::new(Faulty::new(cluster.log(1)));
    full.set_full(true);
    cluster.set_log(1, Arc::clone(&full) as Arc<dyn PartitionLog>);
    cluster.fence(1);
    cluster.elect(2);
    cluster.until_ready(2).await;
    cluster.wires.heal();
    cluster.boot(1);
    cluster.unfence(1);
    cluster.sleep(Duration::from_secs(5)).await;
    let view = cluster.handle(1).view();
    assert!(!view.is_failed, "{view:?}");
    full.set_full(false);
    cluster.until_in_sync(2, 3).await;
    cluster.produce(2, "after").await.unwrap();
    cluster.assert_alike(2, &[1, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn bad_data_met_by_a_search_for_a_time_takes_the_replica_out_too() {
    let cluster = three();
    cluster.until_ready(1).await;
    cluster.produce(1, "kept").await.unwrap();
    cluster.assert_alike(1, &[2, 3]).await;
    cluster.kill(1);
    let rotten = Arc::new(Faulty::new(cluster.log(1)));
    cluster.set_log(1, Arc::clone(&rotten) as Arc<dyn PartitionLog>);
    cluster.boot(1);
    cluster.until_ready(1).await;
    rotten.rot();
    let found = cluster.handle(1).offset_at_time(Timestamp(0)).await;
    assert!(matches!(found, Err(ReadError::Storage(_))), "{found:?}");
    cluster
        .until(1, |view| view.is_failed && !view.is_leader)
        .await;
}
