//! Broadcasts in whole nodes: what subscribers get of leaders that die (C21).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_base::NodeId;
use weir_checkers::queue::{Event, Outcome, QueueAnomaly, QueueHistory, broadcast, settled};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};
use weir_sim::workload::broadcast::{Clients, SUBSCRIBERS, version_of, wants_newest};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// When faults are over.
const HEALED: u64 = 9_000;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What must not be in what one subscriber saw.
fn verdict(subscriber: &str, history: &QueueHistory) -> Vec<QueueAnomaly> {
    let is_versioned = wants_newest(subscriber);
    let mut found = broadcast::check(history, |id| version_of(id).filter(|_| is_versioned));
    found.extend(settled::check(history));
    found
}

fn simulate(seed: u64) -> BTreeMap<&'static str, QueueHistory> {
    let cluster = Cluster::new(seed, &NODES, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(120_000)).build();
    let clients = Clients::default();
    for node in NODES {
        let (cluster, clients) = (cluster.clone(), clients.clone());
        sim.host(ip(node), move || {
            let (options, clients) = (node_options(node, &NODES), clients.clone());
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                clients.start(env, &api);
            });
            async move { Ok(software.await?) }
        });
    }
    let [one, two, three] = NODES;
    loop {
        match sim.elapsed() {
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
            now if now == at(HEALED) => clients.drain(),
            now if now > at(HEALED) && now.as_millis().is_multiple_of(1_000) => {
                let histories = clients.histories();
                let is_drained = SUBSCRIBERS.iter().all(|subscriber| {
                    let found = verdict(subscriber, &histories[subscriber]);
                    let missed =
                        |found: &QueueAnomaly| matches!(found, QueueAnomaly::Missed { .. });
                    !found.iter().any(missed)
                });
                if is_drained || now > at(100_000) {
                    return histories;
                }
            }
            _ => {}
        }
        sim.step().unwrap();
    }
}

fn check(seed: u64) {
    let histories = on_fresh_thread(move || simulate(seed));
    for (subscriber, history) in &histories {
        let found = verdict(subscriber, history);
        assert!(found.is_empty(), "seed {seed}, {subscriber}: {found:?}");
        // A history in which nothing happened proves nothing.
        let ids = |wanted: fn(&Event) -> Option<&String>| -> BTreeSet<&String> {
            history.events.iter().filter_map(wanted).collect()
        };
        let sent = ids(|event| {
            let Event::Sent { id, outcome, .. } = event else {
                return None;
            };
            (*outcome == Outcome::Ok).then_some(id)
        });
        let got = ids(|event| {
            let Event::Delivered { id, .. } = event else {
                return None;
            };
            Some(id)
        });
        let again = ids(|event| {
            let Event::Delivered { id, attempt, .. } = event else {
                return None;
            };
            (*attempt > 1).then_some(id)
        });
        let overtaken = sent.difference(&got).count();
        assert!(
            sent.len() >= 100 && again.len() >= 5,
            "seed {seed}, {subscriber}: {} sent, {} again",
            sent.len(),
            again.len()
        );
        assert_eq!(
            overtaken > 0,
            wants_newest(subscriber),
            "seed {seed}, {subscriber}: {overtaken} of {} did not come",
            sent.len()
        );
    }
}

#[test]
fn subscribers_get_all_or_the_newest_through_kills_power_loss_and_partition() {
    for seed in 1..5 {
        check(seed);
    }
}
