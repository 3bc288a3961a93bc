//! LeaveGroup: one member, or several since version 3.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use weir_api::groups::{GroupCommand, GroupReply, LeavingMember};

use super::groups::{ask, code, member, optional, shared};
use crate::context::Call;
use crate::errors::{self, NONE};

pub(super) async fn handle(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let leaving = if call.version >= 3 {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let members = leaving.iter().map(|leaving| LeavingMember {
        member: member(&leaving.member_id),
        instance: optional(leaving.group_instance_id.as_ref()),
    });
    let command = GroupCommand::Leave {
        group: shared(&request.group_id),
        members: members.collect(),
    };
    let response = LeaveGroupResponse::default();
    let results = match ask!(&call, Leave, command) {
        Ok(results) => results,
        Err(error) => return response.with_error_code(code(&error)),
    };
    let codes = results.into_iter().map(|result| match result {
        Ok(()) => NONE,
        Err(error) => errors::group(&error).code(),
    });
    if call.version < 3 {
        let codes: Vec<i16> = codes.collect();
        return response.with_error_code(codes.first().copied().unwrap_or(NONE));
    }
    let members = leaving.into_iter().zip(codes).map(|(leaving, code)| {
        MemberResponse::default()
            .with_member_id(leaving.member_id)
            .with_group_instance_id(leaving.group_instance_id)
            .with_error_code(code)
    });
    response.with_members(members.collect())
}
