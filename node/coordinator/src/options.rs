//! What an operator may tune about groups.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest group id, in bytes.
pub const GROUP_ID_BYTES_MAX: usize = 1024;
/// Longest note of a commit, in bytes.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;

/// Settings of the group coordinator; a restart applies them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupOptions {
    /// How long the first rebalance of an empty group waits for more members, and waits
    /// again while more come (default 3 s; 0 starts at once). Raise it for groups whose
    /// many members start together, lower it for tests.
    pub initial_rebalance_delay: Duration,
    /// Least session timeout a member may ask for (default 6 s).
    pub session_timeout_min: Duration,
    /// Most session timeout a member may ask for (default 30 min).
    pub session_timeout_max: Duration,
    /// Most members, and most ids handed out and not yet used, of one group (default
    /// 10,000). The coordinator pushes back with `GroupFull`.
    pub members_max: usize,
    /// How long a newcomer that waits for its first generation is kept without a sign of
    /// life, since it has no id yet to heartbeat with (default 5 min).
    pub newcomer_timeout: Duration,
    /// How long offsets are kept after their group became empty (default 7 days).
    pub offsets_retention: Duration,
    /// How often expired offsets are looked for (default 10 min).
    pub offsets_retention_check_interval: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            members_max: 10_000,
            newcomer_timeout: Duration::from_secs(5 * 60),
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            offsets_retention_check_interval: Duration::from_secs(600),
        }
    }
}
