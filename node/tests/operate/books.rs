//! Every message accounted for.

use serde_json::json;
use weir_base::Offset;

use crate::Node;
use crate::queues::with_queue;

const HOUR: i64 = 3_600_000;

#[test]
fn every_hour_balances() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    let five = 5 * HOUR;
    node.append("jobs", &[five, five + 1]);
    node.weir("queue set jobs g --from-start").unwrap();
    // One stands behind the hour's end with a time of its own from before.
    node.append("jobs", &[6 * HOUR, five + 2, 8 * HOUR]);
    assert_eq!(node.take("jobs", "g", 4), [0, 1, 2, 3]);
    node.append("jobs", &[8 * HOUR + 1]);
    let books = node.json("reconcile --topic jobs");
    let of = |field: &str| {
        let lines = books["hours"].as_array().unwrap().iter();
        lines
            .map(|line| line[field].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("hour"), [5, 6, 8]);
    assert_eq!(of("at"), [five, 6 * HOUR, 8 * HOUR]);
    assert_eq!(of("produced"), [2, 2, 2]);
    assert_eq!(of("acked"), [3, 1, 0]);
    assert_eq!(of("pending"), [0, 0, 2]);
    assert_eq!(of("other_hour"), [-1, 1, 0]);
    assert_eq!(books["pending"], json!({"g": 2}));
    let later = node.json("reconcile --topic jobs --since 1970-01-01T06:00:00Z");
    assert_eq!(later["hours"].as_array().unwrap().len(), 2);
    assert_eq!(later["hours"][0]["produced"], json!(2));
    // A group that came later has nothing of what was before it.
    node.weir("queue set jobs late").unwrap();
    node.append("jobs", &[8 * HOUR + 2]);
    let late = node.json("reconcile --topic jobs --group late");
    assert_eq!(late["hours"].as_array().unwrap().len(), 1);
    assert_eq!(late["hours"][0]["produced"], json!(1));
    assert_eq!(late["hours"][0]["pending"], json!(1));
    let shown = node.weir("reconcile --topic jobs").unwrap();
    assert!(
        shown.contains("PRODUCED") && shown.contains("OTHER-HOUR"),
        "{shown}"
    );
}

#[test]
fn a_seek_moves_what_it_skips_and_brings_back() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.append("jobs", &[HOUR, HOUR, HOUR]);
    node.weir("queue set jobs g --from-start").unwrap();
    node.weir("queue seek jobs g --to-offset 2").unwrap();
    let books = node.json("reconcile --topic jobs");
    let sum = |field: &str| {
        let lines = books["hours"].as_array().unwrap().iter();
        lines
            .map(|line| line[field].as_i64().unwrap_or(0))
            .sum::<i64>()
    };
    assert_eq!((sum("produced"), sum("sought"), sum("pending")), (3, 2, 1));
    assert_eq!(sum("other_hour"), 0);
}

#[test]
fn a_record_that_is_lost_is_named_by_its_offset() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.append("jobs", &[1_000, 2_000, 3_000]);
    node.weir("queue set jobs g --from-start").unwrap();
    node.broker.lose(node.topic("jobs"), Offset(1));
    node.weir("reconcile --topic jobs").unwrap();
    assert_eq!(node.take("jobs", "g", 9), [0, 2]);
    let (out, failed) = node.run("reconcile --topic jobs");
    assert!(
        out.contains("missing for g: partition 0, offsets 1 to 1"),
        "{out}"
    );
    let failed = failed.unwrap();
    assert!(
        failed.contains("not every message of topic 'jobs'"),
        "{failed}"
    );
    let (out, failed) = node.run("reconcile --topic jobs --json");
    let books: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(failed.is_some());
    assert_eq!(books["gaps"]["g"][0]["from"], json!(1));
    let line = &books["hours"][0];
    let counted = ["produced", "acked", "missing", "pending", "other_hour"];
    assert_eq!(
        counted.map(|field| line[field].as_i64().unwrap()),
        [3, 2, 1, 0, 0]
    );
}

#[test]
fn what_was_removed_before_anybody_had_it_is_a_gap() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.append("jobs", &[1_000, 2_000, 3_000]);
    node.weir("queue set jobs g --from-start").unwrap();
    let removed = node.broker.api().log;
    let removed = removed.delete_records(node.topic("jobs"), Some(Offset(2)));
    node.runtime.block_on(removed).unwrap();
    let (out, failed) = node.run("reconcile --topic jobs");
    assert!(
        out.contains("jobs-0 of g: 2 messages were removed"),
        "{out}"
    );
    assert!(failed.is_some());
}

#[test]
fn what_is_not_in_the_log_yet_is_told_beside_it() {
    let node = Node::attached();
    drop(with_queue(&node));
    let shown = node.weir("reconcile --topic jobs").unwrap();
    assert!(
        shown.contains("partition 0: 1 delayed, 2 half messages, 0 on their way"),
        "{shown}"
    );
}
