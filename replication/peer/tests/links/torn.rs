//! Streams that are cut, cancelled or fed by a peer that breaks the rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use weir_base::limits::PEER_FRAME_BYTES_MAX;
use weir_base::{BoxFuture, NodeId};
use weir_peer::{FrameStream, NodeIdentity, PeerError, PeerService, Service, node_name};

use crate::SOON;
use crate::world::{Authority, Node, World};

/// Hands every stream to the test.
struct Catcher(tokio::sync::mpsc::UnboundedSender<FrameStream>);

impl PeerService for Catcher {
    fn on_request(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async move { Ok(body) })
    }

    fn on_stream(&self, _: NodeId, stream: FrameStream) -> BoxFuture<'static, ()> {
        let caught = self.0.clone();
        Box::pin(async move { caught.send(stream).unwrap_or_default() })
    }

    fn on_datagram(&self, _: NodeId, _: Bytes) {}
}

/// A stream from node 1, and its other end at node 2.
async fn stream_pair(world: &World) -> (FrameStream, FrameStream) {
    let (caught, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let two = world.node(2);
    two.links.register(Service::Raft, Arc::new(Catcher(caught)));
    let peers = &world.node(1).peers;
    let near = peers
        .open_stream(NodeId(2), Service::Raft, SOON)
        .await
        .unwrap();
    let far = streams.recv().await.unwrap();
    (near, far)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_whose_sending_was_given_up_is_never_seen() {
    let world = World::of(&[1, 2]).await;
    let (mut near, mut far) = stream_pair(&world).await;
    near.sink
        .send(vec![Bytes::from_static(b"whole")])
        .await
        .unwrap();
    assert_eq!(far.source.next().await.unwrap().unwrap(), "whole");
    // More than the stream's window, so that it waits for a reader who is not there.
    let big = Bytes::from(vec![7; PEER_FRAME_BYTES_MAX]);
    let given_up = near.sink.send(vec![big]);
    tokio::time::timeout(Duration::from_millis(50), given_up)
        .await
        .unwrap_err();
    let after = near.sink.send(vec![Bytes::from_static(b"after")]).await;
    assert!(matches!(after, Err(PeerError::Lost { .. })), "{after:?}");
    drop(near);
    let next = far.source.next().await;
    assert!(matches!(next, Err(PeerError::Lost { .. })), "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_frame_can_be_given_up_at_any_byte() {
    let world = World::of(&[1, 2]).await;
    let (mut near, mut far) = stream_pair(&world).await;
    let frame = Bytes::from((0..=255).cycle().take(1_500_000).collect::<Vec<u8>>());
    let sent = frame.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..4 {
            near.sink.send(vec![sent.clone()]).await.unwrap();
        }
        near.sink
    });
    let (mut frames, mut given_up) = (0, 0);
    while frames < 4 {
        // Polled once, and dropped wherever it got to.
        tokio::select! {
            biased;
            next = far.source.next() => {
                assert!(next.unwrap().unwrap() == frame);
                frames += 1;
            }
            () = tokio::task::yield_now() => given_up += 1,
        }
    }
    assert!(given_up > 0);
    drop(sending.await.unwrap());
    assert_eq!(far.source.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_leaves_stops_the_writer() {
    let world = World::of(&[1, 2]).await;
    let (mut near, far) = stream_pair(&world).await;
    drop(far.source);
    let block = Bytes::from(vec![1; 1 << 20]);
    let mut sent = Ok(());
    // The window takes some before the word arrives.
    for _ in 0..100 {
        sent = near.sink.send(vec![block.clone()]).await;
        if sent.is_err() {
            break;
        }
    }
    assert!(matches!(sent, Err(PeerError::Lost { .. })), "{sent:?}");
}

/// A member of the cluster that speaks QUIC by hand.
struct Rogue {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl Rogue {
    async fn connect(to: SocketAddr, identity: NodeIdentity) -> Rogue {
        let mut roots = RootCertStore::empty();
        roots.add(identity.roots.first().unwrap().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain, identity.key)
            .unwrap();
        tls.alpn_protocols = vec![b"weir-peer/1".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let name = node_name(&identity.cluster, NodeId(1));
        let connecting = endpoint.connect_with(config, to, &name).unwrap();
        let connection = connecting.await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&7_u64.to_le_bytes()).await.unwrap();
        receive.read_exact(&mut [0; 8]).await.unwrap();
        Rogue {
            connection,
            _endpoint: endpoint,
        }
    }

    /// Sends `bytes` as a whole stream and returns what comes back.
    async fn say(&self, bytes: &[u8]) -> Result<Vec<u8>, quinn::ReadToEndError> {
        let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        receive.read_to_end(1 << 20).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_breaks_the_rules_harms_only_its_own_streams() {
    let authority = Authority::new("c");
    let one = Node::start(1, &authority).await;
    let rogue = Rogue::connect(one.links.local_address(), authority.identity(2)).await;
    let request = Service::Broker as u8;
    let over = u32::try_from(PEER_FRAME_BYTES_MAX + 1)
        .unwrap()
        .to_le_bytes();
    let [a, b, c, d] = over;

    let oversize = rogue.say(&[1, request, a, b, c, d, 9, 9]).await;
    assert_eq!(oversize.unwrap(), b"");
    let cut_short = rogue.say(&[1, request, 5, 0, 0, 0, 9]).await;
    assert_eq!(cut_short.unwrap(), b"");
    let empty = rogue.say(&[]).await;
    assert_eq!(empty.unwrap(), b"");
    for unknown in [[9, request], [2, 99], [0, 0]] {
        let told = rogue.say(&unknown).await;
        assert!(told.is_err(), "{unknown:?}: {told:?}");
    }
    // Status 2: nobody saw it. Then an empty body.
    let no_service = rogue.say(&[1, 99, 0, 0, 0, 0]).await;
    assert_eq!(no_service.unwrap(), [2, 0, 0, 0, 0]);
    rogue.connection.send_datagram(Bytes::new()).unwrap();
    rogue
        .connection
        .send_datagram(Bytes::from_static(&[99, 1]))
        .unwrap();
    assert_eq!(one.heard(), 0);

    let proper = rogue.say(&[1, request, 2, 0, 0, 0, b'h', b'i']).await;
    assert!(proper.unwrap().ends_with(b"1 heard hi from 2"));
    assert_eq!(one.heard(), 1);
}
