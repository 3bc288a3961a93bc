//! ChangeInvisibleDuration: a simple consumer takes more time or less, a push consumer
//! returns a message that it failed.
//!
//! The request is the same for both. For a push consumer it is the end of an attempt: the
//! message is with nobody until it comes again. For a simple consumer the lease goes on,
//! and with it the handle.

use std::sync::Arc;

use weir_api::queue::Settlement;

use super::queue;
use crate::clients::{Role, Takes};
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::names;
use crate::proto::{
    ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse, Code, WireDuration,
};

pub(crate) async fn handle(
    call: Call,
    request: ChangeInvisibleDurationRequest,
) -> Result<ChangeInvisibleDurationResponse, Refusal> {
    let group: Arc<str> = names::group(request.group.as_ref())?.into();
    let topic = queue::topic(&call, request.topic.as_ref())?;
    let receipt = errors::receipt(&request.receipt_handle)?;
    let asked = request
        .invisible_duration
        .and_then(WireDuration::to_duration);
    let asked = asked.ok_or_else(|| {
        Refusal::new(
            Code::IllegalInvisibleTime,
            "invisible duration is missing or negative",
        )
    })?;
    let at = queue::partition(&topic, receipt.partition);
    let settlement = match call.shared.clients.role(&call.client) {
        Some(Role::Consumer {
            takes: Takes::Pushed,
            ..
        }) => Settlement::Nack(receipt, Some(asked)),
        Some(Role::Consumer { .. } | Role::Producer { .. }) | None => {
            Settlement::Renew(receipt, asked)
        }
    };
    let done = queue::settle(&call, at, group, settlement).await;
    done.map_err(|error| errors::settling(&error))?;
    Ok(ChangeInvisibleDurationResponse {
        status: Some(ok()),
        receipt_handle: request.receipt_handle,
    })
}
