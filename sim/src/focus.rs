//! Swarms that look for one class of bugs: few kinds of faults, and those in every seed.
//!
//! A general swarm leaves each kind out of half its seeds and spreads the rest over all
//! nodes: what needs two or three faults in a row hardly ever meets them. A focus names
//! the kinds that matter together, strikes the victim half of the time, and may change
//! how nodes and clients are set up. What must hold is the same as in every other run.

use anyhow::{Context, Result};

/// What a run is about, beyond its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Focus {
    pub(crate) name: &'static str,
    /// The kinds of faults that happen, each in every run.
    pub(crate) kinds: &'static [&'static str],
    /// Nodes from the start: 3 or 5.
    pub(crate) nodes: u32,
    /// Where bits rot.
    pub(crate) rots: &'static [&'static str],
    /// Segments and write-ahead logs of a few kilobytes: they are begun, checkpointed and
    /// recycled all the time, as big ones are in a long life.
    pub(crate) has_small_files: bool,
    /// The victim's disk stands still from when the faults end: its node is up and of no
    /// use, and the others must do without it.
    pub(crate) victim_stalls: bool,
    /// Consumer groups commit positions.
    pub(crate) has_groups: bool,
    /// A consumer group has members that come and go.
    pub(crate) has_members: bool,
    /// Configs are written and read all the time.
    pub(crate) has_clerks: bool,
    /// Queues have clients.
    pub(crate) has_queues: bool,
    /// Writers wait this many times as long between batches.
    pub(crate) patience: u64,
    /// Writers send every other one of the last batches again: with long waits between them,
    /// what the broker must know again is as old as it can be.
    pub(crate) repeats_often: bool,
    /// Messages take long after the faults too.
    pub(crate) stays_slow: bool,
    /// States that only its own clients or faults reach: what they are there for.
    pub(crate) points: &'static [&'static str],
}

/// Where the log, the vote and the snapshots of the metadata group are.
const METADATA: &[&str] = &["metadata/"];

/// What all have in common, unless they say otherwise.
const PLAIN: Focus = Focus {
    name: "",
    kinds: &[],
    nodes: 3,
    rots: &["logs/", "wal/"],
    has_small_files: false,
    victim_stalls: false,
    has_groups: false,
    has_members: false,
    has_clerks: false,
    has_queues: false,
    patience: 1,
    repeats_often: false,
    stays_slow: false,
    points: &[],
};

/// All there are.
pub(crate) const FOCI: &[Focus] = &[
    // Leaders change often and under load: cuts, epochs, what a leader may count and serve.
    Focus {
        name: "elections",
        kinds: &[
            "isolated node",
            "kill",
            "leader transfer",
            "one-way cut",
            "pause",
            "slow link",
            "split",
        ],
        ..PLAIN
    },
    // Copies leave and come back while those who decide on them hear of each other late, and
    // leaders die of it.
    Focus {
        name: "joins",
        kinds: &[
            "kill",
            "kill at a shrink",
            "pause",
            "power loss",
            "slow disk",
            "slow node",
        ],
        nodes: 5,
        ..PLAIN
    },
    // Caches are lost: what was called durable, and was not.
    Focus {
        name: "power",
        kinds: &[
            "crash in recovery",
            "fsync errors",
            "isolated node",
            "kill",
            "power loss",
            "power loss of all",
        ],
        has_small_files: true,
        has_groups: true,
        ..PLAIN
    },
    // One disk rots, and its node comes back from it.
    Focus {
        name: "rot",
        kinds: &[
            "bit rot",
            "kill",
            "misdirected writes",
            "power loss",
            "power loss of all",
        ],
        ..PLAIN
    },
    // One disk rots, and its node comes back to where nobody hears what it finds.
    Focus {
        name: "rot alone",
        kinds: &["bit rot", "cut off at its return"],
        rots: &["logs/"],
        points: &["bad copy kept for now", "cut off at its return"],
        ..PLAIN
    },
    // One disk holds batches that are bad wherever it has them, and its node is killed and
    // comes back when others are away.
    Focus {
        name: "bad batches",
        kinds: &["bad batches", "isolated node", "kill"],
        ..PLAIN
    },
    // The same with losses of power: the start knows that something is gone.
    Focus {
        name: "suspects",
        kinds: &["bad batches", "kill", "power loss", "power loss of all"],
        ..PLAIN
    },
    // Machines lose their power, and are back before they are missed: what was heard of them
    // is of another life.
    Focus {
        name: "lost tails",
        kinds: &["power loss with a tail"],
        patience: 5,
        repeats_often: true,
        ..PLAIN
    },
    // What leaders sent waits behind a slow write when others are elected that lack it.
    Focus {
        name: "late streams",
        kinds: &["kill of who is ahead"],
        nodes: 5,
        ..PLAIN
    },
    // What the metadata group keeps of itself rots at one voter.
    Focus {
        name: "metadata rot",
        kinds: &["bit rot", "isolated node", "kill"],
        rots: METADATA,
        ..PLAIN
    },
    // Replicas move while nodes come and go.
    Focus {
        name: "moves",
        kinds: &[
            "isolated node",
            "kill",
            "leader transfer",
            "reassignment",
            "slow link",
            "split",
        ],
        nodes: 5,
        has_groups: true,
        ..PLAIN
    },
    // Voters lose their power right after they voted.
    Focus {
        name: "votes",
        kinds: &["isolated node", "kill", "power loss at a vote", "split"],
        ..PLAIN
    },
    // A voter loses its disk, and comes back with an empty one.
    Focus {
        name: "lost voter",
        kinds: &["kill", "leader transfer", "wiped disk"],
        ..PLAIN
    },
    // Everything takes long, and goes on to when faults end.
    Focus {
        name: "slow network",
        kinds: &["delay and reorder", "kill", "leader transfer"],
        stays_slow: true,
        ..PLAIN
    },
    // Coordinators of groups change with positions under way.
    Focus {
        name: "groups",
        kinds: &["isolated node", "leader transfer", "pause", "split"],
        has_groups: true,
        ..PLAIN
    },
    // Members of a group come and go while those who coordinate it do.
    Focus {
        name: "members",
        kinds: &["isolated node", "kill", "leader transfer", "pause"],
        nodes: 5,
        has_members: true,
        points: &["member that went on behind another"],
        ..PLAIN
    },
    // Voters come and go while configs are written through all nodes and read from them.
    Focus {
        name: "configs",
        kinds: &[
            "delay and reorder",
            "isolated node",
            "kill",
            "one-way cut",
            "pause",
            "power loss",
        ],
        nodes: 5,
        has_clerks: true,
        points: &[
            "config of several writers, one never answered",
            "old config told",
        ],
        ..PLAIN
    },
    // Leaders come back with what they had to cut, and are asked for it.
    Focus {
        name: "copies",
        kinds: &["isolated node", "leader transfer", "pause", "split"],
        patience: 5,
        repeats_often: true,
        ..PLAIN
    },
    // Logs are cut, and their nodes come back with what was behind the cut.
    Focus {
        name: "cuts",
        kinds: &[
            "isolated node",
            "kill",
            "kill at a cut",
            "leader transfer",
            "split",
        ],
        ..PLAIN
    },
    // One disk says that it synced and did not, and its machine loses its power.
    Focus {
        name: "lies",
        kinds: &[
            "isolated node",
            "kill",
            "leader transfer",
            "lying fsync",
            "power loss",
            "power loss of all",
        ],
        nodes: 5,
        ..PLAIN
    },
    // Leaders of queues come and go, with leases, timers and decisions under way.
    Focus {
        name: "queues",
        kinds: &[
            "isolated node",
            "kill",
            "kill at a step of a queue",
            "leader transfer",
            "pause",
            "power loss",
            "split",
        ],
        has_queues: true,
        ..PLAIN
    },
    // Nothing happens, and little is written: how fast the simulator is.
    Focus {
        name: "light",
        kinds: &[],
        patience: 5,
        ..PLAIN
    },
    // A disk that stands still under a node that lives.
    Focus {
        name: "stall",
        kinds: &["leader transfer", "slow disk"],
        victim_stalls: true,
        ..PLAIN
    },
];

impl Focus {
    /// Whether what the victim knows of the metadata may rot.
    pub(crate) fn rots_metadata(&self) -> bool {
        self.rots == METADATA && self.is_about("bit rot")
    }

    /// Whether a disk says that it synced and did not.
    pub(crate) fn has_lies(&self) -> bool {
        self.is_about("lying fsync")
    }

    /// Whether this kind of fault is one that it is about.
    pub(crate) fn is_about(&self, kind: &str) -> bool {
        self.kinds.contains(&kind)
    }
}

/// The one of this name.
///
/// # Errors
/// If there is none: names them all.
pub(crate) fn named(name: &str) -> Result<&'static Focus> {
    let found = FOCI.iter().find(|focus| focus.name == name);
    let names: Vec<&str> = FOCI.iter().map(|focus| focus.name).collect();
    found.with_context(|| format!("no focus {name}: there are {}", names.join(", ")))
}
