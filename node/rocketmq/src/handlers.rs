//! One file a method. Each takes the call and its request, and gives the answer or why
//! it is refused.

pub(crate) mod ack_message;
pub(crate) mod change_invisible_duration;
pub(crate) mod check_back;
pub(crate) mod end_transaction;
pub(crate) mod forward_to_dead_letters;
pub(crate) mod group_changes;
mod groups;
pub(crate) mod heartbeat;
pub(crate) mod notify_client_termination;
pub(crate) mod query_assignment;
pub(crate) mod query_route;
mod queue;
pub(crate) mod recall_message;
pub(crate) mod receive_message;
pub(crate) mod send_message;
pub(crate) mod telemetry;
mod topics;
