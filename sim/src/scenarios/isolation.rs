//! Networks that part, and heal sooner than anybody thought.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_base::NodeId;
use weir_base::batch::BatchBuilder;

use super::theatre::{Setting, TOPIC, Theatre, VOTERS, play, record};
use crate::cluster::ip;
use crate::whole_node::{ADMIN_PORT, KAFKA_PORT};
use crate::workload::kafka_client::{KafkaClient, Produced};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
/// Kafka's word for "ask another".
const NOT_LEADER: i16 = 6;

/// S-08 (RocketMQ 7017): the leader, one more replica and a voter are on one side, most
/// voters and one replica on the other. Neither side has what it takes.
fn two_sides(theatre: &mut Theatre, voter: NodeId) -> Result<()> {
    let here = [voter, NodeId(4)];
    let there = theatre.others(&here);
    theatre.write(30, 10_000)?;
    let before = theatre.acknowledged();
    theatre.cut(&here, &there);
    theatre.begin_writing(20);
    theatre.until("the majority elects its replica", 10_000, |seen| {
        record(seen).is_some_and(|record| record.leader == Some(NodeId(2)))
    })?;
    theatre.run(8_000)?;
    let while_cut = theatre.acknowledged() - before;
    theatre.heal();
    theatre.until_written(20_000)?;
    theatre.recover()?;
    ensure!(
        while_cut == 0,
        "{while_cut} values acknowledged by one replica of three"
    );
    Ok(())
}

/// S-08 of one leader alone. With asynchronous replication it acknowledges alone, but only
/// as long as it can be sure that nobody else leads; with synchronous it never does. And it
/// tells no reader that there is no more: who believed it would never ask anybody else.
fn old_leader(theatre: &mut Theatre) -> Result<()> {
    let old = theatre.leader()?;
    theatre.write(30, 10_000)?;
    // The cut does not come before everybody has it: what is lost later is no such loss.
    theatre.run(1_000)?;
    theatre.cut(&[old], &theatre.others(&[old]));
    theatre.until("another leads", 10_000, |seen| {
        record(seen).is_some_and(|r| r.leader.is_some_and(|leader| leader != old))
    })?;
    let told = theatre.ask(5_000, move |env| async move {
        let to = (ip(old), KAFKA_PORT).into();
        let mut client = KafkaClient::connect(&env, to, SECOND * 3).await?;
        let value = BatchBuilder::new(env.clock.wall()).record(None, Some(b"0-1000000"));
        client.produce(TOPIC, 0, &value.build(), SECOND).await
    })?;
    ensure!(
        matches!(told, Produced::Refused(_)),
        "the old leader acknowledged alone after another was elected: {told:?}"
    );
    let replica = theatre.replica(old).context("no copy")?;
    let end = i64::try_from(replica.high_watermark.0)?;
    let (below, at_end) = theatre.ask(5_000, move |env| async move {
        let to = (ip(old), KAFKA_PORT).into();
        let mut client = KafkaClient::connect(&env, to, SECOND * 3).await?;
        let below = client.fetch(TOPIC, 0, 0).await?;
        Ok((below, client.fetch(TOPIC, 0, end).await?))
    })?;
    ensure!(
        below.error == 0 && !below.batches.is_empty(),
        "what is committed is for everybody to read: {below:?}"
    );
    ensure!(
        at_end.error == NOT_LEADER,
        "the old leader told a reader that nothing follows {end}: {at_end:?}"
    );
    theatre.heal();
    theatre.recover()
}

/// What a node says of its health: the answer as it came.
fn health(theatre: &mut Theatre, node: NodeId) -> Result<String> {
    theatre.ask(5_000, move |env| async move {
        let asked = async {
            let mut stream = env.net.connect((ip(node), ADMIN_PORT).into()).await?;
            let request = b"GET /healthz HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        env.timeout(SECOND * 3, asked).await.context("no answer")?
    })
}

/// S-33 (RabbitMQ 17319): everything is cut for 43 ms. And then for long: a node that
/// is out of touch says so.
fn blip(theatre: &mut Theatre) -> Result<()> {
    theatre.write(20, 10_000)?;
    let epoch = theatre.record()?.leader_epoch;
    theatre.cut(&VOTERS, &VOTERS);
    theatre.begin_writing(20);
    theatre.run(43)?;
    theatre.heal();
    theatre.until_written(2_000)?;
    theatre.run(10_000)?;
    let now = theatre.record()?.leader_epoch;
    ensure!(
        now == epoch,
        "a blip cost an election: epoch {epoch}, then {now}"
    );
    for node in VOTERS {
        let told = health(theatre, node)?;
        ensure!(told.starts_with("HTTP/1.1 200"), "node {node}: {told}");
    }
    let alone = VOTERS[2];
    theatre.cut(&[alone], &VOTERS[..2]);
    theatre.run(8_000)?;
    let told = health(theatre, alone)?;
    ensure!(told.starts_with("HTTP/1.1 503"), "out of touch: {told}");
    ensure!(told.contains("no metadata change was applied"), "{told}");
    let told = health(theatre, VOTERS[0])?;
    ensure!(told.starts_with("HTTP/1.1 200"), "of the majority: {told}");
    theatre.heal();
    theatre.recover()?;
    theatre.run(6_000)?;
    let told = health(theatre, alone)?;
    ensure!(told.starts_with("HTTP/1.1 200"), "back again: {told}");
    Ok(())
}

/// S-19 (Redpanda 3039): the writer and the leader lose sight of each other while answers
/// are on their way. What it sends again is stored once, and told at its first offset.
fn answers_are_lost(theatre: &mut Theatre) -> Result<()> {
    theatre.begin_writing(200);
    for round in 0..8 {
        // Not in step with what is sent.
        theatre.run(60 + round)?;
        let leader = theatre.leader()?;
        theatre.cut_clients(leader, true);
        theatre.run(1_000)?;
        theatre.cut_clients(leader, false);
    }
    theatre.until_written(30_000)?;
    theatre.recover()
}

/// S-46 (TigerBeetle): a voter hears nobody, and everybody hears it.
fn deaf(theatre: &mut Theatre, node: NodeId) -> Result<()> {
    theatre.write(20, 10_000)?;
    let elections = theatre.heard("leads the metadata group");
    theatre.cut_oneway(&theatre.others(&[node]), &[node]);
    let took = theatre.write(20, 15_000)?;
    let epoch = theatre.record()?.leader_epoch;
    theatre.run(20_000)?;
    theatre.write(20, 2_000)?;
    let (more, now) = (
        theatre.heard("leads the metadata group"),
        theatre.record()?.leader_epoch,
    );
    theatre.heal();
    theatre.recover()?;
    ensure!(took < 8_000, "the others needed {took} ms");
    ensure!(
        now == epoch,
        "leaders changed without need: epoch {epoch}, then {now}"
    );
    ensure!(
        more <= elections + 1,
        "{} elections of the group",
        more - elections
    );
    Ok(())
}

#[test]
fn s08_two_sides_of_which_neither_is_enough_acknowledge_nothing() {
    // With any voter, so that once it is the one that leads the metadata group.
    let replicas: [(u32, &'static [u32]); 2] = [(1, &[1, 2, 4]), (3, &[3, 2, 4])];
    for (voter, replicas) in replicas {
        let setting = Setting {
            nodes: 5,
            replicas,
            ..Setting::default()
        };
        play(setting, move |theatre| two_sides(theatre, NodeId(voter))).unwrap();
    }
}

fn replication(configs: &'static [(&'static str, &'static str)]) -> Setting {
    Setting {
        replicas: &[3, 1, 2],
        configs,
        ..Setting::default()
    }
}

const ASYNC: &[(&str, &str)] = &[("weir.replication", "async")];

#[test]
fn s08_an_old_leader_acknowledges_nothing_alone() {
    for configs in [&[], ASYNC] {
        play(replication(configs), old_leader).unwrap();
    }
}

#[test]
fn s33_a_blip_leaves_no_trace_and_health_tells_of_more() {
    play(Setting::default(), blip).unwrap();
}

#[test]
fn s46_a_deaf_node_stops_nobody() {
    for node in VOTERS {
        play(Setting::default(), move |theatre| deaf(theatre, node)).unwrap();
    }
}

#[test]
fn s19_what_is_sent_again_is_stored_once() {
    play(Setting::default(), answers_are_lost).unwrap();
}

#[cfg(feature = "mutants")]
mod planted {
    use weir_base::mutant::Mutant;

    use super::super::theatre::objection;
    use super::*;

    #[test]
    fn s08_finds_a_leader_that_outlives_its_lease() {
        let why = objection(Mutant::M21, replication(ASYNC), old_leader);
        assert!(why.contains("acknowledged alone"), "{why}");
    }

    #[test]
    fn s19_finds_a_known_batch_that_is_out_of_order() {
        let why = objection(Mutant::M13, Setting::default(), answers_are_lost);
        assert!(why.contains("error 45"), "{why}");
    }

    #[test]
    fn s33_finds_a_follower_that_never_comes_back() {
        let why = objection(Mutant::L2, Setting::default(), blip);
        assert!(why.contains("every replica is in sync"), "{why}");
    }
}
