//! `weir dev` as real processes: what it starts, keeps true, restarts and stops.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test looks at real processes, and fails where it stands"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use weir_base::Timestamp;
use weir_base::batch::BatchBuilder;

#[path = "dev/fronts.rs"]
mod fronts;
#[path = "dev/kafka.rs"]
mod kafka;
#[path = "dev/refusals.rs"]
mod refusals;
#[path = "dev/rocketmq.rs"]
mod rocketmq;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Far more than anything takes, so that a slow machine fails no test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A supervisor, killed at the latest with the test.
struct Dev {
    process: Child,
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Ports for two nodes that are free now: (Kafka, admin) of node 1.
fn free_ports() -> (u16, u16) {
    let tcp = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let udp = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    // Each test looks in a stretch of its own; all are below the ports that the kernel gives.
    static STRETCH: AtomicU16 = AtomicU16::new(0);
    let stretch = STRETCH.fetch_add(1, Ordering::Relaxed) * 100;
    let start = u16::try_from(std::process::id() % 100).unwrap();
    (0..100u16)
        .map(|step| 13_000 + (stretch + (start + step) % 100) * 4)
        .map(|kafka| (kafka, kafka + 5_000))
        .find(|&(kafka, admin)| {
            let both = [kafka, kafka + 1, admin, admin + 1, admin + 2, admin + 100];
            let both = both.into_iter().all(tcp);
            both && udp(kafka + 10_000) && udp(kafka + 10_001)
        })
        .expect("free ports")
}

fn dev(data: &Path, nodes: u32, ports: (u16, u16)) -> Command {
    let mut command = Command::new(WEIR);
    command
        .args(["dev", "--nodes", &nodes.to_string()])
        .args(["--port-base", &ports.0.to_string()])
        .args(["--admin-port-base", &ports.1.to_string()])
        .arg("--data")
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn start(data: &Path, nodes: u32, ports: (u16, u16)) -> Dev {
    Dev {
        process: dev(data, nodes, ports).spawn().unwrap(),
    }
}

fn output(command: &mut Command) -> Output {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

/// The line on standard error of a command that must fail.
fn refusal(command: &mut Command) -> String {
    let output = output(command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `cluster.json`, which must be whole whenever it is there.
fn cluster(data: &Path) -> Option<Value> {
    let text = fs::read_to_string(data.join("cluster.json")).ok()?;
    Some(serde_json::from_str(&text).expect("cluster.json is whole"))
}

fn pid(data: &Path, node: usize) -> Option<u64> {
    cluster(data)?["nodes"][node]["pid"].as_u64()
}

fn runs(pid: u64) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

fn answers(admin: u16) -> bool {
    let url = format!("http://127.0.0.1:{admin}/healthz");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    agent.get(&url).call().is_ok()
}

fn signal(pid: u64, signal: &str) {
    let sent = Command::new("kill")
        .arg(signal)
        .arg(pid.to_string())
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn nodes_are_started_restarted_and_stopped() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let ports = free_ports();
    let mut dev_process = start(data, 2, ports);
    let first = eventually("node 1 runs", || pid(data, 0));
    let second = eventually("node 2 runs", || pid(data, 1));
    eventually("node 1 answers", || answers(ports.1).then_some(()));
    eventually("node 2 answers", || answers(ports.1 + 100).then_some(()));
    let nodes = cluster(data).unwrap()["nodes"].clone();
    assert_eq!(nodes[1]["kafka"], format!("127.0.0.1:{}", ports.0 + 1));
    assert_eq!(nodes[1]["rocketmq"], format!("127.0.0.1:{}", ports.1 + 2));
    assert_eq!(nodes[1]["admin"], format!("127.0.0.1:{}", ports.1 + 100));

    // The same directory is refused to another, whatever its ports.
    let refused = refusal(&mut dev(data, 2, (ports.0 + 2, ports.1 + 1)));
    assert!(refused.contains("another weir dev"), "{refused}");

    signal(second, "-KILL");
    eventually("the death shows", || {
        (pid(data, 1) != Some(second)).then_some(())
    });
    let died = Instant::now();
    let again = eventually("node 2 runs again", || pid(data, 1));
    assert!(
        died.elapsed() > Duration::from_secs(2),
        "restarted after 3 s"
    );
    assert_ne!(again, second);
    assert_eq!(pid(data, 0), Some(first), "node 1 was left alone");

    signal(u64::from(dev_process.process.id()), "-TERM");
    let status = dev_process.process.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!runs(first) && !runs(again));
    assert_eq!(cluster(data), None);

    // What it founded is remembered: it grows, and never shrinks.
    let refused = refusal(&mut dev(data, 1, ports));
    assert!(refused.contains("cannot shrink"), "{refused}");
}

/// Starts a cluster and waits for `weir: ready`; gives what was printed before.
fn start_ready(data: &Path, nodes: u32, ports: (u16, u16)) -> (Dev, Vec<String>) {
    let mut started = Dev {
        process: dev(data, nodes, ports)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    };
    let mut lines = BufReader::new(started.process.stdout.take().unwrap()).lines();
    let mut printed = Vec::new();
    loop {
        // Ends with the process, should that give up.
        let line = lines.next().expect("ready").unwrap();
        if line == "weir: ready" {
            return (started, printed);
        }
        printed.push(line);
    }
}

/// The JSON that an operator's command answers.
fn weir(ports: (u16, u16), line: &str) -> Value {
    let mut command = Command::new(WEIR);
    command.args(line.split_whitespace());
    let admin = format!("127.0.0.1:{}", ports.1);
    let output = output(command.args(["--json", "--admin", &admin]));
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until every partition has this many replicas in sync and its leader, on whatever
/// node, tells its offsets.
fn described(ports: (u16, u16), topic: &str, in_sync: usize) {
    eventually("leaders serve, replicas are in sync", || {
        let view = weir(ports, &format!("topic describe {topic}"));
        let serves = |partition: &Value| {
            let isr = partition["isr"].as_array().map(Vec::len);
            isr == Some(in_sync) && partition["offsets"].is_object()
        };
        view["partitions"]
            .as_array()?
            .iter()
            .all(serves)
            .then_some(())
    });
}

#[test]
fn a_cluster_gets_ready_keeps_what_it_had_and_grows() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let ports = free_ports();
    let (mut alone, printed) = start_ready(data, 1, ports);
    assert_eq!(printed.len(), 1);
    assert!(
        printed[0].contains(&format!("127.0.0.1:{}", ports.0)),
        "{printed:?}"
    );
    let created = weir(
        ports,
        "topic create orders --partitions 2 --replication-factor 1",
    );
    described(ports, "orders", 1);
    weir(ports, "group reset-offsets g --topic orders --to-latest");
    // The worst way to stop.
    let node = pid(data, 0).unwrap();
    signal(node, "-KILL");
    alone.process.kill().unwrap();
    alone.process.wait().unwrap();

    let (mut both, printed) = start_ready(data, 2, ports);
    assert_eq!(printed.len(), 2);
    let topic = weir(ports, "topic describe orders");
    assert_eq!(topic["id"], created["id"]);
    assert_eq!(topic["partitions"][1]["leader"], 1);
    let group = weir(ports, "group describe g");
    assert_eq!(group["offsets"].as_array().unwrap().len(), 2);
    let cluster = weir(ports, "cluster status");
    assert_eq!(cluster["nodes"][1]["state"], "active");
    weir(ports, "topic create wide --replication-factor 2");
    described(ports, "wide", 2);
    for _ in 0..3 {
        assert_eq!(produce(leader_of(ports, "wide"), "wide"), 0);
    }
    let offsets = |at: &str| {
        let view = weir(ports, "topic describe wide");
        view["partitions"][0]["offsets"][at].as_u64().unwrap()
    };
    let before = offsets("high_watermark");
    assert!(before >= 3, "{before}");
    signal(u64::from(both.process.id()), "-INT");
    assert_eq!(both.process.wait().unwrap().code(), Some(0));

    // Stopped in order, it serves what it had, and goes on behind it.
    let (mut again, _) = start_ready(data, 2, ports);
    described(ports, "wide", 2);
    assert_eq!(produce(leader_of(ports, "wide"), "wide"), 0);
    assert_eq!(offsets("log_start"), 0);
    let after = offsets("high_watermark");
    assert!(after > before, "{after}, {before} before");
    signal(u64::from(again.process.id()), "-INT");
    assert_eq!(again.process.wait().unwrap().code(), Some(0));
}

/// The Kafka port of the node that leads partition 0.
fn leader_of(ports: (u16, u16), topic: &str) -> u16 {
    eventually("the partition has a leader", || {
        let view = weir(ports, &format!("topic describe {topic}"));
        let leader = view["partitions"][0]["leader"].as_u64()?;
        u16::try_from(leader)
            .ok()
            .map(|leader| ports.0 + leader - 1)
    })
}

/// The text of `/metrics`.
fn scrape(ports: (u16, u16)) -> String {
    let url = format!("http://127.0.0.1:{}/metrics", ports.1);
    let mut answer = ureq::get(url).call().unwrap();
    answer.body_mut().read_to_string().unwrap()
}

/// The number behind `sample`, name and labels.
fn measured(text: &str, sample: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, value) = lines.find(|(name, _)| *name == sample)?;
    value.parse().ok()
}

/// One record to partition 0; gives the error code.
fn produce(kafka: u16, topic: &str) -> i16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Timestamp(i64::try_from(now.as_millis()).unwrap());
    let record = BatchBuilder::new(now).record(Some(b"k"), Some(b"v"));
    kafka::produce(kafka, topic, &record.build())
}

#[test]
fn what_a_node_does_is_measured() {
    let data = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let (_alone, _) = start_ready(data.path(), 1, ports);
    weir(ports, "topic create counted --replication-factor 1");
    described(ports, "counted", 1);
    let before = scrape(ports);
    for gauge in [
        "weir_ready",
        "weir_raft_term",
        "weir_node_partitions_led",
        "weir_process_open_files",
    ] {
        assert!(
            measured(&before, gauge).unwrap() >= 1.0,
            "{gauge}: {before}"
        );
    }
    assert!(measured(&before, "weir_process_resident_bytes").unwrap() > 1e6);
    let [free, size] =
        ["weir_disk_free_bytes", "weir_disk_bytes"].map(|name| measured(&before, name).unwrap());
    assert!(free > 1e6 && size > free, "{before}");
    assert_eq!(produce(ports.0, "counted"), 0);
    let after = scrape(ports);
    for (moves, by) in [
        ("weir_kafka_requests_total{api=\"Produce\"}", 1.0),
        ("weir_kafka_request_bytes_total{api=\"Produce\"}", 100.0),
        ("weir_kafka_response_bytes_total{api=\"Produce\"}", 20.0),
        ("weir_kafka_request_seconds_count{api=\"Produce\"}", 1.0),
        ("weir_kafka_connections_total", 1.0),
        ("weir_fsync_seconds_count", 1.0),
        ("weir_wal_bytes_total", 4096.0),
        ("weir_log_bytes{topic=\"counted\"}", 100.0),
    ] {
        let was = measured(&before, moves).unwrap_or(0.0);
        let is = measured(&after, moves).unwrap_or(0.0);
        assert!(is >= was + by, "{moves}: {was}, then {is}\n{after}");
    }
    // An idle controller commits and applies something every two seconds.
    let applied = measured(&before, "weir_raft_applied_index").unwrap();
    eventually("the metadata's log goes on", || {
        (measured(&scrape(ports), "weir_raft_applied_index").unwrap() > applied).then_some(())
    });
    for line in after.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let told = |kind: &str| after.contains(&format!("# {kind} {family} "));
        assert!(
            name.starts_with("weir_") && told("HELP") && told("TYPE"),
            "{line}"
        );
    }
}

#[test]
fn nodes_do_not_outlive_a_killed_supervisor() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let ports = free_ports();
    let mut supervisor = start(data, 1, ports);
    let node = eventually("the node runs", || pid(data, 0));
    eventually("it answers", || answers(ports.1).then_some(()));
    supervisor.process.kill().unwrap();
    supervisor.process.wait().unwrap();
    // Started at once on the same directory, it waits for the old node to be gone.
    let _again = start(data, 1, ports);
    eventually("the node is gone", || (!runs(node)).then_some(()));
    eventually("another runs", || pid(data, 0).filter(|pid| *pid != node));
    eventually("it answers", || answers(ports.1).then_some(()));
}
