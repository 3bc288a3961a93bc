//! One file a verb. Each takes a decoded request and gives the response; [`route`]
//! decodes, encodes and picks.

mod api_versions;
mod create_topics;
mod delete_topics;
pub(crate) mod fetch;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod produce;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest,
};

use crate::close::CloseReason;
use crate::codec::{RequestHead, versions};
use crate::context::{Call, Shared};
use crate::session::{Handling, Reply};

/// Decodes a request with the crate, hands it to its handler and encodes what that gives.
macro_rules! answer {
    ($module:ident, $request:ty, $head:ident, $body:ident, $call:ident) => {{
        let request: $request = $head.decode($body)?;
        Box::pin(async move {
            let response = $module::handle($call, request).await;
            $head.encode(&response).map(Reply::One)
        })
    }};
}

/// Starts handling a request frame.
///
/// # Errors
/// The reason to close the connection, where the protocol has no way to answer.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the table of versions says what is served; a test holds the two together"
)]
pub(crate) fn route(
    shared: &Arc<Shared>,
    remote: SocketAddr,
    mut frame: Bytes,
) -> Result<Handling, CloseReason> {
    let head = RequestHead::read(&mut frame)?;
    let api = head.api as i16;
    let row = versions::row(head.api).ok_or(CloseReason::UnknownApi(api))?;
    if !(row.min..=row.max).contains(&head.version) {
        if head.api as i16 == ApiKey::ApiVersions as i16 {
            return Ok(Box::pin(async move { api_versions::unsupported(head) }));
        }
        return Err(CloseReason::UnsupportedVersion {
            api,
            version: head.version,
        });
    }
    let api = head.api;
    if api as i16 != ApiKey::Produce as i16 && frame.len() > shared.options.request_bytes_max {
        return Err(head.malformed(format!("{} bytes", frame.len())));
    }
    let call = Call {
        shared: shared.clone(),
        version: head.version,
        client_id: head.client_id.clone(),
        remote,
    };
    Ok(match api {
        ApiKey::Produce => produce::start(head, &call, frame)?,
        ApiKey::Fetch => {
            let request: FetchRequest = head.decode(frame)?;
            Box::pin(async move { Ok(fetch::handle(&head, call, request).await) })
        }
        ApiKey::ApiVersions => api_versions::handle(head, frame)?,
        ApiKey::Metadata => answer!(metadata, MetadataRequest, head, frame, call),
        ApiKey::ListOffsets => answer!(list_offsets, ListOffsetsRequest, head, frame, call),
        ApiKey::CreateTopics => answer!(create_topics, CreateTopicsRequest, head, frame, call),
        ApiKey::DeleteTopics => answer!(delete_topics, DeleteTopicsRequest, head, frame, call),
        ApiKey::InitProducerId => {
            answer!(init_producer_id, InitProducerIdRequest, head, frame, call)
        }
        _ => return Err(CloseReason::UnknownApi(api as i16)),
    })
}
