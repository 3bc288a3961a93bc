//! JoinGroup: waits until the group's next generation stands.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::GroupCallError;
use weir_api::groups::{GroupCommand, GroupError, GroupReply, JoinGroup, Joined};

use super::groups::{ask, code, member, optional, shared};
use crate::context::{Call, millis, text};

pub(super) async fn handle(call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let asked_as = request.member_id.clone();
    let client_id = call.client_id.as_deref().unwrap_or("");
    let session_timeout = millis(request.session_timeout_ms);
    let protocols = request.protocols.into_iter();
    let join = JoinGroup {
        group: shared(&request.group_id),
        member: member(&request.member_id),
        fresh_member_id: call.shared.api.groups.fresh_member_id(client_id),
        instance: optional(request.group_instance_id.as_ref()),
        member_id_required: call.version >= 4,
        skip_assignment_understood: call.version >= 9,
        client_id: shared(client_id),
        client_host: format!("/{}", call.remote.ip()).into(),
        session_timeout,
        rebalance_timeout: if call.version >= 1 {
            millis(request.rebalance_timeout_ms)
        } else {
            session_timeout
        },
        protocol_type: shared(&request.protocol_type),
        protocols: protocols.map(|p| (shared(&p.name), p.metadata)).collect(),
    };
    match ask!(&call, Join, GroupCommand::Join(join)) {
        Ok(joined) => respond(call.version, joined),
        Err(error) => refuse(call.version, &error, asked_as),
    }
}

fn respond(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        let mut member = JoinGroupResponseMember::default()
            .with_member_id(text(&id))
            .with_metadata(metadata);
        if version >= 5 {
            member.group_instance_id = instance.as_deref().map(text);
        }
        member
    });
    let mut response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(text(&joined.protocol)))
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member))
        .with_members(members.collect());
    if version >= 7 {
        response.protocol_type = Some(text(&joined.protocol_type));
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

fn refuse(version: i16, error: &GroupCallError, asked_as: StrBytes) -> JoinGroupResponse {
    let member_id = match error {
        GroupCallError::Group(GroupError::MemberIdRequired(fresh)) => text(fresh),
        GroupCallError::Group(_)
        | GroupCallError::NotCoordinator
        | GroupCallError::NotAvailable
        | GroupCallError::Loading
        | GroupCallError::Indeterminate => asked_as,
    };
    JoinGroupResponse::default()
        .with_error_code(code(error))
        .with_generation_id(-1)
        .with_protocol_name((version < 7).then(StrBytes::new))
        .with_member_id(member_id)
}
