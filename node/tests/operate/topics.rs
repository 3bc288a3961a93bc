//! Topics, from being made to being deleted.

use std::collections::BTreeMap;

use serde_json::json;

use crate::Node;

#[test]
fn a_topics_life() {
    let node = Node::attached();
    assert_eq!(
        node.weir("topic create orders --partitions 2 --flush async --config retention.ms=1000"),
        Ok("topic 'orders' created\n".to_owned())
    );
    assert_eq!(
        node.weir("topic create orders").unwrap_err(),
        "topic 'orders' already exists; choose another name, or alter the topic"
    );
    assert_eq!(
        node.weir("topic create orders --if-not-exists").unwrap(),
        "topic 'orders' exists\n"
    );
    let refused = node.weir("topic create a/b").unwrap_err();
    assert!(refused.contains("not a legal topic name"), "{refused}");
    assert!(
        node.weir("topic create later --dry-run")
            .unwrap()
            .contains("could be created")
    );

    node.append("orders", &[10, 20, 30]);
    let view = node.json("topic describe orders");
    assert_eq!(
        view["partitions"][0]["offsets"],
        json!({"log_start": 0, "high_watermark": 3})
    );
    let set: BTreeMap<_, _> = view["configs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|config| config["is_set"] == true)
        .map(|config| {
            (
                config["key"].as_str().unwrap(),
                config["value"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        set,
        BTreeMap::from([("retention.ms", "1000"), ("weir.flush", "async")])
    );
    let shown = node.weir("topic describe orders").unwrap();
    assert!(shown.contains("  retention.ms=1000\n"), "{shown}");

    node.weir("topic alter orders --partitions 3 --unset retention.ms")
        .unwrap();
    let view = node.json("topic describe orders");
    assert_eq!(view["partitions"].as_array().unwrap().len(), 3);
    let shrunk = node.weir("topic alter orders --partitions 1").unwrap_err();
    assert!(shrunk.contains("invalid number of partitions"), "{shrunk}");
    let nothing = node.weir("topic alter orders").unwrap_err();
    assert!(nothing.contains("nothing is to be changed"), "{nothing}");

    let list = node.json("topic list");
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["name"], "orders");
    node.weir("topic delete orders").unwrap();
    assert_eq!(
        node.weir("topic describe orders").unwrap_err(),
        "topic 'orders' does not exist; `weir topic list` shows what there is"
    );
}
