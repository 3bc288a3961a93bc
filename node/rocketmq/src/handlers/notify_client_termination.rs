//! NotifyClientTermination: a client is closed in good order.

use crate::context::Call;
use crate::errors::{Refusal, ok};
use crate::proto::{NotifyClientTerminationRequest, StatusOnly};

pub(crate) async fn handle(
    call: Call,
    _: NotifyClientTerminationRequest,
) -> Result<StatusOnly, Refusal> {
    drop(call.shared.clients.forget(&call.client));
    Ok(ok().into())
}
