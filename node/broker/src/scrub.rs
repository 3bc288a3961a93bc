//! The scrub: reads every closed segment of this node's logs once in a period.
//!
//! One step at a time over all replicas, leaders and followers alike. A bad batch takes
//! its replica out exactly as a bad read does: it resigns and is made anew from its
//! leader ([`crate::resigning`]). A pass begins at any of the logs, so that a node that is
//! restarted more often than once in a period leaves none unread for ever.

use std::sync::Arc;
use std::time::Duration;

use weir_base::Offset;
use weir_replication::PartitionHandle;
use weir_storage::Storage;

use crate::Broker;

/// Pause between two passes, and while there is nothing to read.
const IDLE: Duration = Duration::from_secs(10);

/// Runs for as long as the node does.
pub(crate) async fn run(broker: Broker, storage: Arc<Storage>) {
    let entropy = broker.0.env.entropy.fork("scrub");
    loop {
        broker.0.env.sleep(IDLE).await;
        let mut partitions = broker.0.replication.partitions();
        if partitions.is_empty() {
            continue;
        }
        let count = u64::try_from(partitions.len()).unwrap_or(u64::MAX);
        let first = usize::try_from(entropy.below(count)).unwrap_or(0);
        partitions.rotate_left(first);
        for partition in partitions {
            scrub(&broker, &storage, &partition).await;
        }
    }
}

async fn scrub(broker: &Broker, storage: &Storage, partition: &PartitionHandle) {
    let at = partition.at();
    let mut from = Offset::ZERO;
    while !partition.view().is_failed {
        match storage.scrub(at, from).await {
            Ok(Some(step)) => {
                from = step.next;
                broker.0.env.sleep(step.pause).await;
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(partition = %at, %error, "scrub");
                partition.fail(error);
                return;
            }
        }
    }
}
