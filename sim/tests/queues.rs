//! Queues in whole nodes: the waist's contract, and what leaders that die leave behind.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::contract::check_queues;
use weir_api::fake::FakeBroker;
use weir_base::NodeId;
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

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
