//! DeleteGroups: empty groups and their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use weir_api::groups::{GroupCommand, GroupReply};

use super::groups::{ask, code_of, shared};
use crate::context::Call;

pub(super) async fn handle(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let command = GroupCommand::Delete {
            group: shared(&group),
        };
        let result = ask!(&call, Delete, command);
        results.push(
            DeletableGroupResult::default()
                .with_group_id(group)
                .with_error_code(code_of(&result)),
        );
    }
    DeleteGroupsResponse::default().with_results(results)
}
