//! NotifyClientTermination: a client is closed in good order.

use std::sync::Arc;

use super::queue;
use crate::clients::Gone;
use crate::context::Call;
use crate::errors::{Refusal, ok};
use crate::proto::{NotifyClientTerminationRequest, StatusOnly};

pub(crate) async fn handle(
    call: Call,
    _: NotifyClientTerminationRequest,
) -> Result<StatusOnly, Refusal> {
    if let Some(gone) = call.shared.clients.forget(&call.client) {
        leave(&call, &gone).await;
    }
    Ok(ok().into())
}

/// Ends what a client that is gone holds here. What cannot be told is noticed by the
/// queue when the leases end.
pub(super) async fn leave(call: &Call, gone: &Gone) {
    let image = call.shared.image();
    for topic in &gone.topics {
        for at in queue::led_of(&image, topic, call.shared.node()) {
            let member = Arc::clone(&call.client);
            if let Err(error) = call.shared.api.queues.leave(at, member).await {
                tracing::debug!(%at, %error, "leases of a client that is gone run out");
            }
        }
    }
}
