//! What handlers share: the broker, the options and the fetch session cache.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use tokio::sync::Semaphore;
use weir_api::Api;
use weir_api::image::{ClusterImage, Endpoint};
use weir_base::{Entropy, Env, Monotonic, NodeId};
use weir_wire::WireOptions;

use crate::handlers::fetch::sessions::FetchSessions;
use crate::meter::Meter;

/// The name of this front's endpoint in the cluster image.
pub(crate) const ENDPOINT: &str = "kafka";

/// Compressed batches looked into at a time: what bounds the memory that takes.
const CHECKS_MAX: usize = 4;

/// Options of the Kafka front. All need a restart.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Where to listen. Default `127.0.0.1:9092`.
    pub listen: SocketAddr,
    /// Connections and drain.
    pub wire: WireOptions,
    /// Whether asking for the metadata of a topic makes it. Default true.
    pub auto_create_topics: bool,
    /// Largest produce request in bytes. Default 100 MiB; 1 MiB to 1 GiB.
    pub produce_bytes_max: usize,
    /// Most bytes that the records of one compressed batch may take once decompressed; a
    /// larger batch is refused. Up to eight times this may be held for a moment, by all
    /// connections together. Default 64 MiB; 1 MiB to 1 GiB.
    pub decompressed_bytes_max: usize,
    /// Largest request of any other kind in bytes. Default 8 MiB; 64 KiB to 64 MiB.
    /// Decoding such a request may take some thirty times its size for a moment.
    pub request_bytes_max: usize,
    /// Most data of one fetch response in bytes, whatever the client asks. Default 55 MiB.
    pub fetch_bytes_max: usize,
    /// Requests under way on one connection; more stay unread. Default 64.
    pub in_flight_max: usize,
    /// Request bytes under way on one connection after which no more are read, and
    /// response bytes queued after which none are made. Default 32 MiB.
    pub connection_bytes_max: usize,
    /// A connection without a request for this long is closed. Default 10 min.
    pub idle_close: Duration,
    /// Incremental fetch sessions remembered. Default 1,000.
    pub fetch_sessions_max: usize,
    /// How long a metadata request waits for a topic being made. Default 2 s.
    pub metadata_wait: Duration,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            wire: WireOptions::default(),
            auto_create_topics: true,
            produce_bytes_max: 100 * 1024 * 1024,
            decompressed_bytes_max: 64 * 1024 * 1024,
            request_bytes_max: 8 * 1024 * 1024,
            fetch_bytes_max: 55 * 1024 * 1024,
            in_flight_max: 64,
            connection_bytes_max: 32 * 1024 * 1024,
            idle_close: Duration::from_secs(600),
            fetch_sessions_max: 1000,
            metadata_wait: Duration::from_secs(2),
        }
    }
}

/// Shared by all connections.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) api: Api,
    pub(crate) options: KafkaOptions,
    pub(crate) entropy: Entropy,
    /// Held while a compressed batch is looked into.
    pub(crate) checks: Semaphore,
    pub(crate) meter: Meter,
    fetch_sessions: Mutex<FetchSessions>,
    /// Since when fenced nodes were seen to be so.
    fenced: Mutex<BTreeMap<NodeId, Monotonic>>,
}

impl Shared {
    pub(crate) fn new(env: Env, api: Api, options: KafkaOptions) -> Self {
        Self {
            entropy: env.entropy.fork("kafka-front"),
            checks: Semaphore::new(CHECKS_MAX),
            meter: Meter::new(),
            fetch_sessions: Mutex::new(FetchSessions::new(options.fetch_sessions_max)),
            fenced: Mutex::default(),
            env,
            api,
            options,
        }
    }

    pub(crate) fn fetch_sessions(&self) -> MutexGuard<'_, FetchSessions> {
        self.fetch_sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fenced(&self) -> MutexGuard<'_, BTreeMap<NodeId, Monotonic>> {
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn image(&self) -> Arc<ClusterImage> {
        self.api.cluster.image()
    }
}

/// One request's surroundings.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) version: i16,
    pub(crate) client_id: Option<StrBytes>,
    pub(crate) remote: SocketAddr,
}

/// Where clients reach `node`, unless it is fenced or has no such front.
pub(crate) fn endpoint_of(image: &ClusterImage, node: NodeId) -> Option<&Endpoint> {
    let record = image.nodes.get(&node).filter(|node| node.is_active())?;
    record.endpoints.get(ENDPOINT)
}

/// A node's id on the wire.
pub(crate) fn broker_id(node: NodeId) -> i32 {
    i32::try_from(node.0).unwrap_or(i32::MAX)
}

/// A node from the wire.
pub(crate) fn node_id(broker: i32) -> Option<NodeId> {
    u32::try_from(broker).ok().map(NodeId)
}

/// A string for the wire.
pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A duration from the wire's milliseconds; negative ones are zero.
pub(crate) fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}
