//! Heartbeat: every 10 s from every client to every node it uses.
//!
//! It only asks whether this node still knows the client: the stream of telemetry tells
//! by itself that a client is gone.

use crate::context::Call;
use crate::errors::{Refusal, ok};
use crate::proto::{Code, HeartbeatRequest, StatusOnly};

pub(crate) async fn handle(call: Call, _: HeartbeatRequest) -> Result<StatusOnly, Refusal> {
    match call.shared.clients.role(&call.client) {
        Some(_) => Ok(ok().into()),
        None => Err(Refusal::new(
            Code::UnrecognizedClientType,
            "this node does not know the client's settings: send them over Telemetry",
        )),
    }
}
