//! What an admin changes while data flows. Nothing acknowledged may be lost by it, but
//! with the topic that is deleted, and below the weakest mode that a topic ever had.

use weir_base::NodeId;

use super::{Event, Fault, Setting};

#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A topic of its own is made and deleted again.
    CreateTopic {
        number: u64,
    },
    DeleteTopic {
        number: u64,
    },
    /// Of the topic whose mode shifts.
    Mode {
        flush: &'static str,
        replication: &'static str,
    },
    /// Preferred replicas lead again, of every topic.
    PreferredLeaders,
    /// One partition moves to other nodes.
    Reassign {
        topic: u64,
        replicas: Vec<NodeId>,
    },
    /// A node that is new to the cluster.
    AddNode {
        node: NodeId,
    },
}

impl Change {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::CreateTopic { .. } => "topic made",
            Self::DeleteTopic { .. } => "topic deleted",
            Self::Mode { .. } => "mode change",
            Self::PreferredLeaders => "leader transfer",
            Self::Reassign { .. } => "reassignment",
            Self::AddNode { .. } => "node added",
        }
    }
}

pub(super) fn plan(setting: &Setting<'_>) -> Vec<Event> {
    let mut number = 0;
    let topics = setting.some(4, |dice| {
        number += 1;
        let made = Change::CreateTopic { number };
        (dice.magnitude(100, 10_000), Fault::Admin(made))
    });
    // The end of a made topic is its deletion, as an event of its own.
    let deleted = topics.iter().filter_map(|event| match &event.fault {
        Fault::Admin(Change::CreateTopic { number }) => Some(Event {
            at: event.until,
            until: event.until,
            fault: Fault::Admin(Change::DeleteTopic { number: *number }),
        }),
        Fault::Network(_)
        | Fault::Process(_)
        | Fault::Disk(_)
        | Fault::Clock(_)
        | Fault::Admin(_) => None,
    });
    let deleted: Vec<Event> = deleted.collect();
    let modes = setting.some(4, |dice| {
        let flush = dice.pick(&["sync", "async"]);
        let replication = dice.pick(&["sync", "async"]);
        (1, Fault::Admin(Change::Mode { flush, replication }))
    });
    let leaders = setting.some(4, |_| (1, Fault::Admin(Change::PreferredLeaders)));
    let homes = [setting.nodes, setting.spares].concat();
    // To two nodes only where moves are what it is about: the partition is as fragile then
    // as it may be.
    let shrinks = setting.is_about("reassignment");
    let moves = setting.some(4, |dice| {
        let mut replicas = dice.shuffled(&homes);
        replicas.truncate(if shrinks && dice.one_in(2) { 2 } else { 3 });
        let topic = dice.between(0, 4);
        (1, Fault::Admin(Change::Reassign { topic, replicas }))
    });
    let mut added = Vec::new();
    for node in setting.spares {
        let at = setting.dice.between(1_000, setting.end / 2);
        added.push(Event {
            at,
            until: at,
            fault: Fault::Admin(Change::AddNode { node: *node }),
        });
    }
    [topics, deleted, modes, leaders, moves, added].concat()
}
