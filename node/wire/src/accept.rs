//! The accept loop: a connection budget, one task a connection, and a graceful drain.
//!
//! Over the budget a connection is accepted and closed at once, so that its client
//! tries another node instead of waiting in the kernel's queue. Dropping the [`Server`]
//! closes everything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use weir_base::{BoxFuture, ByteStream, Env, Listener};

/// Pause after an accept error that is not the peer's doing (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of a listener.
#[derive(Debug, Clone)]
pub struct WireOptions {
    /// Connections at a time; more are closed at once. Default 10,000; 1 to 1,000,000.
    pub connections_max: u32,
    /// How long requests under way may take to finish at a drain. Default 5 s.
    pub drain_grace: Duration,
}

impl Default for WireOptions {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            drain_grace: Duration::from_secs(5),
        }
    }
}

/// Serves connections of one protocol.
pub trait Serve: Send + Sync {
    /// Runs one connection to its end. It must end soon after [`Connection::closed`]
    /// completes.
    fn serve(&self, connection: Connection) -> BoxFuture<'static, ()>;
}

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Closed,
}

/// One accepted connection.
pub struct Connection {
    /// The bytes.
    pub stream: Box<dyn ByteStream>,
    /// The other end.
    pub remote: SocketAddr,
    phase: Option<watch::Receiver<Phase>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// A connection that no server accepted: never drained or closed from outside.
    #[must_use]
    pub fn detached(stream: Box<dyn ByteStream>, remote: SocketAddr) -> Connection {
        Connection {
            stream,
            remote,
            phase: None,
            _permit: None,
        }
    }

    /// Completes when no new requests should be taken, but those under way finished.
    #[must_use]
    pub fn draining(&self) -> BoxFuture<'static, ()> {
        reached(self.phase.clone(), Phase::Draining)
    }

    /// Completes when the connection must be closed as it is.
    #[must_use]
    pub fn closed(&self) -> BoxFuture<'static, ()> {
        reached(self.phase.clone(), Phase::Closed)
    }
}

fn reached(phase: Option<watch::Receiver<Phase>>, at: Phase) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        match phase {
            // An error means that the server is gone, which closes too.
            Some(mut phase) => drop(phase.wait_for(|phase| *phase >= at).await),
            None => std::future::pending().await,
        }
    })
}

/// A listener being served.
pub struct Server {
    env: Env,
    options: WireOptions,
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    permits: Arc<Semaphore>,
}

impl Server {
    /// Listens on `address` and serves what connects until drained or dropped. `name`
    /// names the tasks.
    ///
    /// # Errors
    /// As [`weir_base::Net::listen`].
    pub async fn start(
        env: Env,
        name: &'static str,
        address: SocketAddr,
        options: WireOptions,
        serve: Arc<dyn Serve>,
    ) -> io::Result<Server> {
        let listener = env.net.listen(address).await?;
        let server = Server {
            address: listener.local_address()?,
            phase: watch::Sender::new(Phase::Serving),
            permits: Arc::new(Semaphore::new(permits(options.connections_max))),
            env,
            options,
        };
        let accept = AcceptLoop {
            env: server.env.clone(),
            name,
            listener,
            serve,
            phase: server.phase.subscribe(),
            permits: server.permits.clone(),
        };
        server.env.tasks.spawn(name, accept.run());
        Ok(server)
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        permits(self.options.connections_max) - self.permits.available_permits()
    }

    /// Stops accepting, lets requests under way finish for the grace period, closes.
    /// Done when the last connection is gone.
    pub async fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
        let all = self.options.connections_max.max(1);
        let gone = || async { drop(self.permits.acquire_many(all).await) };
        if self
            .env
            .timeout(self.options.drain_grace, gone())
            .await
            .is_none()
        {
            tracing::info!(open = self.connections(), "drain grace is over, closing");
            self.phase.send_replace(Phase::Closed);
            gone().await;
        }
        self.phase.send_replace(Phase::Closed);
    }
}

fn permits(connections_max: u32) -> usize {
    usize::try_from(connections_max.max(1)).unwrap_or(usize::MAX)
}

struct AcceptLoop {
    env: Env,
    name: &'static str,
    listener: Box<dyn Listener>,
    serve: Arc<dyn Serve>,
    phase: watch::Receiver<Phase>,
    permits: Arc<Semaphore>,
}

impl AcceptLoop {
    async fn run(self) {
        let mut draining = reached(Some(self.phase.clone()), Phase::Draining);
        loop {
            tokio::select! {
                biased;
                () = &mut draining => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote)) => self.admit(stream, remote),
                    Err(error) => {
                        tracing::warn!(%error, front = self.name, "accept failed");
                        self.env.sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    fn admit(&self, stream: Box<dyn ByteStream>, remote: SocketAddr) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            tracing::warn!(%remote, front = self.name, "connection refused: budget exhausted");
            return;
        };
        let connection = Connection {
            stream,
            remote,
            phase: Some(self.phase.clone()),
            _permit: Some(permit),
        };
        self.env
            .tasks
            .spawn(self.name, self.serve.serve(connection));
    }
}
