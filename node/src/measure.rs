//! What storage, metadata and the process tell at a scrape: those rooms know no metrics,
//! so the composition root asks them and names what they answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_api::{Metrics, MetricsSource};
use weir_base::Env;
use weir_metadata::Metadata;
use weir_os::process;
use weir_storage::{FSYNC_BOUNDS, Storage};

/// The rooms below the broker, and the process around them.
pub(crate) struct NodeMetrics {
    pub(crate) storage: Arc<Storage>,
    pub(crate) metadata: Metadata,
    pub(crate) space: Arc<Space>,
}

/// How much room the disk had when it was last asked: a disk that hangs must not hold up who
/// scrapes.
#[derive(Default)]
pub(crate) struct Space {
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

/// How often the disk is asked.
const SPACE_INTERVAL: Duration = Duration::from_secs(10);

impl Space {
    /// Runs for as long as the node does.
    pub(crate) async fn watch(self: Arc<Self>, env: Env, storage: Arc<Storage>) {
        loop {
            let health = storage.health().await;
            self.free_bytes.store(health.free_bytes, Ordering::Relaxed);
            self.total_bytes
                .store(health.total_bytes, Ordering::Relaxed);
            env.sleep(SPACE_INTERVAL).await;
        }
    }
}

impl MetricsSource for NodeMetrics {
    fn collect(&self, into: &mut Metrics) {
        self.storage(into);
        self.metadata(into);
        into.gauge(
            "weir_build_info",
            "Always 1; says which version runs.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        if let Some(bytes) = process::resident_bytes() {
            into.gauge(
                "weir_process_resident_bytes",
                "Memory of the process that is resident.",
                &[],
                bytes,
            );
        }
        if let Some(files) = process::open_files() {
            into.gauge(
                "weir_process_open_files",
                "Files and sockets that the process has open.",
                &[],
                files as u64,
            );
        }
    }
}

impl NodeMetrics {
    fn storage(&self, into: &mut Metrics) {
        let counters = self.storage.counters();
        let bounds = FSYNC_BOUNDS.iter().map(|bound| bound.as_secs_f64());
        let at_most: Vec<(f64, u64)> = bounds.zip(counters.fsyncs_at_most).collect();
        into.histogram(
            "weir_fsync_seconds",
            "Fsyncs that succeeded, and how long they took.",
            &[],
            &at_most,
            counters.fsync_total.as_secs_f64(),
            counters.fsyncs,
        );
        into.counter(
            "weir_wal_bytes_total",
            "Bytes written to the write-ahead log, padding included.",
            &[],
            counters.wal_bytes,
        );
        into.gauge(
            "weir_wal_files_used",
            "Files of the write-ahead log that await a checkpoint.",
            &[],
            counters.wal_files_used,
        );
        into.gauge(
            "weir_cache_bytes",
            "Recent batches held in memory for readers.",
            &[],
            counters.cache_bytes,
        );
        let total = self.space.total_bytes.load(Ordering::Relaxed);
        // Before the first answer, and after one that was an error, nothing is known.
        if total > 0 {
            into.gauge(
                "weir_disk_free_bytes",
                "Free bytes of the file system that the data directory is on.",
                &[],
                self.space.free_bytes.load(Ordering::Relaxed),
            );
            into.gauge(
                "weir_disk_bytes",
                "Size of the file system that the data directory is on.",
                &[],
                total,
            );
        }
        into.seconds(
            "weir_fsync_age_seconds",
            "How long the oldest fsync or append under way lasts; zero if none is: a leader above 5 is relieved.",
            &[],
            self.storage.fsync_age(),
        );
    }

    fn metadata(&self, into: &mut Metrics) {
        into.seconds(
            "weir_metadata_applied_age_seconds",
            "Time since a change of the metadata, an empty one included, was applied here: above 5 the node is not healthy.",
            &[],
            self.metadata.health().applied_age,
        );
        let Some(progress) = self.metadata.raft_progress() else {
            return;
        };
        into.gauge(
            "weir_raft_term",
            "Term of the metadata group that this voter is in.",
            &[],
            progress.term,
        );
        into.gauge(
            "weir_raft_last_index",
            "Last entry of this voter's metadata log.",
            &[],
            progress.last,
        );
        into.gauge(
            "weir_raft_applied_index",
            "Last entry of the metadata log that was applied here.",
            &[],
            progress.applied,
        );
    }
}
