//! The front: a listener whose connections are HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_api::{Front, FrontContext};
use weir_base::BoxFuture;
use weir_base::env::TaskHandle;
use weir_wire::{Connection, OptionsError, Serve, Server, StartError, check_bounds};

use crate::connection;
use crate::context::{ENDPOINT, RocketmqOptions, Shared};
use crate::handlers::{check_back, group_changes};

/// The RocketMQ front, listening.
pub struct RocketmqFront {
    server: Arc<Server>,
    _checks: [TaskHandle; 2],
    _changes: TaskHandle,
}

impl RocketmqOptions {
    /// Checks the documented bounds.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside them.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let mib = 1024 * 1024;
        let calls = usize::try_from(self.calls_max).unwrap_or(usize::MAX);
        let checks = [
            (
                "request_bytes_max",
                self.request_bytes_max,
                mib..=64 * mib,
                "1 MiB to 64 MiB",
            ),
            (
                "body_bytes_max",
                self.body_bytes_max,
                1024..=32 * mib,
                "1 KiB to 32 MiB",
            ),
            ("calls_max", calls, 1..=65_536, "1 to 65,536"),
            (
                "clients_max",
                self.clients_max,
                1..=1_000_000,
                "1 to 1,000,000",
            ),
        ];
        check_bounds(checks)
    }
}

impl RocketmqFront {
    /// Listens and serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        context: FrontContext,
        options: RocketmqOptions,
    ) -> Result<RocketmqFront, StartError> {
        options.validate()?;
        let (address, wire) = (options.listen, options.wire.clone());
        let env = context.env.clone();
        let shared = Arc::new(Shared::new(context.env, context.api, options));
        let checks = check_back::run(Arc::clone(&shared));
        let checks = env.tasks.spawn_owned("rocketmq-check-backs", checks);
        let elsewhere = check_back::run_elsewhere(Arc::clone(&shared));
        let elsewhere = env
            .tasks
            .spawn_owned("rocketmq-checks-elsewhere", elsewhere);
        let changes = group_changes::run(Arc::clone(&shared));
        let changes = env.tasks.spawn_owned("rocketmq-group-changes", changes);
        let sessions = Arc::new(Connections(shared));
        let server = Server::start(env, "rocketmq", address, wire, sessions)
            .await
            .map_err(|error| StartError::Listen { address, error })?;
        Ok(RocketmqFront {
            server: Arc::new(server),
            _checks: [checks, elsewhere],
            _changes: changes,
        })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.server.local_address()
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.server.connections()
    }
}

impl Front for RocketmqFront {
    fn name(&self) -> &'static str {
        ENDPOINT
    }

    fn drain(&self) -> BoxFuture<'static, ()> {
        let server = self.server.clone();
        Box::pin(async move { server.drain().await })
    }
}

struct Connections(Arc<Shared>);

impl Serve for Connections {
    fn serve(&self, connection: Connection) -> BoxFuture<'static, ()> {
        Box::pin(connection::run(self.0.clone(), connection))
    }
}
