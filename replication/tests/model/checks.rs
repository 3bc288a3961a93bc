//! The invariants, checked on a picture of the whole world after every step.

use std::collections::{BTreeMap, BTreeSet};

use weir_base::NodeId;
use weir_base::image::{FlushMode, PartitionRecord};
use weir_base::invariant::Invariant;

/// One batch of a toy log: the epoch it was appended in, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) epoch: u32,
    pub(crate) value: u64,
}

/// One node as the omniscient observer sees it.
#[derive(Debug, Clone)]
pub(crate) struct NodeView {
    pub(crate) id: NodeId,
    pub(crate) running: bool,
    pub(crate) log: Vec<Entry>,
    pub(crate) durable: usize,
    pub(crate) high_watermark: usize,
    pub(crate) leader_epoch: u32,
    pub(crate) partition_epoch: u32,
    pub(crate) leads: Option<u32>,
    pub(crate) ready: bool,
    /// A leader's agreed and maximal ISR.
    pub(crate) in_sync: Option<(BTreeSet<NodeId>, BTreeSet<NodeId>)>,
}

/// The world at one instant.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) record: PartitionRecord,
}

/// What the past allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    leaders: BTreeMap<u32, NodeId>,
    entries: BTreeMap<(usize, u32), u64>,
    /// Everything below the true high watermark.
    pub(crate) committed: Vec<Entry>,
    epochs: BTreeMap<NodeId, (u32, u32)>,
    controller: (u32, u32),
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) Invariant, pub(crate) String);

fn holds(invariant: Invariant, truth: bool, say: impl FnOnce() -> String) -> Result<(), Violation> {
    if truth {
        Ok(())
    } else {
        Err(Violation(invariant, say()))
    }
}

impl History {
    /// Checks `view` against all that was seen before, and remembers it.
    pub(crate) fn observe(&mut self, view: &View) -> Result<(), Violation> {
        self.one_leader_an_epoch(view)?;
        self.logs_match(view)?;
        self.committed_stays(view)?;
        self.members_hold_what_is_committed(view)?;
        maximal_isr_contains_the_agreed(view)?;
        record_is_sound(&view.record)?;
        self.nothing_visible_above_the_watermark(view)?;
        self.epochs_never_fall(view)
    }

    fn one_leader_an_epoch(&mut self, view: &View) -> Result<(), Violation> {
        for node in &view.nodes {
            let Some(epoch) = node.leads else { continue };
            let leader = *self.leaders.entry(epoch).or_insert(node.id);
            holds(Invariant::I1, leader == node.id, || {
                format!("epoch {epoch} is led by {leader} and {}", node.id)
            })?;
        }
        Ok(())
    }

    fn logs_match(&mut self, view: &View) -> Result<(), Violation> {
        for node in &view.nodes {
            for (at, entry) in node.log.iter().enumerate() {
                let value = *self.entries.entry((at, entry.epoch)).or_insert(entry.value);
                holds(Invariant::I2, value == entry.value, || {
                    format!("{entry:?} at {at} of {} was {value} once", node.id)
                })?;
            }
        }
        for a in &view.nodes {
            for b in &view.nodes {
                let below = a.high_watermark.min(b.high_watermark);
                let same = a.log.get(..below) == b.log.get(..below);
                holds(Invariant::I2, same, || {
                    format!("{} and {} differ below {below}", a.id, b.id)
                })?;
            }
        }
        Ok(())
    }

    /// Extends the true watermark by what leaders committed; what was committed must
    /// still be in the newest leader's log.
    fn committed_stays(&mut self, view: &View) -> Result<(), Violation> {
        for node in view.nodes.iter().filter(|node| node.leads.is_some()) {
            let Some(below) = node.log.get(..node.high_watermark) else {
                return Err(Violation(
                    Invariant::I3,
                    format!("the watermark of {} is above its log", node.id),
                ));
            };
            let common = below.len().min(self.committed.len());
            holds(
                Invariant::I3,
                below[..common] == self.committed[..common],
                || format!("leader {} replaced committed entries", node.id),
            )?;
            if below.len() > common {
                self.committed = below.to_vec();
            }
        }
        let newest = view.record.leader_epoch.0;
        let leader = view.nodes.iter().find(|node| node.leads == Some(newest));
        let Some(leader) = leader else { return Ok(()) };
        let kept = leader.log.get(..self.committed.len()) == Some(&self.committed[..]);
        holds(Invariant::I3, kept, || {
            format!("leader {} lacks committed entries", leader.id)
        })?;
        let earlier = self
            .committed
            .iter()
            .take_while(|entry| entry.epoch < newest)
            .count();
        holds(
            Invariant::I3,
            !leader.ready || leader.high_watermark >= earlier,
            || {
                format!(
                    "leader {} serves without knowing what is committed",
                    leader.id
                )
            },
        )
    }

    fn members_hold_what_is_committed(&self, view: &View) -> Result<(), Violation> {
        let record = &view.record;
        for node in &view.nodes {
            if !record.isr.contains(&node.id) && !record.elr.contains(&node.id) {
                continue;
            }
            let holds_all = node.log.get(..self.committed.len()) == Some(&self.committed[..]);
            let (fit, said) = match record.durability.flush {
                FlushMode::Sync => (holds_all && node.durable >= self.committed.len(), "durably"),
                FlushMode::Async => (holds_all || !node.running, "written"),
            };
            holds(Invariant::I4, fit, || {
                format!(
                    "member {} does not hold {} entries {said}",
                    node.id,
                    self.committed.len()
                )
            })?;
        }
        Ok(())
    }

    fn nothing_visible_above_the_watermark(&self, view: &View) -> Result<(), Violation> {
        for node in view.nodes.iter().filter(|node| node.running) {
            holds(
                Invariant::I8,
                node.high_watermark <= self.committed.len(),
                || {
                    format!(
                        "{} shows {} entries, {} are committed",
                        node.id,
                        node.high_watermark,
                        self.committed.len()
                    )
                },
            )?;
        }
        Ok(())
    }

    fn epochs_never_fall(&mut self, view: &View) -> Result<(), Violation> {
        let newest = (view.record.leader_epoch.0, view.record.partition_epoch.0);
        let rose = |old: (u32, u32), new: (u32, u32)| old.0 <= new.0 && old.1 <= new.1;
        holds(Invariant::I9, rose(self.controller, newest), || {
            format!("controller fell from {:?} to {newest:?}", self.controller)
        })?;
        self.controller = newest;
        for node in &view.nodes {
            if !node.running {
                self.epochs.remove(&node.id); // a new boot learns anew
                continue;
            }
            let new = (node.leader_epoch, node.partition_epoch);
            let old = self.epochs.insert(node.id, new).unwrap_or_default();
            holds(Invariant::I9, rose(old, new), || {
                format!("{} fell from {old:?} to {new:?}", node.id)
            })?;
        }
        Ok(())
    }
}

fn maximal_isr_contains_the_agreed(view: &View) -> Result<(), Violation> {
    let record = &view.record;
    let min_isr = usize::try_from(record.min_isr).unwrap();
    for node in &view.nodes {
        let Some((isr, maximal)) = &node.in_sync else {
            continue;
        };
        let serving = node.leads == Some(record.leader_epoch.0) && isr.len() >= min_isr;
        let agreed: BTreeSet<NodeId> = record.isr.iter().chain(&record.elr).copied().collect();
        holds(
            Invariant::I5,
            !serving || maximal.is_superset(&agreed),
            || {
                format!(
                    "leader {} counts {maximal:?}, agreed is {agreed:?}",
                    node.id
                )
            },
        )?;
    }
    Ok(())
}

fn record_is_sound(record: &PartitionRecord) -> Result<(), Violation> {
    let full = record.isr.len() >= usize::try_from(record.min_isr).unwrap();
    let disjoint = record.isr.iter().all(|node| !record.elr.contains(node));
    let known = record
        .isr
        .iter()
        .chain(&record.elr)
        .all(|node| record.has_replica(*node));
    holds(
        Invariant::I6,
        (!full || record.elr.is_empty()) && disjoint && known,
        || format!("isr {:?} elr {:?}", record.isr, record.elr),
    )
}
