//! One node's end of all links: listens, dials, and keeps the table of links.
//!
//! Called by the composition root, which passes [`Peers`] to the rooms and registers
//! their services. On a crash nothing is left to recover: links are made anew, and a
//! restarted node's stateless resets tell its peers at once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{AsyncUdpSocket, ClientConfig, Connection, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::{Semaphore, broadcast};
use weir_base::env::TaskHandle;
use weir_base::{Entropy, Env, Listener, NodeId};

use crate::call::Caller;
use crate::endpoint::{self, EndpointError};
use crate::identity::{node_name, node_of};
use crate::link::{
    CLOSE_REPLACED, CLOSE_STOPPING, CLOSE_STRANGER, Duty, Facts, Link, Wire, backoff,
};
use crate::serve::{serve, service_of};
use crate::tether;
use crate::{
    IdentityError, LinkEvent, LinkStatus, NodeIdentity, Options, OptionsError, PeerService, Peers,
    QuicEnv, Service,
};

/// Handshakes of strangers that may run at once; beyond half of it a stranger must
/// first prove its address.
const HANDSHAKES_MAX: usize = 128;
/// Link events that a slow reader may lag behind before it loses the oldest.
const EVENTS_MAX: usize = 256;
/// Ports to try where any will do.
const PORT_ATTEMPTS_MAX: u32 = 16;
/// A connection starts with each end's boot number.
const HELLO_BYTES: usize = size_of::<u64>();

/// A node's end of its links. Dropping it closes them all.
pub struct PeerNode {
    shared: Arc<Shared>,
    _accept: TaskHandle,
    _tethers: TaskHandle,
    address: SocketAddr,
}

/// Why a node could not start its links.
#[derive(Debug, Error)]
pub enum StartError {
    /// An option is out of bounds.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The certificate, the key or an authority is no good.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate is another node's.
    #[error("the certificate is for node {certificate}, not for node {node}")]
    Mismatch {
        /// This node.
        node: NodeId,
        /// The node that the certificate names.
        certificate: NodeId,
    },
    /// The socket could not be opened.
    #[error("listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

impl PeerNode {
    /// Listens on `listen` as `node`, serving `services`; more may be added by
    /// [`PeerNode::register`].
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(
        env: &Env,
        quic: &dyn QuicEnv,
        node: NodeId,
        identity: NodeIdentity,
        listen: SocketAddr,
        services: Vec<(Service, Arc<dyn PeerService>)>,
        options: Options,
    ) -> Result<(Peers, PeerNode), StartError> {
        options.validate()?;
        let certificate = node_of(&identity.chain, &identity.cluster)?;
        if certificate != node {
            return Err(StartError::Mismatch { node, certificate });
        }
        let listen_error = |error| StartError::Listen {
            address: listen,
            error,
        };
        let (socket, tethers) = bind(env, quic, listen).await.map_err(listen_error)?;
        let endpoints = endpoint::build(env, quic, &identity, socket, &options).map_err(
            |error| match error {
                EndpointError::Identity(error) => StartError::Identity(error),
                EndpointError::Io(error) => listen_error(error),
            },
        )?;
        let address = endpoints.endpoint.local_addr().map_err(listen_error)?;
        let entropy = env.entropy.fork("peer");
        let shared = Arc::new(Shared {
            env: env.clone(),
            me: node,
            boot: entropy.next_u64(),
            entropy,
            cluster: identity.cluster,
            options,
            endpoint: endpoints.endpoint,
            client: endpoints.client,
            services: Mutex::default(),
            links: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            stopping: AtomicBool::new(false),
        });
        for (service, handler) in services {
            shared.register(service, handler);
        }
        let accept = env
            .tasks
            .spawn_owned("peer accept", accept(Arc::clone(&shared)));
        let tethers = env
            .tasks
            .spawn_owned("peer tethers", tether::hold(Arc::clone(&shared), tethers));
        tracing::info!(%node, %address, "peer links listen");
        let peers: Peers = Arc::new(Caller(Arc::clone(&shared)));
        let node = PeerNode {
            shared,
            _accept: accept,
            _tethers: tethers,
            address,
        };
        Ok((peers, node))
    }

    /// Serves `service` from now on, in place of an earlier handler.
    pub fn register(&self, service: Service, handler: Arc<dyn PeerService>) {
        self.shared.register(service, handler);
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Every link, by node id.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        let links: Vec<_> = lock(&self.shared.links).values().cloned().collect();
        links.iter().map(|link| link.status()).collect()
    }

    /// Connections that are open, with those that are being made or run dry: in calm one
    /// for each link that is up.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.endpoint.open_connections()
    }

    /// Links that came up or went down from now on. A reader that lags more than 256
    /// events loses the oldest.
    #[must_use]
    pub fn link_events(&self) -> broadcast::Receiver<LinkEvent> {
        self.shared.events.subscribe()
    }

    /// Closes all links and waits until the peers were told, at most three round trips.
    pub async fn shutdown(self) {
        self.shared.stop();
        self.shared.endpoint.wait_idle().await;
    }
}

impl Drop for PeerNode {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Opens the UDP port, and the TCP port of the same number for tethers.
async fn bind(
    env: &Env,
    quic: &dyn QuicEnv,
    listen: SocketAddr,
) -> io::Result<(Arc<dyn AsyncUdpSocket>, Box<dyn Listener>)> {
    let mut attempts_left = if listen.port() == 0 {
        PORT_ATTEMPTS_MAX
    } else {
        1
    };
    loop {
        attempts_left -= 1;
        let socket = quic.bind(listen).await?;
        match env.net.listen(socket.local_addr()?).await {
            Ok(listener) => return Ok((socket, listener)),
            // The port that was picked for UDP is taken for TCP: pick another.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts_left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

/// What all tasks of one node's links share.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) me: NodeId,
    boot: u64,
    entropy: Entropy,
    cluster: String,
    pub(crate) options: Options,
    endpoint: Endpoint,
    client: ClientConfig,
    services: Mutex<BTreeMap<Service, Arc<dyn PeerService>>>,
    /// Bounded by the nodes that were ever named by metadata or hold a certificate.
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    pub(crate) events: broadcast::Sender<LinkEvent>,
    stopping: AtomicBool,
}

impl Shared {
    fn register(&self, service: Service, handler: Arc<dyn PeerService>) {
        lock(&self.services).insert(service, handler);
    }

    pub(crate) fn service(&self, number: u8) -> Option<Arc<dyn PeerService>> {
        lock(&self.services).get(&service_of(number)?).cloned()
    }

    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        lock(&self.links).get(&node).cloned()
    }

    fn link_or_new(&self, node: NodeId) -> Arc<Link> {
        Arc::clone(
            lock(&self.links)
                .entry(node)
                .or_insert_with(|| Arc::new(Link::new(node))),
        )
    }

    pub(crate) fn set_address(self: &Arc<Self>, node: NodeId, address: SocketAddr) {
        if node == self.me {
            return;
        }
        let link = self.link_or_new(node);
        if link.set_address(address) {
            let keeper = keep(Arc::clone(self), Arc::clone(&link));
            link.keep(self.env.tasks.spawn_owned("peer link", keeper));
        }
    }

    /// Ends everything; also breaks the circle of services that hold their peers.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.endpoint.close(CLOSE_STOPPING, b"stopping");
        let links = std::mem::take(&mut *lock(&self.links));
        for link in links.values() {
            link.abandon();
        }
        let services = std::mem::take(&mut *lock(&self.services));
        drop(services);
    }

    fn event(&self, event: LinkEvent) {
        tracing::info!(node = %self.me, ?event, "peer link");
        // Fails when nobody listens.
        self.events.send(event).ok();
    }

    /// Takes a connection into use and serves it until it closes.
    fn install(self: &Arc<Self>, node: NodeId, connection: Connection, boot: u64, dialled: bool) {
        let facts = Facts {
            boot,
            dialled,
            established: self.env.clock.now(),
        };
        let wire = Arc::new(Wire::new(node, connection, facts));
        let link = self.link_or_new(node);
        let installed = link.install(self.me, self.options.connect_timeout, &wire);
        if installed.came_up {
            self.event(LinkEvent::Up(node));
        }
        if let Some(retired) = installed.retired
            && retired.facts.dialled
        {
            let retiring = retire(Arc::clone(self), retired);
            self.env.tasks.spawn("peer retire", retiring);
        }
        let shared = Arc::clone(self);
        self.env.tasks.spawn("peer serve", async move {
            let reason = serve(&shared, &wire).await;
            if link.lost(&wire) {
                let refused = wire.is_gone();
                let detail = if refused {
                    "connection refused".to_owned()
                } else {
                    reason.to_string()
                };
                shared.event(LinkEvent::Down {
                    node,
                    refused,
                    detail,
                });
            }
        });
    }

    /// One attempt to connect, within its time.
    async fn attempt(&self, link: &Link, address: SocketAddr) -> Result<(Connection, u64), String> {
        if link.is_tethered() && tether::is_refused(self, address).await {
            return Err("connection refused".to_owned());
        }
        let limit = self.options.connect_timeout;
        match self.env.timeout(limit, self.dial(link, address)).await {
            Some(Ok(connected)) => Ok(connected),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("no answer from {address} within {limit:?}")),
        }
    }

    /// Connects to `link`'s node and proves both identities.
    async fn dial(&self, link: &Link, address: SocketAddr) -> Result<(Connection, u64), DialError> {
        let name = node_name(&self.cluster, link.node);
        let connection = self
            .endpoint
            .connect_with(self.client.clone(), address, &name)?
            .await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&self.boot.to_le_bytes()).await?;
        let mut hello = [0; HELLO_BYTES];
        receive.read_exact(&mut hello).await?;
        Ok((connection, u64::from_le_bytes(hello)))
    }

    /// Answers a connection attempt: who is it?
    async fn greet(&self, incoming: Incoming) -> Result<(NodeId, Connection, u64), DialError> {
        let connection = incoming.await?;
        let chain = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
            .unwrap_or_default();
        let node = match node_of(&chain, &self.cluster) {
            Ok(node) if node != self.me => node,
            Ok(_) => {
                connection.close(CLOSE_STRANGER, b"your node id is mine");
                return Err(DialError::Twin);
            }
            Err(error) => {
                connection.close(CLOSE_STRANGER, error.to_string().as_bytes());
                return Err(error.into());
            }
        };
        let (mut send, mut receive) = connection.accept_bi().await?;
        let mut hello = [0; HELLO_BYTES];
        receive.read_exact(&mut hello).await?;
        send.write_all(&self.boot.to_le_bytes()).await?;
        Ok((node, connection, u64::from_le_bytes(hello)))
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
enum DialError {
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
    #[error(transparent)]
    Read(#[from] quinn::ReadExactError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("a node with this node's id")]
    Twin,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes connection attempts until the endpoint closes.
async fn accept(shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Some(incoming) = shared.endpoint.accept().await else {
            // A node without links must not go on as if it were alone.
            let stopping = shared.stopping.load(Ordering::Relaxed);
            assert!(stopping, "the UDP socket of the peer links was lost");
            return;
        };
        let crowded = handshakes.available_permits() < HANDSHAKES_MAX / 2;
        if crowded && incoming.may_retry() {
            // Fails only if the attempt is over.
            incoming.retry().ok();
            continue;
        }
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let shared = Arc::clone(&shared);
        let tasks = shared.env.tasks.clone();
        tasks.spawn("peer handshake", async move {
            let from = incoming.remote_address();
            let limit = shared.options.connect_timeout;
            match shared.env.timeout(limit, shared.greet(incoming)).await {
                Some(Ok((node, connection, boot))) => {
                    shared.install(node, connection, boot, false);
                }
                Some(Err(error)) => tracing::warn!(%from, %error, "peer turned away"),
                None => tracing::debug!(%from, "peer handshake timed out"),
            }
            drop(permit);
        });
    }
}

/// Keeps one link up: dials whenever there is no connection, with pauses in between.
async fn keep(shared: Arc<Shared>, link: Arc<Link>) {
    let options = &shared.options;
    let entropy = shared.entropy.fork(&format!("backoff {}", link.node));
    let mut failures = 0;
    let mut changed = link.subscribe();
    loop {
        changed.borrow_and_update();
        let address = match link.duty() {
            Duty::Dial(address) => address,
            Duty::Watch(wire, address) => {
                failures = 0;
                tokio::select! {
                    biased;
                    _ = changed.changed() => {}
                    () = tether::watch(&shared, &link, &wire, address) => {}
                }
                continue;
            }
            Duty::Rest => {
                if changed.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        let error = tokio::select! {
            biased;
            dialled = shared.attempt(&link, address) => match dialled {
                Ok((connection, boot)) => {
                    shared.install(link.node, connection, boot, true);
                    continue;
                }
                Err(error) => error,
            },
            // An attempt that crosses one of the peer's is not given up: the peer may
            // use it already.
            () = moved(&link, address) => continue,
        };
        // The other end may have got through meanwhile.
        if link.wire().is_some() {
            continue;
        }
        tracing::debug!(node = %link.node, %address, error, "no link");
        let pause = backoff(failures, options.backoff_min, options.backoff_max, &entropy);
        failures = failures.saturating_add(1);
        link.pause(error);
        changed.borrow_and_update();
        tokio::select! {
            biased;
            _ = changed.changed() => {}
            () = shared.env.sleep(pause) => {}
        }
        link.resume();
    }
}

/// Completes when `link`'s node no longer listens on `address`.
async fn moved(link: &Link, address: SocketAddr) {
    let mut changed = link.subscribe();
    while link.address() == Some(address) {
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Closes a connection that is no longer used once nothing runs on it. Only the end
/// that dialled it does; the other would cut off what this end has just begun.
async fn retire(shared: Arc<Shared>, wire: Arc<Wire>) {
    loop {
        tokio::select! {
            biased;
            _ = wire.connection.closed() => return,
            () = shared.env.sleep(shared.options.idle_timeout) => {}
        }
        if wire.is_idle() {
            wire.connection.close(CLOSE_REPLACED, b"replaced");
            return;
        }
    }
}
