//! Replays of dead letters while they run.

use serde_json::json;

use crate::Node;

#[test]
fn a_replay_is_held_let_go_and_ended() {
    let node = Node::attached();
    node.weir("topic create jobs").unwrap();
    node.weir("queue set jobs g --from-start --attempts 1")
        .unwrap();
    node.append("jobs", &[1_000; 50]);
    node.fail("jobs", "g", 50);
    assert_eq!(node.json("dlq list")[0]["letters"], json!(50));
    let begun = node.json("dlq replay g --rate 1 --detach --by ann");
    assert_eq!(begun["state"], json!("running"));
    let number = begun["replay"].as_u64().unwrap();
    let change =
        |word: &str, by: &str| node.run(&format!("dlq {word} g {number} --by {by} --json"));
    let state = |word: &str, by: &str| {
        let (out, failed) = change(word, by);
        assert_eq!(failed, None, "{word}");
        let replay: serde_json::Value = serde_json::from_str(&out).unwrap();
        replay["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("pause", "bob"), "paused");
    assert_eq!(state("pause", "bob"), "paused", "once more is no error");
    let second = node.weir("dlq replay g --detach").unwrap_err();
    assert!(second.contains("is not over"), "{second}");
    let refused = node.weir("dlq purge g --yes").unwrap_err();
    assert!(refused.contains("are being moved back"), "{refused}");
    assert_eq!(state("resume", "cid"), "running");
    assert_eq!(state("cancel", "dan"), "cancelled");
    let (_, failed) = change("resume", "eve");
    assert!(failed.unwrap().contains("is over: cancelled"));
    let path = format!("/v1/dlq/dlq.g/replays/0/{number}/stop");
    let (status, problem) = node.raw("POST", &path, "{}");
    let message = problem["message"].as_str().unwrap();
    assert_eq!(status, 400);
    assert!(message.contains("pause, resume or cancel"), "{message}");
    let replay = node.json("dlq replays g")[0].clone();
    let moved = replay["moved"].as_u64().unwrap();
    assert!(moved < 50, "{replay}");
    let audit = replay["audit"].as_array().unwrap().iter();
    let by: Vec<&str> = audit.map(|step| step["by"].as_str().unwrap()).collect();
    assert_eq!(by.first().zip(by.last()), Some((&"ann", &"dan")));
    assert!(by.contains(&"bob") && by.contains(&"cid"), "{by:?}");
    assert_eq!(node.json("dlq list")[0]["letters"], json!(50 - moved));
}
