//! Who is in sync, who may lead, and what counts as acknowledged meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_base::NodeId;
use weir_storage::SimFaults;

use super::theatre::{Setting, Theatre, VOTERS, play, record, replica};
use crate::probe::Seen;

const LEADER: NodeId = NodeId(1);
const FOLLOWERS: [NodeId; 2] = [NodeId(4), NodeId(5)];

/// Voters enough without those that the scenario is about.
fn beside_voters(configs: &'static [(&'static str, &'static str)]) -> Setting {
    Setting {
        nodes: 5,
        replicas: &[1, 4, 5],
        configs,
        ..Setting::default()
    }
}

/// S-01 (Kafka 0.8): the ISR shrinks to the leader, which goes on; then it is gone, and
/// one that was left behind leads.
fn shrinks_to_the_leader(theatre: &mut Theatre) -> Result<()> {
    theatre.write(30, 10_000)?;
    theatre.cut(&[LEADER], &FOLLOWERS);
    theatre.begin_writing(20);
    theatre.until("the leader is in sync alone", 30_000, |seen| {
        record(seen).is_some_and(|record| record.isr == [LEADER])
    })?;
    let before = theatre.acknowledged();
    theatre.run(3_000)?;
    let alone = theatre.acknowledged() - before;
    theatre.kill(LEADER)?;
    theatre.heal();
    theatre.until("another leads", 10_000, |seen| {
        record(seen).is_some_and(|r| r.leader.is_some_and(|leader| leader != LEADER))
    })?;
    theatre.until_written(30_000)?;
    theatre.start(LEADER)?;
    theatre.recover()?;
    ensure!(
        alone == 0,
        "{alone} values were acknowledged by one of three"
    );
    Ok(())
}

/// S-04 (KIP-966) and S-15: the followers die, then the leader loses its power and what
/// it had not flushed. It is back first; only a follower knows all.
fn last_one_standing(theatre: &mut Theatre) -> Result<()> {
    theatre.begin_writing(300);
    while theatre.acknowledged() < 40 {
        theatre.step()?;
    }
    for follower in FOLLOWERS {
        theatre.kill(follower)?;
    }
    theatre.power_off(LEADER)?;
    theatre.until("all replicas are fenced", 10_000, |seen| {
        let nodes = seen.newest.nodes.values();
        nodes.filter(|node| node.is_active()).count() == 2
    })?;
    theatre.start(LEADER)?;
    theatre.run(8_000)?;
    let is_led = theatre.record()?.leader.is_some();
    // Only the one that died last need know all.
    for follower in FOLLOWERS {
        theatre.start(follower)?;
    }
    theatre.until_written(30_000)?;
    theatre.recover()?;
    ensure!(!is_led, "one that lost its tail led");
    Ok(())
}

/// S-05 (KIP-903): a follower caught up; while its leader's proposal to add it to the ISR
/// is under way, its machine is replaced by one with an empty disk.
fn empty_disk_amid_a_change(theatre: &mut Theatre) -> Result<()> {
    let (leader, victim, other) = (NodeId(4), NodeId(5), NodeId(1));
    theatre.write(30, 10_000)?;
    theatre.kill(victim)?;
    theatre.until("the follower is out of the ISR", 15_000, |seen| {
        record(seen).is_some_and(|record| !record.isr.contains(&victim))
    })?;
    theatre.write(30, 10_000)?;
    let disk = theatre.disk(victim)?;
    // So slow that it is seen to come.
    disk.set_faults(SimFaults {
        latency_max: Duration::from_millis(50),
        ..SimFaults::default()
    });
    theatre.start(victim)?;
    let behind = move |seen: &Seen| {
        let end = replica(seen, leader).map(|leader| leader.high_watermark);
        replica(seen, victim).is_none_or(|r| Some(r.durable_end) < end)
    };
    theatre.until("the follower copies", 15_000, |seen| {
        replica(seen, victim).is_some_and(|r| r.log_end.0 > 30)
    })?;
    let isr = &theatre.record()?.isr;
    ensure!(
        !isr.contains(&victim),
        "too late for this scenario: {isr:?}"
    );
    theatre.hold(&[leader], &VOTERS);
    theatre.until("the follower caught up", 700, |seen| !behind(seen))?;
    theatre.run(100)?;
    theatre.power_off(victim)?;
    disk.wipe();
    disk.set_faults(SimFaults::default());
    theatre.start(victim)?;
    theatre.run(200)?;
    theatre.heal();
    theatre.write(50, 10_000)?;
    theatre.run(5_000)?;
    let isr = &theatre.record()?.isr;
    ensure!(*isr == [other, leader], "the ISR is {isr:?}");
    // The two that are left are enough to go on from.
    theatre.kill(leader)?;
    theatre.until("another leads", 10_000, |seen| {
        record(seen).is_some_and(|record| record.leader == Some(other))
    })?;
    theatre.start(leader)?;
    theatre.write(10, 20_000)?;
    theatre.check()
}

#[test]
fn s01_a_leader_in_sync_alone_acknowledges_nothing() {
    play(beside_voters(&[]), shrinks_to_the_leader).unwrap();
}

#[test]
fn s04_who_lost_its_tail_waits_for_one_that_has_it() {
    play(beside_voters(&[("weir.flush", "async")]), last_one_standing).unwrap();
}

#[test]
fn s05_an_empty_disk_is_not_taken_for_the_one_that_was_seen() {
    let setting = Setting {
        replicas: &[4, 5, 1],
        ..beside_voters(&[])
    };
    play(setting, empty_disk_amid_a_change).unwrap();
}

#[cfg(feature = "mutants")]
mod planted {
    use weir_base::mutant::Mutant;

    use super::super::theatre::objection;
    use super::*;

    #[test]
    fn s01_finds_a_watermark_that_ignores_min_isr() {
        let why = objection(Mutant::M4, beside_voters(&[]), shrinks_to_the_leader);
        assert!(why.contains("I3") || why.contains("I4"), "{why}");
    }

    #[test]
    fn s04_finds_a_copy_that_keeps_its_place_without_its_tail() {
        let setting = beside_voters(&[("weir.flush", "async")]);
        let why = objection(Mutant::M20, setting, last_one_standing);
        // The copy itself, or the producer, whose last values are missed.
        assert!(why.contains("I4") || why.contains("error 45"), "{why}");
    }
}
