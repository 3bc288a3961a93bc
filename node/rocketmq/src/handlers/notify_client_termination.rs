//! NotifyClientTermination: a client is closed in good order.

use std::sync::Arc;
use std::time::Duration;

use weir_api::QueueCallError;
use weir_base::TopicPartition;

use super::queue;
use crate::clients::Gone;
use crate::context::Call;
use crate::errors::{Refusal, ok};
use crate::proto::{NotifyClientTerminationRequest, StatusOnly};

/// Pause before a queue that could not be told is told again.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn handle(
    call: Call,
    _: NotifyClientTerminationRequest,
) -> Result<StatusOnly, Refusal> {
    if let Some(gone) = call.shared.clients.forget(&call.client) {
        leave(&call, &gone).await;
    }
    Ok(ok().into())
}

/// Ends what a client that is gone holds here. A queue that cannot be told now is told as
/// soon as it can be: what the broker renews would else be held for hours.
pub(super) async fn leave(call: &Call, gone: &Gone) {
    let image = call.shared.image();
    let topics = gone.topics.iter();
    let led = topics.flat_map(|topic| queue::led_of(&image, topic, call.shared.node()));
    let left = tell(call, led.collect()).await;
    if left.is_empty() {
        return;
    }
    let again = call.clone();
    call.shared.env.tasks.spawn("rocketmq-leave", async move {
        let (shared, mut left) = (&again.shared, left);
        // One that is back goes on with what it holds.
        while !left.is_empty() && shared.clients.role(&again.client).is_none() {
            shared.env.sleep(PAUSE).await;
            left = tell(&again, left).await;
        }
    });
}

/// Tells queues that a client is gone; gives those that are to be told again.
async fn tell(call: &Call, led: Vec<TopicPartition>) -> Vec<TopicPartition> {
    let mut left = Vec::new();
    for at in led {
        let member = Arc::clone(&call.client);
        match call.shared.api.queues.leave(at, member).await {
            Err(error) if keeps_leases(&error) => {
                tracing::debug!(%at, %error, "a queue cannot be told that a client is gone");
                left.push(at);
            }
            Ok(()) | Err(_) => {}
        }
    }
    left
}

/// Whether a queue that gave this error may still hold leases: who leads no more has none.
fn keeps_leases(error: &QueueCallError) -> bool {
    match error {
        QueueCallError::NotAvailable
        | QueueCallError::Loading
        | QueueCallError::Indeterminate
        | QueueCallError::Overloaded => true,
        QueueCallError::UnknownPartition
        | QueueCallError::NotLeader(_)
        | QueueCallError::NoQueue
        | QueueCallError::IllegalGroupName(_)
        | QueueCallError::Unreadable(_)
        | QueueCallError::TooLarge { .. }
        | QueueCallError::Refused(_) => false,
    }
}
