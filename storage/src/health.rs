//! Whether the data directory still works, and how fast it is.
//!
//! The first failed write or fsync is final for this process: what the page cache holds
//! afterwards proves nothing, and a retried fsync lies (S-41, M7). Every later call
//! answers with that first error.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use weir_base::{Monotonic, Offset};

use crate::log::LogError;

/// Durations remembered for the percentile, and how long: an idle disk is not judged by
/// what it once did.
const SAMPLES_MAX: usize = 512;
const SAMPLES_AGE: Duration = Duration::from_secs(5);

/// Upper bounds of the histogram of fsyncs.
pub const FSYNC_BOUNDS: [Duration; 10] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// Counters for a scrape: they start at zero with the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageCounters {
    /// Fsyncs that succeeded.
    pub fsyncs: u64,
    /// How long they took together.
    pub fsync_total: Duration,
    /// How many took at most each of [`FSYNC_BOUNDS`].
    pub fsyncs_at_most: [u64; FSYNC_BOUNDS.len()],
    /// Bytes written to the write-ahead log, padding included.
    pub wal_bytes: u64,
    /// Files of the write-ahead log that await a checkpoint.
    pub wal_files_used: u64,
    /// Bytes of recent batches in memory.
    pub cache_bytes: u64,
}

/// Shared by everything that writes to one data directory.
pub(crate) struct Health {
    failure: watch::Sender<Option<Arc<io::Error>>>,
    syncs: Mutex<Syncs>,
}

#[derive(Default)]
struct Syncs {
    /// When an fsync ended, and how long it had taken.
    samples: VecDeque<(Monotonic, Duration)>,
    count: u64,
    total: Duration,
    /// Fsyncs that took at most each of [`FSYNC_BOUNDS`] and more than the one before it.
    within: [u64; FSYNC_BOUNDS.len()],
    wal_bytes: u64,
    /// What is under way, and when it began, by number.
    running: std::collections::BTreeMap<u64, Monotonic>,
    next: u64,
}

impl Syncs {
    fn oldest(&self, now: Monotonic) -> Duration {
        let began = self.running.values().next();
        began.map_or(Duration::ZERO, |began| now.since(*began))
    }

    /// Of the latest fsyncs.
    fn p99(&self, now: Monotonic) -> Option<Duration> {
        let latest = self.samples.iter().rev();
        let latest = latest.take_while(|(ended, _)| now.since(*ended) <= SAMPLES_AGE);
        let mut sorted: Vec<Duration> = latest.map(|(_, took)| *took).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied()
    }
}

/// Facts for heartbeats and the console.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageHealth {
    /// The error that ended the data directory, if one did.
    pub failure: Option<String>,
    /// 99th percentile of the fsyncs that ended within the last 5 s (at most the latest
    /// 512); `None` if none did.
    pub fsync_p99: Option<Duration>,
    /// Fsyncs that succeeded since the start.
    pub fsyncs: u64,
    /// How long the oldest fsync or append to a file has taken that is still under way;
    /// zero if there is none.
    pub running: Duration,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
    /// Bytes of recent batches in memory.
    pub cache_bytes: u64,
    /// Files of the write-ahead log that await a checkpoint.
    pub wal_files_used: u64,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            failure: watch::Sender::new(None),
            syncs: Mutex::default(),
        }
    }

    /// Errs once the directory failed.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        match &*self.failure.borrow() {
            None => Ok(()),
            Some(error) => Err(LogError::DiskLost(error.clone())),
        }
    }

    /// Follows the failure.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<io::Error>>> {
        self.failure.subscribe()
    }

    /// The directory failed with `error`, unless it had before.
    pub(crate) fn fail(&self, error: io::Error) -> LogError {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(%error, "data directory failed");
                *failure = Some(Arc::new(error));
            }
            first
        });
        self.check().err().unwrap_or(LogError::Closed)
    }

    /// Passes a result on; an error other than "full" ends the directory.
    pub(crate) fn judge<T>(&self, result: io::Result<T>) -> Result<T, LogError> {
        match result {
            Ok(value) => Ok(value),
            Err(error) if is_full(&error) => Err(LogError::DiskFull),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// As [`Health::judge`] for an fsync, after which "full" is no better than any other error.
    pub(crate) fn judge_sync<T>(&self, result: io::Result<T>) -> Result<T, LogError> {
        result.map_err(|error| self.fail(error))
    }

    /// Passes on what reading gave. A read that fails concerns what it was to read: that
    /// replica is to be repaired, while the directory is judged by its writes.
    pub(crate) fn judge_read<T>(&self, result: io::Result<T>, near: Offset) -> Result<T, LogError> {
        self.check()?;
        result.map_err(|error| LogError::Corrupt {
            near,
            detail: format!("read failed: {error}"),
        })
    }

    /// Something begins that nothing can go on without: an fsync, or the write of an append.
    pub(crate) fn begins(self: &Arc<Self>, now: Monotonic) -> Running {
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        let number = syncs.next;
        syncs.next += 1;
        syncs.running.insert(number, now);
        Running {
            health: Arc::clone(self),
            number,
            began: now,
        }
    }

    /// How long the oldest of what began and did not end lasts; zero if there is nothing.
    pub(crate) fn running_for(&self, now: Monotonic) -> Duration {
        let syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.oldest(now)
    }

    /// 99th percentile of the latest fsyncs; `None` if there was none lately.
    pub(crate) fn p99(&self, now: Monotonic) -> Option<Duration> {
        let syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.p99(now)
    }

    /// Bytes were written to the write-ahead log.
    pub(crate) fn logged(&self, bytes: usize) {
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.wal_bytes += bytes as u64;
    }

    /// The counters kept here; the rest are the caller's.
    pub(crate) fn counters(&self) -> StorageCounters {
        let syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fsyncs_at_most = syncs.within;
        let mut seen = 0;
        for within in &mut fsyncs_at_most {
            seen += *within;
            *within = seen;
        }
        StorageCounters {
            fsyncs: syncs.count,
            fsync_total: syncs.total,
            fsyncs_at_most,
            wal_bytes: syncs.wal_bytes,
            ..StorageCounters::default()
        }
    }

    /// The facts known here; space and the rest are the caller's.
    pub(crate) fn facts(&self, now: Monotonic) -> StorageHealth {
        let failure = self.failure.borrow().as_ref().map(ToString::to_string);
        let syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        StorageHealth {
            failure,
            fsync_p99: syncs.p99(now),
            fsyncs: syncs.count,
            running: syncs.oldest(now),
            ..StorageHealth::default()
        }
    }
}

/// Something under way. It ends when this is gone: whoever waited for it may be, too.
pub(crate) struct Running {
    health: Arc<Health>,
    number: u64,
    began: Monotonic,
}

impl Running {
    /// It was an fsync, and ended.
    pub(crate) fn synced(self, now: Monotonic, succeeded: bool) {
        if !succeeded {
            return;
        }
        let took = now.since(self.began);
        let syncs = &self.health.syncs;
        let mut syncs = syncs.lock().unwrap_or_else(PoisonError::into_inner);
        if syncs.samples.len() == SAMPLES_MAX {
            syncs.samples.pop_front();
        }
        syncs.samples.push_back((now, took));
        syncs.count += 1;
        syncs.total += took;
        let bound = FSYNC_BOUNDS.iter().position(|bound| took <= *bound);
        if let Some(within) = bound.and_then(|at| syncs.within.get_mut(at)) {
            *within += 1;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let syncs = &self.health.syncs;
        let mut syncs = syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.running.remove(&self.number);
    }
}

/// Whether an error says that no space is left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_final() {
        let health = Health::new();
        health.check().unwrap();
        health.fail(io::Error::other("first"));
        health.fail(io::Error::other("second"));
        let error = health.check().unwrap_err();
        assert!(
            matches!(&error, LogError::DiskLost(e) if e.to_string() == "first"),
            "{error}"
        );
    }

    #[test]
    fn a_full_disk_is_not_a_dead_one_but_for_fsync() {
        let health = Health::new();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(
            health.judge::<()>(Err(full())),
            Err(LogError::DiskFull)
        ));
        health.check().unwrap();
        assert!(health.judge_sync::<()>(Err(full())).is_err());
        assert!(health.check().is_err());
    }

    #[test]
    fn the_percentile_is_of_the_latest() {
        let health = Arc::new(Health::new());
        for micros in 1..=100u64 {
            let sync = health.begins(Monotonic(0));
            sync.synced(Monotonic(micros * 1000), true);
        }
        let stuck = health.begins(Monotonic(0));
        let facts = health.facts(Monotonic(200_000));
        assert_eq!(facts.fsync_p99, Some(Duration::from_micros(99)));
        let counters = health.counters();
        assert_eq!(counters.fsyncs_at_most[0], 100);
        assert_eq!(counters.fsync_total, Duration::from_micros(5_050));
        assert_eq!(
            (facts.fsyncs, facts.running),
            (100, Duration::from_micros(200))
        );
        stuck.synced(Monotonic(0), false);
        let facts = health.facts(Monotonic(1_000));
        assert_eq!((facts.fsyncs, facts.running), (100, Duration::ZERO));
    }

    #[test]
    fn an_idle_disk_is_not_judged_by_what_it_once_did() {
        let health = Arc::new(Health::new());
        let second = |seconds: u64| Monotonic(seconds * 1_000_000_000);
        assert_eq!(health.p99(second(0)), None);
        health.begins(second(0)).synced(second(3), true);
        health.begins(second(6)).synced(second(7), true);
        assert_eq!(health.p99(second(8)), Some(Duration::from_secs(3)));
        assert_eq!(health.p99(second(9)), Some(Duration::from_secs(1)));
        assert_eq!(health.p99(second(13)), None);
    }

    #[test]
    fn only_what_is_under_way_stalls_and_an_idle_disk_does_not() {
        let health = Arc::new(Health::new());
        let second = |seconds: u64| Monotonic(seconds * 1_000_000_000);
        health.begins(second(0)).synced(second(1), true);
        assert_eq!(health.running_for(second(100)), Duration::ZERO, "idle");
        let first = health.begins(second(100));
        let append = health.begins(second(102));
        assert_eq!(health.running_for(second(106)), Duration::from_secs(6));
        // Whoever waited gave up: nothing is left behind that would count for ever.
        drop(first);
        assert_eq!(health.running_for(second(106)), Duration::from_secs(4));
        drop(append);
        assert_eq!(health.running_for(second(106)), Duration::ZERO);
    }
}
