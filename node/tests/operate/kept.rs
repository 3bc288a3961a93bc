//! What a queue keeps beside the log: delayed, half and undeliverable messages.

use std::time::Duration;

use serde_json::json;
use weir_api::Acks;
use weir_api::queues::{Message, Prepare, QueueOptions, Schedule, ScheduleHandle, Scheduled};
use weir_base::Timestamp;
use weir_base::batch::BatchBuilder;

use crate::Node;

fn payload(id: &str) -> bytes::Bytes {
    let message = Message {
        id: id.into(),
        ..Message::default()
    };
    message.payload().encode()
}

impl Node {
    fn schedule(&self, topic: &str, id: &str, deliver_at: Timestamp) -> ScheduleHandle {
        let schedule = Schedule {
            deliver_at,
            payload: payload(id),
            dedup: None,
            room: None,
        };
        let kept = self
            .broker
            .api()
            .queues
            .schedule(self.topic(topic), schedule);
        match self.runtime.block_on(kept).unwrap() {
            Scheduled::Kept(handle) => handle,
            Scheduled::Duplicate { .. } => panic!("kept twice"),
        }
    }
}

#[test]
fn a_cancel_tells_the_truth() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    let now = node.broker.api().cluster.now();
    let cancel = |handle: ScheduleHandle| node.weir(&format!("delayed cancel jobs {handle}"));
    let due = node.schedule("jobs", "due", now);
    assert_eq!(cancel(due).unwrap(), "already fired\n");
    let long_ago = node.schedule("jobs", "old", Timestamp(now.0 - 2 * 3_600_000));
    let unknown = cancel(long_ago).unwrap();
    assert!(
        unknown.starts_with("unknown: due or cancelled longer ago"),
        "{unknown}"
    );
    let later = node.schedule("jobs", "later", now + Duration::from_secs(3_600));
    assert_eq!(cancel(later).unwrap(), "cancelled\n");
    assert_eq!(cancel(later).unwrap(), "cancelled\n", "and stays so");
}

#[test]
fn parked_half_messages_are_listed_apart() {
    let node = Node::attached();
    node.broker.set_queue_options(QueueOptions {
        checks_max: 1,
        check_interval: Duration::from_millis(1),
        ..QueueOptions::default()
    });
    node.weir("topic create jobs").unwrap();
    let (api, at) = (node.broker.api(), node.topic("jobs"));
    let prepare = |id: &str, check_after| Prepare {
        payload: payload(id),
        producers: "tellers".into(),
        check_after: Some(check_after),
        dedup: None,
        room: None,
    };
    let (asked, not_yet) = (Duration::ZERO, Duration::from_secs(3_600));
    node.runtime.block_on(async {
        let queues = &api.queues;
        queues.prepare(at, prepare("one", asked)).await.unwrap();
        queues.prepare(at, prepare("two", not_yet)).await.unwrap();
        let wait = Duration::from_secs(20);
        let asked = queues.await_checks(at, "m".into(), "tellers".into(), 9, wait);
        assert_eq!(asked.await.unwrap().len(), 1);
    });
    // Nobody answers: after the last check it waits for an operator.
    let parked = loop {
        let parked = node.json("tx list jobs --parked");
        if parked != json!([]) {
            break parked;
        }
    };
    assert_eq!(parked.as_array().unwrap().len(), 1);
    assert_eq!(
        (&parked[0]["id"], &parked[0]["checks"]),
        (&json!("one"), &json!(1))
    );
    assert_eq!(node.json("tx list jobs").as_array().unwrap().len(), 2);
    let shown = node.weir("tx list jobs --parked").unwrap();
    assert!(shown.contains("1 (parked)"), "{shown}");
    let handle = parked[0]["handle"].as_str().unwrap();
    node.weir(&format!("tx rollback jobs {handle}")).unwrap();
    assert_eq!(node.json("tx list jobs --parked"), json!([]));
}

#[test]
fn what_is_undeliverable_is_listed_and_sent_on() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.weir("topic create graves").unwrap();
    node.weir("queue set jobs g --from-start --attempts 1 --dead-letter graves:7")
        .unwrap();
    node.append("jobs", &[1_000, 2_000]);
    node.fail("jobs", "g", 2);
    let listed = node.json("queue undeliverable jobs");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["to"], json!("graves-7"));
    assert_eq!(
        listed[0]["reason"],
        json!("topic 'graves' has no partition 7")
    );
    assert_eq!(listed[1]["partition"], json!(0));
    let shown = node.weir("queue list").unwrap();
    assert!(shown.contains("2 undeliverable"), "{shown}");
    let again = node.weir("queue send-on jobs 0").unwrap();
    assert_eq!(again, "2 messages sent on\n");
    let refused_again = node.json("queue undeliverable jobs");
    assert_eq!(
        refused_again.as_array().unwrap().len(),
        2,
        "nothing is lost"
    );
    let number = refused_again[0]["number"].as_u64().unwrap();
    let one = node.weir(&format!(
        "queue send-on jobs 0 --number {number} --to graves"
    ));
    assert_eq!(one.unwrap(), "1 messages sent on\n");
    node.weir("queue send-on jobs 0 --to graves").unwrap();
    assert_eq!(node.json("queue undeliverable jobs"), json!([]));
    let ends = node.json("topic describe graves")["partitions"][0]["offsets"].clone();
    assert_eq!(ends["high_watermark"], json!(2));
    let bad = node.weir("queue send-on jobs 0 --to a/b").unwrap_err();
    assert!(bad.contains("1 to 249 of"), "{bad}");
}

impl Node {
    /// One batch of messages with the header by which Kafka's clients have them delivered later.
    fn append_delayed(&self, topic: &str, due: &[Timestamp]) {
        let batch = BatchBuilder::new(self.broker.api().cluster.now());
        let batch = due.iter().fold(batch, |batch, due| {
            let due = due.0.to_string();
            let headers = [("weir.deliver.at", due.as_bytes())];
            batch.record_with_headers(Some(b"order"), Some(b"body"), &headers)
        });
        let (log, at) = (self.broker.api().log, self.topic(topic));
        let appended = log.append(at, batch.build(), Acks::All, Duration::from_secs(5));
        self.runtime.block_on(appended).unwrap();
    }
}

#[test]
fn delayed_messages_of_kafka_clients_are_listed_taken_back_traced_and_accounted_for() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.weir("queue set jobs g --from-start").unwrap();
    let now = node.broker.api().cluster.now();
    let (soon, later) = (now + Duration::from_millis(200), Duration::from_secs(3_600));
    node.append_delayed("jobs", &[soon, now + later, now + 2 * later]);
    assert_eq!(node.take("jobs", "g", 9), [0; 0], "none before its time");
    let listed = node.json("delayed list jobs");
    let ids: Vec<&str> = (listed.as_array().unwrap().iter())
        .map(|line| line["id"].as_str().unwrap())
        .filter(|id| *id != "0-0")
        .collect();
    assert_eq!(ids, ["0-1", "0-2"], "{listed}");
    let last = listed.as_array().unwrap().last().unwrap();
    let handle = last["handle"].as_str().unwrap();
    let cancelled = node.weir(&format!("delayed cancel jobs {handle}"));
    assert_eq!(cancelled.unwrap(), "cancelled\n");
    let taken = loop {
        let taken = node.take("jobs", "g", 9);
        if !taken.is_empty() {
            break taken;
        }
    };
    assert_eq!(taken, [3], "the copy, once");
    assert!(node.broker.api().cluster.now() >= soon);
    let books = node.json("reconcile --topic jobs");
    let sum = |field: &str| {
        let lines = books["hours"].as_array().unwrap().iter();
        lines.map(|line| line[field].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!(
        ["produced", "acked", "delayed", "pending"].map(sum),
        [4, 1, 3, 0],
        "{books}"
    );
    let shown = node.weir("reconcile --topic jobs").unwrap();
    let balance = "delayed on partition 0: 3 kept = 1 released + 1 cancelled + 0 on their way";
    assert!(shown.contains(&format!("{balance} + 1 waiting")), "{shown}");
    // From its place, and from its id, what befell it is told.
    for (of, expected) in [
        ("jobs 0 0", ["kept", "released", "appended"]),
        ("jobs 0 2", ["kept", "taken back", "taken back"]),
        ("--id 0-0 --topic jobs", ["kept", "released", "appended"]),
    ] {
        let told = node.weir(&format!("trace {of}")).unwrap();
        for what in expected {
            assert!(told.contains(what), "{of}: no '{what}' in {told}");
        }
    }
}
