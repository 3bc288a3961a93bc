//! What a queue keeps beside the log: delayed, half and undeliverable messages.

use std::time::Duration;

use serde_json::json;
use weir_api::queues::{Message, Prepare, QueueOptions, Schedule, ScheduleHandle, Scheduled};
use weir_base::Timestamp;

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
        let until = api.cluster.now() + Duration::from_secs(20);
        let asked = queues.await_checks(at, "m".into(), "tellers".into(), 9, until);
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
