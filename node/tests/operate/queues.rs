//! Queues: how they are shown, and what they keep beside the log.

use std::time::Duration;

use serde_json::json;
use weir_api::queues::{GroupSettings, HalfHandle, Message, Prepare, Receive, Schedule};
use weir_base::{Offset, TopicPartition};

use crate::Node;

/// Prepares a queue: one message dead, one waiting, one delayed, one half.
pub(crate) fn with_queue(node: &Node) -> Vec<HalfHandle> {
    node.weir("topic create jobs").unwrap();
    node.append("jobs", &[1_000, 2_000]);
    let (api, at) = (node.broker.api(), node.topic("jobs"));
    let payload = |id: &str| {
        let message = Message {
            id: id.into(),
            ..Message::default()
        };
        message.payload().encode()
    };
    let now = api.cluster.now();
    node.runtime.block_on(async {
        let settings = GroupSettings {
            attempts_max: 1,
            ..GroupSettings::default()
        };
        let queues = &api.queues;
        let made = queues.ensure_group(at, "g".into(), settings, Offset::ZERO, false);
        made.await.unwrap();
        let receive = Receive {
            group: "g".into(),
            member: "m".into(),
            batch_max: 1,
            invisible: None,
            wait: Duration::from_secs(30),
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        let got = queues.receive(at, receive).await.unwrap();
        let returned = queues.nack(at, "g".into(), got[0].receipt, None);
        returned.await.unwrap();
        let schedule = Schedule {
            deliver_at: now + Duration::from_secs(3600),
            payload: payload("later"),
            dedup: None,
            room: None,
        };
        queues.schedule(at, schedule).await.unwrap();
        let mut halves = Vec::new();
        for id in ["one", "two"] {
            let prepare = Prepare {
                payload: payload(id),
                producers: "tellers".into(),
                check_after: None,
                room: None,
                dedup: None,
            };
            halves.push(queues.prepare(at, prepare).await.unwrap());
        }
        halves
    })
}

#[test]
fn queues_are_shown_and_reconciled() {
    let node = Node::attached();
    assert_eq!(node.json("queue list"), json!([]));
    drop(with_queue(&node));
    let listed = node.json("queue describe jobs");
    assert_eq!(
        (&listed[0]["group"], &listed[0]["lag"]),
        (&json!("g"), &json!(1))
    );
    assert_eq!(listed[0]["dead_lettered"], json!(1));
    assert!(node.weir("queue list").unwrap().contains("jobs"));
    let refused = node.weir("queue describe none").unwrap_err();
    assert!(refused.contains("no queue groups"), "{refused}");
    let accounts = node.json("reconcile --topic jobs");
    assert_eq!(accounts["pending"], json!({"g": 1}));
    assert_eq!(accounts["hours"][0]["dead_lettered"], json!(1));
    let refused = node
        .weir("reconcile --topic jobs --group none")
        .unwrap_err();
    assert!(refused.contains("no such queue group"), "{refused}");
}

#[test]
fn a_copy_out_of_service_hides_no_other_queue() {
    let node = Node::attached();
    with_queue(&node);
    let paths = ["/v1/queues", "/v1/queues-watch"];
    let before = paths.map(|path| node.raw("GET", path, ""));
    assert!(before[1].1.as_array().is_some_and(|lines| lines.len() == 1));
    node.weir("topic create broken").unwrap();
    // The last copy: the cluster has nobody else to name.
    node.broker.fail_copy(node.topic("broken"));
    assert_eq!(before, paths.map(|path| node.raw("GET", path, "")));
    let (status, _) = node.raw("GET", "/v1/queues/broken/halves", "");
    assert_eq!(
        status, 503,
        "what is asked of that one alone is not answered"
    );
}

#[test]
fn a_queue_that_does_not_answer_is_named_and_hides_no_other() {
    let node = Node::attached();
    with_queue(&node);
    node.weir("topic create mute --partitions 2").unwrap();
    node.weir("queue set mute g --attempts 3").unwrap();
    let paths = ["/v1/queues", "/v1/queues-watch"];
    let lines = |path| node.raw("GET", path, "").1.as_array().unwrap().len();
    assert_eq!(paths.map(lines), [3, 1]);
    assert_eq!(paths.map(|path| node.silent(path)), [None, None]);
    let second = TopicPartition::new(node.topic("mute").topic, 1);
    node.broker.silence_queue(second, true);
    assert_eq!(paths.map(lines), [2, 1]);
    let named = Some("mute-1 not_available".to_owned());
    assert_eq!(paths.map(|path| node.silent(path)), [named.clone(), named]);
    // Who asks for one thing alone is not told that there is nothing.
    let (status, _) = node.raw("GET", "/v1/queues/mute/halves", "");
    assert_eq!(status, 503);
    assert_eq!(node.json("queue list").as_array().unwrap().len(), 2);
    node.broker.silence_queue(second, false);
    assert_eq!(node.json("queue list").as_array().unwrap().len(), 3);
}

#[test]
fn delayed_and_half_messages_are_listed_and_decided() {
    let node = Node::attached();
    let halves = with_queue(&node);
    let delayed = node.json("delayed list jobs");
    assert_eq!(delayed[0]["id"], json!("later"));
    let handle = delayed[0]["handle"].as_str().unwrap();
    let cancel = format!("delayed cancel jobs {handle}");
    assert_eq!(node.weir(&cancel).unwrap(), "cancelled\n");
    assert_eq!(node.json("delayed list jobs"), json!([]));
    let forged = handle.replace('.', "1.");
    assert!(node.weir(&format!("delayed cancel jobs {forged}")).is_err());
    assert_eq!(node.json("tx list jobs").as_array().unwrap().len(), 2);
    assert_eq!(node.json("tx list jobs --parked"), json!([]));
    let [one, two] = &halves[..] else {
        panic!("{halves:?}")
    };
    assert_eq!(
        node.weir(&format!("tx commit jobs {one}")).unwrap(),
        "committed\n"
    );
    assert_eq!(
        node.weir(&format!("tx rollback jobs {two}")).unwrap(),
        "rolled back\n"
    );
    let late = node.weir(&format!("tx rollback jobs {one}")).unwrap_err();
    assert!(late.contains("decided before"), "{late}");
    assert_eq!(node.json("tx list jobs"), json!([]));
}
