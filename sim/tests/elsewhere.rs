//! What a node asks of the leader for its clients: messages that are stored once wherever
//! they are sent to, and half messages whose producer it alone knows.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use weir_api::Api;
use weir_api::queues::{Dedup, Message, Prepare, Prepared, Schedule, Scheduled};
use weir_base::{Env, Timestamp};
use weir_sim::cluster::on_fresh_thread;

use support::{NODES, Progress, WAIT, at, make_topic, until_done};

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

/// At node 1, which does not lead.
async fn ask(env: Env, api: Api, progress: Progress) {
    let to = make_topic(&env, &api).await;
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

    progress.leader_may_die();
    // The next leader knows of both.
    env.sleep(Duration::from_secs(1)).await;
    assert_eq!(schedule().await, told_again);
    assert_eq!(prepare().await, half_again);
    progress.is_done();
}

fn simulate(seed: u64) {
    let progress = Progress::default();
    let told = progress.clone();
    until_done(seed, &progress, move |node, env, api| {
        if node == NODES[0] {
            env.tasks.spawn("ask", ask(env.clone(), api, told.clone()));
        }
    });
}

#[test]
fn the_leader_stores_once_and_has_producers_of_other_nodes_asked() {
    for seed in 1..3 {
        on_fresh_thread(move || simulate(seed));
    }
}
