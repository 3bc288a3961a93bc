//! Nodes with real certificates on real sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use tokio::sync::broadcast;
use weir_base::{BoxFuture, Disk, DiskFile, Env, NodeId, OpenMode};
use weir_os::{OsQuic, os_env};
use weir_peer::{
    FrameStream, LinkStatus, NodeIdentity, Options, PeerError, PeerNode, PeerService, Peers,
    Service, StartError, node_name,
};

/// A certificate authority.
pub(crate) struct Authority {
    cluster: String,
    issuer: Arc<Issuer<'static, KeyPair>>,
    root: String,
}

impl Authority {
    pub(crate) fn new(cluster: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        Self {
            cluster: cluster.to_owned(),
            issuer: Arc::new(Issuer::new(params, key)),
            root,
        }
    }

    /// The same authority, signing for another cluster.
    pub(crate) fn for_cluster(&self, cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            issuer: Arc::clone(&self.issuer),
            root: self.root.clone(),
        }
    }

    pub(crate) fn identity(&self, node: u32) -> NodeIdentity {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let name = node_name(&self.cluster, NodeId(node));
        let params = CertificateParams::new(vec![name]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let (chain, key) = (leaf.pem(), key.serialize_pem());
        NodeIdentity::from_pem(
            self.cluster.clone(),
            chain.as_bytes(),
            key.as_bytes(),
            self.root.as_bytes(),
        )
        .unwrap()
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) peers: Peers,
    pub(crate) links: PeerNode,
    ears: Arc<Ears>,
}

impl Node {
    pub(crate) async fn start(id: u32, authority: &Authority) -> Node {
        Self::start_at(id, authority, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(id: u32, authority: &Authority, at: SocketAddr) -> Node {
        Self::launch(id, authority.identity(id), at).await.unwrap()
    }

    pub(crate) async fn try_start(id: u32, identity: NodeIdentity) -> Result<Node, StartError> {
        Self::launch(id, identity, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn launch(
        id: u32,
        identity: NodeIdentity,
        listen: SocketAddr,
    ) -> Result<Node, StartError> {
        let id = NodeId(id);
        let env: Env = os_env(Arc::new(NoDisk));
        let quic = OsQuic::new(env.tasks.clone());
        let ears = Arc::new(Ears {
            me: id,
            heard: AtomicU64::new(0),
            datagrams: broadcast::Sender::new(16),
        });
        let serve = |service| (service, Arc::clone(&ears) as Arc<dyn PeerService>);
        let services = vec![serve(Service::Broker), serve(Service::Replication)];
        let options = Options {
            mtu: Some(6000),
            ..Options::default()
        };
        let (peers, links) =
            PeerNode::start(&env, &quic, id, identity, listen, services, options).await?;
        // As rooms do that need their peers first.
        links.register(Service::Gossip, Arc::clone(&ears) as Arc<dyn PeerService>);
        Ok(Node {
            id,
            peers,
            links,
            ears,
        })
    }

    /// Tells this node where `other` listens.
    pub(crate) fn meet(&self, other: &Node) {
        self.peers
            .set_address(other.id, other.links.local_address());
    }

    pub(crate) async fn ask(&self, to: u32, text: &'static str) -> Result<Bytes, PeerError> {
        let body = Bytes::from_static(text.as_bytes());
        let soon = Duration::from_secs(5);
        self.peers
            .request(NodeId(to), Service::Broker, body, soon)
            .await
    }

    /// Whether it would notice the death of `other` at once.
    pub(crate) fn watches(&self, other: u32) -> Result<(), Vec<LinkStatus>> {
        let links = self.links.links();
        let watches = |link: &LinkStatus| link.node == NodeId(other) && link.watched;
        links.iter().any(watches).then_some(()).ok_or(links)
    }

    /// Requests and streams that reached its services.
    pub(crate) fn heard(&self) -> u64 {
        self.ears.heard.load(Ordering::Relaxed)
    }

    pub(crate) fn datagrams(&self) -> broadcast::Receiver<(NodeId, Bytes)> {
        self.ears.datagrams.subscribe()
    }
}

/// Nodes that know each other's addresses.
pub(crate) struct World(Vec<Node>);

impl World {
    pub(crate) async fn of(ids: &[u32]) -> World {
        let authority = Authority::new("c");
        let mut nodes = vec![];
        for id in ids {
            nodes.push(Node::start(*id, &authority).await);
        }
        for node in &nodes {
            nodes.iter().for_each(|other| node.meet(other));
        }
        World(nodes)
    }

    pub(crate) fn node(&self, id: u32) -> &Node {
        self.0.iter().find(|node| node.id == NodeId(id)).unwrap()
    }

    pub(crate) async fn ask(
        &self,
        from: u32,
        to: u32,
        text: &'static str,
    ) -> Result<Bytes, PeerError> {
        self.node(from).ask(to, text).await
    }
}

/// Repeats `attempt` until it succeeds, for at most ten seconds.
pub(crate) async fn patient<T, E: std::fmt::Debug>(
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if tokio::time::Instant::now() > give_up => panic!("{error:?}"),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// What the nodes serve: echoes, refusals, silence, and counts of streams.
struct Ears {
    me: NodeId,
    heard: AtomicU64,
    datagrams: broadcast::Sender<(NodeId, Bytes)>,
}

impl PeerService for Ears {
    fn on_request(
        &self,
        from: NodeId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let me = self.me;
        Box::pin(async move {
            match body.as_ref() {
                b"refuse" => Err(PeerError::Refused {
                    node: me,
                    detail: "refuse is refused".to_owned(),
                }),
                b"never" => std::future::pending().await,
                body => Ok(Bytes::from(format!(
                    "{me} heard {} from {from}",
                    String::from_utf8_lossy(body)
                ))),
            }
        })
    }

    fn on_stream(&self, _: NodeId, mut stream: FrameStream) -> BoxFuture<'static, ()> {
        self.heard.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let (mut frames, mut bytes) = (0, 0);
            while let Ok(Some(frame)) = stream.source.next().await {
                assert!(
                    frame
                        .first()
                        .is_none_or(|first| *first == 0 || frame.len() < 9)
                );
                frames += 1;
                bytes += frame.len();
            }
            let told = Bytes::from(format!("{frames} frames, {bytes} bytes"));
            stream.sink.send(vec![told]).await.ok();
        })
    }

    fn on_datagram(&self, from: NodeId, body: Bytes) {
        self.datagrams.send((from, body)).ok();
    }
}

/// Links need no disk.
struct NoDisk;

fn none<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
}

impl Disk for NoDisk {
    fn open(&self, _: &str, _: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        none()
    }
    fn rename(&self, _: &str, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn remove_file(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn remove_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn list(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        none()
    }
    fn sync_directory(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        none()
    }
    fn boot_id(&self) -> String {
        String::new()
    }
}
