//! Queue clients of a run, as RocketMQ clients are: on machines of their own, through the
//! front of whichever node they reach, each call with a deadline.
//!
//! ```text
//!   auditor: makes topics and groups --> senders, consumers, tellers (who are asked about
//!      |                                 half messages) until the faults are over
//!      +--> waits until nothing is pending in any node's books, reads all logs back
//! ```
//! What is under way is noted as unknown before it is tried, and with its outcome behind.
//! No call is made twice by itself, so that what is stored twice was doubled by a broker.

mod auditor;
pub(crate) mod book;
mod consumer;
mod sender;
mod teller;

use std::net::SocketAddr;
use std::time::Duration;

use weir_base::{Env, NodeId};

use super::recorder::Recorder;
use super::stage::Stage;
use crate::cluster::ip;
use crate::dice::Dice;
use crate::whole_node::{ADMIN_PORT, ROCKETMQ_PORT};
use auditor::Auditor;
use book::Book;
use consumer::Consumer;
use sender::Sender;
use teller::Teller;

/// A topic with the group that consumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) topic: &'static str,
    pub(crate) group: &'static str,
    /// Where its dead letters go.
    pub(crate) letters: &'static str,
    pub(crate) partitions: i32,
    /// Messages of one message group come one after the other.
    pub(crate) is_ordered: bool,
}

/// All there are. The ordered one has one partition: its order is that of one log.
pub(crate) const QUEUES: [Queue; 2] = [
    Queue {
        topic: "jobs",
        group: "workers",
        letters: "dlq.workers",
        partitions: 2,
        is_ordered: false,
    },
    Queue {
        topic: "orders",
        group: "clerks",
        letters: "dlq.clerks",
        partitions: 1,
        is_ordered: true,
    },
];

/// Deliveries of one message.
pub(crate) const ATTEMPTS_MAX: u16 = 5;
/// Milliseconds before a message that failed is delivered again.
const BACKOFF: u64 = 200;
/// The lease of a consumer that holds its own, the shortest that the front grants.
const LEASE: Duration = Duration::from_secs(10);
/// Pause between two questions about one half message, and how many there are at most: then
/// it waits for an operator. What nodes are told, shorter than in life.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(2);
pub(crate) const CHECKS_MAX: u16 = 4;
/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Pause after anything that did not work.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to become of a message: its number says so, whoever gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is settled.
    Done,
    /// Its first attempt fails.
    FailsOnce,
    /// Every attempt fails.
    Fails,
    /// Whoever gets it first forgets about it: the lease ends the attempt.
    Forgotten,
    /// As a half message it is taken back; else it is settled.
    TakenBack,
}

impl Fate {
    fn of(id: &str) -> Self {
        match id.bytes().last() {
            Some(b'3') => Self::Fails,
            Some(b'5') => Self::FailsOnce,
            Some(b'7') => Self::Forgotten,
            Some(b'9') => Self::TakenBack,
            Some(_) | None => Self::Done,
        }
    }
}

/// The message group in the id of an ordered message.
pub(crate) fn message_group(id: &str) -> Option<&str> {
    id.split_once('-').map(|(group, _)| group)
}

/// What all of them have.
#[derive(Clone)]
struct Crew {
    env: Env,
    nodes: Vec<NodeId>,
    book: Book,
    recorder: Recorder,
    stage: Stage,
}

impl Crew {
    fn dice(&self, who: &str) -> Dice {
        Dice::new(self.env.entropy.fork(&format!("queues {who}")))
    }

    fn front(&self, node: NodeId) -> SocketAddr {
        (ip(node), ROCKETMQ_PORT).into()
    }

    fn admin(&self, node: NodeId) -> SocketAddr {
        (ip(node), ADMIN_PORT).into()
    }

    /// Until the topics and groups are made.
    async fn opened(&self) {
        while !self.book.is_open() {
            self.env.sleep(PAUSE).await;
        }
    }
}

/// Starts those that run on the client machine of this `place`.
pub(crate) fn start(
    env: &Env,
    place: usize,
    nodes: &[NodeId],
    (book, recorder, stage): (&Book, &Recorder, &Stage),
) {
    let crew = Crew {
        env: env.clone(),
        nodes: nodes.to_vec(),
        book: book.clone(),
        recorder: recorder.clone(),
        stage: stage.clone(),
    };
    if place == 0 {
        book.set_mute(crew.dice("mute").one_in(2));
        env.tasks.spawn("auditor", Auditor::new(&crew).run());
        for node in nodes {
            env.tasks.spawn("teller", Teller::new(&crew, *node).run());
        }
    }
    for (queue, _) in QUEUES.iter().enumerate() {
        let number = format!("{queue}.{place}");
        let sender = Sender::new(&crew, queue, &number);
        env.tasks.spawn("queue-sender", sender.run());
        let consumer = Consumer::new(&crew, queue, &number);
        env.tasks.spawn("queue-consumer", consumer.run());
    }
}
