//! What goes wrong in a run: a plain list of timed faults, made from the seed up front.
//!
//! Each fault begins and ends by itself, so that any subset of a plan is a plan: a
//! failing seed is cut down by leaving events out. What each family may do, and what
//! must survive it, stands in its file.

pub(crate) mod admin;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod network;
pub(crate) mod process;

use std::fmt;

use weir_base::NodeId;

use crate::dice::Dice;
use crate::focus::Focus;
pub(crate) use admin::Change;
pub(crate) use clock::ClockFault;
pub(crate) use disk::DiskFault;
pub(crate) use network::NetworkFault;
pub(crate) use process::ProcessFault;

/// Every kind there is: a sweep in which one never happened proves less than it seems.
pub(crate) const KINDS: &[&str] = &[
    "bit rot",
    "bridge",
    "clock drift",
    "clogged link",
    "crash in recovery",
    "delay and reorder",
    "fsync errors",
    "full disk",
    "isolated node",
    "kill",
    "leader transfer",
    "loss and doubling",
    "majority ring",
    "misdirected writes",
    "mode change",
    "node added",
    "one-way cut",
    "pause",
    "power loss",
    "power loss of all",
    "read errors",
    "reassignment",
    "rolling restart",
    "slow disk",
    "slow link",
    "split",
    "topic deleted",
    "topic made",
    "wall clock jump",
    "wiped disk",
    "write errors",
];

/// One fault, from `at` to `until`, both in simulated milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) until: u64,
    pub(crate) fault: Fault,
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Network(NetworkFault),
    Process(ProcessFault),
    Disk(DiskFault),
    Clock(ClockFault),
    Admin(Change),
}

impl Fault {
    /// What it is counted as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Fault::Network(fault) => fault.kind(),
            Fault::Process(fault) => fault.kind(),
            Fault::Disk(fault) => fault.kind(),
            Fault::Clock(fault) => fault.kind(),
            Fault::Admin(change) => change.kind(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, until) = (self.at, self.until);
        match &self.fault {
            Fault::Network(fault) => write!(f, "{at}..{until} ms {fault:?}"),
            Fault::Process(fault) => write!(f, "{at}..{until} ms {fault:?}"),
            Fault::Disk(fault) => write!(f, "{at}..{until} ms {fault:?}"),
            Fault::Clock(fault) => write!(f, "{at}..{until} ms {fault:?}"),
            Fault::Admin(change) => write!(f, "{at} ms {change:?}"),
        }
    }
}

/// What plans are made for.
pub(crate) struct Setting<'a> {
    pub(crate) dice: &'a Dice,
    /// What the run is about, if it is about anything.
    pub(crate) focus: Option<&'static Focus>,
    /// Nodes that run from the start.
    pub(crate) nodes: &'a [NodeId],
    /// Nodes that an admin may add.
    pub(crate) spares: &'a [NodeId],
    /// Machines that clients run on.
    pub(crate) clients: &'a [NodeId],
    /// The only node whose disk may lose or spoil what it holds: no range is ever bad
    /// on all replicas, and no more disks are lost than the promise covers.
    pub(crate) victim: NodeId,
    /// When faults end, in milliseconds.
    pub(crate) end: u64,
    /// How many events of a kind a plan has, at most.
    pub(crate) events_max: u64,
}

impl Setting<'_> {
    /// Events of one kind: none at all in half the seeds, but in a focused run.
    fn some(&self, most: u64, mut make: impl FnMut(&Dice) -> (u64, Fault)) -> Vec<Event> {
        let count = if self.focus.is_some() || self.dice.one_in(2) {
            self.dice.between(1, self.events_max.min(most))
        } else {
            0
        };
        (0..count)
            .map(|_| {
                let at = self.dice.between(1_000, self.end - 1_000);
                let (lasts, fault) = make(self.dice);
                let until = (at + lasts).min(self.end);
                Event { at, until, fault }
            })
            .collect()
    }

    /// Where bits rot: a general run spares the write-ahead log and the metadata.
    fn rots(&self, dice: &Dice) -> &'static str {
        match self.focus {
            Some(focus) => dice.pick(focus.rots),
            None => "logs/",
        }
    }

    /// Whether the run is about this kind of fault.
    fn is_about(&self, kind: &str) -> bool {
        self.focus.is_some_and(|focus| focus.is_about(kind))
    }

    /// A node that something happens to: with a focus, the victim half of the time.
    fn node(&self) -> NodeId {
        if self.focus.is_some() && self.dice.one_in(2) {
            return self.victim;
        }
        self.dice.pick(self.nodes)
    }
}

/// Every family's events in the order they begin.
pub(crate) fn plan(setting: &Setting<'_>) -> Vec<Event> {
    let mut events = [
        network::plan(setting),
        process::plan(setting),
        disk::plan(setting),
        clock::plan(setting),
        admin::plan(setting),
    ]
    .concat();
    if let Some(focus) = setting.focus {
        events.retain(|event| focus.is_about(event.fault.kind()));
    }
    events.sort_by_key(|event| (event.at, event.until));
    events
}
