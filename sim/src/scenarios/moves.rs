//! Replicas that move while nodes come and go.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use weir_base::NodeId;

use super::theatre::{Setting, TOPIC, Theatre, play, record};
use crate::whole_node::kafka_addresses;
use crate::workload::admin::reassign;
use crate::workload::router::Router;

const ALL: [NodeId; 5] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5)];

fn five(replicas: &'static [u32]) -> Setting {
    Setting {
        nodes: 5,
        replicas,
        ..Setting::default()
    }
}

/// Has the partition moved to `replicas`; the move begins and may take its time.
fn move_to(theatre: &mut Theatre, replicas: &'static [NodeId]) -> Result<()> {
    theatre.ask(15_000, move |env| async move {
        let mut router = Router::new(&env, &kafka_addresses(&ALL));
        let mut last = anyhow!("never asked");
        for _ in 0..60 {
            let asked = async { reassign(&mut router.any().await?, TOPIC, replicas).await };
            match asked.await {
                Ok(0) => return Ok(()),
                Ok(code) => last = anyhow!("error {code}"),
                Err(error) => last = error,
            }
            env.sleep(Duration::from_millis(100)).await;
        }
        Err(last)
    })
}

/// S-06 (Vanlightly 6.5.4): a replica is removed and added again while its node sees
/// neither.
fn removed_and_added(theatre: &mut Theatre) -> Result<()> {
    const VICTIM: NodeId = NodeId(5);
    theatre.write(30, 10_000)?;
    let before = theatre.record()?.replica(VICTIM).map(|replica| replica.id);
    theatre.pause(VICTIM);
    move_to(theatre, &[NodeId(1), NodeId(4)])?;
    theatre.until("it is removed", 15_000, |seen| {
        record(seen).is_some_and(|r| r.replicas.len() == 2 && r.removing.is_empty())
    })?;
    theatre.write(30, 10_000)?;
    move_to(theatre, &[NodeId(1), NodeId(4), VICTIM])?;
    theatre.run(500)?;
    let isr = &theatre.record()?.isr;
    ensure!(!isr.contains(&VICTIM), "in sync without a word: {isr:?}");
    theatre.resume(VICTIM);
    theatre.until("it is added and in sync", 30_000, |seen| {
        record(seen).is_some_and(|r| r.isr.len() == 3 && r.adding.is_empty())
    })?;
    let after = theatre.record()?.replica(VICTIM).map(|replica| replica.id);
    ensure!(
        before != after,
        "the new replica has the old one's identity"
    );
    theatre.recover()
}

/// S-18 (NATS 7545): a partition, a move and the loss of a machine in quick succession.
/// What min ISR 2 promises to outlive is one disk: the move must not end with one copy.
fn all_at_once(theatre: &mut Theatre) -> Result<()> {
    let (stays, joins) = (NodeId(4), NodeId(5));
    theatre.write(30, 10_000)?;
    theatre.begin_writing(60);
    theatre.cut(&[stays], &theatre.others(&[stays]));
    theatre.until("the one that stays is out of the ISR", 10_000, |seen| {
        record(seen).is_some_and(|record| !record.isr.contains(&stays))
    })?;
    move_to(theatre, &[NodeId(4), NodeId(5)])?;
    theatre.until("the one that joins is in sync", 15_000, |seen| {
        record(seen).is_some_and(|record| record.isr.contains(&joins))
    })?;
    theatre.run(2_000)?;
    theatre.power_off(joins)?;
    theatre.disk(joins)?.wipe();
    // Healed any sooner, the move would rightly end with the two that are in sync.
    theatre.until("the lost one is fenced", 10_000, |seen| {
        let lost = seen.newest.nodes.get(&joins);
        lost.is_some_and(|node| !node.is_active())
    })?;
    theatre.heal();
    theatre.until_written(30_000)?;
    theatre.until("the one that stays is in sync", 30_000, |seen| {
        record(seen).is_some_and(|record| record.isr.contains(&stays))
    })?;
    theatre.write(10, 10_000)?;
    theatre.check()
}

#[test]
fn s06_a_replica_added_again_begins_with_nothing() {
    play(five(&[1, 4, 5]), removed_and_added).unwrap();
}

#[test]
fn s18_a_move_under_fire_leaves_enough_copies() {
    play(five(&[1, 2, 4]), all_at_once).unwrap();
}

#[cfg(feature = "mutants")]
#[test]
fn s18_finds_a_move_that_ends_too_soon() {
    use weir_base::mutant::Mutant;
    let why = super::theatre::objection(Mutant::M27, five(&[1, 2, 4]), all_at_once);
    // Refused in the end by I7, which the plan of a sound controller never meets.
    assert!(why.contains("refused its own plan"), "{why}");
}
