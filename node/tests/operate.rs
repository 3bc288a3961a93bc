//! The operator's commands against real consoles over loopback, with the broker in
//! memory: what a person types, and what they get.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use weir_api::console::Health;
use weir_api::fake::FakeBroker;
use weir_api::groups::{
    CommitOffsets, CommittedOffset, GroupCommand, GroupReply, JoinGroup, OffsetKey,
};
use weir_api::{Acks, Metrics, MetricsSource};
use weir_base::batch::BatchBuilder;
use weir_base::{NodeId, Offset, Timestamp, TopicPartition};
use weir_console::{Console, ConsoleOptions, HealthSource};
use weir_os::{OsDisk, os_env};

#[path = "operate/books.rs"]
mod books;
#[path = "operate/kept.rs"]
mod kept;
#[path = "operate/moves.rs"]
mod moves;
#[path = "operate/replays.rs"]
mod replays;
#[path = "operate/settings.rs"]
mod settings;
#[path = "operate/traces.rs"]
mod traces;

#[derive(Parser)]
struct Weir {
    #[command(subcommand)]
    command: weir_cli::Command,
}

struct Ready(u32);

impl HealthSource for Ready {
    fn health(&self) -> Health {
        Health {
            ready: true,
            node: self.0,
            reasons: Vec::new(),
        }
    }
}

struct OneCounter;

impl MetricsSource for OneCounter {
    fn collect(&self, into: &mut Metrics) {
        into.counter("weir_test_total", "A test's.", &[], 7);
    }
}

/// A console over an in-memory broker, and the command line pointed at it.
struct Node {
    runtime: tokio::runtime::Runtime,
    broker: FakeBroker,
    console: Console,
    _data: tempfile::TempDir,
}

impl Node {
    fn start() -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let data = tempfile::tempdir().unwrap();
        let guard = runtime.enter();
        let env = os_env(Arc::new(OsDisk::open(data.path()).unwrap()));
        let broker = FakeBroker::new(&env);
        drop(guard);
        let options = ConsoleOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            connections_max: 8,
            body_bytes_max: 4096,
        };
        let console = runtime
            .block_on(Console::start(&env, &options, Arc::new(Ready(1))))
            .unwrap();
        let admin = console.local_address();
        broker.advertise("admin", &admin.ip().to_string(), admin.port());
        Node {
            runtime,
            broker,
            console,
            _data: data,
        }
    }

    fn attached() -> Node {
        let node = Node::start();
        node.console
            .attach(node.broker.api(), vec![Arc::new(OneCounter)]);
        node
    }

    fn admin(&self) -> String {
        self.console.local_address().to_string()
    }

    /// What a person sees, or the line on standard error.
    fn weir(&self, line: &str) -> Result<String, String> {
        let (out, failed) = self.run(line);
        failed.map_or(Ok(out), Err)
    }

    /// What a person sees, and the line on standard error if it failed.
    fn run(&self, line: &str) -> (String, Option<String>) {
        let words = ["weir"].into_iter().chain(line.split_whitespace());
        let admin = self.admin();
        let words = words.chain(["--admin", &admin]);
        let command = match Weir::try_parse_from(words) {
            Ok(command) => command,
            Err(error) => return (String::new(), Some(error.to_string())),
        };
        let mut out = Vec::new();
        let failed = weir_cli::run(&command.command, &mut out).err();
        let failed = failed.map(|error| format!("{error:#}"));
        (String::from_utf8(out).unwrap(), failed)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.weir(&format!("{line} --json")).unwrap()).unwrap()
    }

    fn topic(&self, name: &str) -> TopicPartition {
        let image = self.broker.api().cluster.image();
        TopicPartition::new(image.topics[name].id, 0)
    }

    fn append(&self, name: &str, at: &[i64]) {
        for at_time in at {
            let batch = BatchBuilder::new(Timestamp(*at_time))
                .record(None, Some(b"x"))
                .build();
            let api = self.broker.api();
            let appended =
                api.log
                    .append(self.topic(name), batch, Acks::All, Duration::from_secs(5));
            self.runtime.block_on(appended).unwrap();
        }
    }

    /// Receives up to `count` messages for a group on partition 0.
    fn receive(&self, topic: &str, group: &str, count: usize) -> Vec<weir_api::queues::Delivery> {
        let api = self.broker.api();
        let receive = weir_api::queues::Receive {
            group: group.into(),
            member: "m".into(),
            batch_max: count,
            invisible: None,
            wait_until: api.cluster.now(),
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        let received = api.queues.receive(self.topic(topic), receive);
        self.runtime.block_on(received).unwrap()
    }

    /// The same, settled; gives their offsets.
    fn take(&self, topic: &str, group: &str, count: usize) -> Vec<u64> {
        let got = self.receive(topic, group, count);
        let receipts = got.iter().map(|delivery| delivery.receipt).collect();
        let queues = self.broker.api().queues;
        let acked = queues.ack(self.topic(topic), group.into(), receipts);
        let acked = self.runtime.block_on(acked).unwrap();
        assert!(acked.iter().all(Result::is_ok), "{acked:?}");
        got.iter().map(|delivery| delivery.offset.0).collect()
    }

    /// The same, returned: with one attempt, they are dead.
    fn fail(&self, topic: &str, group: &str, count: usize) {
        let queues = self.broker.api().queues;
        let got = self.receive(topic, group, count);
        assert_eq!(got.len(), count);
        for delivery in got {
            let returned = queues.nack(self.topic(topic), group.into(), delivery.receipt, None);
            self.runtime.block_on(returned).unwrap();
        }
    }

    fn group(&self, command: GroupCommand) -> GroupReply {
        let call = self.broker.api().groups.call(command);
        self.runtime.block_on(call).unwrap()
    }

    fn commit(&self, group: &str, topic: &str, offset: u64) {
        let key = OffsetKey {
            topic: topic.into(),
            topic_id: self.topic(topic).topic,
            partition: 0,
        };
        let committed = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: "note".into(),
            at: Timestamp(1_000),
        };
        let reply = self.group(GroupCommand::CommitOffsets(CommitOffsets {
            group: group.into(),
            member: None,
            instance: None,
            generation: -1,
            offsets: vec![(key, committed)],
        }));
        assert!(
            matches!(reply, GroupReply::CommitOffsets(Ok(()))),
            "{reply:?}"
        );
    }

    fn raw(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.admin()))
            .body(body.as_bytes().to_vec())
            .unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        let mut response = agent.run(request).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (response.status().as_u16(), value)
    }
}

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

/// Prepares a queue: one message dead, one waiting, one delayed, one half.
fn with_queue(node: &Node) -> Vec<weir_api::queues::HalfHandle> {
    use weir_api::queues::{GroupSettings, Message, Prepare, Receive, Schedule};
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
            wait_until: now + Duration::from_secs(30),
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
