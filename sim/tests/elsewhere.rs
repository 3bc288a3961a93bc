//! What a node asks of the leader for its clients: messages that are stored once wherever
//! they are sent to, half messages whose producer it alone knows, and messages that they
//! receive from it and settle.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use weir_api::queue::Settlement;
use weir_api::queues::{
    Dedup, Delivery, GroupName, GroupSettings, Message, Prepare, Prepared, ReceiptError, Receive,
    Schedule, Scheduled,
};
use weir_api::{Acks, Api, QueueCallError};
use weir_base::batch::{BatchBuilder, Record};
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

/// At node 1, too: what a client gets that goes on asking a node that leads no longer.
async fn consume(env: Env, api: Api, progress: Progress) {
    let to = make_topic(&env, &api).await;
    let queues = &api.queues;
    let group = || GroupName::from("g");
    let settings = GroupSettings::default;
    while let Err(error) = queues.subscribe(to.topic, group(), settings(), WAIT).await {
        tracing::debug!(%error, "again");
        env.sleep(at(50)).await;
    }
    let batch = BatchBuilder::new(env.clock.wall());
    let batch = ["first", "second"].iter().fold(batch, |batch, value| {
        batch.record(None, Some(value.as_bytes()))
    });
    let log = &api.log;
    let appended = log.append_forwarded(to, batch.build(), Acks::All, WAIT);
    appended.await.unwrap();
    let receive = |batch_max| Receive {
        group: group(),
        member: "c".into(),
        batch_max,
        invisible: Some(Duration::from_secs(10)),
        wait: at(500),
        filter: None,
        attempt_id: None,
        auto_renew: true,
    };
    let ask = |node| queues.receive_elsewhere(node, to, receive(8), settings(), WAIT);
    // The messages of one answer, from the leader of the moment.
    let next = async || loop {
        let image = api.cluster.image();
        let leader = image.partition(to).and_then(|partition| partition.leader);
        let leader = leader.filter(|leader| *leader != NODES[0]);
        if let Some(leader) = leader
            && let Ok(got) = ask(leader).await
            && !got.is_empty()
        {
            break got;
        }
        env.sleep(at(50)).await;
    };
    let values = |got: &[(Delivery, Record)]| -> Vec<(Vec<u8>, u16)> {
        let each = got.iter();
        each.map(|(delivery, record)| (record.value.clone().unwrap().to_vec(), delivery.attempt))
            .collect()
    };
    let settle = |how| queues.settle_forwarded(to, group(), how, WAIT);

    let got = next().await;
    let both = [(b"first".to_vec(), 1), (b"second".to_vec(), 1)];
    assert_eq!(values(&got), both);
    assert!(
        got.iter()
            .all(|(delivery, record)| delivery.offset == record.offset)
    );
    assert_eq!(ask(NODES[2]).await, Err(QueueCallError::NotAvailable));
    let [first, second] = [0, 1].map(|at: usize| got[at].0.receipt);
    let acked = settle(Settlement::Ack(vec![first])).await;
    assert_eq!(acked, Ok(vec![Ok(())]));
    let renewed = settle(Settlement::Renew(second, Duration::from_secs(30))).await;
    assert_eq!(renewed, Ok(vec![Ok(())]));
    let again = settle(Settlement::Ack(vec![first, second])).await;
    assert!(
        matches!(again.as_deref(), Ok([Err(_), Ok(())])),
        "{again:?}"
    );
    let third = BatchBuilder::new(env.clock.wall()).record(None, Some(b"third"));
    let appended = log.append_forwarded(to, third.build(), Acks::All, WAIT);
    appended.await.unwrap();
    let got = next().await;
    assert_eq!(values(&got), [(b"third".to_vec(), 1)]);

    progress.leader_may_die();
    // A lease does not outlive the leadership that gave it: the next leader says so, and gives
    // the message again, as the same attempt, but none that was settled.
    let late = loop {
        match settle(Settlement::Ack(vec![got[0].0.receipt])).await {
            Ok(results) => break results,
            Err(QueueCallError::NotLeader(_)) => break vec![Err(ReceiptError::Forged)],
            Err(_) => env.sleep(at(50)).await,
        }
    };
    // The leader may have lived that long.
    if late == [Ok(())] {
        progress.is_done();
        return;
    }
    assert_eq!(late.len(), 1);
    let got = next().await;
    assert_eq!(values(&got), [(b"third".to_vec(), 1)]);
    progress.is_done();
}

#[test]
fn the_leader_stores_once_and_has_producers_of_other_nodes_asked() {
    simulate(ask);
}

#[test]
fn what_a_client_is_given_by_a_node_that_leads_no_longer_is_settled_there() {
    simulate(consume);
}

fn simulate<F>(asks: fn(Env, Api, Progress) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for seed in 1..3 {
        on_fresh_thread(move || {
            let progress = Progress::default();
            let told = progress.clone();
            until_done(seed, &progress, move |node, env, api| {
                if node == NODES[0] {
                    let asking = asks(env.clone(), api, told.clone());
                    env.tasks.spawn("ask", asking);
                }
            });
        });
    }
}
