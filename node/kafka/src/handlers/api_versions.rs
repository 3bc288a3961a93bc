//! ApiVersions: every client's first request.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::close::CloseReason;
use crate::codec::RequestHead;
use crate::codec::versions::SERVED;
use crate::session::{Handling, Reply};

pub(super) fn handle(head: RequestHead, body: Bytes) -> Result<Handling, CloseReason> {
    let _software: ApiVersionsRequest = head.decode(body)?;
    Ok(Box::pin(
        async move { head.encode(&response()).map(Reply::One) },
    ))
}

/// A version this node does not know: answered in version 0, so that the client can
/// pick one from the list.
pub(super) fn unsupported(head: RequestHead) -> Result<Reply, CloseReason> {
    let oldest = RequestHead { version: 0, ..head };
    let response = response().with_error_code(ResponseError::UnsupportedVersion.code());
    oldest.encode(&response).map(Reply::One)
}

fn response() -> ApiVersionsResponse {
    let rows = SERVED.iter().map(|row| {
        ApiVersion::default()
            .with_api_key(row.api as i16)
            .with_min_version(row.advertised_min)
            .with_max_version(row.max)
    });
    ApiVersionsResponse::default().with_api_keys(rows.collect())
}
