//! ForwardMessageToDeadLetterQueue: a consumer of an ordered group gives a message up.
//!
//! It tried by itself, over and over, while the queue counted one attempt: the letter says
//! what the consumer says, unless the queue knows of more.

use weir_api::queue::Settlement;

use super::queue;
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::names;
use crate::proto::{ForwardMessageToDeadLetterQueueRequest, StatusOnly};

pub(crate) async fn handle(
    call: Call,
    request: ForwardMessageToDeadLetterQueueRequest,
) -> Result<StatusOnly, Refusal> {
    let group = names::group(request.group.as_ref())?;
    let topic = queue::topic(&call, request.topic.as_ref())?;
    let receipt = errors::receipt(&request.receipt_handle)?;
    let at = queue::partition(&topic, receipt.partition);
    let told = request.delivery_attempt.max(0);
    let attempts = u16::try_from(told).unwrap_or(u16::MAX);
    let settlement = Settlement::DeadLetter(receipt, attempts);
    let forwarded = queue::settle(&call, at, group.into(), settlement).await;
    forwarded.map_err(|error| errors::settling(&error))?;
    Ok(ok().into())
}
