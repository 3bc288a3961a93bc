//! What is done to the logs in the background: retention and compaction.
//!
//! One pass at a time over all replicas held here, so that duties never take more than
//! one reader of the disk. Retention is the leader's: followers learn the new start from
//! it. Compaction is each replica's own, below what is committed.

use std::sync::Arc;
use std::time::Duration;

use weir_replication::PartitionHandle;
use weir_storage::Storage;

use crate::Broker;

/// Pause between two passes.
const INTERVAL: Duration = Duration::from_secs(30);

/// Runs for as long as the node does.
pub(crate) async fn run(broker: Broker, storage: Arc<Storage>) {
    loop {
        broker.0.env.sleep(INTERVAL).await;
        for partition in broker.0.replication.partitions() {
            retain(&partition, &storage).await;
            compact(&partition, &storage).await;
        }
    }
}

async fn retain(partition: &PartitionHandle, storage: &Storage) {
    let (at, view) = (partition.at(), partition.view());
    if !view.is_leader {
        return;
    }
    if let Some(start) = storage.plan_retention(at, view.high_watermark)
        && let Err(error) = partition.set_start(start).await
    {
        tracing::warn!(partition = %at, %error, "retention");
    }
}

async fn compact(partition: &PartitionHandle, storage: &Storage) {
    let at = partition.at();
    match storage.compact(at, partition.view().high_watermark).await {
        Ok(report) if report.segments > 0 => {
            let (segments, bytes) = (report.segments, report.bytes_freed);
            tracing::info!(partition = %at, segments, bytes, "compacted");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(partition = %at, %error, "compaction");
            // Bad data that nobody reads is bad all the same.
            partition.fail(error);
        }
    }
}
