//! What an operator may tune about groups.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest group id, in bytes.
pub const GROUP_ID_BYTES_MAX: usize = 1024;
/// Longest note of a commit, in bytes.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;
/// Most bytes of metadata that one member may bring, over all its protocols. With the two
/// below this keeps every journal record well under the ceiling of a record batch: a
/// record that cannot be appended would stop its journal for ever.
pub const MEMBER_METADATA_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of metadata, and of assignments, of one group. Beyond, a newcomer gets
/// `GroupFull`, and so does a leader whose assignment is larger.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of one commit, topic names and notes together.
pub const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;

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

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupOptionsError {
    /// Nobody could join.
    #[error("session_timeout_min {min:?} is above session_timeout_max {max:?}")]
    SessionTimeouts {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// Nobody could join.
    #[error("members_max is 0")]
    NoMembers,
}

impl GroupOptions {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// [`GroupOptionsError`].
    pub fn validate(&self) -> Result<(), GroupOptionsError> {
        let (min, max) = (self.session_timeout_min, self.session_timeout_max);
        if min > max {
            return Err(GroupOptionsError::SessionTimeouts { min, max });
        }
        if self.members_max == 0 {
            return Err(GroupOptionsError::NoMembers);
        }
        Ok(())
    }
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
