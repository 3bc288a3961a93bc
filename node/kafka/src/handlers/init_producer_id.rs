//! InitProducerId: an id for an idempotent producer.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::context::Call;
use crate::errors;

pub(super) async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let none = InitProducerIdResponse::default()
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    if request.transactional_id.is_some() {
        // Transactions are not supported: a code that no client retries.
        return none.with_error_code(ResponseError::InvalidRequest.code());
    }
    match call.shared.api.groups.new_producer_id().await {
        Ok(id) => none.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => none.with_error_code(errors::group_call(&error).code()),
    }
}
