//! What storage, metadata and the process tell at a scrape: those rooms know no metrics,
//! so the composition root asks them and names what they answer.

use std::sync::Arc;

use weir_api::{Metrics, MetricsSource};
use weir_metadata::Metadata;
use weir_os::process;
use weir_storage::{FSYNC_BOUNDS, Storage};

/// The rooms below the broker, and the process around them.
pub(crate) struct NodeMetrics {
    pub(crate) storage: Arc<Storage>,
    pub(crate) metadata: Metadata,
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
