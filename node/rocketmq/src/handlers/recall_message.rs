//! RecallMessage: a delayed message is taken back, if it is not too late.

use weir_api::queues::{Cancelled, ScheduleHandle};

use super::queue;
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::proto::{Code, RecallMessageRequest, RecallMessageResponse};

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
            Code::BadRequest,
            format!(
                "'{}' is no recall handle of this cluster",
                request.recall_handle
            ),
        )
    })?;
    let at = queue::partition(&topic, handle.partition);
    let cancelled = call.shared.api.queues.cancel(at, handle).await;
    let too_late = |why: &str| Err(Refusal::new(Code::MessageNotFound, why));
    match cancelled.map_err(|error| errors::queue(&error))? {
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
