//! Queues of a leader whose wall clock was wrong when it began to lead, and is set right.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::queues::{GroupSettings, Receive};
use weir_api::{Api, NewTopic};
use weir_base::{Env, NodeId, Offset, TopicPartition};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

const NODE: NodeId = NodeId(1);
const WAIT: Duration = Duration::from_secs(2);

/// How long two callers waited that were ready to wait for [`WAIT`]: one for messages, one
/// for questions about half messages.
async fn wait_twice(env: &Env, api: &Api, cluster: &Cluster) -> [Duration; 2] {
    while api.cluster.image().nodes.is_empty() {
        env.sleep(Duration::from_millis(20)).await;
    }
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(1),
        replication_factor: Some(1),
        ..NewTopic::default()
    };
    let made = api.admin.create_topic(topic, false, WAIT).await;
    let at = TopicPartition::new(made.unwrap(), 0);
    let settings = GroupSettings::default;
    let group = || {
        api.queues
            .ensure_group(at, "g".into(), settings(), Offset::ZERO, false)
    };
    while group().await.is_err() {
        env.sleep(Duration::from_millis(20)).await;
    }
    cluster
        .clock_faults(NODE)
        .unwrap()
        .set_wall_offset_millis(0);
    let receive = Receive {
        group: "g".into(),
        member: "m".into(),
        batch_max: 1,
        invisible: None,
        wait: WAIT,
        filter: None,
        attempt_id: None,
        auto_renew: false,
    };
    let begun = env.clock.now();
    assert_eq!(api.queues.receive(at, receive).await.unwrap(), []);
    let received = env.clock.now();
    let checks = api.queues.await_checks(at, "m".into(), "p".into(), 1, WAIT);
    assert!(checks.await.unwrap().is_empty());
    let checked = env.clock.now();
    [received.since(begun), checked.since(received)]
}

/// The same with a wall clock that is off by `millis` at first.
fn waited(millis: i64) -> [Duration; 2] {
    let cluster = Cluster::new(1, &[NODE], Trace::new()).unwrap();
    let faults = cluster.clock_faults(NODE).unwrap();
    faults.set_wall_offset_millis(millis);
    let mut sim = Cluster::builder(1, Duration::from_secs(200)).build();
    let waited = Arc::new(Mutex::new(None));
    let told = Arc::clone(&waited);
    sim.host(ip(NODE), move || {
        let (cluster, told) = (cluster.clone(), Arc::clone(&told));
        async move {
            let options = node_options(NODE, &[NODE]);
            let beside = cluster.clone();
            let run = run_node_with(cluster, options, move |env, api| {
                let (tasks, env) = (env.tasks.clone(), env.clone());
                tasks.spawn("caller", async move {
                    let waited = wait_twice(&env, &api, &beside).await;
                    *told.lock().unwrap() = Some(waited);
                });
            });
            Ok(run.await?)
        }
    });
    while waited.lock().unwrap().is_none() {
        assert!(sim.elapsed() < Duration::from_secs(190), "not done");
        sim.step().unwrap();
    }
    let waited = waited.lock().unwrap();
    waited.unwrap()
}

#[test]
fn a_wall_clock_that_is_set_right_has_nobody_wait_for_longer_or_shorter() {
    for off in [-60_000, 0, 60_000] {
        let waited = on_fresh_thread(move || waited(off));
        for wait in waited {
            assert!(wait >= WAIT, "{off} ms: {wait:?}");
            assert!(wait < WAIT * 3 / 2, "{off} ms: {wait:?}");
        }
    }
}
