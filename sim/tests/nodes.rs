//! Whole nodes: what is acknowledged stays, through kills and a power loss.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_base::{Env, NodeId};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::{Digest, Trace};
use weir_sim::whole_node::{kafka_addresses, node_options, run_node};
use weir_sim::workload::kafka_client::KafkaClient;
use weir_sim::workload::produce::{Ledger, check_all, create_topic, idempotent_producer};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Where clients run: a machine with links and disks that nobody uses.
const CLIENT: NodeId = NodeId(200);
const PARTITIONS: i32 = 3;
/// Values for each partition.
const VALUES: u64 = 40;
/// The same for a run with faults: producers work through all of them.
const VALUES_UNDER_FAULTS: u64 = 800;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn client(env: Env, ledger: Ledger, values: u64) -> anyhow::Result<()> {
    let nodes = kafka_addresses(&NODES);
    create_topic(&env, &nodes, "orders", PARTITIONS, &[]).await?;
    let (done, mut ended) = tokio::sync::mpsc::unbounded_channel();
    for partition in 0..PARTITIONS {
        let producer = idempotent_producer(
            env.clone(),
            nodes.clone(),
            "orders".to_owned(),
            partition,
            values,
            ledger.clone(),
        );
        let done = done.clone();
        env.tasks.spawn("producer", async move {
            done.send(producer.await).unwrap_or_default();
        });
    }
    for _ in 0..PARTITIONS {
        ended.recv().await.unwrap()?;
    }
    check_all(&env, &nodes, "orders", PARTITIONS, &ledger).await
}

/// Leader epochs of all partitions.
async fn leader_epochs(env: &Env) -> anyhow::Result<Vec<i32>> {
    let node = kafka_addresses(&NODES)[0];
    let mut client = KafkaClient::connect(env, node, at(5_000)).await?;
    let answer = client.metadata("orders").await?;
    let mut partitions = answer.topics[0].partitions.clone();
    partitions.sort_by_key(|partition| partition.partition_index);
    Ok(partitions.iter().map(|p| p.leader_epoch).collect())
}

/// A cluster that nobody uses stays as it is: disks without an fsync do not stall.
async fn idle(env: &Env) -> anyhow::Result<()> {
    let before = leader_epochs(env).await?;
    env.sleep(at(20_000)).await;
    let after = leader_epochs(env).await?;
    anyhow::ensure!(before == after, "leaders moved: {before:?}, {after:?}");
    Ok(())
}

fn simulate(seed: u64, faults: bool) -> (Digest, String, usize) {
    let trace = Trace::with_text();
    let machines = [NODES.as_slice(), &[CLIENT]].concat();
    let cluster = Cluster::new(seed, &machines, trace.clone()).unwrap();
    let mut sim = Cluster::builder(seed, at(120_000)).build();
    for node in NODES {
        let cluster = cluster.clone();
        sim.host(ip(node), move || {
            let software = run_node(cluster.clone(), node_options(node, &NODES));
            async move { Ok(software.await?) }
        });
    }
    let ledger = Ledger::default();
    let values = if faults { VALUES_UNDER_FAULTS } else { VALUES };
    let (software, told) = (cluster.clone(), ledger.clone());
    let result = Arc::new(Mutex::new(None));
    let ended = Arc::clone(&result);
    sim.host(ip(CLIENT), move || {
        let (cluster, ledger) = (software.clone(), told.clone());
        let ended = Arc::clone(&ended);
        async move {
            let env = cluster.boot(CLIENT)?.env;
            let mut result = client(env.clone(), ledger, values).await;
            if !faults && result.is_ok() {
                result = idle(&env).await;
            }
            *ended.lock().unwrap() = Some(result);
            std::future::pending().await
        }
    });
    let [one, two, three] = NODES;
    while result.lock().unwrap().is_none() {
        assert!(sim.elapsed() < at(100_000), "seed {seed}: not done");
        match sim.elapsed() {
            _ if !faults => {}
            now if now == at(500) => cluster.kill(&mut sim, one).unwrap(),
            now if now == at(1_500) => cluster.start(&mut sim, one).unwrap(),
            now if now == at(2_500) => cluster.power_off(&mut sim, two).unwrap(),
            now if now == at(4_500) => cluster.start(&mut sim, two).unwrap(),
            now if now == at(6_000) => sim.partition(ip(three), ip(one)),
            now if now == at(6_001) => sim.partition(ip(three), ip(two)),
            now if now == at(8_500) => {
                sim.repair(ip(three), ip(one));
                sim.repair(ip(three), ip(two));
            }
            _ => {}
        }
        sim.step().unwrap();
    }
    let result = result.lock().unwrap().take().unwrap();
    assert!(!faults || sim.elapsed() > at(8_500), "{:?}", sim.elapsed());
    result.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    (trace.digest(), trace.text(), ledger.acknowledged_count())
}

#[test]
fn three_nodes_keep_what_they_acknowledge_and_their_leaders_when_idle() {
    let (_, _, acknowledged) = on_fresh_thread(|| simulate(1, false));
    assert_eq!(acknowledged, 3 * 40);
}

#[test]
fn three_nodes_keep_it_through_kills_power_loss_and_partition() {
    let (_, _, acknowledged) = on_fresh_thread(|| simulate(2, true));
    assert_eq!(acknowledged, 3 * 800);
}

#[test]
fn the_same_seed_gives_the_same_run_of_whole_nodes() {
    let [(one, text_one, _), (two, text_two, _)] =
        [(); 2].map(|()| on_fresh_thread(|| simulate(3, true)));
    let mut lines = text_one.lines().zip(text_two.lines());
    if let Some((a, b)) = lines.find(|(a, b)| a != b) {
        panic!("runs differ:\n{a}\n{b}");
    }
    assert_eq!(one, two);
}
