//! How many voters the metadata group has and how many of them may be gone: with more than
//! half of 1, 3 or 5 it goes on, with fewer it decides nothing, and when one is back it
//! goes on again. Nodes that are no voters follow what it commits, and serve.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_base::NodeId;

use super::theatre::{Setting, Theatre, play, record};
use crate::probe::Seen;
use crate::whole_node::kafka_addresses;
use crate::workload::router::Router;

/// Longer than any session, lease or election takes.
const LONG: u64 = 10_000;
const CALL: Duration = Duration::from_secs(3);

/// Makes a topic, which takes a commit of the group; all nodes that run come to know it.
fn make(theatre: &mut Theatre, topic: &'static str) -> Result<()> {
    let nodes = kafka_addresses(&theatre.running());
    theatre.ask(20_000, move |env| async move {
        let mut router = Router::new(&env, &nodes);
        loop {
            let asked = async { router.any().await?.create_topic(topic, 1, &[]).await };
            // Refused or not answered: by a node that does not know the controller yet.
            if let Some(Ok(0)) = env.timeout(CALL, asked).await {
                return Ok(());
            }
            env.sleep(Duration::from_millis(100)).await;
        }
    })?;
    theatre.until("every node knows the topic", 5_000, |seen| {
        let mut nodes = seen.nodes.values();
        nodes.all(|node| node.image.topics.contains_key(topic))
    })?;
    Ok(())
}

/// Without a majority: no topic is made, nothing else is decided and nothing acknowledged,
/// whoever is asked and however long it is waited for.
fn stands_still(theatre: &mut Theatre) -> Result<()> {
    theatre.run(500)?;
    let before = (theatre.seen.newest.version, theatre.acknowledged());
    theatre.begin_writing(10);
    let nodes = kafka_addresses(&theatre.running());
    let made = theatre.ask(30_000, move |env| async move {
        let mut router = Router::new(&env, &nodes);
        let mut made = 0;
        for _ in &nodes {
            let asked = async { router.any().await?.create_topic("nobodys", 1, &[]).await };
            made += usize::from(matches!(env.timeout(CALL, asked).await, Some(Ok(0))));
        }
        Ok(made)
    })?;
    theatre.run(LONG)?;
    let after = (theatre.seen.newest.version, theatre.acknowledged());
    ensure!(made == 0, "a minority made a topic");
    ensure!(
        before == after,
        "version of the image and values acknowledged by a minority: {before:?}, then {after:?}"
    );
    Ok(())
}

fn another_leads(was: NodeId) -> impl Fn(&Seen) -> bool {
    move |seen| record(seen).is_some_and(|r| r.leader.is_some_and(|leader| leader != was))
}

/// As many voters die as may, the controller first, and the leader of a partition too;
/// then one more. All that has a copy of the partition, but for node 1, is no voter.
fn the_last_that_may_die(theatre: &mut Theatre, voters: u32) -> Result<()> {
    let leader = NodeId(voters + 1);
    theatre.write(20, LONG)?;
    ensure!(theatre.leader()? == leader, "the observer leads");
    let controller = theatre.controller();
    let mut others: Vec<NodeId> = (2..=voters).map(NodeId).collect();
    others.sort_by_key(|node| Some(*node) != controller);
    let (spare, needed) = others.split_at(usize::try_from(voters / 2)?);
    for node in spare {
        theatre.kill(*node)?;
    }
    make(theatre, "enough")?;
    theatre.write(20, LONG)?;
    theatre.kill(leader)?;
    theatre.until("another leads", LONG, another_leads(leader))?;
    theatre.write(20, LONG)?;

    // The only voter has a copy, so that no other death is needed to be one too many.
    let last = needed.first().copied().unwrap_or(NodeId(1));
    theatre.kill(last)?;
    let copy = NodeId(voters + 2);
    if voters > 1 {
        theatre.kill(copy)?;
    }
    stands_still(theatre)?;

    theatre.start(last)?;
    if voters > 1 {
        theatre.until("another leads", LONG, another_leads(copy))?;
    }
    for node in theatre.others(&theatre.running()) {
        theatre.start(node)?;
    }
    theatre.until_written(30_000)?;
    make(theatre, "again")?;
    theatre.recover()
}

/// Five nodes, all of them voters. Two die, one of which leads the partition; then one of
/// the two copies that are left, which are no more than must be in sync.
fn three_of_five(theatre: &mut Theatre) -> Result<()> {
    theatre.write(20, LONG)?;
    let leader = theatre.leader()?;
    // The controller, if it has no copy.
    let copies = |theatre: &Theatre, node| {
        let record = theatre.record();
        record.is_ok_and(|record| record.replica(node).is_some())
    };
    let controller = theatre.controller().context("no controller")?;
    let without = if copies(theatre, controller) {
        NodeId(4)
    } else {
        controller
    };
    theatre.kill(leader)?;
    theatre.kill(without)?;
    theatre.until("another leads", LONG, another_leads(leader))?;
    make(theatre, "three-of-five")?;
    theatre.write(20, LONG)?;

    let leads = theatre.leader()?;
    let isr = theatre.record()?.isr.clone();
    let third = isr.iter().copied().find(|node| *node != leads);
    let third = third.context("a leader in sync alone acknowledged")?;
    theatre.kill(third)?;
    stands_still(theatre)?;

    theatre.start(third)?;
    theatre.until_written(30_000)?;
    make(theatre, "three-again")?;
    theatre.start(leader)?;
    theatre.start(without)?;
    theatre.recover()
}

fn with_observers(voters: u32, replicas: &'static [u32]) -> Setting {
    Setting {
        nodes: voters + 2,
        voters,
        replicas,
        ..Setting::default()
    }
}

#[test]
fn one_voter_decides_alone_or_nobody_does() {
    let setting = with_observers(1, &[2, 3, 1]);
    play(setting, |theatre| the_last_that_may_die(theatre, 1)).unwrap();
}

#[test]
fn of_three_voters_one_may_die() {
    let setting = with_observers(3, &[4, 5, 1]);
    play(setting, |theatre| the_last_that_may_die(theatre, 3)).unwrap();
}

#[test]
fn of_five_voters_two_may_die_while_observers_serve() {
    let setting = with_observers(5, &[6, 7, 1]);
    play(setting, |theatre| the_last_that_may_die(theatre, 5)).unwrap();
}

#[test]
fn of_five_nodes_that_all_vote_two_may_die() {
    let setting = Setting {
        nodes: 5,
        voters: 5,
        ..Setting::default()
    };
    play(setting, three_of_five).unwrap();
}
