//! Who leads.

use std::collections::BTreeSet;

use weir_base::image::{ClusterImage, NodeState, PartitionRecord};
use weir_base::{NodeId, TopicPartition};

use super::companion::{favourites, leads_itself, takes_both};
use crate::command::{Command, PartitionChange, Refusal};

/// What an election found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elected {
    /// A member of the ISR.
    InSync(NodeId),
    /// An eligible leader outside the ISR, which becomes the whole ISR.
    Eligible(NodeId),
}

/// Elects from `isr` in replica order, else from `elr` but for suspects, whose logs are to
/// be looked at first ([`super::inspect`]); never from elsewhere. Of each, a node that is
/// draining is taken only if nobody else is left; but rather a draining
/// one of the ISR than one of the ELR, whose election would empty the ISR. Among
/// equals who can lead the partition that goes with this one, too.
#[must_use]
pub fn elect(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
    isr: &[NodeId],
    elr: &[NodeId],
) -> Option<Elected> {
    let state = |node: NodeId| image.nodes.get(&node).map(|n| n.state);
    let first = |set: &[NodeId], wanted: NodeState| {
        let is_able = |node: NodeId| set.contains(&node) && state(node) == Some(wanted);
        first_able(image, at, record, is_able)
    };
    let elr: Vec<NodeId> = elr
        .iter()
        .copied()
        .filter(|node| weir_base::mutant!(M29) || !record.suspects.contains(node))
        .collect();
    let best =
        |set: &[NodeId]| first(set, NodeState::Active).or_else(|| first(set, NodeState::Draining));
    best(isr)
        .map(Elected::InSync)
        .or_else(|| best(&elr).map(Elected::Eligible))
}

/// The first in replica order, and of those who can also lead the partition that goes with
/// this one if there are any.
fn first_able(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
    is_able: impl Fn(NodeId) -> bool,
) -> Option<NodeId> {
    let nodes = record.replicas.iter().map(|replica| replica.node);
    let mut able = nodes.filter(|node| is_able(*node));
    let favourites = favourites(image, at);
    let favourite = able.clone().find(|node| favourites.contains(node));
    favourite.or_else(|| able.next())
}

/// Where `item` elects a node that is hindered, an active in-sync replica that is not is
/// taken instead, if there is one: whoever of the ISR leads, nothing is lost. Never the
/// leader that the item takes away.
pub(super) fn spare(image: &ClusterImage, item: &mut [Command], hindered: &BTreeSet<NodeId>) {
    for command in item {
        let Command::ChangePartition(change) = command else {
            continue;
        };
        let Some(record) = image.partition(change.at) else {
            continue;
        };
        let is_new = change.leader != record.leader;
        if !is_new || !change.leader.is_some_and(|node| hindered.contains(&node)) {
            continue;
        }
        let is_able = |node: NodeId| {
            let state = image.nodes.get(&node).map(|known| known.state);
            let is_choice = change.isr.contains(&node) && record.leader != Some(node);
            is_choice && state == Some(NodeState::Active) && !hindered.contains(&node)
        };
        let other = first_able(image, change.at, record, is_able);
        change.leader = other.or(change.leader);
    }
}

/// A change to `record` with these sets, electing anew if the leader is not in the ISR.
/// `None` if nothing would change.
pub(crate) fn change_with(
    image: &ClusterImage,
    at: TopicPartition,
    record: &PartitionRecord,
    isr: Vec<NodeId>,
    elr: Vec<NodeId>,
    last_known_elr: Vec<NodeId>,
) -> Option<PartitionChange> {
    let mut next = record.clone();
    next.isr = isr;
    next.elr = elr;
    next.last_known_elr = last_known_elr;
    if next.leader.is_none_or(|leader| !next.isr.contains(&leader)) {
        next.leader = match elect(image, at, &next, &next.isr, &next.elr) {
            Some(Elected::InSync(node)) => Some(node),
            Some(Elected::Eligible(node)) => {
                lead_from_elr(&mut next, node);
                Some(node)
            }
            None => None,
        };
    }
    change(at, record, next)
}

/// Lets `node` of the ELR lead, as the whole ISR. Nobody of the ISR could be elected, so
/// nobody of it is there.
pub(super) fn lead_from_elr(record: &mut PartitionRecord, node: NodeId) {
    record.leader = Some(node);
    let isr = std::mem::replace(&mut record.isr, vec![node]);
    record.elr.extend(isr);
}

/// The change from `record` to `next`, if there is any.
pub(super) fn change(
    at: TopicPartition,
    record: &PartitionRecord,
    mut next: PartitionRecord,
) -> Option<PartitionChange> {
    crate::apply::settle(&mut next);
    (next != *record).then_some(PartitionChange {
        at,
        partition_epoch: record.partition_epoch,
        leader: next.leader,
        elect: false,
        isr: next.isr,
        elr: next.elr,
        last_known_elr: next.last_known_elr,
    })
}

/// Lets `leader`, an active member of the ISR, lead, in a new epoch even if it does.
pub(crate) fn hand_over(at: TopicPartition, record: &PartitionRecord, leader: NodeId) -> Command {
    Command::ChangePartition(PartitionChange {
        at,
        partition_epoch: record.partition_epoch,
        leader: Some(leader),
        elect: true,
        isr: record.isr.clone(),
        elr: record.elr.clone(),
        last_known_elr: record.last_known_elr.clone(),
    })
}

/// The preferred leader, if it may lead now.
fn preferred(image: &ClusterImage, record: &PartitionRecord) -> Option<NodeId> {
    let node = record.replicas.first()?.node;
    let is_able = image.nodes.get(&node)?.state == NodeState::Active;
    (is_able && record.isr.contains(&node)).then_some(node)
}

/// Makes the preferred replica lead.
///
/// # Errors
/// If it leads already, or is not in the ISR of an active node, or the partition is led
/// where its parent is.
pub fn plan_preferred(image: &ClusterImage, at: TopicPartition) -> Result<Vec<Command>, Refusal> {
    let record = image.partition(at).ok_or(Refusal::UnknownPartition(at))?;
    if image.is_companion(at) && !leads_itself(image, at, record) {
        return Err(Refusal::ElectionNotNeeded);
    }
    let first = record.replicas.first().map(|r| r.node);
    if record.leader.is_some() && record.leader == first {
        return Err(Refusal::ElectionNotNeeded);
    }
    let leader = preferred(image, record).ok_or(Refusal::PreferredLeaderNotAvailable)?;
    Ok(vec![hand_over(at, record, leader)])
}

/// Gives up to `most` partitions back to their preferred leaders.
#[must_use]
pub fn plan_rebalance(image: &ClusterImage, most: usize) -> Vec<Command> {
    image
        .partitions()
        .filter(|(at, record)| leads_itself(image, *at, record))
        .filter_map(|(at, record)| {
            let leader = preferred(image, record).filter(|node| takes_both(image, at, *node))?;
            (record.leader != Some(leader)).then(|| hand_over(at, record, leader))
        })
        .take(most)
        .collect()
}

/// Moves up to `most` leaderships away from `node`, where another in-sync replica can
/// take them.
#[must_use]
pub fn plan_hand_over(image: &ClusterImage, node: NodeId, most: usize) -> Vec<Command> {
    image
        .partitions()
        .filter(|(_, record)| record.leader == Some(node))
        .filter(|(at, record)| leads_itself(image, *at, record))
        .filter_map(|(at, record)| {
            let others: Vec<NodeId> = record
                .isr
                .iter()
                .copied()
                .filter(|member| *member != node)
                .collect();
            match elect(image, at, record, &others, &[]) {
                Some(Elected::InSync(leader)) => Some(hand_over(at, record, leader)),
                Some(Elected::Eligible(_)) | None => None,
            }
        })
        .take(most)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fence::{plan_drain, plan_fence};
    use crate::testing::{cluster, nodes, proposal, record, run, topic};

    #[test]
    fn a_draining_replica_in_sync_wins_over_an_eligible_one() {
        let mut image = cluster(4);
        let configs = [("min.insync.replicas", "3")];
        let at = topic(&mut image, "t", &[1, 2, 3], &configs);
        let shrink = Command::AlterPartition(proposal(&image, at, &[1, 3]));
        run(&mut image, vec![shrink]).unwrap();
        for item in [
            |image: &ClusterImage| plan_drain(image, NodeId(3)),
            |image: &ClusterImage| plan_fence(image, NodeId(1)),
        ] {
            let item = item(&image);
            run(&mut image, item).unwrap();
        }
        let p = record(&image, at);
        assert_eq!(p.leader, Some(NodeId(3)));
        assert_eq!((p.isr, p.elr), (nodes(&[3]), nodes(&[1, 2])));
    }

    #[test]
    fn a_hindered_node_is_elected_only_where_nobody_else_is() {
        let mut image = cluster(4);
        let many = topic(&mut image, "many", &[1, 2, 3], &[]);
        let shrunk = topic(&mut image, "shrunk", &[1, 2, 3], &[]);
        let led = topic(&mut image, "led", &[2, 1, 3], &[]);
        let shrink = Command::AlterPartition(proposal(&image, shrunk, &[1, 2]));
        run(&mut image, vec![shrink]).unwrap();
        let leaders = |image: &ClusterImage| [many, shrunk, led].map(|at| record(image, at).leader);
        let fenced = |hindered: &[NodeId]| {
            let mut image = image.clone();
            let mut item = plan_fence(&image, NodeId(1));
            spare(&image, &mut item, &hindered.iter().copied().collect());
            run(&mut image, item).unwrap();
            assert_eq!(record(&image, many).isr, nodes(&[2, 3]));
            leaders(&image).map(|leader| leader.unwrap().0)
        };
        assert_eq!(fenced(&[]), [2, 2, 2]);
        // It keeps what it leads: that is no election.
        assert_eq!(fenced(&nodes(&[2])), [3, 2, 2]);
        assert_eq!(fenced(&nodes(&[2, 3])), [2, 2, 2]);
        // Nor does what moves away from a node move back to it.
        let mut item = plan_hand_over(&image, NodeId(2), 10);
        let all_others = nodes(&[1, 3, 4]).into_iter().collect();
        spare(&image, &mut item, &all_others);
        run(&mut image, item).unwrap();
        assert_eq!(leaders(&image), [1, 1, 1].map(|id| Some(NodeId(id))));
    }

    #[test]
    fn the_preferred_leader_is_asked_for_and_given_back() {
        let mut image = cluster(3);
        let at = topic(&mut image, "t", &[1, 2, 3], &[]);
        assert_eq!(plan_preferred(&image, at), Err(Refusal::ElectionNotNeeded));
        let item = plan_hand_over(&image, NodeId(1), 10);
        run(&mut image, item).unwrap();
        assert_eq!(record(&image, at).leader, Some(NodeId(2)));
        let item = plan_rebalance(&image, 10);
        run(&mut image, item).unwrap();
        assert_eq!(record(&image, at).leader, Some(NodeId(1)));
        let item = plan_fence(&image, NodeId(1));
        run(&mut image, item).unwrap();
        assert_eq!(
            plan_preferred(&image, at),
            Err(Refusal::PreferredLeaderNotAvailable)
        );
    }
}
