//! SyncGroup: the leader hands in everybody's assignment, all get theirs.

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use weir_api::groups::{GroupCommand, GroupReply, SyncGroup};

use super::groups::{ask, code, optional, shared};
use crate::context::{Call, text};

pub(super) async fn handle(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter();
    let sync = SyncGroup {
        group: shared(&request.group_id),
        member: shared(&request.member_id),
        instance: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol: optional(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|a| (shared(&a.member_id), a.assignment))
            .collect(),
    };
    let response = SyncGroupResponse::default();
    match ask!(&call, Sync, GroupCommand::Sync(sync)) {
        Err(error) => response.with_error_code(code(&error)),
        Ok(synced) => {
            let mut response = response.with_assignment(synced.assignment);
            if call.version >= 5 {
                response.protocol_type = Some(text(&synced.protocol_type));
                response.protocol_name = Some(text(&synced.protocol));
            }
            response
        }
    }
}
