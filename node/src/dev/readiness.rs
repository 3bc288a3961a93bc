//! Asks nodes whether they are ready, as anybody would: over HTTP, and by connecting
//! where Kafka clients will; and whether the cluster is whole, as each of them sees it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_api::console::{ClusterView, Health};

use super::plan::{NodePlan, Plan};

/// A node that does not answer within this time is not ready.
const PATIENCE: Duration = Duration::from_secs(1);
/// Far more than a health report has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Whether a node is ready; if not, why.
///
/// # Errors
/// The reasons, for people.
#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor is outside of every node and never simulated"
)]
pub(super) async fn ask(node: &NodePlan) -> Result<(), Vec<String>> {
    match tokio::time::timeout(PATIENCE, probe(node)).await {
        Ok(Ok(health)) if health.ready => Ok(()),
        Ok(Ok(health)) => Err(health.reasons),
        Ok(Err(error)) => Err(vec![error.to_string()]),
        Err(_) => Err(vec![format!("no answer from {} in time", node.admin)]),
    }
}

/// What the cluster lacks, as all nodes see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lacks {
    /// Nodes that somebody does not see as active, in words.
    pub(super) nodes: Vec<String>,
    /// Partitions without a leader, and how many there are.
    pub(super) leaderless: Option<(usize, usize)>,
}

impl Lacks {
    pub(super) fn nothing(&self) -> bool {
        *self == Lacks::default()
    }
}

/// Asks every node what it sees.
#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor is outside of every node and never simulated"
)]
pub(super) async fn lacks(plan: &Plan) -> Lacks {
    let mut lacks = Lacks::default();
    for node in &plan.nodes {
        let asking = get::<ClusterView>(node.admin, "/v1/cluster");
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(view)) => lacks.seen_by(node.id, plan.nodes.iter().map(|node| node.id), &view),
            Ok(Err(error)) => lacks.nodes.push(format!("node {}: {error}", node.id)),
            Err(_) => lacks
                .nodes
                .push(format!("node {} does not answer", node.id)),
        }
    }
    lacks
}

impl Lacks {
    fn seen_by(&mut self, by: u32, nodes: impl Iterator<Item = u32>, view: &ClusterView) {
        for id in nodes {
            let seen = view.nodes.iter().find(|node| node.id == id);
            let state = seen.map_or("unknown", |node| &node.state);
            if state != "active" {
                self.nodes
                    .push(format!("node {id} is {state} to node {by}"));
            }
        }
        if view.leaderless > self.leaderless.map_or(0, |(without, _)| without) {
            self.leaderless = Some((view.leaderless, view.partitions));
        }
    }
}

async fn probe(node: &NodePlan) -> io::Result<Health> {
    let health: Health = get(node.admin, "/healthz").await?;
    if health.ready {
        connect("Kafka", node.kafka).await?;
        connect("RocketMQ", node.rocketmq).await?;
    }
    Ok(health)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor is outside of every node and never simulated"
)]
async fn connect(what: &str, address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{what} port {address}: {error}")))
}

async fn get<T: DeserializeOwned>(admin: SocketAddr, path: &str) -> io::Result<T> {
    let mut stream = connect("admin", admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    parse(&answer).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{admin} does not answer like a node of weir"),
        )
    })
}

/// The JSON in an HTTP answer, whatever its status: a node that is not ready says so
/// with 503 and gives its reasons.
fn parse<T: DeserializeOwned>(answer: &[u8]) -> Option<T> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_health_report_counts() {
        let ready =
            b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\n{\"ready\":true,\"node\":1,\"reasons\":[]}";
        assert!(parse::<Health>(ready).unwrap().ready);
        let starting = b"HTTP/1.1 503 x\r\n\r\n{\"ready\":false,\"node\":1,\"reasons\":[\"a\"]}";
        assert_eq!(parse::<Health>(starting).unwrap().reasons, ["a"]);
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"\xff\r\n\r\n{}",
        ] {
            assert_eq!(parse::<Health>(bad), None);
        }
    }

    #[test]
    fn a_cluster_is_whole_when_all_see_all_active_and_every_partition_led() {
        let view = |state: &str, leaderless: usize| {
            let nodes = [(1, "active"), (2, state)].map(|(id, state)| {
                serde_json::json!({"id": id, "name": "", "state": state, "epoch": 1, "rack": null,
                    "peer": "", "endpoints": {}, "leads": 0, "replicas": 0})
            });
            let view = serde_json::json!({"cluster_id": null, "version": 1, "node": 1,
                "controller": 1, "nodes": nodes, "topics": 1, "partitions": 5,
                "leaderless": leaderless, "under_replicated": 5, "under_min_isr": 5});
            serde_json::from_value::<ClusterView>(view).unwrap()
        };
        let mut lacks = Lacks::default();
        lacks.seen_by(1, [1, 2].into_iter(), &view("active", 0));
        assert!(lacks.nothing());
        lacks.seen_by(2, [1, 2].into_iter(), &view("fenced", 2));
        lacks.seen_by(1, [1, 2].into_iter(), &view("active", 1));
        assert_eq!(lacks.nodes, ["node 2 is fenced to node 2"]);
        assert_eq!(lacks.leaderless, Some((2, 5)));
        let mut unknown = Lacks::default();
        unknown.seen_by(1, [3].into_iter(), &view("active", 0));
        assert_eq!(unknown.nodes, ["node 3 is unknown to node 1"]);
    }
}
