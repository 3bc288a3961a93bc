//! Consumer groups as RocketMQ clients expect to find them: made on first use, with
//! RocketMQ's ladder of retries. Where they begin: decisions/0003.

use std::sync::Arc;
use std::time::Duration;

use weir_api::QueueCallError;
use weir_api::image::TopicRecord;
use weir_api::queues::{Backoff, GroupSettings, QueueError};

use super::topics;
use crate::context::Call;
use crate::errors::{self, Refusal};
use crate::proto::MessageType;

/// How long a receive waits for its group to be made.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Settings of a group that nobody made: ordered where the topic takes ordered messages
/// alone.
pub(super) fn settings(topic: &TopicRecord) -> GroupSettings {
    GroupSettings {
        backoff: Backoff::Ladder,
        fifo: topics::accepted(topic) == [MessageType::Fifo],
        ..GroupSettings::default()
    }
}

/// Has the group get every message that is sent to `topic` from now on; gives it as it is.
pub(super) async fn subscribe(
    call: &Call,
    topic: &TopicRecord,
    group: &Arc<str>,
    most: Duration,
) -> Result<GroupSettings, Refusal> {
    let left = call.remaining(most) * 9 / 10;
    let queues = &call.shared.api.queues;
    let subscribed = queues.subscribe(topic.id, Arc::clone(group), settings(topic), left);
    subscribed.await.map_err(|error| errors::queue(&error))
}

/// Whether a call failed because the group is not there yet.
pub(super) fn is_missing(error: &QueueCallError) -> bool {
    matches!(
        error,
        QueueCallError::NoQueue | QueueCallError::Refused(QueueError::NoSuchGroup(_))
    )
}
