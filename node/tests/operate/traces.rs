//! The whole story of a message, wherever it went.

use std::time::Duration;

use serde_json::{Value, json};
use weir_api::Acks;
use weir_base::Timestamp;
use weir_base::batch::BatchBuilder;

use crate::Node;
use crate::queues::with_queue;

/// What is told of each message, in one string.
fn stories(told: &Value) -> Vec<String> {
    let messages = told["messages"].as_array().unwrap().iter();
    let place = |one: &Value| match one["offset"].as_u64() {
        Some(offset) => format!(
            "{}-{}-{offset}",
            one["topic"].as_str().unwrap(),
            one["partition"]
        ),
        None => "kept".to_owned(),
    };
    let story = |one: &Value| {
        let lines = one["story"].as_array().unwrap().iter();
        let lines: Vec<&str> = lines.map(|line| line["what"].as_str().unwrap()).collect();
        format!("{}: {}", place(one), lines.join("; "))
    };
    let mut stories: Vec<String> = messages.map(story).collect();
    // The broker in memory has no times of its own for them.
    stories.sort();
    stories
}

#[test]
fn a_message_is_followed_to_its_grave_and_back() {
    let node = Node::attached();
    drop(with_queue(&node));
    node.weir("dlq replay g --by ann").unwrap();
    let told = node.json("trace jobs 0 0");
    let expected = [
        "jobs-0-0: attempt 1 of g ended: nack; g gave it up, to dlq.g-0; final for g",
        "dlq.g-0-0: replayed to jobs-0",
        "jobs-0-2: ",
    ];
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(stories(&told), expected);
    assert_eq!(
        told["messages"][0]["standings"][0]["standing"],
        json!("final")
    );
    assert_eq!(told["not_looked_at"], json!([]));
    // From any place of its way the whole of it is told.
    for place in ["dlq.g 0 0", "jobs 0 2"] {
        assert_eq!(
            stories(&node.json(&format!("trace {place}"))),
            expected,
            "{place}"
        );
    }
    let shown = node.weir("trace 0-0 --topic jobs").unwrap();
    assert!(shown.contains("stored, id 0-0"), "{shown}");
    assert!(shown.contains("the dead letter of jobs-0-0"), "{shown}");
    assert!(shown.contains("replayed from dlq.g-0-0"), "{shown}");
}

#[test]
fn what_is_not_in_the_log_yet_is_found_in_any_topic() {
    let node = Node::attached();
    let halves = with_queue(&node);
    node.weir("topic create other").unwrap();
    let later = node.json("trace later");
    assert_eq!(stories(&later), ["kept: kept"]);
    let until = later["messages"][0]["story"][0]["until"].as_i64().unwrap();
    assert!(until > node.broker.api().cluster.now().0);
    let handle = node.json("delayed list jobs")[0]["handle"].clone();
    node.weir(&format!("delayed cancel jobs {}", handle.as_str().unwrap()))
        .unwrap();
    assert_eq!(
        stories(&node.json("trace later")),
        ["kept: kept; taken back"]
    );
    assert_eq!(
        stories(&node.json("trace one")),
        ["kept: prepared by tellers"]
    );
    node.weir(&format!("tx commit jobs {}", halves[0])).unwrap();
    node.weir(&format!("tx rollback jobs {}", halves[1]))
        .unwrap();
    let one = stories(&node.json("trace one"));
    assert_eq!(one.len(), 2, "{one:?}");
    assert!(one[0].starts_with("jobs-0-2: "), "{one:?}");
    assert_eq!(
        one[1],
        "kept: prepared by tellers; committed; released; appended"
    );
    assert_eq!(
        stories(&node.json("trace jobs 0 2")),
        one,
        "by its place, too"
    );
    let two = stories(&node.json("trace two --topic jobs"));
    assert_eq!(two, ["kept: prepared by tellers; rolled back"]);
    for (line, says) in [
        (
            "trace two --topic other",
            "topic 'other' has no such message",
        ),
        ("trace nobody", "no topic has such a message"),
        ("trace two --topic none", "none"),
        ("trace jobs 0", "<OFFSET>"),
        ("trace", "required"),
    ] {
        let refused = node.weir(line).unwrap_err();
        assert!(refused.contains(says), "{line}: {refused}");
    }
}

#[test]
fn an_id_and_a_key_are_told_apart() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    let api = node.broker.api();
    for key in ["a", "b", "0-0"] {
        let batch = BatchBuilder::new(Timestamp(1_000))
            .record(Some(key.as_bytes()), Some(b"x"))
            .build();
        let appended = api
            .log
            .append(node.topic("jobs"), batch, Acks::All, Duration::from_secs(5));
        node.runtime.block_on(appended).unwrap();
    }
    let places = |line: &str| stories(&node.json(line));
    assert_eq!(places("trace b"), ["jobs-0-1: "]);
    assert_eq!(places("trace --id 0-0"), ["jobs-0-0: "]);
    assert_eq!(places("trace --key 0-0"), ["jobs-0-2: "]);
    assert_eq!(places("trace 0-0"), ["jobs-0-0: ", "jobs-0-2: "]);
}

#[test]
fn what_was_not_looked_through_is_said() {
    let node = Node::attached();
    node.weir("topic create long").unwrap();
    let api = node.broker.api();
    let old = BatchBuilder::new(Timestamp(1_000)).record(Some(b"old"), None);
    let mut batches = vec![old.build()];
    for _ in 0..5_001 {
        let batch = BatchBuilder::new(Timestamp(1_000));
        let batch = (0..20).fold(batch, |batch, _| batch.record(None, None));
        batches.push(batch.build());
    }
    node.runtime.block_on(async {
        for batch in batches {
            let at = node.topic("long");
            let appended = api.log.append(at, batch, Acks::All, Duration::from_secs(5));
            appended.await.unwrap();
        }
    });
    let refused = node.weir("trace old").unwrap_err();
    assert!(
        refused.contains("not looked at: long-0: offsets 0 to 20 (--all looks there)"),
        "{refused}"
    );
    let told = node.json("trace old --all");
    assert_eq!(stories(&told), ["long-0-0: "]);
    assert_eq!(told["not_looked_at"], json!([]));
    // An id that says where it is needs no search.
    assert_eq!(stories(&node.json("trace --id 0-3")), ["long-0-3: "]);
}
