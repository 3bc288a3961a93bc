//! Dead letters of a group: shown, removed and replayed.

use serde_json::json;

use crate::Node;
use crate::queues::with_queue;

#[test]
fn dead_letters_are_shown_and_removed() {
    let node = Node::attached();
    drop(with_queue(&node));
    let listed = node.json("dlq list");
    assert_eq!(
        (&listed[0]["group"], &listed[0]["letters"]),
        (&json!("g"), &json!(1))
    );
    let shown = node.weir("dlq show g").unwrap();
    assert!(shown.contains("weir.dlq.origin.topic: jobs"), "{shown}");
    assert!(node.weir("dlq purge g").is_err(), "not without --yes");
    assert!(
        node.weir("dlq purge g --yes")
            .unwrap()
            .contains("1 dead letters")
    );
    assert_eq!(node.json("dlq list")[0]["letters"], json!(0));
    let (status, problem) = node.raw("POST", "/v1/queues/jobs/purge", "");
    assert_eq!(
        (status, &problem["error"]),
        (400, &json!("no_dead_letters"))
    );
}

#[test]
fn dead_letters_are_replayed() {
    let node = Node::attached();
    drop(with_queue(&node));
    let left = |letters: u64| {
        let listed = node.json("dlq list");
        assert_eq!(listed[0]["letters"], json!(letters));
    };
    let dry = node.json("dlq replay g --dry-run --by ann");
    assert_eq!((&dry["state"], &dry["moved"]), (&json!("done"), &json!(1)));
    left(1);
    let other = node.json("dlq replay g --cause lease-timeout --by ann");
    assert_eq!(
        (&other["moved"], &other["passed_over"]),
        (&json!(0), &json!(1))
    );
    left(1);
    let offsets = node.json("topic describe jobs")["partitions"][0]["offsets"].clone();
    let end = offsets["high_watermark"].as_u64().unwrap();
    let moved = node.json("dlq replay g --cause nack --rate 50 --by bob");
    assert_eq!(moved["moved"], json!(1));
    left(0);
    assert_eq!(node.json("dlq show g"), json!([]));
    let path = format!("/v1/queues/jobs/records/0/{end}");
    let (_, records) = node.raw("GET", &path, "");
    let headers = records[0]["headers"].to_string();
    assert!(headers.contains("dlq.g-0-0"), "{headers}");
    assert!(!headers.contains("weir.dlq."), "{headers}");
    let replays = node.json("dlq replays g");
    assert_eq!(replays.as_array().unwrap().len(), 3);
    assert_eq!(replays[2]["audit"][0]["by"], json!("bob"));
    assert!(node.weir("dlq replays g").unwrap().contains("bob"));
    let number = moved["replay"].as_u64().unwrap();
    let over = node.weir(&format!("dlq pause g {number}")).unwrap_err();
    assert!(over.contains("is over: done"), "{over}");
    let unknown = node.weir("dlq cancel g 99999").unwrap_err();
    assert!(unknown.contains("no replay 99999"), "{unknown}");
    let refused = node.weir("dlq replay g --rate 0").unwrap_err();
    assert!(refused.contains("1..=1000000"), "{refused}");
}

#[test]
fn letters_on_a_topic_of_the_groups_own_are_worked_on_there() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.weir("topic create graves --partitions 2").unwrap();
    for group in ["g", "h"] {
        let set = format!("queue set jobs {group} --from-start --attempts 1");
        node.weir(&format!("{set} --dead-letter graves:1")).unwrap();
    }
    node.append("jobs", &[1_000; 3]);
    node.append("graves", &[1_000]);
    node.fail("jobs", "g", 3);
    node.fail("jobs", "h", 1);

    // What lies on partition 0 is no letter of theirs.
    let listed = node.json("dlq list");
    assert_eq!(
        (
            &listed[0]["topic"],
            &listed[0]["group"],
            &listed[0]["letters"]
        ),
        (&json!("graves"), &json!("g, h"), &json!(4))
    );
    let shown = |line: &str| node.json(line).as_array().unwrap().len();
    assert_eq!((shown("dlq show g"), shown("dlq show h")), (3, 1));
    assert_eq!(shown("dlq show g --limit 2"), 2);
    assert_eq!(node.json("dlq show h")[0]["offset"], json!(3));

    // One group's go back, and the other's stay.
    let moved = node.json("dlq replay h --by ann");
    assert_eq!(
        (&moved["moved"], &moved["passed_over"], &moved["partition"]),
        (&json!(1), &json!(3), &json!(1))
    );
    assert_eq!((shown("dlq show g"), shown("dlq show h")), (3, 0));
    assert_eq!((shown("dlq replays g"), shown("dlq replays h")), (0, 1));
    let over = node
        .weir(&format!("dlq pause h {}", moved["replay"]))
        .unwrap_err();
    assert!(over.contains("is over: done"), "{over}");

    // Only all of a partition can be removed, and nothing of others with it.
    let refused = node.weir("dlq purge g --yes").unwrap_err();
    assert!(refused.contains("graves-1 holds at offset 3"), "{refused}");
    assert_eq!(shown("dlq show g"), 3);
    let refused = node.weir("dlq purge g --letters graves --yes").unwrap_err();
    assert!(refused.contains("graves-0 holds at offset 0"), "{refused}");
    node.weir("queue set jobs h --dead-letter=").unwrap();
    node.weir("queue set jobs g --dead-letter grave.of.g")
        .unwrap();
    node.append("jobs", &[2_000; 2]);
    node.fail("jobs", "g", 2);
    assert_eq!(
        (shown("dlq show g"), shown("dlq show g --letters graves:1")),
        (2, 3)
    );
    let removed = node.weir("dlq purge g --yes").unwrap();
    assert!(removed.contains("2 dead letters removed"), "{removed}");
    assert_eq!(shown("dlq show g"), 0);

    // Where partitions differ, it must be said which.
    node.weir("topic create more --partitions 1").unwrap();
    node.weir("queue set more g --dead-letter graves:1")
        .unwrap();
    let which = node.weir("dlq show g").unwrap_err();
    assert!(which.contains("go to grave.of.g, graves:1"), "{which}");
    assert!(which.contains("--letters"), "{which}");
    let bad = node.weir("dlq show g --letters graves:x").unwrap_err();
    assert!(bad.contains("TOPIC:PARTITION"), "{bad}");
}
