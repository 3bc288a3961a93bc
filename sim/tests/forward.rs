//! Appends carried over a link to the leader: through its death and cut links nothing
//! acknowledged is lost, nothing is stored twice, and every call ends in time.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::{Acks, Api, AppendError, NewTopic};
use weir_base::batch::BatchBuilder;
use weir_base::{Env, NodeId, Timestamp, TopicPartition, Uuid};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{kafka_addresses, node_options, run_node_with};
use weir_sim::workload::produce::{Ledger, check_all, forwarding_producer};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const CLIENT: NodeId = NodeId(200);
const VALUES: u64 = 400;

type Result = anyhow::Result<()>;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Makes a topic of one partition that node 2 leads first and node 1 last.
async fn led_elsewhere(env: &Env, api: &Api) -> TopicPartition {
    loop {
        let topic = NewTopic {
            name: "t".to_owned(),
            assignment: Some(vec![vec![NodeId(2), NodeId(3), NodeId(1)]]),
            ..NewTopic::default()
        };
        let made = api.admin.create_topic(topic, false, at(1_000)).await;
        if let Ok(id) = made {
            return TopicPartition::new(id, 0);
        }
        env.sleep(at(50)).await;
    }
}

async fn produce(env: Env, api: Api, pause: Duration, ledger: Ledger) -> Result {
    let to = led_elsewhere(&env, &api).await;
    let one = BatchBuilder::new(Timestamp(0))
        .record(None, Some(b"0-0"))
        .build();
    // Not led here, and nobody carries it.
    let here = api.log.append(to, one.clone(), Acks::All, at(1_000)).await;
    assert!(matches!(here, Err(AppendError::NotLeader(_))), "{here:?}");
    let nowhere = TopicPartition::new(Uuid([9; 16]), 0);
    let unknown = api.log.append_forwarded(nowhere, one, Acks::All, at(1_000));
    assert_eq!(unknown.await, Err(AppendError::UnknownPartition));
    forwarding_producer(env, api, to, VALUES, pause, ledger).await
}

fn simulate(seed: u64, faults: bool) -> usize {
    let machines = [NODES.as_slice(), &[CLIENT]].concat();
    let cluster = Cluster::new(seed, &machines, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(120_000)).build();
    let ledger = Ledger::default();
    let pause = if faults { at(20) } else { at(1) };
    let produced = Arc::new(Mutex::new(None));
    for node in NODES {
        let (cluster, ledger, produced) = (cluster.clone(), ledger.clone(), Arc::clone(&produced));
        sim.host(ip(node), move || {
            let (ledger, produced) = (ledger.clone(), Arc::clone(&produced));
            let software = run_node_with(
                cluster.clone(),
                node_options(node, &NODES),
                move |env, api| {
                    if node == NodeId(1) {
                        let producing = produce(env.clone(), api, pause, ledger);
                        env.tasks.spawn("producer", async move {
                            *produced.lock().unwrap() = Some(producing.await);
                        });
                    }
                },
            );
            async move { Ok(software.await?) }
        });
    }
    let checked = Arc::new(Mutex::new(None));
    let (software, told, ended) = (cluster.clone(), ledger.clone(), Arc::clone(&checked));
    let ready = Arc::clone(&produced);
    sim.host(ip(CLIENT), move || {
        let (cluster, ledger) = (software.clone(), told.clone());
        let (ready, ended) = (Arc::clone(&ready), Arc::clone(&ended));
        async move {
            let env = cluster.boot(CLIENT)?.env;
            while ready.lock().unwrap().is_none() {
                env.sleep(at(100)).await;
            }
            let nodes = kafka_addresses(&NODES);
            let result = check_all(&env, &nodes, "t", 1, &ledger).await;
            *ended.lock().unwrap() = Some(result);
            std::future::pending().await
        }
    });
    let [one, two, three] = NODES;
    while checked.lock().unwrap().is_none() {
        assert!(sim.elapsed() < at(100_000), "seed {seed}: not done");
        match sim.elapsed() {
            _ if !faults => {}
            now if now == at(1_500) => cluster.kill(&mut sim, two).unwrap(),
            now if now == at(2_500) => cluster.start(&mut sim, two).unwrap(),
            now if now == at(3_500) => sim.partition(ip(one), ip(three)),
            now if now == at(6_000) => sim.repair(ip(one), ip(three)),
            now if now == at(7_000) => cluster.power_off(&mut sim, three).unwrap(),
            now if now == at(8_000) => cluster.start(&mut sim, three).unwrap(),
            _ => {}
        }
        sim.step().unwrap();
    }
    assert!(!faults || sim.elapsed() > at(8_000), "{:?}", sim.elapsed());
    for result in [&produced, &checked] {
        let result = result.lock().unwrap().take().unwrap();
        result.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    }
    ledger.acknowledged_count()
}

#[test]
fn appends_are_carried_to_the_leader() {
    assert_eq!(on_fresh_thread(|| simulate(1, false)), 400);
}

#[test]
fn nothing_is_lost_or_doubled_while_leaders_die_and_links_are_cut() {
    for seed in 2..5 {
        assert_eq!(on_fresh_thread(move || simulate(seed, true)), 400);
    }
}
