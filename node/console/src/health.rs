//! What a node says of its own health.

use serde::{Deserialize, Serialize};

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Registered, active, its fronts listen, and every partition it knows has a leader.
    pub ready: bool,
    /// The node.
    pub node: u32,
    /// Why it is not ready, for people; empty if it is.
    pub reasons: Vec<String>,
}

/// Who knows whether the node serves. Asked at every request; must not block.
pub trait HealthSource: Send + Sync {
    /// Its health now.
    fn health(&self) -> Health;
}
