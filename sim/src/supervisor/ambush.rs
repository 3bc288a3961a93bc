//! Faults that wait for two replicas to differ, and strike then: what one of them has is not
//! on its disk, or not with the other, and who is to judge of it does not hear of that.
//!
//! ```text
//!   armed --(somebody is caught)--> caught --(a strike)--> struck --(time)--> over
//! ```
//! Links are cut and disks are slow for as long as it takes.

use weir_base::image::{ClusterImage, FlushMode, PartitionRecord, ReplicationMode};
use weir_base::{NodeId, Offset, TopicPartition};
use weir_replication::PartitionView;

use crate::nemesis::network::Way;
use crate::plan::VOTERS;
use crate::whole_node::Insides;

/// How long a machine that is back stays out of its leader's sight, in milliseconds: longer
/// than it takes to be counted in again.
const UNSEEN: u64 = 2_000;
/// How long there may be nothing to kill for, in milliseconds.
const PATIENCE: u64 = 4_000;
/// How long a leader that was killed stays down, and a disk slow behind it, in milliseconds.
const DOWN: u64 = 3_000;
const LATE: u64 = 1_500;
/// Appends of a leader after which more than one waits for a slow write of the first.
const WAITING: u32 = 3;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ambush {
    /// A follower told its leader of more than it flushed. Its machine loses its power, and is
    /// back after so many milliseconds, out of its leader's sight.
    Tail { down: u64 },
    /// A leader acknowledges alone. What it sends is lost on its way to who is elected next,
    /// and waits for a slow disk at another follower, which until then has what that one has:
    /// then it is killed.
    Ahead,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// A machine loses its power for so many milliseconds.
    PowerLoss(NodeId, u64),
    /// A process is killed, and down for so many.
    Kill(NodeId, u64),
    /// A disk becomes slow, or is no more.
    Disk(NodeId),
}

/// Whom it caught.
#[derive(Debug, Clone)]
struct Caught {
    at: TopicPartition,
    leader: NodeId,
    /// The one that loses its power, or is to lead next.
    follower: NodeId,
    /// The one that is slow.
    late: Option<NodeId>,
    /// Whether leader and follower are cut off from each other.
    is_severed: bool,
    /// Whether the leader was killed.
    is_struck: bool,
    /// Where the leader's log ends and that of who is late, and appends of the leader since
    /// the latter moved.
    ends: (Offset, Offset),
    appends: u32,
    until: u64,
}

#[derive(Default)]
pub(super) struct Ambushes {
    armed: Option<Ambush>,
    caught: Option<Caught>,
}

impl Ambushes {
    pub(super) fn arm(&mut self, ambush: Ambush) {
        self.armed = Some(ambush);
    }

    /// Waits for nobody any more; what is under way goes on.
    pub(super) fn disarm(&mut self) {
        self.armed = None;
    }

    /// All of it is over.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_on(&self) -> bool {
        self.armed.is_some() || self.caught.is_some()
    }

    /// What is cut.
    pub(super) fn severed(&self) -> Vec<Way> {
        let caught = self.caught.iter().filter(|caught| caught.is_severed);
        caught
            .flat_map(|c| [(c.leader, c.follower), (c.follower, c.leader)])
            .collect()
    }

    /// Whose disk is slow.
    pub(super) fn late(&self) -> Option<NodeId> {
        self.caught.as_ref().and_then(|caught| caught.late)
    }

    /// Looks at all nodes.
    pub(super) fn look(
        &mut self,
        now: u64,
        insides: &Insides,
        image: &ClusterImage,
    ) -> Option<Strike> {
        if let Some(caught) = &mut self.caught {
            if let Some(strike) = caught.look(now, insides) {
                return Some(strike);
            }
            if caught.until > now {
                return None;
            }
            let late = self.caught.take().and_then(|caught| caught.late);
            return late.map(Strike::Disk);
        }
        let ambush = self.armed?;
        let mut partitions = image.partitions();
        let caught = partitions.find_map(|(at, record)| match ambush {
            Ambush::Tail { down } => with_tail(now + down, insides, at, record),
            Ambush::Ahead => ahead(now, at, record, insides),
        })?;
        self.armed = None;
        let (follower, late) = (caught.follower, caught.late);
        self.caught = Some(caught);
        match ambush {
            Ambush::Tail { down } => Some(Strike::PowerLoss(follower, down)),
            Ambush::Ahead => late.map(Strike::Disk),
        }
    }
}

impl Caught {
    /// Cuts the next leader off once the slow disk is at what both have, and kills the leader
    /// once more than that waits for it.
    fn look(&mut self, now: u64, insides: &Insides) -> Option<Strike> {
        let late = self.late.filter(|_| !self.is_struck)?;
        let next = view(insides, self.follower, self.at)?.log_end;
        let ends = (
            view(insides, self.leader, self.at)?.log_end,
            view(insides, late, self.at)?.log_end,
        );
        if ends.1 != self.ends.1 {
            // It was too fast: from the beginning.
            (self.appends, self.is_severed) = (0, false);
        } else if ends.0 != self.ends.0 {
            self.appends += 1;
        }
        self.ends = ends;
        self.is_severed |= self.appends == 1 && next == ends.0;
        if !self.is_severed || self.appends < WAITING {
            return None;
        }
        // Who is elected has to see that nobody is there any more.
        (self.is_severed, self.is_struck) = (false, true);
        self.until = now + LATE;
        Some(Strike::Kill(self.leader, DOWN))
    }
}

/// A follower whose leader heard of all it has, while some of that is not flushed.
fn with_tail(
    back_at: u64,
    insides: &Insides,
    at: TopicPartition,
    record: &PartitionRecord,
) -> Option<Caught> {
    let leader = record.leader.filter(|node| !controls(insides, *node))?;
    let lead = view(insides, leader, at)?;
    let is_told = lead.is_leader && lead.high_watermark == lead.log_end;
    if record.durability.flush != FlushMode::Async || !is_told {
        return None;
    }
    let has_tail = |follower: &NodeId| {
        view(insides, *follower, at).is_some_and(|follows| {
            follows.leader == Some(leader)
                && follows.log_end == lead.log_end
                && follows.durable_end < follows.log_end
        })
    };
    let mut members = members(record, leader).filter(|node| !controls(insides, *node));
    Some(Caught {
        at,
        leader,
        follower: members.find(has_tail)?,
        late: None,
        is_severed: true,
        is_struck: false,
        ends: (Offset::ZERO, Offset::ZERO),
        appends: 0,
        until: back_at + UNSEEN,
    })
}

/// A leader that acknowledges alone, who is elected after it, and a follower that hears of
/// that at once, whatever its disk does.
fn ahead(
    now: u64,
    at: TopicPartition,
    record: &PartitionRecord,
    insides: &Insides,
) -> Option<Caught> {
    let leader = record.leader.filter(|node| !controls(insides, *node))?;
    if record.durability.replication != ReplicationMode::Async {
        return None;
    }
    let mut members = members(record, leader);
    let follower = members.next()?;
    Some(Caught {
        at,
        leader,
        follower,
        late: Some(members.find(|node| !VOTERS.contains(node))?),
        is_severed: false,
        is_struck: false,
        ends: (Offset::ZERO, Offset::ZERO),
        appends: 0,
        until: now + PATIENCE,
    })
}

/// The members of the ISR that follow, in the order in which they are elected.
fn members(record: &PartitionRecord, leader: NodeId) -> impl Iterator<Item = NodeId> {
    let nodes = record.replicas.iter().map(|replica| replica.node);
    nodes.filter(move |node| *node != leader && record.isr.contains(node))
}

/// Whether some node takes this one for the controller, or knows of none: without one nothing
/// follows from what happens to others.
fn controls(insides: &Insides, node: NodeId) -> bool {
    let insides = insides.lock();
    let mut told = insides.values().map(|inside| inside.metadata.controller());
    told.any(|controller| controller.is_none_or(|controller| controller == node))
}

pub(super) fn view(insides: &Insides, node: NodeId, at: TopicPartition) -> Option<PartitionView> {
    let insides = insides.lock();
    let replicas = insides.get(&node)?.broker.replicas();
    let handle = replicas.into_iter().find(|handle| handle.at() == at)?;
    Some(handle.view())
}
