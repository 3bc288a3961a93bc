//! What nodes do to their logs in the background: old data goes, keys are compacted, and
//! the newest of both stays readable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use weir::options::ByteSize;
use weir_base::batch::BatchBuilder;
use weir_base::{Env, NodeId, RecordBatch};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{kafka_addresses, node_options, run_node};
use weir_sim::workload::kafka_client::{KafkaClient, Produced};
use weir_sim::workload::produce::{create_topic, read_all};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const CLIENT: NodeId = NodeId(200);
const BATCHES: i64 = 60;
const KEYS: i64 = 5;
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// One pass over the logs, with room to spare: they come every 30 s.
const PASS: Duration = Duration::from_secs(40);

/// A batch of one record of about a KiB; its value begins with its number.
fn batch(env: &Env, number: i64) -> RecordBatch {
    let key = format!("k{}", number % KEYS);
    let value = format!("{number} {}", "x".repeat(1_000));
    let now = env.clock.wall();
    BatchBuilder::new(now)
        .record(Some(key.as_bytes()), Some(value.as_bytes()))
        .build()
}

/// A connection to the leader of partition 0.
async fn leader(env: &Env, nodes: &[SocketAddr], topic: &str) -> anyhow::Result<KafkaClient> {
    let deadline = Duration::from_secs(5);
    let mut client = KafkaClient::connect(env, nodes[0], deadline).await?;
    let answer = client.metadata(topic).await?;
    let partition = answer.topics[0].partitions.first().context("a partition")?;
    let id = u32::try_from(partition.leader_id.0)?;
    let at = NODES
        .iter()
        .position(|node| node.0 == id)
        .context("leader")?;
    KafkaClient::connect(env, nodes[at], deadline).await
}

async fn fill(env: &Env, nodes: &[SocketAddr], topic: &str) -> anyhow::Result<KafkaClient> {
    let mut client = leader(env, nodes, topic).await?;
    for number in 0..BATCHES {
        let batch = batch(env, number);
        let produced = client.produce(topic, 0, &batch, Duration::from_secs(5));
        let produced = produced.await?;
        ensure!(produced == Produced::At(number), "{topic}: {produced:?}");
    }
    Ok(client)
}

async fn run(env: Env) -> anyhow::Result<()> {
    let nodes = kafka_addresses(&NODES);
    let segments = ("segment.bytes", "4096");
    let short = [segments, ("retention.bytes", "8192")];
    create_topic(&env, &nodes, "short", 1, &short).await?;
    let keys = [segments, ("cleanup.policy", "compact")];
    create_topic(&env, &nodes, "keys", 1, &keys).await?;
    let mut short = fill(&env, &nodes, "short").await?;
    fill(&env, &nodes, "keys").await?;
    ensure!(read_all(&env, &nodes, "keys", 0).await?.len() == 60);
    env.sleep(PASS).await;

    let gone = short.fetch("short", 0, 0).await?;
    ensure!(gone.error == OFFSET_OUT_OF_RANGE, "{}", gone.error);
    let last = short.fetch("short", 0, BATCHES - 4).await?;
    ensure!(last.error == 0 && last.high_watermark == BATCHES);
    ensure!(!last.batches.is_empty());

    let left = read_all(&env, &nodes, "keys", 0).await?;
    ensure!(left.len() < 30, "{} records are left", left.len());
    let mut newest = BTreeMap::new();
    for (offset, value) in &left {
        let number: i64 = value.split(' ').next().context("a number")?.parse()?;
        ensure!(number == *offset, "offsets stay");
        newest.insert(number % KEYS, number);
    }
    let expected = (0..KEYS).map(|key| (key, BATCHES - KEYS + key));
    ensure!(newest == expected.collect(), "{newest:?}");
    Ok(())
}

#[test]
fn old_data_goes_and_keys_are_compacted_without_being_asked() {
    on_fresh_thread(|| {
        let machines = [NODES.as_slice(), &[CLIENT]].concat();
        let cluster = Cluster::new(1, &machines, Trace::new()).unwrap();
        let mut sim = Cluster::builder(1, Duration::from_secs(120)).build();
        for node in NODES {
            let cluster = cluster.clone();
            sim.host(ip(node), move || {
                let mut options = node_options(node, &NODES);
                // What is compacted is on the disk: memory still serves what was sent.
                options.storage.tail_cache_bytes = ByteSize(0);
                let software = run_node(cluster.clone(), options);
                async move { Ok(software.await?) }
            });
        }
        let result = Arc::new(Mutex::new(None));
        let ended = Arc::clone(&result);
        sim.host(ip(CLIENT), move || {
            let (cluster, ended) = (cluster.clone(), Arc::clone(&ended));
            async move {
                let env = cluster.boot(CLIENT)?.env;
                *ended.lock().unwrap() = Some(run(env).await);
                std::future::pending().await
            }
        });
        while result.lock().unwrap().is_none() {
            assert!(sim.elapsed() < Duration::from_secs(100), "not done");
            sim.step().unwrap();
        }
        let result = result.lock().unwrap().take().unwrap();
        result.unwrap_or_else(|error| panic!("{error:#}"));
    });
}
