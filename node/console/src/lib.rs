//! Admin HTTP/JSON, metrics and health of one node.
//!
//! Owns the admin listener. Every answer is made from the waist (`weir_api`): the
//! console holds no state but the connections. It listens before the broker runs, so
//! that a node that cannot start says why; what needs the broker answers `not_ready`
//! until [`Console::attach`]. A request for a group that another node coordinates is
//! redirected there (307); of partitions led elsewhere it leaves out the offsets, which
//! the caller asks their leaders for. On a crash nothing is lost but the connections.
//!
//! Bounded: connections (further ones wait in the backlog), silence of a connection,
//! request bodies, and the time of a call.

mod assignment;
mod books;
mod cluster;
mod failure;
mod groups;
mod letters;
mod listed;
mod measure;
mod offsets;
mod queue_groups;
mod queue_moves;
mod queues;
mod reading;
mod routes;
mod serve;
mod stories;
mod topics;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use weir_api::queue::QueueCall;
use weir_api::{Api, GroupCallError, MetricsSource, QueueCallError};
use weir_base::{BoxFuture, Env, NodeId};

pub use weir_api::console::Health;

use failure::Failure;

/// How long a change may take before its outcome is reported as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a group's coordinator may take to settle, and how often it is asked again.
const SETTLE_MAX: Duration = Duration::from_secs(3);
const SETTLE_POLL: Duration = Duration::from_millis(50);

/// Where and how the console listens.
#[derive(Debug, Clone)]
pub struct ConsoleOptions {
    /// Where.
    pub listen: SocketAddr,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
}

/// Who knows whether the node serves. Asked at every request; must not block.
pub trait HealthSource: Send + Sync {
    /// Its health now.
    fn health(&self) -> Health;
}

/// A console, listening.
pub struct Console {
    state: Arc<ConsoleState>,
    local: SocketAddr,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

/// What handlers share.
pub(crate) struct ConsoleState {
    env: Env,
    health: Arc<dyn HealthSource>,
    broker: OnceLock<Broker>,
}

struct Broker {
    api: Api,
    metrics: Vec<Arc<dyn MetricsSource>>,
}

impl ConsoleState {
    /// The broker, once there is one.
    pub(crate) fn api(&self) -> Result<&Api, Failure> {
        let broker = self.broker.get();
        broker
            .map(|broker| &broker.api)
            .ok_or_else(Failure::not_ready)
    }

    /// Calls the group coordinator, and again while it is surely not done but soon may
    /// be: its internal topic is made, or its leader elected, at first use.
    pub(crate) async fn group_call<T>(
        &self,
        call: impl Fn() -> BoxFuture<'static, Result<T, GroupCallError>>,
    ) -> Result<T, Failure> {
        let give_up = self.env.clock.now() + SETTLE_MAX;
        loop {
            let refused = match self.within(call()).await? {
                Ok(reply) => return Ok(reply),
                Err(refused) => refused,
            };
            let passes = match &refused {
                GroupCallError::NotCoordinator
                | GroupCallError::NotAvailable
                | GroupCallError::Loading => self.env.clock.now() < give_up,
                GroupCallError::Indeterminate | GroupCallError::Group(_) => false,
            };
            if !passes {
                return Err(refused.into());
            }
            self.env.sleep(SETTLE_POLL).await;
        }
    }

    /// Calls a queue, and again while it surely did nothing but soon may: its journal is
    /// made, or its leader elected, at first use.
    pub(crate) async fn queue_call<T>(
        &self,
        call: impl Fn() -> QueueCall<T>,
    ) -> Result<T, Failure> {
        let give_up = self.env.clock.now() + SETTLE_MAX;
        loop {
            let refused = match self.within(call()).await? {
                Ok(reply) => return Ok(reply),
                Err(refused) => refused,
            };
            let passes = match &refused {
                QueueCallError::NotAvailable | QueueCallError::Loading => {
                    self.env.clock.now() < give_up
                }
                QueueCallError::UnknownPartition
                | QueueCallError::NotLeader(_)
                | QueueCallError::Indeterminate
                | QueueCallError::Overloaded
                | QueueCallError::NoQueue
                | QueueCallError::IllegalGroupName(_)
                | QueueCallError::Unreadable(_)
                | QueueCallError::TooLarge { .. }
                | QueueCallError::Refused(_) => false,
            };
            if !passes {
                return Err(refused.into());
            }
            self.env.sleep(SETTLE_POLL).await;
        }
    }

    /// Runs a call that has no deadline of its own.
    pub(crate) async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, Failure> {
        let done = self.env.timeout(CALL_TIMEOUT, call).await;
        done.ok_or_else(|| Failure::timed_out(CALL_TIMEOUT))
    }
}

impl Console {
    /// Starts listening.
    ///
    /// # Errors
    /// If the address cannot be listened on (`AddrInUse` if it is taken).
    pub async fn start(
        env: &Env,
        options: &ConsoleOptions,
        health: Arc<dyn HealthSource>,
    ) -> io::Result<Console> {
        let listener = env.net.listen(options.listen).await?;
        let local = listener.local_address()?;
        let state = Arc::new(ConsoleState {
            env: env.clone(),
            health,
            broker: OnceLock::new(),
        });
        let router = routes::router(Arc::clone(&state), options);
        let (stop, asked) = watch::channel(false);
        let (ended, stopped) = watch::channel(false);
        let places = options.connections_max;
        let served = serve::serve(env.clone(), listener, router, places, asked);
        env.tasks.spawn("console", async move {
            served.await;
            ended.send_replace(true);
        });
        Ok(Console {
            state,
            local,
            stop,
            stopped,
        })
    }

    /// Gives it the broker and what else there is to measure. A second call changes
    /// nothing.
    pub fn attach(&self, api: Api, metrics: Vec<Arc<dyn MetricsSource>>) {
        drop(self.state.broker.set(Broker { api, metrics }));
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Stops accepting and waits for the requests under way. Idle connections are closed.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // An error means that its task was dropped, which is as stopped as can be.
        drop(self.stopped.wait_for(|stopped| *stopped).await);
    }
}

/// Where a node's admin API is, as the image tells.
pub(crate) fn admin_address(api: &Api, node: NodeId) -> Option<String> {
    let image = api.cluster.image();
    let endpoint = image.nodes.get(&node)?.endpoints.get("admin")?;
    Some(address(endpoint))
}

/// `host:port`, with the brackets that an IPv6 address needs.
pub(crate) fn address(endpoint: &weir_api::image::Endpoint) -> String {
    if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        format!("{}:{}", endpoint.host, endpoint.port)
    }
}
