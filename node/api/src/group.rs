//! Consumer groups.

use thiserror::Error;
use weir_base::{BoxFuture, NodeId};
use weir_coordinator::{GroupCommand, GroupError, GroupReply};

/// Where a group's coordinator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinator {
    /// The node to ask.
    pub node: NodeId,
}

/// Why a group call could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupCallError {
    /// Another node coordinates it.
    #[error("this node does not coordinate the group")]
    NotCoordinator,
    /// The journal has no leader, or its internal topic is being made: retry.
    #[error("the group's coordinator is not available")]
    NotAvailable,
    /// This node leads the journal and still replays it: retry.
    #[error("the group's coordinator is loading")]
    Loading,
    /// Leadership was lost meanwhile: the outcome is unknown. Join, heartbeat and commit
    /// may all be repeated at the new coordinator.
    #[error("the coordinator moved while the call was under way")]
    Indeterminate,
    /// The group refused.
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// The group coordinator.
pub trait GroupApi: Send + Sync {
    /// Finds the coordinator of a group; makes the internal topic on first use.
    fn coordinator(&self, group: &str) -> BoxFuture<'static, Result<Coordinator, GroupCallError>>;

    /// Carries out a command here. Replies leave only when everything they were decided
    /// on is committed. `List` covers the groups that this node coordinates.
    fn call(&self, command: GroupCommand)
    -> BoxFuture<'static, Result<GroupReply, GroupCallError>>;

    /// A block-allocated id for a new idempotent producer.
    fn new_producer_id(&self) -> BoxFuture<'static, Result<i64, GroupCallError>>;

    /// Draws a member id for a newcomer: `<client id>-<uuid>`.
    fn fresh_member_id(&self, client_id: &str) -> weir_coordinator::MemberId;
}
