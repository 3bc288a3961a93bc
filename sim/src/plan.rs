//! What one seed does: its nodes, topics and faults. Made up front and in full, so that
//! a run can be repeated with fewer faults and nothing else changed.

use weir_base::NodeId;

use crate::cluster::entropy;
use crate::dice::Dice;
use crate::focus::Focus;
use crate::nemesis::process::at_steps;
use crate::nemesis::{self, Event, Setting};

/// Where clients run: machines whose links and disks nobody uses.
pub(crate) const CLIENTS: [NodeId; 2] = [NodeId(200), NodeId(201)];
/// The founding voters of the metadata group.
pub(crate) const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// What an acknowledgement of a topic promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) flush_sync: bool,
    pub(crate) replication_sync: bool,
}

/// A topic that lives as long as the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) partitions: i32,
    /// The weakest it ever is.
    pub(crate) mode: Mode,
}

impl Topic {
    /// Whether nothing acknowledged is ever lost.
    pub(crate) fn keeps_all(&self) -> bool {
        self.mode.flush_sync && self.mode.replication_sync
    }

    pub(crate) fn configs(&self) -> [(&'static str, &'static str); 2] {
        let word = |sync| if sync { "sync" } else { "async" };
        // The one that shifts begins with the strongest.
        let strong = self.name == SHIFTING;
        [
            ("weir.flush", word(self.mode.flush_sync || strong)),
            (
                "weir.replication",
                word(self.mode.replication_sync || strong),
            ),
        ]
    }
}

/// The topic whose mode an admin changes.
pub(crate) const SHIFTING: &str = "shifting";

const fn topic(
    name: &'static str,
    partitions: i32,
    flush_sync: bool,
    replication_sync: bool,
) -> Topic {
    let mode = Mode {
        flush_sync,
        replication_sync,
    };
    Topic {
        name,
        partitions,
        mode,
    }
}

/// All four modes, and one that changes.
pub(crate) const TOPICS: [Topic; 5] = [
    topic("sync-sync", 2, true, true),
    topic("async-sync", 1, false, true),
    topic("sync-async", 1, true, false),
    topic("async-async", 1, false, false),
    topic(SHIFTING, 1, false, false),
];

/// One run, as it is going to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) focus: Option<&'static Focus>,
    /// Nodes that run from the start.
    pub(crate) nodes: Vec<NodeId>,
    /// Nodes that are added later.
    pub(crate) spares: Vec<NodeId>,
    /// The one whose disk may spoil what it holds.
    pub(crate) victim: NodeId,
    /// When faults end, in milliseconds.
    pub(crate) end: u64,
    /// Whether there are clients of queues.
    pub(crate) has_queues: bool,
    /// Whether the victim, if the rest can do without it, stays away when faults end.
    pub(crate) victim_stays_away: bool,
    /// Whether nodes keep so little of their logs in memory that they read from their disks.
    pub(crate) has_small_cache: bool,
    /// Faults by number.
    pub(crate) events: Vec<(usize, Event)>,
    /// Every fsync of every disk lies: a run that must fail.
    pub(crate) syncs_lie: bool,
    /// One acknowledged value is taken out of all that was read: a run that must fail.
    pub(crate) is_spoilt: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64, focus: Option<&'static Focus>) -> Self {
        let dice = Dice::new(entropy(seed).fork("plan"));
        let mut nodes = VOTERS.to_vec();
        let mut spares = Vec::new();
        if let Some(focus) = focus {
            nodes.extend((4..=focus.nodes).map(NodeId));
        } else if dice.one_in(3) {
            nodes.push(NodeId(4));
            if dice.one_in(2) {
                nodes.push(NodeId(5));
            } else {
                spares.push(NodeId(5));
            }
        }
        let spoilable = match focus {
            // Raft presumes that a voter remembers what it said.
            Some(focus) if focus.has_lies() => nodes.split_at(VOTERS.len()).1,
            Some(_) | None => &nodes,
        };
        let victim = dice.pick(spoilable);
        let (most, events_max): (u64, &[u64]) = match focus {
            Some(_) => (30, &[4]),
            None => (50, &[1, 2, 4]),
        };
        let end = dice.between(20, most) * 1_000;
        let setting = Setting {
            dice: &dice,
            focus,
            nodes: &nodes,
            spares: &spares,
            clients: &CLIENTS,
            victim,
            end,
            events_max: dice.pick(events_max),
        };
        let events = nemesis::plan(&setting);
        let victim_stays_away = dice.one_in(3);
        let mut plan = Self {
            seed,
            focus,
            victim,
            end,
            has_queues: false,
            victim_stays_away,
            has_small_cache: Dice::new(entropy(seed).fork("cache")).one_in(3),
            events: events.into_iter().enumerate().collect(),
            nodes,
            spares,
            syncs_lie: false,
            is_spoilt: false,
        };
        if focus.is_some_and(|focus| focus.has_queues) {
            plan.add_queues();
        }
        plan
    }

    /// Queues have clients, and their leaders are killed at some of their steps.
    pub(crate) fn add_queues(&mut self) {
        if std::mem::replace(&mut self.has_queues, true) {
            return;
        }
        let dice = Dice::new(entropy(self.seed).fork("queue steps"));
        let kills = at_steps(&dice, self.end).into_iter();
        // Behind the others, whose numbers stay theirs.
        self.events.extend((self.events.len()..).zip(kills));
        self.events
            .sort_by_key(|(number, event)| (event.at, event.until, *number));
    }

    /// Whether the victim's disk says that it synced and did not.
    pub(crate) fn a_disk_lies(&self) -> bool {
        self.focus.is_some_and(Focus::has_lies)
    }

    /// The same run without faults but those of these numbers.
    pub(crate) fn keep(&mut self, numbers: &[usize]) {
        self.events.retain(|(number, _)| numbers.contains(number));
    }

    /// Every node that there is at some time.
    pub(crate) fn all_nodes(&self) -> Vec<NodeId> {
        [self.nodes.as_slice(), &self.spares].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::focus::FOCI;
    use crate::nemesis::{Fault, ProcessFault};
    use crate::queue_steps;

    #[test]
    fn a_plan_follows_from_its_seed_and_is_no_shorter_for_being_cut() {
        let text = |plan: &Plan| format!("{plan:?}");
        let whole = Plan::of(7, None);
        assert_eq!(text(&whole), text(&Plan::of(7, None)));
        assert_ne!(text(&whole), text(&Plan::of(8, None)));
        let mut cut = whole.clone();
        cut.keep(&[1]);
        assert_eq!(cut.events.len(), 1);
        assert_eq!(cut.events[0].0, 1);
        assert_eq!(cut.end, whole.end);
    }

    #[test]
    fn queues_add_kills_at_all_steps_and_change_nothing_else() {
        let (mut points, mut kinds) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..400 {
            let mut plan = Plan::of(seed, None);
            let before = format!("{:?}", plan.events);
            plan.add_queues();
            plan.add_queues();
            assert!(plan.events.is_sorted_by_key(|(_, event)| event.at));
            let (kills, others): (Vec<_>, Vec<_>) =
                plan.events.into_iter().partition(|(_, event)| {
                    matches!(event.fault, Fault::Process(ProcessFault::KillAtStep { .. }))
                });
            assert_eq!(format!("{others:?}"), before);
            for (_, event) in kills {
                kinds.insert(event.fault.kind());
                if let Fault::Process(ProcessFault::KillAtStep { step, moment, .. }) = event.fault {
                    points.insert(step.point(moment));
                }
            }
        }
        assert_eq!(points, queue_steps::POINTS.iter().copied().collect());
        assert_eq!(kinds.len(), 1);
    }

    #[test]
    fn every_kind_of_fault_is_planned_by_some_seed_and_bad_disks_by_the_victim_alone() {
        let mut kinds = BTreeSet::new();
        for plan in (0..300).map(|seed| Plan::of(seed, None)) {
            for (_, event) in &plan.events {
                assert!(event.at <= event.until && event.until <= plan.end);
                kinds.insert(event.fault.kind());
                if let Fault::Disk(fault) = &event.fault
                    && fault.spoils()
                {
                    assert_eq!(fault.node, plan.victim);
                }
            }
        }
        assert_eq!(kinds, nemesis::KINDS.iter().copied().collect());
    }

    #[test]
    fn a_focus_has_all_of_its_kinds_in_every_seed_and_no_other() {
        for focus in FOCI {
            for plan in (0..20).map(|seed| Plan::of(seed, Some(focus))) {
                let kinds = plan.events.iter().map(|(_, event)| event.fault.kind());
                let kinds: BTreeSet<&str> = kinds.collect();
                assert_eq!(
                    kinds,
                    focus.kinds.iter().copied().collect(),
                    "{}",
                    focus.name
                );
            }
        }
    }
}
