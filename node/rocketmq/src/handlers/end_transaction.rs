//! EndTransaction: a half message becomes a message, or never was. Clients ask the node that
//! took the half message; the decision is made where its partition is led by now.

use std::time::Duration;

use weir_api::QueueCallError;
use weir_api::queues::{Decision, DecisionSource, HalfHandle};

use super::queue;
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::proto::{
    Code, EndTransactionRequest, StatusOnly, TransactionResolution, TransactionSource,
};

/// How long a decision waits for the queue to have a leader: its producer waits for it,
/// and if it is lost the producer is asked.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn handle(
    call: Call,
    request: EndTransactionRequest,
) -> Result<StatusOnly, Refusal> {
    let topic = queue::topic(&call, request.topic.as_ref())?;
    let handle = HalfHandle::parse(&request.transaction_id).ok_or_else(|| {
        Refusal::new(
            Code::InvalidTransactionId,
            format!(
                "'{}' is no transaction id of this cluster",
                request.transaction_id
            ),
        )
    })?;
    let decision = match TransactionResolution::try_from(request.resolution) {
        Ok(TransactionResolution::Commit) => Decision::Commit,
        Ok(TransactionResolution::Rollback) => Decision::Rollback,
        // The producer does not know yet: it is asked again.
        Ok(TransactionResolution::Unspecified) => return Ok(ok().into()),
        Err(_) => {
            return Err(Refusal::new(
                Code::BadRequest,
                format!(
                    "transaction resolution {} does not exist",
                    request.resolution
                ),
            ));
        }
    };
    let source = match TransactionSource::try_from(request.source) {
        Ok(TransactionSource::ServerCheck) => DecisionSource::Check,
        Ok(TransactionSource::Client | TransactionSource::Unspecified) | Err(_) => {
            DecisionSource::Producer
        }
    };
    let at = queue::partition(&topic, handle.partition);
    let queues = &call.shared.api.queues;
    let left = call.remaining(PATIENCE);
    let resolve = || queues.resolve_forwarded(at, handle, decision, source, left);
    // The first decision stands, so that one whose fate is unknown may be repeated.
    let again = |error: &QueueCallError| {
        queue::moves(error) || matches!(error, QueueCallError::Indeterminate)
    };
    let resolved = queue::patiently_while(&call, PATIENCE, again, resolve).await;
    resolved.map_err(|error| errors::handle(&error, Code::InvalidTransactionId))?;
    Ok(ok().into())
}
