//! Bounds of one queue machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_base::limits::BATCH_BYTES_CEILING;

/// Longest delay of a message, unless the machine's options allow less.
pub const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Holes of one group that are remembered by place; all are counted.
pub const GAPS_MAX: usize = 1_024;

/// Settings of the machine on every partition; a restart applies them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueOptions {
    /// Groups on one partition (default 1,000); more are refused.
    pub groups_max: usize,
    /// Messages of one group that were read ahead and not yet delivered (default 1,024).
    pub ready_max: usize,
    /// Messages of one group delivered and not settled (default 64 Ki): receives wait.
    pub in_flight_max: usize,
    /// Messages of one group that wait for a retry, or behind one in their message group
    /// (default 256 Ki): above that the group is not fed, so receives wait.
    pub held_max: usize,
    /// Offsets between a group's cursor and the newest message it was fed (default 64 Mi,
    /// which is 12 MiB of marks): above that it is not fed.
    pub span_max: u64,
    /// Receives that wait on one group (default 10,000).
    pub waiting_max: usize,
    /// Shortest a receive waits (default 50 ms): what is in the log must be read first.
    pub wait_min: Duration,
    /// Longest a receive waits (default 60 s).
    pub wait_max: Duration,
    /// Messages of one receive (default 1,024); less is given when more is asked for.
    pub batch_max: usize,
    /// Longest delay of a message (default 366 days).
    pub delay_max: Duration,
    /// Delayed messages of one partition (default 64 Mi, at 20 to 24 bytes).
    pub scheduled_max: usize,
    /// Half messages of one partition that are not decided (default 1 Mi).
    pub halves_max: usize,
    /// Largest scheduled or half message (default 62 MiB, which is what a batch of the journal
    /// has room for beside what else is decided at the time). A topic's own limit is less: the
    /// host holds such a message to it as any other.
    pub payload_bytes_max: usize,
    /// When a half message is asked about first, unless its producer says (default 6 s).
    pub check_after: Duration,
    /// Pause between two checks of a half message (default 30 s).
    pub check_interval: Duration,
    /// Checks of a half message before it is parked (default 15).
    pub checks_max: u16,
    /// How long decisions on half messages and cancellations are remembered, so that a
    /// repeated question gets the same answer (default 1 h).
    pub remembered: Duration,
    /// How long an id keeps a second message of the same id out (default 10 min).
    pub dedup_window: Duration,
    /// Ids remembered at once (default 4 Mi, at about 170 bytes in memory, 230 with
    /// what a repeat is told); more are refused.
    pub dedup_max: usize,
    /// Keys whose newest version one group remembers (default 1 Mi); the one that changed
    /// longest ago is forgotten first.
    pub versions_max: usize,
    /// How long a lease may be renewed by the broker alone (default 3 h).
    pub auto_renew_max: Duration,
    /// Hours that the ledger of a group reaches back (default 2,160, which is 90 days).
    pub ledger_hours: u32,
    /// Bytes of payload that are released as one batch (default 1 MiB).
    pub release_bytes_max: usize,
    /// Messages that are released as one batch (default 1,000).
    pub release_records_max: usize,
}

impl QueueOptions {
    /// How long a caller is let wait that asks for `wait`.
    pub(crate) fn bounded_wait(&self, wait: Duration) -> Duration {
        wait.max(self.wait_min).min(self.wait_max)
    }
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            groups_max: 1_000,
            ready_max: 1_024,
            in_flight_max: 64 * 1024,
            held_max: 256 * 1024,
            span_max: 64 * 1024 * 1024,
            waiting_max: 10_000,
            wait_min: Duration::from_millis(50),
            wait_max: Duration::from_secs(60),
            batch_max: 1_024,
            delay_max: DELAY_MAX,
            scheduled_max: 64 * 1024 * 1024,
            halves_max: 1024 * 1024,
            payload_bytes_max: BATCH_BYTES_CEILING as usize - 2 * 1024 * 1024,
            check_after: Duration::from_secs(6),
            check_interval: Duration::from_secs(30),
            checks_max: 15,
            remembered: Duration::from_secs(3600),
            dedup_window: Duration::from_secs(600),
            dedup_max: 4 * 1024 * 1024,
            versions_max: 1024 * 1024,
            auto_renew_max: Duration::from_secs(3 * 3600),
            ledger_hours: 2_160,
            release_bytes_max: 1024 * 1024,
            release_records_max: 1_000,
        }
    }
}
