//! Consumer groups: their offsets, their members, and who coordinates them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use weir_api::groups::{GroupCommand, GroupReply, JoinGroup};
use weir_base::NodeId;

use crate::Node;

#[test]
fn a_groups_offsets_are_shown_and_moved() {
    let node = Node::attached();
    node.weir("topic create t --partitions 1").unwrap();
    node.append("t", &[1_000, 2_000, 3_000, 4_000]);
    node.commit("g", "t", 1);

    assert_eq!(node.json("group list")[0]["group"], "g");
    let view = node.json("group describe g");
    assert_eq!(view["state"], "Empty");
    assert_eq!(view["offsets"][0]["offset"], 1);
    assert_eq!(view["offsets"][0]["end"], 4);
    assert_eq!(view["offsets"][0]["metadata"], "note");
    assert!(
        node.weir("group describe nobody")
            .unwrap_err()
            .contains("group does not exist")
    );

    let offset = |node: &Node| node.json("group describe g")["offsets"][0]["offset"].clone();
    for (to, expected) in [
        ("--to-latest", 4),
        ("--to-earliest", 0),
        ("--to-offset 3", 3),
        ("--to-offset 99", 4),
        ("--to-datetime 1970-01-01T00:00:02.500Z", 2),
        ("--to-datetime 2030-01-01", 4),
    ] {
        let before = offset(&node);
        let dry = node
            .weir(&format!("group reset-offsets g {to} --dry-run"))
            .unwrap();
        assert!(dry.contains("could be set"), "{dry}");
        assert_eq!(offset(&node), before, "a dry run changes nothing");
        node.weir(&format!("group reset-offsets g {to}")).unwrap();
        assert_eq!(offset(&node), expected, "{to}");
    }
    // A group that is new is founded by it.
    node.weir("group reset-offsets new --topic t:0 --to-offset 2")
        .unwrap();
    assert_eq!(node.json("group describe new")["offsets"][0]["offset"], 2);
    let nothing = node
        .weir("group reset-offsets newer --to-latest")
        .unwrap_err();
    assert!(nothing.contains("say --topic"), "{nothing}");
    let no_topic = node
        .weir("group reset-offsets g --topic x --to-latest")
        .unwrap_err();
    assert!(no_topic.contains("topic 'x' does not exist"), "{no_topic}");
    let no_partition = node
        .weir("group reset-offsets g --topic t:5 --to-latest")
        .unwrap_err();
    assert!(
        no_partition.contains("t-5 does not exist"),
        "{no_partition}"
    );
    // The API itself refuses what the command line would have corrected.
    let beyond = r#"{"offsets":[{"topic":"t","partition":0,"offset":5}]}"#;
    assert_eq!(node.raw("POST", "/v1/groups/g/offsets", beyond).0, 400);

    assert_eq!(node.weir("group delete g").unwrap(), "group 'g' deleted\n");
    assert!(node.weir("group describe g").is_err());
}

#[test]
fn a_group_with_members_is_left_alone() {
    let node = Node::attached();
    node.weir("topic create t").unwrap();
    node.commit("g", "t", 0);
    let reply = node.group(GroupCommand::Join(JoinGroup {
        group: "g".into(),
        member: None,
        fresh_member_id: "me-1".into(),
        instance: None,
        member_id_required: false,
        skip_assignment_understood: false,
        client_id: "me".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(30),
        rebalance_timeout: Duration::from_secs(30),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), bytes::Bytes::new())],
    }));
    assert!(matches!(reply, GroupReply::Join(Ok(_))), "{reply:?}");
    for line in [
        "group reset-offsets g --to-latest",
        "group reset-offsets g --to-latest --dry-run",
        "group delete g",
    ] {
        let refused = node.weir(line).unwrap_err();
        assert!(
            refused.contains("group has members; stop its consumers first"),
            "{refused}"
        );
    }
    let members = node.json("group describe g")["members"].clone();
    assert_eq!(members[0]["client_id"], "me");
}

#[test]
fn what_another_node_coordinates_is_asked_there() {
    let near = Node::attached();
    let far = Node::attached();
    far.weir("topic create t").unwrap();
    far.commit("g", "t", 0);
    // Near knows far as node 2, which coordinates all groups.
    let address = far.console.local_address();
    let endpoint = weir_api::image::Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    };
    near.broker
        .add_node(NodeId(2), BTreeMap::from([("admin".to_owned(), endpoint)]));
    near.broker.set_coordinator(NodeId(2));

    let (status, problem) = near.raw("GET", "/v1/groups/g", "");
    assert_eq!((status, &problem["error"]), (307, &json!("elsewhere")));
    assert_eq!(problem["redirect"], address.to_string());
    assert_eq!(near.json("group describe g")["group"], "g");
    near.weir("group delete g").unwrap();
    assert!(far.weir("group describe g").is_err());
}
