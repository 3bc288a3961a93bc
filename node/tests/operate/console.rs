//! The console itself: what it measures, refuses and bounds, and how it stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::Node;

#[test]
fn the_cluster_is_shown_and_measured() {
    let node = Node::attached();
    node.weir("topic create t --partitions 3").unwrap();
    node.broker.set_leader("t", 1, None);
    let view = node.json("cluster status");
    assert_eq!(
        (&view["partitions"], &view["leaderless"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(view["nodes"][0]["leads"], 2);
    assert!(
        node.weir("cluster status")
            .unwrap()
            .contains("1 without leader")
    );

    let (status, text) = node.raw("GET", "/metrics", "");
    let text = text.as_str().unwrap();
    assert_eq!(status, 200);
    for line in [
        "weir_ready 1\n",
        "weir_partitions_leaderless 1\n",
        "weir_test_total 7\n",
        "weir_nodes{state=\"active\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn another_node_is_asked_while_one_starts() {
    let (starting, node) = (Node::start(), Node::attached());
    node.weir("topic create t").unwrap();
    let problem = starting.weir("topic list").unwrap_err();
    assert!(problem.contains("the node is starting"), "{problem}");
    for admins in [[&starting, &node], [&node, &starting]] {
        let admins = admins.map(Node::admin).join(",");
        let (topics, failed) = Node::run_at(&admins, "topic list");
        assert_eq!(failed, None);
        assert!(topics.contains('t'), "{topics}");
    }
}

#[test]
fn bad_requests_get_typed_answers() {
    let starting = Node::start();
    assert_eq!(starting.raw("GET", "/healthz", "").0, 200);
    let (status, problem) = starting.raw("GET", "/v1/topics", "");
    assert_eq!((status, &problem["error"]), (503, &json!("not_ready")));

    let node = Node::attached();
    for (method, path, body, status, error) in [
        ("GET", "/nope", "", 404, "no_such_path"),
        ("PUT", "/v1/topics", "", 405, "no_such_method"),
        ("POST", "/v1/topics", "{", 400, "bad_request"),
        (
            "POST",
            "/v1/topics",
            r#"{"name":"a","partitons":3}"#,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/v1/topics",
            r#"{"name":"a","partitions":0}"#,
            400,
            "invalid_partitions",
        ),
        (
            "POST",
            "/v1/topics",
            r#"{"name":"a","configs":{"nope":"1"}}"#,
            400,
            "invalid_config",
        ),
        ("DELETE", "/v1/topics/none", "", 404, "unknown_topic"),
        (
            "GET",
            "/v1/topics/none/offsets?at=soon",
            "",
            400,
            "bad_request",
        ),
        (
            "POST",
            "/v1/groups/g/offsets",
            r#"{"offsets":[]}"#,
            400,
            "bad_request",
        ),
    ] {
        let (got, problem) = node.raw(method, path, body);
        assert_eq!(
            (got, &problem["error"]),
            (status, &json!(error)),
            "{method} {path}: {problem}"
        );
        assert!(!problem["remedy"].as_str().unwrap().is_empty());
    }
    let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(5_000));
    assert_eq!(node.raw("POST", "/v1/topics", &large).0, 413);
}

#[test]
fn further_connections_wait_for_a_free_place() {
    let node = Node::attached();
    let address = node.console.local_address();
    let mut silent: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut byte = [0];
    assert!(waiting.read(&mut byte).is_err(), "nobody reads it yet");
    drop(silent.pop());
    waiting
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn stopping_the_console_frees_its_port() {
    let node = Node::attached();
    let address = node.console.local_address();
    node.runtime.block_on(node.console.stop());
    assert!(std::net::TcpListener::bind(address).is_ok());
}
