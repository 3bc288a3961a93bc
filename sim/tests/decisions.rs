//! Decisions on half messages made at a node that does not lead: the leader's word or an
//! error, never a success that nobody keeps.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::queues::{Decision, DecisionSource, HalfHandle, Message, Prepare, QueueError};
use weir_api::{Api, NewTopic, QueueCallError};
use weir_base::{Env, NodeId, TopicPartition};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const WAIT: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the nodes of a run tell each other.
#[derive(Default)]
struct Told {
    /// Two half messages, prepared where the topic is led first.
    halves: Vec<HalfHandle>,
    /// The first is decided on: the leader may die.
    leader_may_die: bool,
    is_done: bool,
}

type Shared = Arc<Mutex<Told>>;

async fn topic(env: &Env, api: &Api) -> TopicPartition {
    loop {
        if let Some(topic) = api.cluster.image().topics.get("t") {
            return TopicPartition::new(topic.id, 0);
        }
        env.sleep(at(20)).await;
    }
}

/// At node 2, which leads.
async fn prepare(env: Env, api: Api, told: Shared) {
    let to = topic(&env, &api).await;
    while told.lock().unwrap().halves.len() < 2 {
        let message = Message {
            id: "m".into(),
            ..Message::default()
        };
        let half = Prepare {
            payload: message.payload().encode(),
            producers: "p".into(),
            check_after: Some(Duration::from_secs(3_600)),
            room: None,
            dedup: None,
        };
        match api.queues.prepare(to, half).await {
            Ok(handle) => told.lock().unwrap().halves.push(handle),
            Err(_) => env.sleep(at(50)).await,
        }
    }
}

/// At node 1, which never leads while another node is there.
async fn decide(env: Env, api: Api, told: Shared) {
    loop {
        let topic = NewTopic {
            name: "t".to_owned(),
            assignment: Some(vec![vec![NODES[1], NODES[2], NODES[0]]]),
            ..NewTopic::default()
        };
        let made = api.admin.create_topic(topic, false, WAIT).await;
        if made.is_ok() || api.cluster.image().topics.contains_key("t") {
            break;
        }
        env.sleep(at(50)).await;
    }
    let to = topic(&env, &api).await;
    let halves = loop {
        let halves = told.lock().unwrap().halves.clone();
        if halves.len() == 2 {
            break halves;
        }
        env.sleep(at(20)).await;
    };
    let decide = |handle, decision| {
        let source = DecisionSource::Producer;
        api.queues
            .resolve_forwarded(to, handle, decision, source, WAIT)
    };
    let here = api
        .queues
        .resolve(to, halves[0], Decision::Commit, DecisionSource::Producer);
    assert!(matches!(here.await, Err(QueueCallError::NotLeader(_))));
    assert_eq!(decide(halves[0], Decision::Commit).await, Ok(()));
    assert_eq!(decide(halves[0], Decision::Commit).await, Ok(()));
    let decided = QueueError::AlreadyDecided(Decision::Commit);
    let late = decide(halves[0], Decision::Rollback).await;
    assert_eq!(late, Err(QueueCallError::Refused(decided)));
    told.lock().unwrap().leader_may_die = true;
    // The next leader knows both, and the one that was decided stays so.
    while let Err(error) = decide(halves[1], Decision::Rollback).await {
        let passes = matches!(
            error,
            QueueCallError::NotAvailable
                | QueueCallError::NotLeader(_)
                | QueueCallError::Loading
                | QueueCallError::Indeterminate
        );
        assert!(passes, "{error}");
        env.sleep(at(50)).await;
    }
    assert_eq!(decide(halves[0], Decision::Commit).await, Ok(()));
    let decided = QueueError::AlreadyDecided(Decision::Rollback);
    let late = decide(halves[1], Decision::Commit).await;
    assert_eq!(late, Err(QueueCallError::Refused(decided)));
    told.lock().unwrap().is_done = true;
}

fn simulate(seed: u64) {
    let cluster = Cluster::new(seed, &NODES, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(60_000)).build();
    let told = Shared::default();
    for node in NODES {
        let (cluster, told) = (cluster.clone(), Arc::clone(&told));
        sim.host(ip(node), move || {
            let (options, told) = (node_options(node, &NODES), Arc::clone(&told));
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                if node == NODES[0] {
                    env.tasks.spawn("decide", decide(env.clone(), api, told));
                } else if node == NODES[1] {
                    env.tasks.spawn("prepare", prepare(env.clone(), api, told));
                }
            });
            async move { Ok(software.await?) }
        });
    }
    let mut is_killed = false;
    while !told.lock().unwrap().is_done {
        assert!(sim.elapsed() < at(50_000), "seed {seed}: not done");
        if told.lock().unwrap().leader_may_die && !is_killed {
            cluster.kill(&mut sim, NODES[1]).unwrap();
            is_killed = true;
        }
        sim.step().unwrap();
    }
    assert!(is_killed);
}

#[test]
fn decisions_are_carried_to_the_leader_and_to_the_next_one() {
    for seed in 1..4 {
        on_fresh_thread(move || simulate(seed));
    }
}
