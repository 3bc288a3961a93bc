//! What the handlers that call queues share: the partition they speak of, and patience
//! while its leadership moves.

use std::sync::Arc;
use std::time::Duration;

use weir_api::QueueCallError;
use weir_api::image::{ClusterImage, TopicRecord};
use weir_api::queue::{QueueCall, Settlement};
use weir_api::queues::{GroupName, ReceiptError};
use weir_base::{NodeId, PartitionIndex, TopicPartition};

use super::topics;
use crate::context::Call;
use crate::errors::{self, Refusal};
use crate::names;
use crate::proto::Resource;

/// Pause before a call is repeated that found no leader.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the leader may take to settle what another node's client received.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// The topic that a request names.
pub(super) fn topic(call: &Call, resource: Option<&Resource>) -> Result<Arc<TopicRecord>, Refusal> {
    let name = names::topic(resource)?;
    let image = call.shared.image();
    let topic = topics::find(&image, &name).ok_or_else(|| topics::not_found(&name))?;
    Ok(Arc::clone(topic))
}

/// Partition `index` of `topic`.
pub(super) fn partition(topic: &TopicRecord, index: u32) -> TopicPartition {
    TopicPartition {
        topic: topic.id,
        index: PartitionIndex(index),
    }
}

/// The partitions of a topic that `node` leads, in order.
pub(super) fn led_by(topic: &TopicRecord, node: NodeId) -> Vec<TopicPartition> {
    let partitions = (0..).zip(&topic.partitions);
    let led = partitions.filter(|(_, partition)| partition.leader == Some(node));
    led.map(|(index, _)| partition(topic, index)).collect()
}

/// The same for the topic called `name`, if there is one.
pub(super) fn led_of(image: &ClusterImage, name: &str, node: NodeId) -> Vec<TopicPartition> {
    topics::find(image, name).map_or_else(Vec::new, |topic| led_by(topic, node))
}

/// Settles deliveries, at the leader of their partition if that is another node.
pub(super) async fn settle(
    call: &Call,
    at: TopicPartition,
    group: GroupName,
    settlement: Settlement,
) -> Result<Vec<Result<(), ReceiptError>>, QueueCallError> {
    let left = call.remaining(SETTLE_MAX);
    let queues = &call.shared.api.queues;
    queues.settle_forwarded(at, group, settlement, left).await
}

/// Makes a call, again while nothing was done because leadership moves, for at most
/// `most` and not beyond the client's patience.
pub(super) async fn patiently<T>(
    call: &Call,
    most: Duration,
    ask: impl Fn() -> QueueCall<T>,
) -> Result<T, Refusal> {
    let done = patiently_while(call, most, moves, ask).await;
    done.map_err(|error| errors::queue(&error))
}

/// As [`patiently`], again after every error that `again` says may pass; gives the last one.
pub(super) async fn patiently_while<T>(
    call: &Call,
    most: Duration,
    again: impl Fn(&QueueCallError) -> bool,
    ask: impl Fn() -> QueueCall<T>,
) -> Result<T, QueueCallError> {
    let clock = &call.shared.env.clock;
    let deadline = clock.now() + call.remaining(most) * 9 / 10;
    loop {
        match ask().await {
            Err(error) if again(&error) && clock.now() < deadline => {
                call.shared.env.sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// Whether a call did nothing, for a reason that passes.
pub(super) fn moves(error: &QueueCallError) -> bool {
    match error {
        QueueCallError::NotLeader(_) | QueueCallError::NotAvailable | QueueCallError::Loading => {
            true
        }
        QueueCallError::UnknownPartition
        | QueueCallError::Indeterminate
        | QueueCallError::Overloaded
        | QueueCallError::NoQueue
        | QueueCallError::IllegalGroupName(_)
        | QueueCallError::Unreadable(_)
        | QueueCallError::TooLarge { .. }
        | QueueCallError::Refused(_) => false,
    }
}
