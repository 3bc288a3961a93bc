//! Heartbeat: a member is alive, and learns whether its group rebalances.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use weir_api::groups::{GroupCommand, GroupReply};

use super::groups::{ask, code_of, optional, shared};
use crate::context::Call;

pub(super) async fn handle(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let command = GroupCommand::Heartbeat {
        group: shared(&request.group_id),
        member: shared(&request.member_id),
        instance: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let result = ask!(&call, Heartbeat, command);
    HeartbeatResponse::default().with_error_code(code_of(&result))
}
