//! Queue groups deleted and moved.

use serde_json::json;

use crate::Node;

#[test]
fn a_group_is_moved_where_it_is_told() {
    let node = Node::attached();
    node.weir("topic create jobs --partitions 2").unwrap();
    node.weir("queue set jobs g --from-start").unwrap();
    node.append("jobs", &[1_000, 2_000, 3_000, 4_000]);
    assert_eq!(node.take("jobs", "g", 100), [0, 1, 2, 3]);
    let seek = |rest: &str| node.weir(&format!("queue seek jobs g {rest}"));
    let dry = node.json("queue seek jobs g --to-offset 1 --dry-run");
    let first =
        json!({"partition": 0, "outcome": "checked", "from": 4, "to": 1, "lag": 3, "why": ""});
    assert_eq!(dry[0], first);
    assert_eq!(
        (&dry[1]["outcome"], &dry[1]["to"]),
        (&json!("checked"), &json!(0))
    );
    assert_eq!(node.take("jobs", "g", 100), [] as [u64; 0]);
    seek("--to-offset 1").unwrap();
    assert_eq!(node.take("jobs", "g", 100), [1, 2, 3]);
    seek("--to-earliest --partition 0").unwrap();
    assert_eq!(node.take("jobs", "g", 100), [0, 1, 2, 3]);
    seek("--to-datetime 1970-01-01T00:00:02.5Z").unwrap();
    assert_eq!(node.take("jobs", "g", 100), [2, 3]);
    seek("--to-offset 0").unwrap();
    assert!(seek("--to-latest").unwrap().contains("done"));
    assert_eq!(node.take("jobs", "g", 100), [] as [u64; 0]);
    // What was sought is accounted for.
    node.weir("reconcile --topic jobs").unwrap();
}

#[test]
fn a_seek_that_is_not_right_changes_nothing() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.weir("queue set jobs g --from-start").unwrap();
    node.append("jobs", &[1_000]);
    for (bad, says) in [
        ("jobs none --to-latest", "no queue group 'none'"),
        ("jobs g --to-latest --partition 7", "has no partition 7"),
        ("jobs g", "--to-earliest"),
        ("jobs g --to-latest --to-offset 1", "cannot be used with"),
    ] {
        let refused = node.weir(&format!("queue seek {bad}")).unwrap_err();
        assert!(refused.contains(says), "{bad}: {refused}");
    }
    let path = "/v1/queues/jobs/groups/g/seek";
    let (_, steps) = node.raw("POST", path, r#"{"offsets":{"0":9}}"#);
    assert_eq!(steps[0]["outcome"], json!("failed"));
    let why = steps[0]["why"].as_str().unwrap();
    assert!(why.contains("offset 9 is outside 0..=1"), "{why}");
    assert_eq!(node.take("jobs", "g", 100), [0]);
}

#[test]
fn partitions_that_nobody_leads_are_named() {
    let node = Node::attached();
    node.weir("topic create jobs --partitions 2").unwrap();
    node.weir("queue set jobs g --from-start").unwrap();
    node.broker.set_leader("jobs", 1, None);
    let (out, failed) = node.run("queue seek jobs g --to-earliest");
    assert!(out.contains("failed: nobody leads it"), "{out}");
    let failed = failed.unwrap();
    assert!(
        failed.contains("1 of 2 partitions are not done"),
        "{failed}"
    );
    let (out, failed) = node.run("queue delete jobs g");
    assert!(
        out.contains("done") && out.contains("nobody leads it"),
        "{out}"
    );
    assert!(failed.unwrap().contains("delete it again"));
    let me = node.broker.api().cluster.node();
    node.broker.set_leader("jobs", 1, Some(me));
    let steps = node.json("queue delete jobs g");
    assert_eq!(steps[0]["outcome"], json!("absent"));
    assert_eq!(steps[1]["outcome"], json!("done"));
    let unknown = node.weir("queue delete jobs g").unwrap_err();
    assert!(unknown.contains("no queue group 'g'"), "{unknown}");
}

#[test]
fn a_group_with_consumers_is_deleted_only_by_force() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.weir("queue set jobs g --from-start").unwrap();
    node.append("jobs", &[1_000]);
    assert_eq!(node.receive("jobs", "g", 1).len(), 1);
    let refused = node.weir("queue delete jobs g").unwrap_err();
    assert!(refused.contains("has consumers on jobs-0"), "{refused}");
    let (status, problem) = node.raw("DELETE", "/v1/queues/jobs/groups/g", "");
    assert_eq!((status, &problem["error"]), (409, &json!("group_in_use")));
    node.weir("queue delete jobs g --force").unwrap();
    assert_eq!(node.json("queue list"), json!([]));
}
