//! Consumer groups as RocketMQ clients expect to find them: made on first use, from the
//! end of the topic on, with RocketMQ's ladder of retries.

use std::sync::Arc;

use weir_api::QueueCallError;
use weir_api::image::TopicRecord;
use weir_api::log::OffsetQuery;
use weir_api::queues::{Backoff, GroupSettings, GroupView, QueueError};
use weir_base::TopicPartition;

use super::topics;
use crate::context::Shared;
use crate::errors::{self, Refusal};
use crate::proto::MessageType;

/// Settings of a group that nobody made: ordered where the topic takes ordered messages
/// alone.
fn settings(topic: &TopicRecord) -> GroupSettings {
    GroupSettings {
        backoff: Backoff::Ladder,
        fifo: topics::accepted(topic) == [MessageType::Fifo],
        ..GroupSettings::default()
    }
}

/// Makes `group` on a partition led here, if there is none; gives it as it is.
pub(super) async fn ensure(
    shared: &Shared,
    topic: &TopicRecord,
    at: TopicPartition,
    group: &Arc<str>,
) -> Result<GroupView, Refusal> {
    let end = shared.api.log.offset(at, OffsetQuery::Latest, None).await;
    let end = end.map_err(|error| errors::read(&error))?;
    let ensured = shared.api.queues.ensure_group(
        at,
        Arc::clone(group),
        settings(topic),
        end.offset.unwrap_or_default(),
        false,
    );
    ensured.await.map_err(|error| errors::queue(&error))
}

/// Whether a call failed because the group is not there yet.
pub(super) fn is_missing(error: &QueueCallError) -> bool {
    matches!(
        error,
        QueueCallError::NoQueue | QueueCallError::Refused(QueueError::NoSuchGroup(_))
    )
}
