//! Processes that end, stop or lose their machine. Whatever ends, and however many at
//! once: a topic with sync flush and sync replication loses nothing. What the weaker
//! modes may lose is in `oracle/promise.rs`. A wiped disk is a machine that is gone for
//! good: only the victim's, and a voter's of the metadata group only in runs about that.

use weir_base::NodeId;

use super::{Event, Fault, Setting};
use crate::dice::Dice;
use crate::queue_steps::{Moment, Step};

#[derive(Debug, Clone)]
pub(crate) enum ProcessFault {
    /// `kill -9` at the disk operation of this number from now, or soon.
    Kill { node: NodeId, operations: u64 },
    /// The machine loses its power, in the same way.
    PowerLoss { node: NodeId, operations: u64 },
    /// The machine loses its power as soon as its voter is in another term.
    PowerLossAtVote { node: NodeId },
    /// Every process is killed as soon as one of its logs was cut, before anything is written
    /// where the end was.
    KillAtCut,
    /// The leader of a partition whose ISR becomes smaller is killed so many milliseconds
    /// later, and stays down for so many.
    KillAtShrink { after: u64, down: u64 },
    /// Killed, and cut off from all others as soon as they count on it again, for so many
    /// milliseconds: what it finds on its disk then it can tell nobody.
    CutOffAtReturn { node: NodeId, away: u64 },
    /// A follower whose leader counts what it has not flushed loses its power, and is back
    /// after so many milliseconds without that leader seeing it.
    PowerLossWithTail { down: u64 },
    /// A leader that acknowledges alone is killed when its next in office ceased to hear from
    /// it, while what another follower heard waits for a slow disk.
    KillAhead,
    /// The leader of a queue is killed at its next step of this kind, and stays down for so
    /// many milliseconds.
    KillAtStep {
        step: Step,
        moment: Moment,
        down: u64,
    },
    /// All machines lose it at once.
    PowerLossOfAll,
    /// The process stops and goes on later.
    Pause { node: NodeId },
    /// Killed, and killed again in the midst of its start.
    CrashInRecovery {
        node: NodeId,
        operations: u64,
        power: bool,
    },
    /// Node by node is asked to stop, and starts again.
    RollingRestart,
    /// The machine comes back with an empty disk.
    Wiped { node: NodeId },
}

impl ProcessFault {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::PowerLoss { .. } => "power loss",
            Self::PowerLossAtVote { .. } => "power loss at a vote",
            Self::KillAtCut => "kill at a cut",
            Self::KillAtShrink { .. } => "kill at a shrink",
            Self::CutOffAtReturn { .. } => "cut off at its return",
            Self::PowerLossWithTail { .. } => "power loss with a tail",
            Self::KillAhead => "kill of who is ahead",
            Self::KillAtStep { .. } => "kill at a step of a queue",
            Self::PowerLossOfAll => "power loss of all",
            Self::Pause { .. } => "pause",
            Self::CrashInRecovery { .. } => "crash in recovery",
            Self::RollingRestart => "rolling restart",
            Self::Wiped { .. } => "wiped disk",
        }
    }
}

/// How long a node has for its stop during a rolling restart, in milliseconds.
pub(crate) const ROLL_STEP: u64 = 3_000;

pub(super) fn plan(setting: &Setting<'_>) -> Vec<Event> {
    let kill = setting.some(6, |dice| {
        let fault = ProcessFault::Kill {
            node: setting.node(),
            operations: dice.magnitude(1, 200),
        };
        (dice.magnitude(100, 10_000), Fault::Process(fault))
    });
    let power = setting.some(6, |dice| {
        let fault = ProcessFault::PowerLoss {
            node: setting.node(),
            operations: dice.magnitude(1, 200),
        };
        (dice.magnitude(200, 10_000), Fault::Process(fault))
    });
    let long = setting.some(1, |dice| {
        let node = setting.node();
        let fault = ProcessFault::Kill {
            node,
            operations: 1,
        };
        (dice.between(15_000, 60_000), Fault::Process(fault))
    });
    let all = setting.some(2, |dice| {
        let lasts = dice.magnitude(200, 3_000);
        (lasts, Fault::Process(ProcessFault::PowerLossOfAll))
    });
    let pause = setting.some(4, |dice| {
        let node = setting.node();
        let lasts = dice.magnitude(100, 30_000);
        (lasts, Fault::Process(ProcessFault::Pause { node }))
    });
    let recovery = setting.some(3, |dice| {
        let fault = ProcessFault::CrashInRecovery {
            node: setting.node(),
            operations: dice.magnitude(1, 100),
            power: dice.one_in(2),
        };
        (dice.between(1_000, 4_000), Fault::Process(fault))
    });
    let mut at_vote = Vec::new();
    if setting.is_about("power loss at a vote") {
        at_vote = setting.some(4, |dice| {
            let node = setting.node();
            let lasts = dice.between(3_000, 10_000);
            (
                lasts,
                Fault::Process(ProcessFault::PowerLossAtVote { node }),
            )
        });
    }
    let mut at_cut = Vec::new();
    if setting.is_about("kill at a cut") {
        at_cut = setting.some(4, |dice| {
            let lasts = dice.between(5_000, 15_000);
            (lasts, Fault::Process(ProcessFault::KillAtCut))
        });
    }
    let mut at_shrink = Vec::new();
    if setting.is_about("kill at a shrink") {
        at_shrink = setting.some(4, |dice| {
            let fault = ProcessFault::KillAtShrink {
                after: dice.magnitude(2, 512),
                down: dice.magnitude(1_000, 8_000),
            };
            (dice.between(5_000, 15_000), Fault::Process(fault))
        });
    }
    let mut at_return = Vec::new();
    if setting.is_about("cut off at its return") {
        at_return = setting.some(2, |dice| {
            let fault = ProcessFault::CutOffAtReturn {
                // The one whose disk may be bad.
                node: setting.victim,
                // Longer than a node waits for the controller to answer.
                away: dice.between(5_500, 9_000),
            };
            (dice.between(8_000, 12_000), Fault::Process(fault))
        });
    }
    let mut with_tail = Vec::new();
    if setting.is_about("power loss with a tail") {
        with_tail = setting.some(4, |dice| {
            let down = dice.magnitude(20, 200);
            let fault = ProcessFault::PowerLossWithTail { down };
            (dice.between(2_000, 6_000), Fault::Process(fault))
        });
    }
    let mut ahead = Vec::new();
    if setting.is_about("kill of who is ahead") {
        ahead = setting.some(4, |dice| {
            let fault = ProcessFault::KillAhead;
            (dice.between(4_000, 8_000), Fault::Process(fault))
        });
    }
    let count = setting.nodes.len() as u64;
    let rolling = setting.some(1, |_| {
        let fault = Fault::Process(ProcessFault::RollingRestart);
        (count * ROLL_STEP, fault)
    });
    let mut wiped = Vec::new();
    if setting.victim.0 > 3 || setting.is_about("wiped disk") {
        let node = setting.victim;
        wiped = setting.some(1, |_| (1_000, Fault::Process(ProcessFault::Wiped { node })));
    }
    [
        kill, power, long, all, pause, recovery, rolling, wiped, at_vote, at_cut, at_shrink,
        at_return, with_tail, ahead,
    ]
    .concat()
}

/// How many steps of queues a run has whose leader is killed there, at least and at most.
const STEPS: (u64, u64) = (1, 3);
/// How long before the end of all faults they begin to be waited for, at least, in
/// milliseconds: some steps are rare.
const STEPS_TAKE: u64 = 12_000;

/// Kills at steps of queues, for a run whose faults end at `end`.
pub(crate) fn at_steps(dice: &Dice, end: u64) -> Vec<Event> {
    let (least, most) = STEPS;
    let kills = (0..dice.between(least, most)).map(|_| {
        let fault = ProcessFault::KillAtStep {
            step: dice.pick(Step::ALL),
            moment: dice.pick(Moment::ALL),
            down: dice.magnitude(100, 6_000),
        };
        Event {
            at: dice.between(2_000, end.saturating_sub(STEPS_TAKE).max(2_001)),
            until: end,
            fault: Fault::Process(fault),
        }
    });
    let mut kills: Vec<Event> = kills.collect();
    kills.sort_by_key(|event| event.at);
    kills
}
