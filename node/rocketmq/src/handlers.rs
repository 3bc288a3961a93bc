//! One file a method. Each takes the call and its request, and gives the answer or why
//! it is refused.

pub(crate) mod heartbeat;
pub(crate) mod notify_client_termination;
pub(crate) mod query_assignment;
pub(crate) mod query_route;
pub(crate) mod send_message;
pub(crate) mod telemetry;
mod topics;
