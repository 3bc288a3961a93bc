//! The operator's commands against real consoles over loopback, with the broker in
//! memory: what a person types, and what they get.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use weir_api::console::Health;
use weir_api::fake::FakeBroker;
use weir_api::groups::{CommitOffsets, CommittedOffset, GroupCommand, GroupReply, OffsetKey};
use weir_api::{Acks, Metrics, MetricsSource};
use weir_base::batch::BatchBuilder;
use weir_base::{Offset, Timestamp, TopicPartition};
use weir_console::{Console, ConsoleOptions, HealthSource};
use weir_os::{OsDisk, os_env};

#[path = "operate/books.rs"]
mod books;
#[path = "operate/console.rs"]
mod console;
#[path = "operate/groups.rs"]
mod groups;
#[path = "operate/kept.rs"]
mod kept;
#[path = "operate/letters.rs"]
mod letters;
#[path = "operate/moves.rs"]
mod moves;
#[path = "operate/queues.rs"]
mod queues;
#[path = "operate/replays.rs"]
mod replays;
#[path = "operate/settings.rs"]
mod settings;
#[path = "operate/topics.rs"]
mod topics;
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
        Node::run_at(&self.admin(), line)
    }

    /// The same, with these nodes to ask.
    fn run_at(admins: &str, line: &str) -> (String, Option<String>) {
        let words = ["weir"].into_iter().chain(line.split_whitespace());
        let words = words.chain(["--admin", admins]);
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
            wait: Duration::ZERO,
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

    /// What an answer says that it lacks.
    fn silent(&self, path: &str) -> Option<String> {
        let answer = ureq::get(format!("http://{}{path}", self.admin()));
        let answer = answer.call().unwrap();
        let silent = answer.headers().get("weir-silent")?;
        Some(silent.to_str().unwrap().to_owned())
    }

    fn raw(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = http::Request::builder()
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
