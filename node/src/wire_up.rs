//! From options to a running node: which room gets what, and in which order they start
//! and stop.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use weir_api::console::Health;
use weir_base::Env;
use weir_console::{Console, HealthSource};
use weir_peer::QuicEnv;

use crate::options::NodeOptions;

/// A node that runs.
pub struct RunningNode {
    console: Console,
}

/// Why a node could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("{key} = \"{address}\": {error}{remedy}")]
    Listen {
        /// The option.
        key: &'static str,
        /// Its value.
        address: String,
        /// What the machine said.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

impl StartError {
    /// An address that could not be listened on, with its remedy.
    #[must_use]
    pub fn listen(key: &'static str, address: impl ToString, error: io::Error) -> Self {
        let remedies = [
            (
                io::ErrorKind::AddrInUse,
                "; stop what uses it, or choose another port",
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                "; choose an address that this machine has",
            ),
            (
                io::ErrorKind::PermissionDenied,
                "; choose a port above 1023, or grant the right",
            ),
        ];
        let remedy = remedies.into_iter().find(|(kind, _)| *kind == error.kind());
        let remedy = remedy.map_or("", |(_, remedy)| remedy);
        StartError::Listen {
            key,
            address: address.to_string(),
            error,
            remedy,
        }
    }
}

/// Starts a node. It is asked whether it is ready over its admin API.
///
/// # Errors
/// What keeps it from starting; nothing runs then.
pub async fn start_node(
    options: &NodeOptions,
    env: &Env,
    _quic: Arc<dyn QuicEnv>,
) -> Result<RunningNode, StartError> {
    let health = Arc::new(NodeHealth {
        node: options.node.id,
    });
    let console = Console::start(env, &options.console_options(), health)
        .await
        .map_err(|error| StartError::listen("admin.listen", options.admin.listen, error))?;
    Ok(RunningNode { console })
}

impl RunningNode {
    /// Moves leadership away, lets requests under way finish, closes the logs.
    pub async fn drain_and_stop(self) {
        self.console.stop().await;
    }
}

struct NodeHealth {
    node: u32,
}

impl HealthSource for NodeHealth {
    fn health(&self) -> Health {
        Health {
            ready: false,
            node: self.node,
            reasons: vec!["the broker is not part of this build".to_owned()],
        }
    }
}
