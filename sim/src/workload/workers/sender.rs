//! A producer to one queue: plain, delayed and half messages, or ordered ones. After the
//! faults its messages must be taken.

use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::Timestamp;
use weir_checkers::queue::{Event, Outcome};

use super::book::Book;
use super::consumer::outcome;
use super::{Crew, DEADLINE, Fate, PAUSE, QUEUES, Queue};
use crate::dice::Dice;
use crate::workload::rocketmq::RocketmqClient;
use crate::workload::rocketmq::wire::{
    Answer, DELAY, EndTransactionRequest, FIFO, Message, NORMAL, RecallMessageRequest,
    SendMessageRequest, SendMessageResponse, SendResultEntry, Status, SystemProperties,
    TRANSACTION, resource,
};

/// Messages that must be taken after the faults.
const MESSAGES_AFTER: u32 = 5;
/// Milliseconds between two messages, at least and at most.
const PAUSES: (u64, u64) = (40, 400);
/// Milliseconds until a delayed message is due.
const DELAYS: (u64, u64) = (100, 4_000);
/// Message groups of an ordered queue.
const MESSAGE_GROUPS: u64 = 4;
/// How many messages of an ordered queue there are for a half one that is abandoned.
const ABANDONED: u64 = 20;
/// When a half message is asked about first.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// A decision of a producer by itself.
const BY_ITSELF: i32 = 1;

pub(super) struct Sender {
    crew: Crew,
    dice: Dice,
    queue: usize,
    number: String,
    client: Option<RocketmqClient>,
    /// The last half message, for decisions that name the wrong one.
    last_half: Option<String>,
}

/// What a send is of.
enum Kind {
    Plain,
    Delayed { due: Timestamp },
    Half { check_at: i64 },
    Ordered { group: String },
}

impl Sender {
    pub(super) fn new(crew: &Crew, queue: usize, number: &str) -> Self {
        crew.book.sender_begins();
        Self {
            dice: crew.dice(&format!("sender {number}")),
            crew: crew.clone(),
            queue,
            number: number.to_owned(),
            client: None,
            last_half: None,
        }
    }

    fn of(&self) -> Queue {
        QUEUES[self.queue]
    }

    fn note(&self, event: Event) {
        self.crew.book.note(self.queue, event);
    }

    pub(super) async fn run(mut self) {
        self.crew.opened().await;
        let mut left = MESSAGES_AFTER;
        while left > 0 {
            let healed = self.crew.stage.is_healed();
            match self.send().await {
                Ok(Outcome::Ok) => left -= u32::from(healed),
                // Another node may lead what this one does not.
                Ok(Outcome::Info | Outcome::Fail) | Err(_) => {
                    self.client = None;
                    self.crew.env.sleep(PAUSE).await;
                }
            }
            let (least, most) = PAUSES;
            let pause = Duration::from_millis(self.dice.magnitude(least, most));
            self.crew.env.sleep(pause).await;
        }
        self.crew.book.sender_ends();
    }

    async fn client(&mut self) -> Result<&mut RocketmqClient> {
        if self.client.is_none() {
            let to = self.crew.front(self.dice.pick(&self.crew.nodes));
            let id = format!("sender-{}", self.number);
            let client = RocketmqClient::connect(&self.crew.env, to, id, DEADLINE).await?;
            self.client = Some(client);
        }
        self.client.as_mut().context("not connected")
    }

    async fn send(&mut self) -> Result<Outcome> {
        let number = self.crew.book.number();
        let kind = self.kind();
        let id = match &kind {
            Kind::Plain => format!("m{number}"),
            Kind::Delayed { .. } => format!("d{number}"),
            Kind::Half { .. } => format!("h{number}"),
            Kind::Ordered { group } => format!("{group}-{number}"),
        };
        // Nothing is noted of what cannot have been sent.
        self.client().await?;
        self.note(attempt(&id, &kind, Outcome::Info));
        let entry = self.store(&id, &kind).await?;
        let ended = outcome(entry.status);
        if ended != Outcome::Info {
            self.note(attempt(&id, &kind, ended));
        }
        if ended == Outcome::Ok {
            match kind {
                Kind::Delayed { .. } if self.dice.one_in(4) => {
                    self.recall(&id, entry.recall_handle).await?;
                }
                Kind::Half { .. } if !self.of().is_ordered => {
                    self.decide_all(&id, entry.transaction_id).await?;
                }
                // Of the other queue nobody decides, and nobody can be asked: its half
                // messages must be in nobody's way.
                Kind::Half { .. } => {}
                Kind::Plain | Kind::Delayed { .. } | Kind::Ordered { .. } => {}
            }
        }
        Ok(ended)
    }

    fn kind(&self) -> Kind {
        if self.of().is_ordered && self.dice.one_in(ABANDONED) {
            return half();
        }
        if self.of().is_ordered {
            let group = self.dice.between(1, MESSAGE_GROUPS);
            return Kind::Ordered {
                group: format!("k{group}"),
            };
        }
        match self.dice.between(1, 5) {
            1 | 2 => Kind::Plain,
            3 => {
                let (least, most) = DELAYS;
                let wait = Duration::from_millis(self.dice.magnitude(least, most));
                let due = self.crew.env.clock.wall() + wait;
                Kind::Delayed { due }
            }
            _ => half(),
        }
    }

    async fn store(&mut self, id: &str, kind: &Kind) -> Result<SendResultEntry> {
        let mut system = SystemProperties {
            message_id: id.to_owned(),
            born_timestamp: Some(self.crew.env.clock.wall().into()),
            born_host: "weir-sim".to_owned(),
            // The front takes another partition where it does not lead this one.
            queue_id: i32::from(self.dice.one_in(2)),
            ..SystemProperties::default()
        };
        system.message_type = match kind {
            Kind::Plain => NORMAL,
            Kind::Delayed { due } => {
                system.delivery_timestamp = Some((*due).into());
                DELAY
            }
            Kind::Half { .. } => {
                system.orphaned_transaction_recovery_duration = Some(CHECK_AFTER.into());
                TRANSACTION
            }
            Kind::Ordered { group } => {
                system.message_group = Some(group.clone());
                FIFO
            }
        };
        let message = Message {
            topic: resource(self.of().topic),
            system_properties: Some(system),
            body: id.to_owned().into(),
        };
        let request = SendMessageRequest {
            messages: vec![message],
        };
        let client = self.client().await?;
        let answer: SendMessageResponse = client.ask("SendMessage", request, DEADLINE).await?;
        let refused = SendResultEntry {
            status: answer.status,
            ..SendResultEntry::default()
        };
        Ok(answer.entries.into_iter().next().unwrap_or(refused))
    }

    async fn recall(&mut self, id: &str, recall_handle: String) -> Result<()> {
        let note = |sender: &Self, outcome| {
            let id = id.to_owned();
            sender.note(Event::Cancelled { id, outcome });
        };
        note(self, Outcome::Info);
        let request = RecallMessageRequest {
            topic: resource(self.of().topic),
            recall_handle,
        };
        let client = self.client().await?;
        let answer: Answer = client.ask("RecallMessage", request, DEADLINE).await?;
        match outcome(answer.status) {
            Outcome::Info => {}
            known @ (Outcome::Ok | Outcome::Fail) => note(self, known),
        }
        Ok(())
    }

    /// Decides on a half message, unless this producer is to be asked about it.
    async fn decide_all(&mut self, id: &str, transaction: String) -> Result<()> {
        let before = self.last_half.replace(transaction.clone());
        if let Some(before) = before.filter(|_| self.dice.one_in(4)) {
            self.confuse(id, &transaction, &before).await?;
        }
        if self.dice.one_in(3) {
            return Ok(());
        }
        let commit = Fate::of(id) != Fate::TakenBack;
        self.decide(id, &transaction, commit).await?;
        // What was late, or another of its kind: the first one stands.
        if self.dice.one_in(4) {
            self.decide(id, &transaction, !commit).await?;
        }
        Ok(())
    }

    async fn decide(&mut self, id: &str, transaction: &str, commit: bool) -> Result<()> {
        let (book, queue) = (self.crew.book.clone(), self.queue);
        let deadline = DEADLINE;
        let client = self.client().await?;
        decide(
            client,
            (&book, queue),
            (id, transaction),
            commit,
            BY_ITSELF,
            deadline,
        )
        .await
    }

    /// A decision of another transaction that has the number of this one (S-26): it must
    /// be refused.
    async fn confuse(&mut self, id: &str, transaction: &str, before: &str) -> Result<()> {
        let number = transaction.rsplit_once('.').map(|(number, _)| number);
        let seal = before.rsplit_once('.').map(|(_, seal)| seal);
        let Some((number, seal)) = number.zip(seal) else {
            return Ok(());
        };
        let confused = format!("{number}.{seal}");
        let request = end_transaction(self.of().topic, id, &confused, true, BY_ITSELF);
        let client = self.client().await?;
        let answer: Answer = client.ask("EndTransaction", request, DEADLINE).await?;
        if answer.status.as_ref().is_some_and(Status::is_ok) {
            self.crew.recorder.complain(format!(
                "C18: {id} was decided by {confused}, which nobody was given"
            ));
        }
        Ok(())
    }
}

fn half() -> Kind {
    let check_at = (Book::now() + CHECK_AFTER).0;
    Kind::Half { check_at }
}

/// What is noted of a send.
fn attempt(id: &str, kind: &Kind, outcome: Outcome) -> Event {
    let id = id.to_owned();
    match kind {
        Kind::Half { check_at } => Event::Prepared {
            id,
            outcome,
            check_at: *check_at,
        },
        Kind::Delayed { due } => Event::Sent {
            id,
            due: Some(due.0),
            outcome,
        },
        Kind::Plain | Kind::Ordered { .. } => Event::Sent {
            id,
            due: None,
            outcome,
        },
    }
}

fn end_transaction(
    topic: &str,
    id: &str,
    transaction: &str,
    commit: bool,
    source: i32,
) -> EndTransactionRequest {
    EndTransactionRequest {
        topic: resource(topic),
        message_id: id.to_owned(),
        transaction_id: transaction.to_owned(),
        resolution: if commit { 1 } else { 2 },
        source,
    }
}

/// Decides on a half message, and notes it.
pub(super) async fn decide(
    client: &mut RocketmqClient,
    (book, queue): (&Book, usize),
    (id, transaction): (&str, &str),
    commit: bool,
    source: i32,
    deadline: Duration,
) -> Result<()> {
    let note = |outcome| {
        let id = id.to_owned();
        let event = Event::Decided {
            id,
            commit,
            outcome,
            at: Book::now().0,
        };
        book.note(queue, event);
    };
    note(Outcome::Info);
    let request = end_transaction(QUEUES[queue].topic, id, transaction, commit, source);
    let answer: Answer = client.ask("EndTransaction", request, deadline).await?;
    match outcome(answer.status) {
        Outcome::Info => {}
        known @ (Outcome::Ok | Outcome::Fail) => note(known),
    }
    Ok(())
}
