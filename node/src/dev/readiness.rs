//! Asks nodes whether they are ready, as anybody would: over HTTP, and by connecting
//! where clients will.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_api::console::Health;

use super::plan::NodePlan;

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

async fn probe(node: &NodePlan) -> io::Result<Health> {
    let health = health(node.admin).await?;
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

async fn health(admin: SocketAddr) -> io::Result<Health> {
    let mut stream = connect("admin", admin).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
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

/// The report in an HTTP answer, whatever its status: a node that is not ready says so
/// with 503 and gives its reasons.
fn parse(answer: &[u8]) -> Option<Health> {
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
        assert!(parse(ready).unwrap().ready);
        let starting = b"HTTP/1.1 503 x\r\n\r\n{\"ready\":false,\"node\":1,\"reasons\":[\"a\"]}";
        assert_eq!(parse(starting).unwrap().reasons, ["a"]);
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"\xff\r\n\r\n{}",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
