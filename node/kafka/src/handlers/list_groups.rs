//! ListGroups: those that this node coordinates.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::groups::{GroupCommand, GroupListing, GroupReply};

use super::groups::{code, mismatch};
use crate::context::{Call, text};

/// The only type of group there is.
const CLASSIC: &str = "classic";

pub(super) async fn handle(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let response = ListGroupsResponse::default();
    let listed = match super::groups::call(&call, GroupCommand::List).await {
        Ok(GroupReply::List(listed)) => listed,
        Ok(other) => return response.with_error_code(code(&mismatch(&other))),
        Err(error) => return response.with_error_code(code(&error)),
    };
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(value))
    };
    if !wanted(&request.types_filter, CLASSIC) {
        return response;
    }
    let listed = listed.into_iter();
    let listed = listed.filter(|group| wanted(&request.states_filter, group.state.name()));
    response.with_groups(listed.map(|group| line(call.version, &group)).collect())
}

fn line(version: i16, group: &GroupListing) -> ListedGroup {
    let mut line = ListedGroup::default()
        .with_group_id(text(&group.group).into())
        .with_protocol_type(text(&group.protocol_type));
    if version >= 4 {
        line.group_state = StrBytes::from_static_str(group.state.name());
    }
    if version >= 5 {
        line.group_type = StrBytes::from_static_str(CLASSIC);
    }
    line
}
