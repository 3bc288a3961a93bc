//! Decisions on half messages made at a node that does not lead: the leader's word or an
//! error, never a success that nobody keeps.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_api::queues::{Decision, DecisionSource, HalfHandle, Message, Prepare, QueueError};
use weir_api::{Api, QueueCallError};
use weir_base::Env;
use weir_sim::cluster::on_fresh_thread;

use support::{NODES, Progress, WAIT, at, make_topic, partition, until_done};

/// Two half messages, prepared where the topic is led first.
type Halves = Arc<Mutex<Vec<HalfHandle>>>;

/// At node 2, which leads.
async fn prepare(env: Env, api: Api, halves: Halves) {
    let to = partition(&env, &api).await;
    while halves.lock().unwrap().len() < 2 {
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
            Ok(handle) => halves.lock().unwrap().push(handle),
            Err(_) => env.sleep(at(50)).await,
        }
    }
}

/// At node 1, which does not.
async fn decide(env: Env, api: Api, prepared: Halves, progress: Progress) {
    let to = make_topic(&env, &api).await;
    let halves = loop {
        let halves = prepared.lock().unwrap().clone();
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
    progress.leader_may_die();
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
    progress.is_done();
}

fn simulate(seed: u64) {
    let (progress, halves) = (Progress::default(), Halves::default());
    let told = progress.clone();
    until_done(seed, &progress, move |node, env, api| {
        let (tasks, env, halves) = (env.tasks.clone(), env.clone(), Arc::clone(&halves));
        if node == NODES[0] {
            tasks.spawn("decide", decide(env, api, halves, told.clone()));
        } else if node == NODES[1] {
            tasks.spawn("prepare", prepare(env, api, halves));
        }
    });
}

#[test]
fn decisions_are_carried_to_the_leader_and_to_the_next_one() {
    for seed in 1..4 {
        on_fresh_thread(move || simulate(seed));
    }
}
