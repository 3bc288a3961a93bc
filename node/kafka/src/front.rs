//! The front: a listener whose connections are Kafka sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_api::{Front, FrontContext, MetricsSource};
use weir_base::BoxFuture;
use weir_wire::{Connection, OptionsError, Serve, Server, StartError, check_bounds};

use crate::context::{ENDPOINT, KafkaOptions, Shared};
use crate::meter::FrontMetrics;
use crate::session;

/// The Kafka front, listening.
pub struct KafkaFront {
    server: Arc<Server>,
    shared: Arc<Shared>,
}

impl KafkaOptions {
    /// Checks the documented bounds.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside them.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let mib = 1024 * 1024;
        let checks = [
            (
                "produce_bytes_max",
                self.produce_bytes_max,
                mib..=1024 * mib,
                "1 MiB to 1 GiB",
            ),
            (
                "decompressed_bytes_max",
                self.decompressed_bytes_max,
                mib..=1024 * mib,
                "1 MiB to 1 GiB",
            ),
            (
                "request_bytes_max",
                self.request_bytes_max,
                64 * 1024..=64 * mib,
                "64 KiB to 64 MiB",
            ),
            (
                "fetch_bytes_max",
                self.fetch_bytes_max,
                mib..=1024 * mib,
                "1 MiB to 1 GiB",
            ),
            ("in_flight_max", self.in_flight_max, 1..=1024, "1 to 1024"),
            (
                "connection_bytes_max",
                self.connection_bytes_max,
                mib..=1024 * mib,
                "1 MiB to 1 GiB",
            ),
            (
                "fetch_sessions_max",
                self.fetch_sessions_max,
                0..=1_000_000,
                "0 to 1,000,000",
            ),
        ];
        check_bounds(checks)
    }
}

impl KafkaFront {
    /// Listens and serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        context: FrontContext,
        options: KafkaOptions,
    ) -> Result<KafkaFront, StartError> {
        options.validate()?;
        let (address, wire) = (options.listen, options.wire.clone());
        let env = context.env.clone();
        let shared = Arc::new(Shared::new(context.env, context.api, options));
        let sessions = Arc::new(Sessions(shared.clone()));
        let server = Server::start(env, "kafka", address, wire, sessions)
            .await
            .map_err(|error| StartError::Listen { address, error })?;
        Ok(KafkaFront {
            server: Arc::new(server),
            shared,
        })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.server.local_address()
    }

    /// What it counts: requests, bytes, times and connections.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricsSource> {
        Arc::new(FrontMetrics {
            shared: self.shared.clone(),
            server: self.server.clone(),
        })
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }
}

impl Front for KafkaFront {
    fn name(&self) -> &'static str {
        ENDPOINT
    }

    fn drain(&self) -> BoxFuture<'static, ()> {
        let server = self.server.clone();
        Box::pin(async move { server.drain().await })
    }
}

struct Sessions(Arc<Shared>);

impl Serve for Sessions {
    fn serve(&self, connection: Connection) -> BoxFuture<'static, ()> {
        Box::pin(session::run(self.0.clone(), connection))
    }
}
