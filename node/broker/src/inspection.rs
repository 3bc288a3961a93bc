//! Telling the controller where logs end that may end too early.
//!
//! After a power loss of all members of a partition's ISR and ELR, whose write-ahead logs
//! end in something unreadable, nobody of them may lead before all told where their logs
//! end (reliability 3.4). This node tells for its copies, and again until the image has a
//! leader: what was told dies with the controller.
//!
//! A log's end is told only under a record in which nobody leads and which the replica
//! has taken up: from there on nothing is written to it until somebody leads.

use std::time::Duration;

use weir_base::TopicPartition;
use weir_base::image::{ClusterImage, PartitionRecord};
use weir_metadata::LogEnd;
use weir_metadata::controller::inspect::waits;

use crate::Broker;

/// Pause before the same is told again.
const PAUSE: Duration = Duration::from_millis(200);
/// Most logs told of in one request.
const ENDS_MAX: usize = 1_000;

/// Runs for as long as the node does.
pub(crate) async fn run(broker: Broker) {
    let mut images = broker.0.metadata.images();
    loop {
        let image = images.borrow_and_update().clone();
        let waiting = waiting(&broker, &image);
        if waiting.is_empty() {
            if images.changed().await.is_err() {
                return;
            }
            continue;
        }
        for some in waiting.chunks(ENDS_MAX) {
            let ends: Vec<LogEnd> = some
                .iter()
                .filter_map(|(at, record)| log_end(&broker, *at, record))
                .collect();
            if ends.is_empty() {
                continue;
            }
            if let Err(error) = broker.0.metadata.tell_log_ends(ends).await {
                tracing::warn!(%error, "the ends of suspect logs are not told yet");
            }
        }
        broker.0.env.sleep(PAUSE).await;
    }
}

/// Partitions that wait for what this node can tell.
fn waiting<'a>(
    broker: &Broker,
    image: &'a ClusterImage,
) -> Vec<(TopicPartition, &'a PartitionRecord)> {
    let me = broker.0.node;
    image
        .partitions()
        .filter(|(_, record)| waits(record))
        .filter(|(_, record)| record.isr.contains(&me) || record.elr.contains(&me))
        .collect()
}

/// `None` if the log is not open, or its replica has yet to take up the record.
fn log_end(broker: &Broker, at: TopicPartition, record: &PartitionRecord) -> Option<LogEnd> {
    let partition = broker.0.replication.partition(at)?;
    let view = partition.view();
    let is_idle =
        !view.is_failed && view.leader.is_none() && view.partition_epoch == record.partition_epoch;
    is_idle.then(|| {
        let position = partition.log().position();
        LogEnd {
            at,
            partition_epoch: record.partition_epoch,
            last_epoch: position.last_epoch,
            end: position.end,
        }
    })
}
