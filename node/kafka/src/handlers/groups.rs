//! What the group handlers share.

use std::sync::Arc;

use weir_api::GroupCallError;
use weir_api::groups::{GroupCommand, GroupReply};

use crate::context::Call;
use crate::errors;

/// Asks the coordinator and takes the reply of the command's own kind.
macro_rules! ask {
    ($call:expr, $kind:ident, $command:expr) => {
        match super::groups::call($call, $command).await {
            Ok(GroupReply::$kind(result)) => result.map_err(weir_api::GroupCallError::from),
            Ok(other) => Err(super::groups::mismatch(&other)),
            Err(error) => Err(error),
        }
    };
}
pub(super) use ask;

pub(super) async fn call(call: &Call, command: GroupCommand) -> Result<GroupReply, GroupCallError> {
    call.shared.api.groups.call(command).await
}

/// A reply of another kind than the command: a bug behind the waist, not the client's.
pub(super) fn mismatch(reply: &GroupReply) -> GroupCallError {
    tracing::error!(?reply, "coordinator answered another command");
    GroupCallError::NotAvailable
}

pub(super) fn shared(value: &str) -> Arc<str> {
    Arc::from(value)
}

/// The wire's empty member id means none.
pub(super) fn member(value: &str) -> Option<Arc<str>> {
    (!value.is_empty()).then(|| shared(value))
}

pub(super) fn optional(value: Option<&kafka_protocol::protocol::StrBytes>) -> Option<Arc<str>> {
    value.map(|value| shared(value))
}

pub(super) fn code(error: &GroupCallError) -> i16 {
    errors::group_call(error).code()
}

pub(super) fn code_of<T>(result: &Result<T, GroupCallError>) -> i16 {
    result.as_ref().err().map_or(errors::NONE, code)
}
