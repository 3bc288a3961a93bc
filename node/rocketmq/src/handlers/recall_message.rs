//! RecallMessage: a delayed message is taken back, if it is not too late.

use std::time::Duration;

use weir_api::queues::{Cancelled, ScheduleHandle};

use super::queue;
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::proto::{Code, RecallMessageRequest, RecallMessageResponse};

/// How long a recall waits for the queue to have a leader.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is said of a handle that no queue of the topic gave. To clients it is a bad request;
/// none repeats it.
const NOT_OURS: Code = Code::InvalidReceiptHandle;
/// Between the queue's handle and the message's id, of which neither has one before it.
const SEPARATOR: char = ':';

/// The handle that a producer is given.
pub(super) fn handle_text(handle: ScheduleHandle, message_id: &str) -> String {
    format!("{handle}{SEPARATOR}{message_id}")
}

pub(crate) async fn handle(
    call: Call,
    request: RecallMessageRequest,
) -> Result<RecallMessageResponse, Refusal> {
    let topic = queue::topic(&call, request.topic.as_ref())?;
    let told = request.recall_handle.split_once(SEPARATOR);
    let told = told.and_then(|(handle, id)| Some((ScheduleHandle::parse(handle)?, id)));
    let (handle, message_id) = told.ok_or_else(|| {
        Refusal::new(
            NOT_OURS,
            format!(
                "'{}' is no recall handle of this cluster",
                request.recall_handle
            ),
        )
    })?;
    let at = queue::partition(&topic, handle.partition);
    let queues = &call.shared.api.queues;
    let left = call.remaining(PATIENCE);
    let cancel = || queues.cancel_forwarded(at, handle, left);
    let cancelled = queue::patiently_while(&call, PATIENCE, queue::moves, cancel).await;
    let cancelled = cancelled.map_err(|error| errors::handle(&error, NOT_OURS))?;
    let too_late = |why: &str| Err(Refusal::new(Code::MessageNotFound, why));
    match cancelled {
        Cancelled::Cancelled => Ok(RecallMessageResponse {
            status: Some(ok()),
            message_id: message_id.to_owned(),
        }),
        Cancelled::AlreadyFired => too_late("the message was due: it is delivered"),
        Cancelled::Unknown => {
            too_late("the message was due or recalled longer ago than is remembered")
        }
    }
}
