//! Queues in whole nodes: the waist's contract, and what leaders that die leave behind.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::contract::check_queues;
use weir_api::fake::FakeBroker;
use weir_base::Env;
use weir_base::NodeId;
use weir_checkers::queue::{Event, Outcome, Patience, QueueHistory, conservation, delay};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{kafka_addresses, node_options, run_node_with};
use weir_sim::workload::produce::{
    Ledger, create_topic, idempotent_producer, read_all, read_all_records,
};
use weir_sim::workload::queue::{ATTEMPTS_MAX, Clients};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs one node that does `check`, which must end well within `limit`.
fn on_one_node(fake: bool) {
    let node = NodeId(1);
    let cluster = Cluster::new(1, &[node], Trace::new()).unwrap();
    let mut sim = Cluster::builder(1, at(120_000)).build();
    let done = Arc::new(Mutex::new(false));
    let (software, told) = (cluster, Arc::clone(&done));
    sim.host(ip(node), move || {
        let (cluster, told) = (software.clone(), Arc::clone(&told));
        async move {
            if fake {
                let env = cluster.boot(node)?.env;
                let broker = FakeBroker::new(&env);
                check_queues(&env, &broker.api()).await;
                *told.lock().unwrap() = true;
                return std::future::pending().await;
            }
            let options = node_options(node, &[node]);
            let run = run_node_with(cluster, options, move |env, api| {
                let (tasks, env) = (env.tasks.clone(), env.clone());
                let checking = async move {
                    while api.cluster.image().nodes.is_empty() {
                        env.sleep(at(20)).await;
                    }
                    check_queues(&env, &api).await;
                    *told.lock().unwrap() = true;
                };
                tasks.spawn("contract", checking);
            });
            Ok(run.await?)
        }
    });
    while !*done.lock().unwrap() {
        assert!(sim.elapsed() < at(100_000), "not done");
        sim.step().unwrap();
    }
}

#[test]
fn the_fake_broker_keeps_the_contract() {
    on_fresh_thread(|| on_one_node(true));
}

#[test]
fn a_real_node_keeps_the_contract() {
    on_fresh_thread(|| on_one_node(false));
}

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const CLIENT: NodeId = NodeId(200);
const PARTITIONS: u32 = 3;
const VALUES: u64 = 150;
/// Milliseconds that a delivery may seem early: a tick of the simulated network.
const SLACK: i64 = 2;
/// How late a delayed message may be where nothing is wrong, in milliseconds.
const LATE: i64 = 100;
/// When faults are over.
const HEALED: u64 = 9_000;

type Shared<T> = Arc<Mutex<T>>;

/// Produces, lets everything settle, reads the logs back; gives the whole history.
async fn drive(env: Env, clients: Clients, until: Duration) -> anyhow::Result<QueueHistory> {
    let nodes = kafka_addresses(&NODES);
    let partitions = i32::try_from(PARTITIONS)?;
    create_topic(&env, &nodes, "jobs", partitions, &[]).await?;
    let ledger = Ledger::default();
    for partition in 0..partitions {
        let (env, nodes) = (env.clone(), nodes.clone());
        idempotent_producer(env, nodes, "jobs".into(), partition, VALUES, ledger.clone()).await?;
    }
    env.sleep(until).await;
    clients.drain();
    for _ in 0..150 {
        env.sleep(at(1_000)).await;
        let mut history = clients.history();
        let told = ledger.snapshot().into_iter();
        let sent = told.map(|((partition, counter), offset)| Event::Sent {
            id: format!("{partition}-{counter}"),
            due: None,
            outcome: offset.map_or(Outcome::Info, |_| Outcome::Ok),
        });
        history.events.extend(sent);
        let Ok(dead) = read_all(&env, &nodes, "dlq.workers", 0).await else {
            continue;
        };
        let letters = dead.into_iter().map(|(offset, id)| Event::DeadLetter {
            id,
            offset: offset.unsigned_abs(),
        });
        history.events.extend(letters);
        if !conservation::check(&history).is_empty() {
            continue;
        }
        for partition in 0..partitions {
            let stored = read_all_records(&env, &nodes, "jobs", partition).await?;
            let stored = stored.into_iter().map(|read| Event::Stored {
                id: read.value,
                offset: read.offset.unsigned_abs(),
                at: read.at,
            });
            history.events.extend(stored);
        }
        return Ok(history);
    }
    anyhow::bail!("not settled: {:?}", conservation::check(&clients.history()))
}

fn simulate(seed: u64, faults: bool) -> QueueHistory {
    let machines = [NODES.as_slice(), &[CLIENT]].concat();
    let cluster = Cluster::new(seed, &machines, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(350_000)).build();
    let clients = Clients::default();
    for node in NODES {
        let (cluster, clients) = (cluster.clone(), clients.clone());
        sim.host(ip(node), move || {
            let (options, clients) = (node_options(node, &NODES), clients.clone());
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                clients.start(env, &api, "jobs", PARTITIONS);
            });
            async move { Ok(software.await?) }
        });
    }
    let ended: Shared<Option<anyhow::Result<QueueHistory>>> = Shared::default();
    let (software, told, result) = (cluster.clone(), clients, Arc::clone(&ended));
    let until = at(if faults { HEALED } else { 2_000 });
    sim.host(ip(CLIENT), move || {
        let (cluster, clients) = (software.clone(), told.clone());
        let result = Arc::clone(&result);
        async move {
            let env = cluster.boot(CLIENT)?.env;
            let driven = drive(env, clients, until).await;
            *result.lock().unwrap() = Some(driven);
            std::future::pending().await
        }
    });
    let [one, two, three] = NODES;
    while ended.lock().unwrap().is_none() {
        assert!(sim.elapsed() < at(320_000), "seed {seed}: not done");
        match sim.elapsed() {
            _ if !faults => {}
            now if now == at(1_500) => cluster.kill(&mut sim, one).unwrap(),
            now if now == at(2_500) => cluster.start(&mut sim, one).unwrap(),
            now if now == at(4_000) => cluster.power_off(&mut sim, two).unwrap(),
            now if now == at(5_000) => cluster.start(&mut sim, two).unwrap(),
            now if now == at(6_500) => sim.partition(ip(three), ip(one)),
            now if now == at(6_501) => sim.partition(ip(three), ip(two)),
            now if now == at(8_500) => {
                sim.repair(ip(three), ip(one));
                sim.repair(ip(three), ip(two));
            }
            _ => {}
        }
        sim.step().unwrap();
    }
    let history = ended.lock().unwrap().take().unwrap();
    history.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"))
}

fn check(seed: u64, faults: bool) {
    let history = on_fresh_thread(move || simulate(seed, faults));
    let found = history.check(SLACK, ATTEMPTS_MAX);
    assert!(found.is_empty(), "seed {seed}: {found:?}");
    // A history in which nothing happened proves nothing.
    let count = |wanted: fn(&Event) -> bool| history.events.iter().filter(|e| wanted(e)).count();
    let dead = count(|event| matches!(event, Event::DeadLetter { .. }));
    let cancelled = |event: &Event| {
        let ok = Outcome::Ok;
        matches!(event, Event::Cancelled { outcome, .. } if *outcome == ok)
    };
    let decided = |event: &Event| {
        let ok = Outcome::Ok;
        matches!(event, Event::Decided { outcome, .. } if *outcome == ok)
    };
    let late = delay::lateness(&history);
    // Without a fault from start to end nothing needs to wait for anything.
    if !faults {
        let patience = Patience {
            most: LATE,
            excused: Vec::new(),
        };
        let late = delay::late(&history, &patience);
        assert!(late.is_empty(), "seed {seed}: {late:?}");
    }
    let halves = count(decided);
    assert!(
        dead >= 40 && count(cancelled) >= 2 && halves >= 20 && late.len() >= 20,
        "seed {seed}: {dead} dead, {halves} halves, {} delayed",
        late.len()
    );
}

#[test]
fn queues_settle_everything_once() {
    check(1, false);
}

#[test]
fn queues_keep_it_through_kills_power_loss_and_partition() {
    for seed in 2..6 {
        check(seed, true);
    }
}

#[test]
fn the_same_seed_gives_the_same_history_of_queues() {
    let [one, two] = [(); 2].map(|()| on_fresh_thread(|| simulate(6, true)));
    let mut pairs = one.events.iter().zip(&two.events);
    assert_eq!(pairs.find(|(a, b)| a != b), None);
    assert_eq!(one.events.len(), two.events.len());
}
