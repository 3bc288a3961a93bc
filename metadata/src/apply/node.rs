//! Commands about nodes and the cluster itself.

use weir_base::image::{NodeRecord, NodeState};
use weir_base::{NodeEpoch, NodeId, Uuid};

use super::draft::Draft;
use crate::command::{ItemResult, Outcome, Refusal, Registration};

/// Most producer ids in one block.
const PRODUCER_IDS_MAX: u32 = 1_000_000;

pub(super) fn form_cluster(draft: &mut Draft<'_>, cluster_id: Uuid) -> ItemResult {
    match draft.image().cluster_id {
        Some(id) if id == cluster_id => Ok(Outcome::Done),
        Some(id) => Err(Refusal::AlreadyFormed(id)),
        None => {
            draft.set_cluster_id(cluster_id);
            Ok(Outcome::Done)
        }
    }
}

/// A boot. The node is fenced until the controller has seen it catch up with this
/// entry; its partitions are changed by commands of the same item.
pub(super) fn register(draft: &mut Draft<'_>, registration: &Registration) -> ItemResult {
    if let Some(known) = draft.image().nodes.get(&registration.id)
        && known.storage != registration.storage
    {
        return Err(Refusal::StorageMismatch {
            id: registration.id,
            registered: known.storage,
            offered: registration.storage,
        });
    }
    let epoch = NodeEpoch(draft.index);
    draft.put_node(NodeRecord {
        id: registration.id,
        name: registration.name.clone(),
        storage: registration.storage,
        epoch,
        state: NodeState::Fenced,
        peer_address: registration.peer_address.clone(),
        endpoints: registration.endpoints.clone(),
        rack: registration.rack.clone(),
    });
    Ok(Outcome::Node(epoch))
}

pub(super) fn fence(draft: &mut Draft<'_>, id: NodeId, epoch: NodeEpoch) -> ItemResult {
    draft.node(id, epoch)?.state = NodeState::Fenced;
    Ok(Outcome::Done)
}

pub(super) fn unfence(draft: &mut Draft<'_>, id: NodeId, epoch: NodeEpoch) -> ItemResult {
    draft.node(id, epoch)?.state = NodeState::Active;
    Ok(Outcome::Done)
}

/// A fenced node leads nothing already and stays fenced.
pub(super) fn drain(draft: &mut Draft<'_>, id: NodeId, epoch: NodeEpoch) -> ItemResult {
    let node = draft.node(id, epoch)?;
    if node.is_active() {
        node.state = NodeState::Draining;
    }
    Ok(Outcome::Done)
}

/// Proposed twice, it gives two blocks: a gap in the ids harms nobody.
pub(super) fn allocate_producer_ids(draft: &mut Draft<'_>, count: u32) -> ItemResult {
    if !(1..=PRODUCER_IDS_MAX).contains(&count) {
        return Err(Refusal::InvalidRequest(format!(
            "{count} producer ids: must be 1 to {PRODUCER_IDS_MAX}"
        )));
    }
    let first = draft.image().next_producer_id;
    let end = first
        .checked_add(i64::from(count))
        .ok_or_else(|| Refusal::InvalidRequest("producer ids are used up".to_owned()))?;
    draft.set_next_producer_id(end);
    Ok(Outcome::ProducerIds(first, end))
}
