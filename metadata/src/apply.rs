//! Carries out commands on the cluster image. Pure and deterministic: the same log
//! gives the same image on every node (I15).
//!
//! Owns the only code that changes a [`ClusterImage`]. Each item of a proposal is
//! applied whole or, with a typed [`Refusal`], not at all; what it touched is checked
//! against I1, I5 to I7, I9 and I10 before it stays, so that a bug in a planner costs
//! a refused item and never an image that breaks them. Called by the group's state
//! machine, by observers, and by the controller on a draft. Holds nothing, so a crash
//! leaves nothing behind.

mod companion;
mod draft;
mod node;
mod partition;
mod reassign;
mod topic;

use weir_base::image::ClusterImage;

use crate::command::{Command, ItemResult, Outcome, Proposal, Refusal};
pub(crate) use draft::Draft;
pub(crate) use partition::settle;
pub(crate) use reassign::is_ready;
pub(crate) use topic::check_assignment;

/// Applies the log entry at `index`; one result an item.
pub fn apply(image: &mut ClusterImage, index: u64, proposal: &Proposal) -> Vec<ItemResult> {
    let mut serial = 0;
    let results = proposal
        .items
        .iter()
        .map(|item| apply_item(image, index, &mut serial, item))
        .collect();
    image.version = index;
    results
}

/// Applies one item, as the controller does on its draft.
///
/// # Errors
/// Why nothing was changed.
pub fn apply_item(
    image: &mut ClusterImage,
    index: u64,
    serial: &mut u16,
    item: &[Command],
) -> ItemResult {
    let mut draft = Draft::new(image, index, serial);
    let mut first = None;
    for command in item {
        match apply_command(&mut draft, command) {
            Ok(outcome) => {
                first.get_or_insert(outcome);
            }
            Err(refusal) => {
                draft.roll_back();
                return Err(refusal);
            }
        }
    }
    if let Err(violation) = draft.check() {
        draft.roll_back();
        return Err(Refusal::breaks(violation.invariant, violation.detail));
    }
    Ok(first.unwrap_or(Outcome::Done))
}

fn apply_command(draft: &mut Draft<'_>, command: &Command) -> ItemResult {
    match command {
        Command::FormCluster { cluster_id } => node::form_cluster(draft, *cluster_id),
        Command::RegisterNode(registration) => node::register(draft, registration),
        Command::FenceNode { id, epoch } => node::fence(draft, *id, *epoch),
        Command::UnfenceNode { id, epoch } => node::unfence(draft, *id, *epoch),
        Command::DrainNode { id, epoch } => node::drain(draft, *id, *epoch),
        Command::CreateTopic {
            id,
            name,
            internal,
            configs,
            replicas,
        } => topic::create(draft, *id, name, *internal, configs, replicas),
        Command::DeleteTopic { id } => topic::delete(draft, *id),
        Command::CreatePartitions { id, from, replicas } => {
            topic::create_partitions(draft, *id, *from, replicas)
        }
        Command::SetTopicConfigs { id, configs } => topic::set_configs(draft, *id, configs),
        Command::SetClusterConfigs { configs } => topic::set_cluster_configs(draft, configs),
        Command::AlterPartition(proposal) => partition::alter(draft, proposal),
        Command::ChangePartition(change) => partition::change(draft, change),
        Command::StartReassignment {
            at,
            partition_epoch,
            target,
        } => reassign::start(draft, *at, *partition_epoch, target),
        Command::CancelReassignment {
            at,
            partition_epoch,
        } => reassign::cancel(draft, *at, *partition_epoch),
        Command::CompleteReassignment {
            at,
            partition_epoch,
        } => reassign::complete(draft, *at, *partition_epoch),
        Command::SetDurability {
            at,
            partition_epoch,
        } => partition::set_durability(draft, *at, *partition_epoch),
        Command::AllocateProducerIds { count } => node::allocate_producer_ids(draft, *count),
        Command::PutDocument {
            key,
            expected,
            value,
        } => crate::document::put(draft, key, *expected, value),
        Command::DeleteDocument { key, expected } => crate::document::delete(draft, key, *expected),
        Command::RenewReplica {
            at,
            partition_epoch,
            node,
        } => partition::renew_replica(draft, *at, *partition_epoch, *node),
    }
}

#[cfg(test)]
mod tests;
