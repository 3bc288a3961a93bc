//! Consumer groups as RocketMQ clients expect to find them: made on first use, from the
//! end of the topic on, with RocketMQ's ladder of retries.

use std::sync::Arc;
use std::time::Duration;

use weir_api::image::TopicRecord;
use weir_api::log::OffsetQuery;
use weir_api::queues::{Backoff, GroupSettings, GroupView, QueueError};
use weir_api::{QueueCallError, ReadError};
use weir_base::{Offset, TopicPartition};

use super::{queue, topics};
use crate::context::Call;
use crate::errors::{self, Refusal};
use crate::proto::MessageType;

/// How long making a group waits for its queue to be made and led.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a partition that is not served yet is asked for its end again.
const PAUSE: Duration = Duration::from_millis(10);

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
    call: &Call,
    topic: &TopicRecord,
    at: TopicPartition,
    group: &Arc<str>,
) -> Result<GroupView, Refusal> {
    let api = &call.shared.api;
    let start = end(call, at).await?;
    let ensure = || {
        let group = Arc::clone(group);
        api.queues
            .ensure_group(at, group, settings(topic), start, false)
    };
    queue::patiently(call, PATIENCE, ensure).await
}

/// The end of a partition. A topic is in the image a moment before its leaders serve: a
/// group that was given up then would begin later, and miss what was sent in between.
async fn end(call: &Call, at: TopicPartition) -> Result<Offset, Refusal> {
    let clock = &call.shared.env.clock;
    let deadline = clock.now() + call.remaining(PATIENCE) * 9 / 10;
    loop {
        let end = call.shared.api.log.offset(at, OffsetQuery::Latest, None);
        match end.await {
            Ok(end) => return Ok(end.offset.unwrap_or_default()),
            Err(ReadError::NotLeader(_) | ReadError::NotReady) if clock.now() < deadline => {
                call.shared.env.sleep(PAUSE).await;
            }
            Err(error) => return Err(errors::read(&error)),
        }
    }
}

/// Whether a call failed because the group is not there yet.
pub(super) fn is_missing(error: &QueueCallError) -> bool {
    matches!(
        error,
        QueueCallError::NoQueue | QueueCallError::Refused(QueueError::NoSuchGroup(_))
    )
}
