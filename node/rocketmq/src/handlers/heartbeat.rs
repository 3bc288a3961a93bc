//! Heartbeat: every 10 s from every client to every node it uses.
//!
//! It asks whether this node still knows the client. That the call came says that the client
//! lives, as every call does.

use super::telemetry;
use crate::context::Call;
use crate::errors::{Refusal, ok};
use crate::proto::{Code, HeartbeatRequest, StatusOnly};

pub(crate) async fn handle(call: Call, beat: HeartbeatRequest) -> Result<StatusOnly, Refusal> {
    telemetry::client_type(beat.client_type)?;
    match call.shared.clients.role(&call.client) {
        Some(_) => Ok(ok().into()),
        None => Err(Refusal::new(
            Code::UnrecognizedClientType,
            "this node does not know the client's settings: send them over Telemetry",
        )),
    }
}
