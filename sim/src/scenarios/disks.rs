//! Disks that rot, refuse or stall on one node of several.

use std::future::Future;
use std::pin::pin;
use std::task::{Context as Waking, Poll, Waker};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_base::{Disk, NodeId, OpenMode};
use weir_storage::{SimDisk, SimFaults};

use super::theatre::{Setting, Theatre, VOTERS, play, record};

/// Leads the partition and has no part in the metadata group.
const LEADER: NodeId = NodeId(4);
const FOLLOWERS: [NodeId; 2] = [NodeId(5), NodeId(1)];

fn led_beside_the_voters() -> Setting {
    Setting {
        nodes: 5,
        replicas: &[4, 5, 1],
        ..Setting::default()
    }
}

/// The output of an operation of a disk that never lets anybody wait.
fn now<T>(operation: impl Future<Output = T>) -> Result<T> {
    match pin!(operation).poll(&mut Waking::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => anyhow::bail!("the disk is slow"),
    }
}

/// Lets a value rot wherever it is in files below a directory. Says how often it was.
fn rot(disk: &SimDisk, below: &str, value: &str) -> Result<usize> {
    let mut found = 0;
    for path in disk.files() {
        if !path.starts_with(below) {
            continue;
        }
        let file = now(disk.handle(None).open(&path, OpenMode::Existing))??;
        let size = usize::try_from(now(file.size())??)?;
        let bytes = now(file.read_at(0, size))??;
        let places = bytes.windows(value.len()).enumerate();
        for (at, _) in places.filter(|(_, bytes)| *bytes == value.as_bytes()) {
            disk.flip_bit(&path, at as u64, 1)?;
            found += 1;
        }
    }
    Ok(found)
}

/// Whether a node has a whole snapshot of the metadata.
fn snapshot(disk: &SimDisk) -> Option<String> {
    let mut files = disk.files();
    files.retain(|path| path.starts_with("metadata/snapshot-") && !path.ends_with(".tmp"));
    files.pop()
}

/// S-16 (NATS 7549): bits flip in the midst of one copy, everybody restarts, and the
/// one with the bad copy is back first.
fn rot_in_one(theatre: &mut Theatre) -> Result<()> {
    theatre.write(60, 20_000)?;
    theatre.run(500)?;
    for node in [FOLLOWERS[0], FOLLOWERS[1], LEADER] {
        theatre.kill(node)?;
    }
    let disk = theatre.disk(LEADER)?;
    let hits = rot(&disk, "logs/", "0-17")? + rot(&disk, "wal/", "0-17")?;
    ensure!(hits > 0, "nothing there to rot");
    theatre.until("all replicas are fenced", 10_000, |seen| {
        seen.newest
            .nodes
            .values()
            .filter(|node| node.is_active())
            .count()
            == 2
    })?;
    theatre.start(LEADER)?;
    theatre.run(6_000)?;
    for node in FOLLOWERS {
        theatre.start(node)?;
    }
    theatre.recover()
}

/// S-17 (NATS 7556): bits flip in one voter's snapshot of the metadata.
fn rot_in_the_metadata(theatre: &mut Theatre) -> Result<()> {
    let victim = VOTERS[2];
    theatre.write(20, 10_000)?;
    let disk = theatre.disk(victim)?;
    let begun = theatre.now();
    while snapshot(&disk).is_none() {
        ensure!(theatre.now() < begun + 120_000, "no snapshot was made");
        theatre.step()?;
    }
    theatre.kill(victim)?;
    theatre.write(20, 20_000)?;
    let path = snapshot(&disk).context("no snapshot")?;
    let middle = disk.file_bytes(&path)? / 2;
    disk.flip_bit(&path, middle, 3)?;
    theatre.may_die(victim);
    theatre.start(victim)?;
    theatre.run(3_000)?;
    let why = theatre
        .deaths
        .iter()
        .map(|(node, why)| (*node, why.as_str()));
    let why: Vec<_> = why.collect();
    ensure!(
        matches!(&why[..], [(node, why)] if *node == victim && why.contains("is damaged")),
        "a voter with a bad snapshot must not take part: {why:?}"
    );
    theatre.write(20, 5_000)?;
    theatre.check()?;
    // The operator's remedy: the data comes back.
    disk.flip_bit(&path, middle, 3)?;
    theatre.start(victim)?;
    theatre.recover()
}

/// S-41 (fsyncgate): one fsync of the leader fails, the next would say that all is well.
/// Then all lose their power, and the leader is back first.
fn one_failed_fsync(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    theatre.may_die(LEADER);
    let disk = theatre.disk(LEADER)?;
    let (syncs, _) = disk.operations();
    disk.set_faults(SimFaults {
        sync_failure_odds: 1,
        latency_max: Duration::from_millis(50),
        ..SimFaults::default()
    });
    theatre.begin_writing(1);
    while disk.operations().0 == syncs {
        theatre.step()?;
    }
    disk.set_faults(SimFaults::default());
    theatre.until_written(20_000)?;
    for node in [LEADER, FOLLOWERS[0], FOLLOWERS[1]] {
        theatre.power_off(node)?;
    }
    theatre.until("all replicas are fenced", 10_000, |seen| {
        seen.newest
            .nodes
            .values()
            .filter(|node| node.is_active())
            .count()
            == 2
    })?;
    theatre.start(LEADER)?;
    theatre.run(6_000)?;
    for node in FOLLOWERS {
        theatre.start(node)?;
    }
    theatre.recover()?;
    let failed = |why: &str| why.contains("the data directory failed");
    ensure!(
        theatre
            .deaths
            .iter()
            .any(|(node, why)| *node == LEADER && failed(why)),
        "the leader went on with a disk that failed: {:?}",
        theatre.deaths
    );
    Ok(())
}

/// S-47: the leader's disk stalls and its heartbeats do not.
fn stalled_disk(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    let disk = theatre.disk(LEADER)?;
    disk.set_faults(SimFaults {
        latency_max: Duration::from_secs(60),
        ..SimFaults::default()
    });
    theatre.write(30, 15_000)?;
    let led_by = theatre.leader()?;
    let is_active = theatre
        .seen
        .newest
        .nodes
        .get(&LEADER)
        .is_some_and(|n| n.is_active());
    ensure!(led_by != LEADER, "nobody took over");
    ensure!(is_active, "it may follow, it was fenced");
    disk.set_faults(SimFaults::default());
    // What is under way takes as long as it was going to.
    theatre.run(60_000)?;
    theatre.recover()
}

/// S-47 again: no fsync of the leader lasts for long, and all of them for longer than the
/// others'.
fn slow_disk(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    let disk = theatre.disk(LEADER)?;
    disk.set_faults(SimFaults {
        latency_max: Duration::from_millis(400),
        ..SimFaults::default()
    });
    theatre.begin_writing(200);
    theatre.until("a node with a better disk leads", 15_000, |seen| {
        record(seen).is_some_and(|record| record.leader.is_some_and(|node| node != LEADER))
    })?;
    let node = theatre.seen.newest.nodes.get(&LEADER);
    let is_active = node.is_some_and(|node| node.is_active());
    ensure!(is_active, "it may follow, it was fenced");
    // While it is in sync, it holds the others up as a follower, too.
    disk.set_faults(SimFaults::default());
    theatre.until_written(20_000)?;
    theatre.recover()
}

/// S-47 of the metadata group: its leader's disk stalls, and its heartbeats do not.
fn stalled_controller(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    let controller = NodeId(1);
    let disk = theatre.disk(controller)?;
    disk.set_faults(SimFaults {
        latency_max: Duration::from_secs(60),
        ..SimFaults::default()
    });
    // What needs the group: a leader is gone, and another is to be elected.
    let terms = theatre.heard("leads the metadata group");
    theatre.kill(LEADER)?;
    theatre.write(30, 6_000)?;
    let more = theatre.heard("leads the metadata group") - terms;
    ensure!(more > 0, "the group kept a leader that writes nothing");
    disk.set_faults(SimFaults::default());
    theatre.run(60_000)?;
    theatre.start(LEADER)?;
    theatre.recover()
}

/// The other side of S-47: a disk that nobody asks for anything does not stall.
fn idle_disk(theatre: &mut Theatre) -> Result<()> {
    theatre.write(10, 10_000)?;
    let (leader, epoch) = (theatre.leader()?, theatre.record()?.leader_epoch);
    theatre.run(40_000)?;
    let now = (theatre.leader()?, theatre.record()?.leader_epoch);
    ensure!(
        now == (leader, epoch),
        "leader and epoch of an idle partition were {:?}, are {now:?}",
        (leader, epoch)
    );
    theatre.recover()
}

/// Every few entries, so that there is a snapshot soon.
fn with_snapshots() -> Setting {
    Setting {
        options: |options| options.metadata.snapshot_every = 20,
        ..Setting::default()
    }
}

#[test]
fn s16_one_rotten_copy_is_not_led_from() {
    play(led_beside_the_voters(), rot_in_one).unwrap();
}

#[test]
fn s17_a_voter_with_a_rotten_snapshot_stays_out() {
    play(with_snapshots(), rot_in_the_metadata).unwrap();
}

#[test]
fn s41_a_failed_fsync_ends_the_node() {
    play(led_beside_the_voters(), one_failed_fsync).unwrap();
}

#[test]
fn s47_a_leader_whose_disk_stalls_is_relieved() {
    play(led_beside_the_voters(), stalled_disk).unwrap();
}

#[test]
fn s47_a_leader_whose_disk_is_slower_than_the_others_is_relieved() {
    play(led_beside_the_voters(), slow_disk).unwrap();
}

#[test]
fn s47_a_controller_whose_disk_stalls_stops_nobody() {
    let setting = Setting {
        replicas: &[4, 5, 2],
        ..led_beside_the_voters()
    };
    play(setting, stalled_controller).unwrap();
}

#[test]
fn s47_a_disk_that_is_idle_does_not_stall() {
    play(led_beside_the_voters(), idle_disk).unwrap();
}

#[cfg(feature = "mutants")]
mod planted {
    use weir_base::mutant::Mutant;

    use super::super::theatre::objection;
    use super::*;

    #[test]
    fn s16_finds_rot_that_passes_for_a_torn_tail() {
        let why = objection(Mutant::M19, led_beside_the_voters(), rot_in_one);
        assert!(why.contains("I3") || why.contains("I4"), "{why}");
    }

    #[test]
    fn s16_finds_a_copy_made_anew_under_its_old_name() {
        let why = objection(Mutant::M22, led_beside_the_voters(), rot_in_one);
        assert!(why.contains("every replica is in sync"), "{why}");
    }

    #[test]
    fn s41_finds_an_fsync_that_is_tried_again() {
        let why = objection(Mutant::M7, led_beside_the_voters(), one_failed_fsync);
        assert!(why.contains("went on with a disk that failed"), "{why}");
    }

    #[test]
    fn s47_finds_a_leader_that_does_not_resign() {
        let why = objection(Mutant::L4, led_beside_the_voters(), stalled_disk);
        assert!(why.contains("values acknowledged after"), "{why}");
        let why = objection(Mutant::L4, led_beside_the_voters(), slow_disk);
        assert!(why.contains("a node with a better disk leads"), "{why}");
    }
}
