//! DescribeGroups.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::GroupCallError;
use weir_api::groups::{GroupCommand, GroupDescription, GroupError, GroupReply, GroupState};

use super::groups::{ask, code, shared};
use crate::context::{Call, text};

pub(super) async fn handle(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let command = GroupCommand::Describe {
            group: shared(&group),
        };
        let answer = DescribedGroup::default().with_group_id(group);
        groups.push(match ask!(&call, Describe, command) {
            Ok(description) => describe(call.version, answer, description),
            Err(GroupCallError::Group(GroupError::NoSuchGroup)) => unknown(call.version, answer),
            Err(error) => answer.with_error_code(code(&error)),
        });
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

/// Before version 6 a group that does not exist is described as dead.
fn unknown(version: i16, answer: DescribedGroup) -> DescribedGroup {
    let answer = answer.with_group_state(StrBytes::from_static_str(GroupState::Dead.name()));
    if version < 6 {
        return answer;
    }
    answer
        .with_error_code(ResponseError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_static_str("group does not exist")))
}

fn describe(version: i16, answer: DescribedGroup, group: GroupDescription) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| {
        let mut described = DescribedGroupMember::default()
            .with_member_id(text(&member.member))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment);
        if version >= 4 {
            described.group_instance_id = member.instance.as_deref().map(text);
        }
        described
    });
    answer
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members.collect())
}
