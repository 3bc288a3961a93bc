//! Partitions that only an operator can bring back, because the faults took every copy
//! that may lead.
//!
//! Nobody leads but a member of ISR or ELR (reliability 3.6), and a mode promises to
//! outlive the loss of min ISR - 1 copies (3.4). A partition without a leader is forgiven
//! only where the faults really took more: at least min ISR copies since they were last
//! counted on, and each in a way its mode does not outlive. A copy counts as taken
//! - by power, if its log is flushed asynchronously, its machine lost its power since it
//!   joined, and the record says that it is asked in a recovery and never elected;
//! - by its disk, if a fault spoiled what that was writing since it joined, or what that
//!   held since the copy began, and the node cannot use the copy, or gave it up for one that
//!   begins anew, or never came back. Who joins again joins with what it has: what rotted
//!   stays rotten, and is found when it is read.
//!
//! One member whose copy no fault took has to lead: its partition is judged as any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_base::image::{ClusterImage, FlushMode, PartitionRecord};
use weir_base::{NodeId, TopicPartition, Uuid};

/// How late the newest image of any node may be, in milliseconds, as long as somebody leads the
/// metadata group. While nobody does it is later: what was decided before is seen when somebody
/// does. But it was decided behind what was seen before it, so who is seen to join may have
/// joined as much earlier than the image changed the last time.
const LATE_MS: u64 = 2_000;

/// Since when copies are counted on, in simulated milliseconds, by the newest image.
#[derive(Default)]
pub(super) struct Membership {
    image: Option<Arc<ClusterImage>>,
    changed_at: Option<u64>,
    copies: BTreeMap<(TopicPartition, NodeId), Copy>,
    since: BTreeMap<(TopicPartition, NodeId), Since>,
    /// Min ISR when it last had a leader and as many in sync, or less if less was asked for
    /// since: then copies were let go that the stronger mode counted on.
    promised: BTreeMap<TopicPartition, u32>,
}

/// A copy, by its identity, and since when a node has it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Copy {
    id: Uuid,
    begun: u64,
}

#[derive(Clone, Copy)]
struct Since {
    joined: u64,
    /// What was counted on last.
    copy: Copy,
    /// Of ISR or ELR; else of the last known ELR.
    is_member: bool,
}

impl Membership {
    /// Takes in the newest image.
    pub(super) fn look(&mut self, newest: &Arc<ClusterImage>, now: u64) {
        let known = self.image.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(known, newest)) {
            return;
        }
        self.image = Some(Arc::clone(newest));
        let before = std::mem::take(&mut self.since);
        let copies = std::mem::take(&mut self.copies);
        let changed_at = self.changed_at.replace(now).unwrap_or(now);
        let joined_now = changed_at.saturating_sub(LATE_MS);
        for (at, record) in newest.partitions() {
            let in_sync = u32::try_from(record.isr.len()).unwrap_or(u32::MAX);
            if record.leader.is_some() && in_sync >= record.min_isr {
                self.promised.insert(at, record.min_isr);
            } else if let Some(promised) = self.promised.get_mut(&at) {
                *promised = record.min_isr.min(*promised);
            }
            for replica in &record.replicas {
                let begun = Copy {
                    id: replica.id,
                    begun: joined_now,
                };
                let known = copies.get(&(at, replica.node)).copied();
                let copy = known.filter(|known| known.id == replica.id);
                self.copies
                    .insert((at, replica.node), copy.unwrap_or(begun));
            }
            for node in record.isr.iter().chain(&record.elr) {
                let Some(copy) = self.copies.get(&(at, *node)).copied() else {
                    continue;
                };
                let before = before.get(&(at, *node));
                let before = before.filter(|since| since.is_member && since.copy == copy);
                let since = Since {
                    joined: before.map_or(joined_now, |since| since.joined),
                    copy,
                    is_member: true,
                };
                self.since.insert((at, *node), since);
            }
            for node in &record.last_known_elr {
                let Some(copy) = self.copies.get(&(at, *node)).copied() else {
                    continue;
                };
                let before = before.get(&(at, *node));
                let since = Since {
                    joined: before.map_or(joined_now, |since| since.joined),
                    copy: before.map_or(copy, |since| since.copy),
                    is_member: false,
                };
                self.since.insert((at, *node), since);
            }
        }
    }

    /// When a node joined for the last time those that hold everything, or somewhat
    /// earlier; `None` if it is not known as one of them any more.
    pub(super) fn joined(&self, at: TopicPartition, node: NodeId) -> Option<u64> {
        self.since.get(&(at, node)).map(|since| since.joined)
    }

    /// When the copy began that was counted on, or somewhat earlier; `None` if it is not.
    pub(super) fn begun(&self, at: TopicPartition, node: NodeId) -> Option<u64> {
        self.since.get(&(at, node)).map(|since| since.copy.begun)
    }

    /// Whether the copy that was counted on is gone, and the node has another.
    pub(super) fn is_renewed(&self, at: TopicPartition, node: NodeId) -> bool {
        let since = self.since.get(&(at, node));
        since.is_some_and(|since| self.copies.get(&(at, node)) != Some(&since.copy))
    }

    /// How many copies a partition's faults must have taken. A stronger mode promises
    /// something as soon as somebody leads and as many are in sync as it asks for: until then
    /// all there is was acknowledged by a weaker one, and nothing is acknowledged. A weaker
    /// one that nobody led in counts all the same: who left meanwhile left by its rules, and
    /// a stronger one asked for later does not bring them back.
    pub(super) fn min_isr(&self, at: TopicPartition, record: &PartitionRecord) -> u32 {
        self.promised.get(&at).copied().unwrap_or(record.min_isr)
    }
}

/// Whether nobody is left who may lead, of a partition that promises to outlive the loss
/// of `min_isr - 1` copies. `lost_power` and `lost_disk` say of a node whether its copy was
/// taken so since it joined.
pub(super) fn is_stranded(
    record: &PartitionRecord,
    min_isr: u32,
    lost_power: impl Fn(NodeId) -> bool,
    lost_disk: impl Fn(NodeId) -> bool,
) -> bool {
    let members = || record.isr.iter().chain(&record.elr).copied();
    if !members().all(&lost_disk) {
        return false;
    }
    let is_async = record.durability.flush == FlushMode::Async;
    let former = record.last_known_elr.iter().copied();
    let former = former.filter(|node| is_async && lost_power(*node) || lost_disk(*node));
    let taken = members().count() + former.count();
    taken >= usize::try_from(min_isr.max(1)).unwrap_or(usize::MAX)
}

/// Whether enough copies may lead without the one on `node`. One whose machine lost its
/// power since it joined is no member of an async log any more as soon as it is back.
pub(super) fn can_do_without(
    record: &PartitionRecord,
    node: NodeId,
    lost_power: impl Fn(NodeId) -> bool,
) -> bool {
    let is_async = record.durability.flush == FlushMode::Async;
    let members = record.isr.iter().chain(&record.elr).copied();
    let left = members.filter(|member| *member != node && !(is_async && lost_power(*member)));
    left.count() >= usize::try_from(record.min_isr).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{AT, Scene};
    use weir_base::image::{Durability, ReplicationMode};

    fn nodes(nodes: &[u32]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    /// A record of three replicas.
    fn record(flush: FlushMode, min_isr: u32, isr: &[u32], former: &[u32]) -> PartitionRecord {
        let image = Scene::new().isr(isr).seen().newest;
        let replication = ReplicationMode::Sync;
        PartitionRecord {
            last_known_elr: nodes(former),
            min_isr,
            durability: Durability { flush, replication },
            ..image.partition(AT).unwrap().clone()
        }
    }

    /// With nodes that lost their power and nodes that lost their disks.
    fn judge(record: &PartitionRecord, power: &[u32], disks: &[u32]) -> bool {
        let (power, disks) = (nodes(power), nodes(disks));
        is_stranded(
            record,
            record.min_isr,
            |n| power.contains(&n),
            |n| disks.contains(&n),
        )
    }

    #[test]
    fn the_last_copy_of_an_async_log_on_a_bad_disk_is_forgiven() {
        let last = record(FlushMode::Async, 2, &[1], &[2, 3]);
        assert!(judge(&last, &[2, 3], &[1]));
        // The looks-alike: its copy is good, or somebody else's is, or the others were
        // dropped although they never lost their power.
        assert!(!judge(&last, &[2, 3], &[]));
        assert!(!judge(&last, &[], &[1]));
        let two = record(FlushMode::Async, 2, &[1, 2], &[3]);
        assert!(!judge(&two, &[3], &[1]));
    }

    #[test]
    fn sync_flush_outlives_power_and_one_disk() {
        let last = record(FlushMode::Sync, 2, &[1], &[2, 3]);
        assert!(!judge(&last, &[1, 2, 3], &[1]));
        assert!(judge(&last, &[], &[1, 2, 3]), "no copy is left anywhere");
        let alone = record(FlushMode::Sync, 1, &[1], &[]);
        assert!(judge(&alone, &[], &[1]));
        assert!(!judge(&alone, &[1], &[]));
    }

    #[test]
    fn an_async_log_whose_machines_all_lost_their_power_is_forgiven() {
        let none = record(FlushMode::Async, 2, &[], &[1, 2]);
        assert!(judge(&none, &[1, 2], &[]));
        assert!(!judge(&none, &[1], &[]), "node 2 was dropped for nothing");
        let nobody = record(FlushMode::Async, 1, &[], &[]);
        assert!(!judge(&nobody, &[1, 2, 3], &[]), "all were forgotten (I7)");
    }

    #[test]
    fn who_lost_its_power_is_not_counted_on_where_flush_is_async() {
        let can = |flush, power: &[u32]| {
            let power = nodes(power);
            let whole = record(flush, 2, &[1, 2, 3], &[]);
            can_do_without(&whole, NodeId(1), |node| power.contains(&node))
        };
        assert!(can(FlushMode::Async, &[]) && can(FlushMode::Async, &[1]));
        assert!(!can(FlushMode::Async, &[3]));
        assert!(can(FlushMode::Sync, &[2, 3]));
    }

    #[test]
    fn a_mode_that_nobody_can_keep_yet_promises_nothing() {
        let mut membership = Membership::default();
        let mut look = |leads: bool, isr: &[u32], min_isr| {
            let mut image = (*Scene::new().isr(isr).seen().newest).clone();
            for topic in image.topics.values_mut() {
                let record = &mut Arc::make_mut(topic).partitions[0];
                record.min_isr = min_isr;
                record.leader = leads.then_some(NodeId(1));
            }
            let image = Arc::new(image);
            membership.look(&image, 3_000);
            membership.min_isr(AT, image.partition(AT).unwrap())
        };
        assert_eq!(look(true, &[1], 1), 1);
        assert_eq!(look(false, &[1], 2), 1);
        assert_eq!(look(true, &[1], 2), 1, "one that leads is not two");
        assert_eq!(look(false, &[1, 2], 2), 1);
        assert_eq!(
            look(true, &[1, 2], 2),
            2,
            "the stronger mode was taken over"
        );
        assert_eq!(look(true, &[1], 2), 2);
        assert_eq!(look(false, &[1], 2), 2);
        assert_eq!(look(false, &[1], 1), 1);
        // A weaker mode came and went while nobody led, and let copies go.
        assert_eq!(look(false, &[], 2), 1);
        assert_eq!(look(true, &[1, 2], 2), 2);
    }

    #[test]
    fn a_copy_that_was_given_up_for_a_new_one_is_told_from_it() {
        let (old, new) = (Uuid([1; 16]), Uuid([2; 16]));
        let mut membership = Membership::default();
        let mut look = |now, isr: &[u32], former: &[u32], copy| {
            let mut image = (*Scene::new().isr(isr).seen().newest).clone();
            for topic in image.topics.values_mut() {
                let record = &mut Arc::make_mut(topic).partitions[0];
                record.last_known_elr = nodes(former);
                record.replicas[1].id = copy;
            }
            membership.look(&Arc::new(image), now);
            let node = NodeId(2);
            let since = membership.joined(AT, node).zip(membership.begun(AT, node));
            (since, membership.is_renewed(AT, node))
        };
        assert_eq!(
            look(3_000, &[1, 2], &[], old),
            (Some((1_000, 1_000)), false)
        );
        // It joins again with the copy that it had.
        assert_eq!(look(4_000, &[1], &[], old), (None, false));
        assert_eq!(
            look(5_000, &[1, 2], &[], old),
            (Some((2_000, 1_000)), false)
        );
        // Dropped with its copy, and the look-alike that gave its copy up, until it joins.
        assert_eq!(look(6_000, &[1], &[2], old), (Some((2_000, 1_000)), false));
        assert_eq!(look(7_000, &[1], &[2], new), (Some((2_000, 1_000)), true));
        assert_eq!(
            look(8_000, &[1, 2], &[], new),
            (Some((5_000, 4_000)), false)
        );
        assert_eq!(look(9_000, &[1], &[2], new), (Some((5_000, 4_000)), false));
        // Renewed and back between two looks.
        let back = look(10_000, &[1, 2], &[], old);
        assert_eq!(back, (Some((7_000, 7_000)), false));
        assert_eq!(
            look(11_000, &[1, 2], &[], new),
            (Some((8_000, 8_000)), false)
        );
    }

    #[test]
    fn who_joins_anew_is_counted_on_from_then_on() {
        let mut membership = Membership::default();
        let mut look = |now, isr: &[u32], former: &[u32]| {
            let mut image = (*Scene::new().isr(isr).seen().newest).clone();
            for topic in image.topics.values_mut() {
                Arc::make_mut(topic).partitions[0].last_known_elr = nodes(former);
            }
            membership.look(&Arc::new(image), now);
            membership.joined(AT, NodeId(2))
        };
        assert_eq!(look(3_000, &[1, 2], &[]), Some(1_000));
        assert_eq!(look(4_000, &[1, 2], &[]), Some(1_000));
        let former = look(5_000, &[1], &[2]);
        assert_eq!(former, Some(1_000), "still known as a former one");
        assert_eq!(look(6_000, &[1, 2], &[]), Some(3_000));
        assert_eq!(look(7_000, &[1], &[]), None);
        let unseen = look(8_000, &[1], &[2]);
        assert_eq!(unseen, Some(5_000), "it joined between two images");
        assert_eq!(look(9_000, &[1], &[]), None);
        let late = look(20_000, &[1, 2], &[]);
        assert_eq!(
            late,
            Some(7_000),
            "decided when the image was seen that was before it, which is late itself"
        );
    }
}
