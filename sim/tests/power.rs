//! All machines lose power at once, under sync flush: everything acknowledged is there
//! afterwards, without an operator (S-14, S-15, and 3.4's TailSuspect).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_base::{Disk, Env, NodeId, OpenMode};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{kafka_addresses, node_options, run_node};
use weir_sim::workload::produce::{Ledger, check_all, create_topic, idempotent_producer};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// Where the client runs: a machine with links and disks that nobody uses.
const CLIENT: NodeId = NodeId(200);
const TOPIC: &str = "orders";

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the client and the scenario tell each other.
#[derive(Clone, Default)]
struct Signals {
    /// Everything was acknowledged.
    is_produced: Arc<AtomicBool>,
    /// The faults are over: it may be read back.
    is_over: Arc<AtomicBool>,
    result: Arc<Mutex<Option<Result<()>>>>,
}

async fn client(
    env: Env,
    ledger: Ledger,
    partitions: i32,
    values: u64,
    signals: Signals,
) -> Result<()> {
    let nodes = kafka_addresses(&NODES);
    create_topic(&env, &nodes, TOPIC, partitions, &[]).await?;
    let (done, mut ended) = tokio::sync::mpsc::unbounded_channel();
    for partition in 0..partitions {
        let (nodes, topic) = (nodes.clone(), TOPIC.to_owned());
        let ledger = ledger.clone();
        let producer = idempotent_producer(env.clone(), nodes, topic, partition, values, ledger);
        let done = done.clone();
        env.tasks.spawn("producer", async move {
            done.send(producer.await).unwrap_or_default();
        });
    }
    for _ in 0..partitions {
        ended.recv().await.unwrap()?;
    }
    signals.is_produced.store(true, Ordering::Relaxed);
    while !signals.is_over.load(Ordering::Relaxed) {
        env.sleep(at(10)).await;
    }
    check_all(&env, &nodes, TOPIC, partitions, &ledger).await?;
    let all = usize::try_from(partitions)? * usize::try_from(values)?;
    ensure!(ledger.acknowledged_count() == all, "not all acknowledged");
    Ok(())
}

/// Runs nodes and client, and before every step the scenario.
fn simulate(
    seed: u64,
    partitions: i32,
    values: u64,
    mut scenario: impl FnMut(&Cluster, &mut turmoil::Sim<'_>, &Signals),
) -> Result<()> {
    let machines = [NODES.as_slice(), &[CLIENT]].concat();
    let cluster = Cluster::new(seed, &machines, Trace::default())?;
    let mut sim = Cluster::builder(seed, at(120_000)).build();
    for node in NODES {
        let cluster = cluster.clone();
        sim.host(ip(node), move || {
            let software = run_node(cluster.clone(), node_options(node, &NODES));
            async move { Ok(software.await?) }
        });
    }
    let (ledger, signals) = (Ledger::default(), Signals::default());
    let (software, told) = (cluster.clone(), signals.clone());
    sim.host(ip(CLIENT), move || {
        let (cluster, ledger, signals) = (software.clone(), ledger.clone(), told.clone());
        async move {
            let env = cluster.boot(CLIENT)?.env;
            let ended = client(env, ledger, partitions, values, signals.clone()).await;
            *signals.result.lock().unwrap() = Some(ended);
            std::future::pending().await
        }
    });
    loop {
        if let Some(result) = signals.result.lock().unwrap().take() {
            return result;
        }
        ensure!(sim.elapsed() < at(110_000), "seed {seed}: not done");
        scenario(&cluster, &mut sim, &signals);
        if let Err(error) = sim.step() {
            anyhow::bail!("seed {seed}: {error}");
        }
    }
}

/// The output of an operation of a disk that never lets anybody wait.
fn now<T>(operation: impl Future<Output = T>) -> T {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the disk is slow"),
    }
}

/// Files of the write-ahead log or of the logs on a node's disk.
fn files(cluster: &Cluster, node: NodeId, directory: &str, ending: &str) -> Vec<String> {
    let mut files = cluster.disk(node).unwrap().files();
    files.retain(|path| path.starts_with(directory) && path.ends_with(ending));
    files
}

/// Lets `value` rot in the files, and says how often it was there.
fn rot(cluster: &Cluster, node: NodeId, files: &[String], value: &str) -> usize {
    let disk = cluster.disk(node).unwrap();
    let mut found = 0;
    for path in files {
        let file = now(disk.handle(None).open(path, OpenMode::Existing)).unwrap();
        let size = usize::try_from(now(file.size()).unwrap()).unwrap();
        let bytes = now(file.read_at(0, size)).unwrap();
        let hits = bytes.windows(value.len()).enumerate();
        for (at, _) in hits.filter(|(_, bytes)| *bytes == value.as_bytes()) {
            disk.flip_bit(path, at as u64, 1).unwrap();
            found += 1;
        }
    }
    found
}

/// Every machine at once, twice, under load; some come back late, and one process dies
/// again before anybody heard of it.
fn all_at_once(seed: u64) -> Result<()> {
    let [one, two, three] = NODES;
    simulate(seed, 3, 600, |cluster, sim, signals| match sim.elapsed() {
        now if now == at(2_000) || now == at(9_000) => {
            for node in NODES {
                cluster.power_off(sim, node).unwrap();
            }
        }
        now if now == at(3_000) => {
            for node in NODES {
                cluster.start(sim, node).unwrap();
            }
        }
        now if now == at(10_000) => cluster.start(sim, one).unwrap(),
        now if now == at(10_050) => cluster.kill(sim, one).unwrap(),
        now if now == at(10_200) => cluster.start(sim, three).unwrap(),
        now if now == at(10_500) => cluster.start(sim, one).unwrap(),
        now if now == at(14_000) => cluster.start(sim, two).unwrap(),
        now if now == at(15_000) => signals.is_over.store(true, Ordering::Relaxed),
        _ => {}
    })
}

/// What became of the third machine's write-ahead log, whose last group is the last one
/// acknowledged. Those of the others rotted there, and their segments lost it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Third {
    Intact,
    /// Rotten too, but its segment was written back in time: it holds everything, and
    /// its node cannot know.
    Suspect,
}

fn rotten_tails(seed: u64, third: Third) -> Result<()> {
    const VALUES: u64 = 40;
    let [one, two, three] = NODES;
    let mut power_off = None;
    simulate(seed, 1, VALUES, |cluster, sim, signals| {
        let elapsed = sim.elapsed();
        let Some(off) = power_off else {
            if !signals.is_produced.load(Ordering::Relaxed) {
                return;
            }
            power_off = Some(elapsed);
            let written_back = files(cluster, three, "logs/", ".segment");
            for path in written_back.iter().filter(|_| third == Third::Suspect) {
                let disk = cluster.disk(three).unwrap().handle(None);
                let file = now(disk.open(path, OpenMode::Existing)).unwrap();
                now(file.sync_data()).unwrap();
            }
            let last = format!("0-{}", VALUES - 1);
            for node in NODES {
                cluster.power_off(sim, node).unwrap();
                let wal = files(cluster, node, "wal/", ".wal");
                if node != three {
                    assert_eq!(rot(cluster, node, &wal, &last), 1);
                    let segments = files(cluster, node, "logs/", ".segment");
                    rot(cluster, node, &segments, &last);
                } else if third == Third::Suspect {
                    assert_eq!(rot(cluster, node, &wal, &last), 1);
                }
            }
            return;
        };
        match elapsed - off {
            since if since == at(1_000) => {
                for node in [one, two] {
                    cluster.start(sim, node).unwrap();
                }
            }
            since if since == at(6_000) => {
                cluster.start(sim, three).unwrap();
            }
            since if since == at(7_000) => signals.is_over.store(true, Ordering::Relaxed),
            _ => {}
        }
    })
}

#[test]
fn everything_acknowledged_outlives_the_loss_of_all_power() {
    for seed in [11, 12] {
        on_fresh_thread(move || all_at_once(seed)).unwrap();
    }
}

#[test]
fn a_whole_copy_that_comes_last_wins_over_rotten_ones() {
    on_fresh_thread(|| rotten_tails(13, Third::Intact)).unwrap();
}

#[test]
fn of_suspects_alone_the_whole_one_wins() {
    on_fresh_thread(|| rotten_tails(14, Third::Suspect)).unwrap();
}

/// M29: elected unseen, a suspect loses what was acknowledged.
#[cfg(feature = "mutants")]
#[test]
fn a_suspect_elected_unseen_is_noticed() {
    use weir_base::mutant::{Mutant, plant};
    let planted = on_fresh_thread(|| {
        plant(Some(Mutant::M29));
        rotten_tails(13, Third::Intact)
    });
    let error = planted.unwrap_err().to_string();
    assert!(error.contains("was acknowledged at"), "{error}");
}
