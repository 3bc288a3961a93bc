//! Faults between machines. Any of them, in any number, may cost time and nothing else:
//! what was acknowledged stays, and when they end the cluster heals by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use weir_base::NodeId;

use super::{Event, Fault, Setting};
use crate::cluster::{Cluster, ip};

/// One way between two machines.
pub(crate) type Way = (NodeId, NodeId);

#[derive(Debug, Clone)]
pub(crate) enum NetworkFault {
    /// Of a thousand datagrams.
    Weather { lost: u32, doubled: u32 },
    /// Delays up to this, everywhere; datagrams overtake each other.
    Delay { max: Duration },
    /// The same on one link.
    SlowLink { link: Way, max: Duration },
    /// The same on every link of a node.
    SlowNode { node: NodeId, max: Duration },
    /// What is sent on these ways vanishes.
    Cut { shape: Shape, ways: Vec<Way> },
    /// What is sent between two machines arrives when this ends.
    Clog { link: Way },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One machine can hear another no more, but is heard.
    OneWay,
    /// One node is on its own, with or without the clients.
    Isolated,
    /// Two halves.
    Split,
    /// Two halves that one node still reaches both of.
    Bridge,
    /// Everybody reaches a majority, and no two the same.
    Ring,
}

impl NetworkFault {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Weather { .. } => "loss and doubling",
            Self::Delay { .. } => "delay and reorder",
            Self::SlowLink { .. } => "slow link",
            Self::SlowNode { .. } => "slow node",
            Self::Cut { shape, .. } => match shape {
                Shape::OneWay => "one-way cut",
                Shape::Isolated => "isolated node",
                Shape::Split => "split",
                Shape::Bridge => "bridge",
                Shape::Ring => "majority ring",
            },
            Self::Clog { .. } => "clogged link",
        }
    }
}

pub(super) fn plan(setting: &Setting<'_>) -> Vec<Event> {
    let all = [setting.nodes, setting.clients].concat();
    let link = || -> Way {
        let two = setting.dice.shuffled(setting.nodes);
        (two[0], two[1])
    };
    let weather = setting.some(4, |dice| {
        let fault = NetworkFault::Weather {
            lost: u32::try_from(dice.between(0, 300)).unwrap_or(0),
            doubled: u32::try_from(dice.between(0, 200)).unwrap_or(0),
        };
        (dice.magnitude(500, 15_000), Fault::Network(fault))
    });
    let delay = setting.some(3, |dice| {
        let max = Duration::from_millis(dice.magnitude(10, 400));
        let fault = NetworkFault::Delay { max };
        (dice.magnitude(500, 10_000), Fault::Network(fault))
    });
    let slow = setting.some(3, |dice| {
        let max = Duration::from_millis(dice.magnitude(20, 1_500));
        let fault = NetworkFault::SlowLink { link: link(), max };
        (dice.magnitude(500, 15_000), Fault::Network(fault))
    });
    let mut far = Vec::new();
    if setting.is_about("slow node") {
        far = setting.some(4, |dice| {
            let max = Duration::from_millis(dice.magnitude(50, 1_000));
            let node = setting.node();
            let fault = NetworkFault::SlowNode { node, max };
            (dice.between(3_000, 15_000), Fault::Network(fault))
        });
    }
    let clog = setting.some(3, |dice| {
        let fault = NetworkFault::Clog { link: link() };
        (dice.magnitude(100, 8_000), Fault::Network(fault))
    });
    let shapes = [
        Shape::OneWay,
        Shape::Isolated,
        Shape::Split,
        Shape::Bridge,
        Shape::Ring,
    ];
    let cuts = shapes.iter().flat_map(|shape| {
        setting.some(4, |dice| {
            let order = dice.shuffled(setting.nodes);
            let ways = match shape {
                Shape::OneWay => vec![{
                    let two = dice.shuffled(&all);
                    (two[0], two[1])
                }],
                Shape::Isolated => {
                    let with_clients = dice.one_in(2);
                    let others = all.iter().filter(|other| {
                        **other != order[0] && (with_clients || !setting.clients.contains(other))
                    });
                    both(others.map(|other| (order[0], *other)))
                }
                Shape::Split | Shape::Bridge => {
                    let spared = usize::from(*shape == Shape::Bridge);
                    let (one, two) = order[spared..].split_at((order.len() - spared) / 2);
                    both(one.iter().flat_map(|a| two.iter().map(|b| (*a, *b))))
                }
                Shape::Ring => ring(&order),
            };
            let fault = NetworkFault::Cut {
                shape: *shape,
                ways,
            };
            // Long enough for others to take over, and short enough to be seen to come back.
            let lasts = if setting.focus.is_some() && dice.one_in(2) {
                dice.between(2_000, 8_000)
            } else {
                dice.magnitude(200, 20_000)
            };
            (lasts, Fault::Network(fault))
        })
    });
    let cuts: Vec<Event> = cuts.collect();
    [weather, delay, slow, far, clog, cuts].concat()
}

/// These ways and the ways back.
pub(crate) fn both(ways: impl Iterator<Item = Way>) -> Vec<Way> {
    ways.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

/// Each node keeps its neighbours on both sides: with three nodes that is everybody, so
/// there each hears only the one before it.
fn ring(order: &[NodeId]) -> Vec<Way> {
    let count = order.len();
    let mut ways = Vec::new();
    for (at, a) in order.iter().enumerate() {
        for (to, b) in order.iter().enumerate() {
            let distance = (to + count - at) % count;
            let keeps = if count > 3 {
                distance <= 1 || distance == count - 1
            } else {
                distance <= 1
            };
            if !keeps {
                ways.push((*a, *b));
            }
        }
    }
    ways
}

/// The faults that are on, and what follows for each link. turmoil knows one state a
/// link, and whoever heals it heals it for all: here faults overlap.
#[derive(Default)]
pub(crate) struct Links {
    active: BTreeMap<usize, NetworkFault>,
    /// Cut for as long as a fault of processes wants it.
    severed: Vec<Way>,
    set: BTreeMap<Way, State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Cut,
    Held,
}

const CALM: Duration = Duration::from_millis(5);

impl Links {
    pub(crate) fn begin(&mut self, event: usize, fault: NetworkFault) {
        self.active.insert(event, fault);
    }

    pub(crate) fn end(&mut self, event: usize) {
        self.active.remove(&event);
    }

    pub(crate) fn end_all(&mut self) {
        self.active.clear();
        self.severed.clear();
    }

    /// These ways are cut as well, and none that was severed before. Says whether that
    /// changes anything.
    pub(crate) fn sever(&mut self, ways: Vec<Way>) -> bool {
        let changes = self.severed != ways;
        self.severed = ways;
        changes
    }

    /// What a machine's loss of power made of its links is made good.
    pub(crate) fn forget(&mut self) {
        self.set.clear();
    }

    /// Makes turmoil's links what the active faults say.
    pub(crate) fn apply(&mut self, cluster: &Cluster, sim: &turmoil::Sim<'_>, all: &[NodeId]) {
        let (mut lost, mut doubled, mut delay) = (0, 0, CALM);
        for fault in self.active.values() {
            match fault {
                NetworkFault::Weather {
                    lost: l,
                    doubled: d,
                } => {
                    lost = lost.max(*l);
                    doubled = doubled.max(*d);
                }
                NetworkFault::Delay { max } => delay = delay.max(*max),
                NetworkFault::SlowLink { .. }
                | NetworkFault::SlowNode { .. }
                | NetworkFault::Cut { .. }
                | NetworkFault::Clog { .. } => {}
            }
        }
        cluster.weather().set_everywhere(lost, doubled);
        for (at, a) in all.iter().enumerate() {
            for b in &all[..at] {
                let (from, to) = (ip(*a), ip(*b));
                sim.set_link_max_message_latency(from, to, self.delay((*a, *b)).max(delay));
                let states = [self.state((*a, *b)), self.state((*b, *a))];
                self.set_link(sim, (*a, *b), (from, to), states);
            }
        }
    }

    fn set_link(
        &mut self,
        sim: &turmoil::Sim<'_>,
        (a, b): Way,
        (from, to): (IpAddr, IpAddr),
        [there, back]: [State; 2],
    ) {
        let before = [(a, b), (b, a)].map(|way| self.set.insert(way, State::Open));
        self.set.insert((a, b), there);
        self.set.insert((b, a), back);
        if before == [Some(there), Some(back)] {
            return;
        }
        // Whatever was held arrives, unless it is cut off next.
        sim.release(from, to);
        if there == State::Cut {
            sim.partition_oneway(from, to);
        }
        if back == State::Cut {
            sim.partition_oneway(to, from);
        }
        if there == State::Held && back == State::Held {
            sim.hold(from, to);
        }
    }

    fn delay(&self, (a, b): Way) -> Duration {
        let slow = self.active.values().filter_map(|fault| match fault {
            NetworkFault::SlowLink { link, max } => {
                (*link == (a, b) || *link == (b, a)).then_some(*max)
            }
            NetworkFault::SlowNode { node, max } => (*node == a || *node == b).then_some(*max),
            NetworkFault::Weather { .. }
            | NetworkFault::Delay { .. }
            | NetworkFault::Cut { .. }
            | NetworkFault::Clog { .. } => None,
        });
        slow.max().unwrap_or_default()
    }

    /// Cut, if any fault cuts it; a link that is cut one way is not held on the other.
    fn state(&self, (a, b): Way) -> State {
        let is_cut = |way: Way| {
            self.severed.contains(&way)
                || self.active.values().any(|fault| match fault {
                    NetworkFault::Cut { ways, .. } => ways.contains(&way),
                    NetworkFault::Weather { .. }
                    | NetworkFault::Delay { .. }
                    | NetworkFault::SlowLink { .. }
                    | NetworkFault::SlowNode { .. }
                    | NetworkFault::Clog { .. } => false,
                })
        };
        let is_held = self.active.values().any(|fault| match fault {
            NetworkFault::Clog { link } => *link == (a, b) || *link == (b, a),
            NetworkFault::Weather { .. }
            | NetworkFault::Delay { .. }
            | NetworkFault::SlowLink { .. }
            | NetworkFault::SlowNode { .. }
            | NetworkFault::Cut { .. } => false,
        });
        if is_cut((a, b)) {
            State::Cut
        } else if is_held && !is_cut((b, a)) {
            State::Held
        } else {
            State::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [NodeId; 5] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5)];

    #[test]
    fn in_a_ring_everybody_reaches_a_majority_and_no_two_the_same() {
        let ways = ring(&ALL);
        let reached = |from: NodeId| -> Vec<NodeId> {
            let all = ALL.into_iter();
            all.filter(|to| !ways.contains(&(from, *to))).collect()
        };
        for (at, a) in ALL.into_iter().enumerate() {
            assert_eq!(reached(a).len(), 3);
            assert!(ALL[..at].iter().all(|b| reached(a) != reached(*b)));
        }
        assert_eq!(ring(&ALL[..3]).len(), 3);
    }

    #[test]
    fn faults_overlap_and_a_cut_outweighs_a_clog() {
        let mut links = Links::default();
        let link = (ALL[0], ALL[1]);
        let cut = |way| NetworkFault::Cut {
            shape: Shape::OneWay,
            ways: vec![way],
        };
        links.begin(1, cut(link));
        links.begin(2, cut(link));
        links.begin(3, NetworkFault::Clog { link });
        assert_eq!(links.state(link), State::Cut);
        assert_eq!(links.state((ALL[1], ALL[0])), State::Open);
        links.end(1);
        assert_eq!(links.state(link), State::Cut);
        links.end(2);
        assert_eq!(links.state(link), State::Held);
        links.end_all();
        assert_eq!(links.state(link), State::Open);
    }
}
