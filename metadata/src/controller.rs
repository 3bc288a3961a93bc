//! The controller's planners: pure functions from the image and an event to commands.
//!
//! (`task` alone is their shell.) Gossip and heartbeats only suspect; a planner proposes; the metadata group decides;
//! `apply` refuses what is stale. Nothing but `task` has a clock or does I/O. What they must
//! keep: I1, I5 to I7, I9, I10; the property tests in `tests/model.rs` drive them with
//! random events.

pub mod companion;
pub mod elect;
pub mod fence;
pub mod inspect;
pub mod place;
pub(crate) mod plan;
pub mod reassign;
pub mod resign;
pub mod sessions;
pub mod slow;
pub(crate) mod task;
