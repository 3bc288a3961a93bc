//! Clocks that are wrong: wall clocks by up to a minute, all clocks fast or slow by up
//! to 5 %. Leases are measured on monotonic clocks and leave room for that much.

use weir_base::NodeId;

use super::{Event, Fault, Setting};

#[derive(Debug, Clone)]
pub(crate) enum ClockFault {
    /// The wall clock is off by this.
    Wall { node: NodeId, millis: i64 },
    /// Both clocks run fast, from the node's next start on.
    Drift { node: NodeId, ppm: i64 },
}

impl ClockFault {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Wall { .. } => "wall clock jump",
            Self::Drift { .. } => "clock drift",
        }
    }
}

pub(super) fn plan(setting: &Setting<'_>) -> Vec<Event> {
    let signed = |most: u64| {
        let size = i64::try_from(setting.dice.between(1, most)).unwrap_or(0);
        if setting.dice.one_in(2) { size } else { -size }
    };
    let wall = setting.some(4, |dice| {
        let (node, millis) = (setting.node(), signed(60_000));
        let fault = ClockFault::Wall { node, millis };
        (dice.magnitude(500, 30_000), Fault::Clock(fault))
    });
    let drift = setting.some(3, |_| {
        let (node, ppm) = (setting.node(), signed(50_000));
        (60_000, Fault::Clock(ClockFault::Drift { node, ppm }))
    });
    [wall, drift].concat()
}
