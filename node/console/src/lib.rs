//! Admin HTTP/JSON, metrics and health of one node.

mod health;
mod routes;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, watch};
use weir_api::Api;
use weir_base::Env;

pub use health::{Health, HealthSource};

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

/// A console, listening. It answers health at once, and the rest once it is attached.
pub struct Console {
    state: Arc<ConsoleState>,
    local: SocketAddr,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

pub(crate) struct ConsoleState {
    pub(crate) env: Env,
    pub(crate) health: Arc<dyn HealthSource>,
    pub(crate) api: OnceLock<Api>,
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
            api: OnceLock::new(),
        });
        let router = routes::router(Arc::clone(&state), options);
        let listener = serve::BoundedListener {
            env: env.clone(),
            listener,
            places: Arc::new(Semaphore::new(options.connections_max)),
        };
        let (stop, mut asked) = watch::channel(false);
        let (ended, stopped) = watch::channel(false);
        env.tasks.spawn("console", async move {
            let served = axum::serve(listener, router)
                .with_graceful_shutdown(async move {
                    // An error means that the console was dropped, which stops it too.
                    drop(asked.wait_for(|stop| *stop).await);
                })
                .await;
            if let Err(error) = served {
                tracing::error!(%error, "admin API ended");
            }
            ended.send_replace(true);
        });
        Ok(Console {
            state,
            local,
            stop,
            stopped,
        })
    }

    /// Gives it the broker. Until then whatever needs it answers `not_ready`.
    /// A second call changes nothing.
    pub fn attach(&self, api: Api) {
        drop(self.state.api.set(api));
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Stops accepting and waits for the requests under way.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // An error means that its task was dropped, which is as stopped as can be.
        drop(self.stopped.wait_for(|stopped| *stopped).await);
    }
}
