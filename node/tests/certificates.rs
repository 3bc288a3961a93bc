//! The certificates that `weir dev` makes are those that links between nodes ask for.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir::certificates::{Authority, identity};
use weir::options::NodeOptions;
use weir_base::{BoxFuture, Env, NodeId};
use weir_os::{OsDisk, OsQuic, os_env};
use weir_peer::{FrameStream, PeerError, PeerNode, PeerService, Peers, Service};

/// Answers with who asked.
struct WhoAsks;

impl PeerService for WhoAsks {
    fn on_request(&self, from: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async move { Ok(Bytes::from(from.to_string())) })
    }

    fn on_stream(&self, _: NodeId, _: FrameStream) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn on_datagram(&self, _: NodeId, _: Bytes) {}
}

async fn start(env: &Env, directory: &Path, node: u32) -> (Peers, PeerNode) {
    let authority = Authority::open(directory, "test").unwrap();
    let (certificate, key) = (directory.join("n.crt"), directory.join("n.key"));
    let (certificate, key) = (
        certificate.with_extension(format!("{node}.crt")),
        key.with_extension(format!("{node}.key")),
    );
    authority.ensure_node(node, &certificate, &key).unwrap();
    let mut options = NodeOptions::default();
    options.node.id = node;
    options.node.cluster = "test".to_owned();
    options.peer.tls_cert = Some(certificate);
    options.peer.tls_key = Some(key);
    options.peer.tls_ca = Some(directory.join("ca.crt"));
    PeerNode::start(
        env,
        &OsQuic::new(env.tasks.clone()),
        NodeId(node),
        identity(&options).unwrap(),
        "127.0.0.1:0".parse().unwrap(),
        vec![(Service::Broker, Arc::new(WhoAsks))],
        options.peer_options(),
    )
    .await
    .unwrap()
}

async fn ask(peers: &Peers, node: u32) -> Result<Bytes, PeerError> {
    let request = peers.request(
        NodeId(node),
        Service::Broker,
        Bytes::new(),
        Duration::from_secs(10),
    );
    request.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_of_one_authority_talk_and_strangers_do_not() {
    let data = tempfile::tempdir().unwrap();
    let env = os_env(Arc::new(OsDisk::open(data.path()).unwrap()));
    let (one, _one) = start(&env, data.path(), 1).await;
    let (_two, two) = start(&env, data.path(), 2).await;
    one.set_address(NodeId(2), two.local_address());
    assert_eq!(ask(&one, 2).await, Ok(Bytes::from_static(b"1")));

    let elsewhere = tempfile::tempdir().unwrap();
    let (stranger, _stranger) = start(&env, elsewhere.path(), 3).await;
    stranger.set_address(NodeId(2), two.local_address());
    assert!(ask(&stranger, 2).await.is_err());
}
