//! What a node asks of the leader for its clients: messages that are stored once wherever
//! they are sent to, and half messages whose producer it alone knows.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::queues::{Dedup, Message, Prepare, Prepared, Schedule, Scheduled};
use weir_api::{Api, NewTopic};
use weir_base::{Env, NodeId, Timestamp, TopicPartition};
use weir_sim::cluster::{Cluster, ip, on_fresh_thread};
use weir_sim::trace::Trace;
use weir_sim::whole_node::{node_options, run_node_with};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const WAIT: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How far node 1 is.
#[derive(Default)]
struct Told {
    leader_may_die: bool,
    is_done: bool,
}

type Shared = Arc<Mutex<Told>>;

fn payload(id: &str) -> bytes::Bytes {
    let message = Message {
        id: id.into(),
        ..Message::default()
    };
    message.payload().encode()
}

fn dedup(id: &str) -> Option<Dedup> {
    Some(Dedup {
        id: id.to_owned().into(),
        window: None,
        told: Some(id.into()),
    })
}

/// At node 1, which never leads while another node is there.
async fn ask(env: Env, api: Api, told: Shared) {
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
    let to = loop {
        if let Some(topic) = api.cluster.image().topics.get("t") {
            break TopicPartition::new(topic.id, 0);
        }
        env.sleep(at(20)).await;
    };
    let queues = &api.queues;
    let schedule = async || loop {
        let schedule = Schedule {
            deliver_at: Timestamp(0),
            payload: payload("m"),
            dedup: dedup("m"),
            room: None,
        };
        match queues.schedule_forwarded(to, schedule, WAIT).await {
            Ok(scheduled) => break scheduled,
            // What is not known may be sent again: that is what the id is for.
            Err(_) => env.sleep(at(50)).await,
        }
    };
    let prepare = async || loop {
        let prepare = Prepare {
            payload: payload("h"),
            producers: "t".into(),
            check_after: Some(at(100)),
            dedup: dedup("h"),
            room: None,
        };
        match queues.prepare_forwarded(to, prepare, WAIT).await {
            Ok(prepared) => break prepared,
            Err(_) => env.sleep(at(50)).await,
        }
    };
    let first = match schedule().await {
        Scheduled::Kept(handle) => Some(handle),
        Scheduled::Duplicate { handle, .. } => handle,
    };
    let told_again = Scheduled::Duplicate {
        handle: first,
        told: Some("m".into()),
    };
    assert!(first.is_some());
    assert_eq!(schedule().await, told_again);
    let half = prepare().await.handle();
    let half_again = Prepared::Duplicate {
        handle: half,
        told: Some("h".into()),
    };
    assert_eq!(prepare().await, half_again);

    // It reached nobody the first time, so that it is asked about again, long before the usual
    // pause is over.
    let check = async || loop {
        let member = "front-1".into();
        let asked = queues.check_elsewhere(NODES[1], vec![to], member, "t".into(), WAIT);
        match asked.await {
            Ok(Some(check)) => break check,
            Ok(None) | Err(_) => env.sleep(at(100)).await,
        }
    };
    let asked = check().await;
    assert_eq!((asked.at, asked.handle), (to, half));
    assert_eq!(&*Message::from_payload(&asked.payload).id, "h");
    let missed = queues.missed_elsewhere(NODES[1], to, half, WAIT);
    missed.await.unwrap();
    let began = env.clock.now();
    assert_eq!(check().await.handle, half);
    assert!(env.clock.now().since(began) < Duration::from_secs(15));

    told.lock().unwrap().leader_may_die = true;
    // The next leader knows of both.
    env.sleep(Duration::from_secs(1)).await;
    assert_eq!(schedule().await, told_again);
    assert_eq!(prepare().await, half_again);
    told.lock().unwrap().is_done = true;
}

fn simulate(seed: u64) {
    let cluster = Cluster::new(seed, &NODES, Trace::new()).unwrap();
    let mut sim = Cluster::builder(seed, at(90_000)).build();
    let told = Shared::default();
    for node in NODES {
        let (cluster, told) = (cluster.clone(), Arc::clone(&told));
        sim.host(ip(node), move || {
            let (options, told) = (node_options(node, &NODES), Arc::clone(&told));
            let software = run_node_with(cluster.clone(), options, move |env, api| {
                if node == NODES[0] {
                    env.tasks.spawn("ask", ask(env.clone(), api, told));
                }
            });
            async move { Ok(software.await?) }
        });
    }
    let mut is_killed = false;
    while !told.lock().unwrap().is_done {
        assert!(sim.elapsed() < at(80_000), "seed {seed}: not done");
        if told.lock().unwrap().leader_may_die && !is_killed {
            cluster.kill(&mut sim, NODES[1]).unwrap();
            is_killed = true;
        }
        sim.step().unwrap();
    }
    assert!(is_killed);
}

#[test]
fn the_leader_stores_once_and_has_producers_of_other_nodes_asked() {
    for seed in 1..3 {
        on_fresh_thread(move || simulate(seed));
    }
}
