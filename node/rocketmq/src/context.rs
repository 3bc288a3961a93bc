//! What handlers share: the broker, the options and the clients known here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_api::Api;
use weir_api::image::{ClusterImage, Endpoint};
use weir_base::{Env, Monotonic, NodeId};
use weir_wire::{Encryption, WireOptions};

use crate::clients::Clients;

/// The name of this front's endpoint in the cluster image.
pub(crate) const ENDPOINT: &str = "rocketmq";

/// Options of the RocketMQ front. All need a restart.
#[derive(Debug, Clone)]
pub struct RocketmqOptions {
    /// Where to listen. Default `127.0.0.1:8081`.
    pub listen: SocketAddr,
    /// Connections and drain.
    pub wire: WireOptions,
    /// What TLS clients are shown, and whether others are served. Default: plaintext.
    pub encryption: Encryption,
    /// Whether asking for the route of a topic makes it. Default true.
    pub auto_create_topics: bool,
    /// Largest request in bytes. Default 16 MiB; 1 MiB to 64 MiB.
    pub request_bytes_max: usize,
    /// Largest message body in bytes. Default 4 MiB; 1 KiB to 32 MiB.
    pub body_bytes_max: usize,
    /// Longest delay of a delayed message. Default 366 days.
    pub delay_max: Duration,
    /// Calls under way on one connection, long polls included. Default 1,024.
    pub calls_max: u32,
    /// Clients whose settings are remembered. Default 10,000.
    pub clients_max: usize,
    /// A connection on which nothing is under way for this long is closed. Default 30 min.
    pub idle_close: Duration,
    /// How long a route request waits for a topic being made. Default 2 s.
    pub topic_wait: Duration,
    /// A client of which nothing was heard for this long is gone, and what it holds with it.
    /// Clients say every 10 s that they live. Default 40 s.
    pub client_silence: Duration,
}

impl Default for RocketmqOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            wire: WireOptions::default(),
            encryption: Encryption::default(),
            auto_create_topics: true,
            request_bytes_max: 16 * 1024 * 1024,
            body_bytes_max: 4 * 1024 * 1024,
            delay_max: Duration::from_secs(366 * 24 * 60 * 60),
            calls_max: 1024,
            clients_max: 10_000,
            idle_close: Duration::from_secs(1_800),
            topic_wait: Duration::from_secs(2),
            client_silence: Duration::from_secs(40),
        }
    }
}

/// Shared by all connections.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) api: Api,
    pub(crate) options: RocketmqOptions,
    pub(crate) clients: Clients,
}

impl Shared {
    pub(crate) fn new(env: Env, api: Api, options: RocketmqOptions) -> Self {
        Self {
            clients: Clients::new(options.clients_max),
            env,
            api,
            options,
        }
    }

    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        self.api.cluster.image()
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        self.api.cluster.node()
    }
}

/// One call's surroundings.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    /// Who calls: `x-mq-client-id`, never empty.
    pub(crate) client: Arc<str>,
    /// The client's end.
    pub(crate) remote: SocketAddr,
    /// When the client stops waiting.
    pub(crate) deadline: Option<Monotonic>,
}

impl Call {
    /// How long the client still waits, at most `most`.
    pub(crate) fn remaining(&self, most: Duration) -> Duration {
        let now = self.shared.env.clock.now();
        self.deadline
            .map_or(most, |deadline| deadline.since(now).min(most))
    }
}

/// Where clients reach `node`, unless it is fenced or has no such front.
pub(crate) fn endpoint_of(image: &ClusterImage, node: NodeId) -> Option<&Endpoint> {
    let record = image.nodes.get(&node).filter(|node| node.is_active())?;
    record.endpoints.get(ENDPOINT)
}
