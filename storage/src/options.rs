//! What an operator may tune: of the data directory, and of each log.

use std::time::Duration;

use weir_base::limits::{BATCH_BYTES_CEILING, BATCH_BYTES_MAX_DEFAULT};

const MIB: u64 = 1024 * 1024;

/// Of one data directory. All take effect at a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageOptions {
    /// Bytes of one write-ahead log file. Default 32 MiB, at least 64 KiB.
    pub wal_file_bytes: u64,
    /// Files of the write-ahead log: with `wal_file_bytes`, the most that recovery
    /// replays and the disk space it takes. Default 8, at least 3. Appends wait when all
    /// are in use until a checkpoint frees one.
    pub wal_files_max: usize,
    /// Bytes of appends that may wait for a commit; then appends wait: a slow disk pushes
    /// back.
    /// Default 64 MiB, at least 1 MiB. One larger append still passes, alone.
    pub wal_queue_bytes: usize,
    /// Bytes appended to all logs after which a checkpoint is made, and so about what a
    /// restart scans. Default 256 MiB.
    pub checkpoint_bytes: u64,
    /// Bytes of recent batches kept in memory, for all logs together. Default 64 MiB.
    pub tail_cache_bytes: usize,
    /// The longest that an async-flush append stays unflushed. Default 100 ms.
    pub async_flush_interval: Duration,
    /// Unflushed bytes of all logs together that bring the flush forward. Default 256 KiB.
    pub async_flush_bytes: u64,
    /// Free bytes below which logs answer `DiskFull`, except those of
    /// [`LogConfig::uses_reserve`]. Default 64 MiB.
    pub reserve_bytes: u64,
    /// How long a removed log stays in the trash. Default 10 min.
    pub trash_retention: Duration,
    /// Within this time every closed segment is read and checked once, if
    /// `scrub_bytes_per_second` is enough for it. Default 7 days.
    pub scrub_period: Duration,
    /// The most that the scrub reads. Default 16 MiB a second, at least 64 KiB.
    pub scrub_bytes_per_second: u64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            wal_file_bytes: 32 * MIB,
            wal_files_max: 8,
            wal_queue_bytes: 64 * 1024 * 1024,
            checkpoint_bytes: 256 * MIB,
            tail_cache_bytes: 64 * 1024 * 1024,
            async_flush_interval: Duration::from_millis(100),
            async_flush_bytes: 256 * 1024,
            reserve_bytes: 64 * MIB,
            trash_retention: Duration::from_secs(600),
            scrub_period: Duration::from_secs(7 * 86_400),
            scrub_bytes_per_second: 16 * MIB,
        }
    }
}

impl StorageOptions {
    /// Checks the bounds.
    ///
    /// # Errors
    /// Says which field is out of bounds.
    pub fn validate(&self) -> Result<(), String> {
        let rules = [
            (
                self.wal_file_bytes >= 64 * 1024,
                "wal_file_bytes must be at least 64 KiB",
            ),
            (
                self.scrub_bytes_per_second >= 64 * 1024,
                "scrub_bytes_per_second must be at least 64 KiB",
            ),
            (self.wal_files_max >= 3, "wal_files_max must be at least 3"),
            (
                self.wal_queue_bytes >= 1024 * 1024,
                "wal_queue_bytes must be at least 1 MiB",
            ),
            (
                self.async_flush_bytes <= self.wal_queue_bytes as u64,
                "async_flush_bytes must not exceed wal_queue_bytes",
            ),
            (
                self.checkpoint_bytes >= 64 * 1024,
                "checkpoint_bytes must be at least 64 KiB",
            ),
        ];
        rules
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, rule)| Err(rule.to_owned()))
    }
}

/// Of one log; may be changed while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Size at which a segment is closed and the next begun. Default 128 MiB.
    pub segment_bytes: u64,
    /// Age at which it is, so that retention by time has something to remove. Default 1 day.
    pub segment_age: Duration,
    /// How long records are kept, by broker time of the append; `None` for ever.
    /// Default 7 days.
    pub retention: Option<Duration>,
    /// How many bytes are kept at least; older segments go. Default no limit.
    pub retention_bytes: Option<u64>,
    /// Whether only the latest record of each key is kept. Default no.
    pub compact: bool,
    /// How long compaction keeps a tombstone. Default 1 day.
    pub tombstone_retention: Duration,
    /// Memory that the keys of one round of compaction may take; what is behind them is left to
    /// the next round. Default 32 MiB, some 800,000 keys.
    pub compaction_bytes_max: usize,
    /// Largest batch taken. Default 4 MiB, ceiling 64 MiB.
    pub batch_bytes_max: u32,
    /// Whether this log may use the last free bytes: for acknowledgements, offsets and
    /// decisions, which free others. Default no.
    pub uses_reserve: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 128 * MIB,
            segment_age: Duration::from_secs(24 * 60 * 60),
            retention: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            retention_bytes: None,
            compact: false,
            tombstone_retention: Duration::from_secs(24 * 60 * 60),
            compaction_bytes_max: 32 * 1024 * 1024,
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            uses_reserve: false,
        }
    }
}

impl LogConfig {
    /// The batch limit, below the ceiling whatever was asked.
    pub(crate) fn batch_limit(&self) -> usize {
        self.batch_bytes_max.min(BATCH_BYTES_CEILING) as usize
    }
}
