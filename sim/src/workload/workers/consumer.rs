//! A consumer: receives at one node after the other, settles most, returns some, forgets
//! some, and now and then dies with what it holds. Of the push kind its library takes the
//! messages and the broker renews its leases; the simple kind holds leases of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use weir_checkers::queue::{Event, Outcome};

use super::{
    ATTEMPTS_MAX, BACKOFF, Crew, DEADLINE, Fate, LEASE, PAUSE, QUEUES, Queue, message_group,
};
use crate::dice::Dice;
use crate::workload::rocketmq::RocketmqClient;
use crate::workload::rocketmq::wire::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, Answer, Broker,
    ChangeInvisibleDurationRequest, ForwardMessageToDeadLetterQueueRequest, Message, MessageQueue,
    PUSH_CONSUMER, ReceiveMessageRequest, ReceiveMessageResponse, SIMPLE_CONSUMER, Settings,
    Status, Subscription, SubscriptionEntry, SystemProperties, resource,
};

/// How long a receive waits for messages.
const POLL: Duration = Duration::from_secs(1);
/// How long a receive may take: the front answers three seconds after its wait at the latest.
const RECEIVE: Duration = Duration::from_secs(5);
/// Messages of one receive.
const BATCH: i32 = 8;
/// Seconds that a consumer stays at one node, at least and at most.
const STAY: (u64, u64) = (1, 6);
/// How often it dies after a receive: once in that many.
const DEATHS: u64 = 12;

pub(super) struct Consumer {
    crew: Crew,
    dice: Dice,
    queue: usize,
    number: String,
    lives: u64,
}

/// One life at one node.
struct Life {
    client: RocketmqClient,
    /// The queue that it takes for one of that node's, as a client with an old route does; else
    /// it names none.
    names: Option<i32>,
    is_pushed: bool,
}

impl Consumer {
    pub(super) fn new(crew: &Crew, queue: usize, number: &str) -> Self {
        Self {
            dice: crew.dice(&format!("consumer {number}")),
            crew: crew.clone(),
            queue,
            number: number.to_owned(),
            lives: 0,
        }
    }

    fn of(&self) -> Queue {
        QUEUES[self.queue]
    }

    fn note(&self, event: Event) {
        self.crew.book.note(self.queue, event);
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        let who = format!("consumer {}-{}", self.number, self.lives);
        self.crew.book.say(&who, what);
    }

    pub(super) async fn run(mut self) {
        self.crew.opened().await;
        while !self.crew.book.is_closed() {
            if let Err(error) = self.live().await {
                self.say(format_args!("ends: {error:#}"));
                self.crew.env.sleep(PAUSE).await;
            }
        }
    }

    /// Until it has been there long enough, dies, or anything fails.
    async fn live(&mut self) -> Result<()> {
        self.lives += 1;
        let is_pushed = self.dice.one_in(2);
        let node = self.dice.pick(&self.crew.nodes);
        let to = self.crew.front(node);
        let id = format!("consumer-{}-{}", self.number, self.lives);
        let env = self.crew.env.clone();
        let mut client = RocketmqClient::connect(&env, to, id, DEADLINE).await?;
        let kind = if is_pushed {
            PUSH_CONSUMER
        } else {
            SIMPLE_CONSUMER
        };
        let settings = Settings {
            client_type: Some(kind),
            publishing: None,
            subscription: Some(Subscription {
                group: resource(self.of().group),
                subscriptions: vec![SubscriptionEntry {
                    topic: resource(self.of().topic),
                }],
            }),
        };
        let commands = client.tell(settings, DEADLINE).await?;
        self.say(format_args!("begins at node {node}, pushed {is_pushed}"));
        let last = u64::try_from(self.of().partitions - 1)?;
        let named = self.dice.one_in(2).then(|| self.dice.between(0, last));
        let mut life = Life {
            client,
            names: named.map(i32::try_from).transpose()?,
            is_pushed,
        };
        let (least, most) = STAY;
        let until = env.clock.now() + Duration::from_secs(self.dice.between(least, most));
        while env.clock.now() < until && !self.crew.book.is_closed() {
            let asked = self.crew.book.noted(self.queue);
            let got = self.receive(&mut life).await?;
            let dies = self.dice.one_in(DEATHS) && !self.crew.stage.is_healed();
            let got: Vec<(String, u16, String)> = got
                .into_iter()
                .filter_map(|message| message.system_properties)
                .map(|system| self.taken(system, asked))
                .collect();
            if dies && !got.is_empty() {
                return Ok(());
            }
            // Behind one that failed the rest of its message group has to wait.
            let mut failed = BTreeSet::new();
            for (id, attempt, receipt) in got {
                let group = message_group(&id);
                if group.is_some_and(|group| failed.contains(group)) {
                    continue;
                }
                let is_settled = self.handle(&mut life, &id, attempt, &receipt).await?;
                failed.extend(group.filter(|_| !is_settled).map(str::to_owned));
            }
        }
        drop(commands);
        Ok(())
    }

    async fn receive(&self, life: &mut Life) -> Result<Vec<Message>> {
        let lease = (!life.is_pushed).then(|| LEASE.into());
        let request = ReceiveMessageRequest {
            group: resource(self.of().group),
            message_queue: Some(MessageQueue {
                topic: resource(self.of().topic),
                id: life.names.unwrap_or(0),
                broker: life.names.map(|_| Broker::default()),
            }),
            batch_size: BATCH,
            invisible_duration: lease,
            auto_renew: life.is_pushed,
            long_polling_timeout: Some(POLL.into()),
        };
        let client = &mut life.client;
        let answers: Vec<ReceiveMessageResponse> = client
            .ask_for_all("ReceiveMessage", request, RECEIVE)
            .await?;
        let told = answers.iter().filter_map(|answer| answer.status.as_ref());
        for status in told.filter(|status| !status.is_ok()) {
            self.say(format_args!("receives nothing: {status:?}"));
        }
        Ok(answers
            .into_iter()
            .filter_map(|answer| answer.message)
            .collect())
    }

    /// Notes a delivery; gives id, attempt and receipt.
    fn taken(&self, system: SystemProperties, asked: usize) -> (String, u16, String) {
        let attempt = system.delivery_attempt.unwrap_or(0);
        let attempt = u16::try_from(attempt).unwrap_or(u16::MAX);
        self.note(Event::Delivered {
            id: system.message_id.clone(),
            attempt,
            at: self.crew.env.clock.wall().0,
            asked,
        });
        let receipt = system.receipt_handle.unwrap_or_default();
        (system.message_id, attempt, receipt)
    }

    /// Says whether it was to be settled.
    async fn handle(&self, life: &mut Life, id: &str, attempt: u16, receipt: &str) -> Result<bool> {
        let first = attempt == 1;
        if let Some(old) = self.crew.book.old_receipt(self.queue, id) {
            self.settle_by_old(life, id, old).await?;
        }
        match Fate::of(id) {
            Fate::Fails if !life.is_pushed || attempt >= ATTEMPTS_MAX => {
                self.give_up(life, id, receipt).await?;
                Ok(true)
            }
            Fate::Fails => self.give_back(life, id, receipt).await,
            Fate::FailsOnce if first && life.is_pushed => self.give_back(life, id, receipt).await,
            // The broker would renew a pushed one for as long as the consumer lives.
            Fate::FailsOnce | Fate::Forgotten
                if first && !life.is_pushed && !self.crew.stage.is_healed() =>
            {
                Ok(false)
            }
            Fate::Done | Fate::FailsOnce | Fate::Forgotten | Fate::TakenBack => {
                self.settle(life, id, receipt).await?;
                Ok(true)
            }
        }
    }

    async fn settle(&self, life: &mut Life, id: &str, receipt: &str) -> Result<()> {
        let note = |outcome| {
            let id = id.to_owned();
            self.note(Event::Acked { id, outcome });
        };
        note(Outcome::Info);
        match self.ack(life, id, receipt).await? {
            Outcome::Info => {}
            known @ (Outcome::Ok | Outcome::Fail) => note(known),
        }
        Ok(())
    }

    /// Tries to settle a delivery by the receipt of an earlier one, which a consumer may do
    /// that was slow: it must be refused.
    async fn settle_by_old(&self, life: &mut Life, id: &str, receipt: String) -> Result<()> {
        if self.ack(life, id, &receipt).await? == Outcome::Ok {
            self.crew.recorder.complain(format!(
                "C20: {id} was settled by the receipt of an attempt that had ended"
            ));
        }
        Ok(())
    }

    async fn ack(&self, life: &mut Life, id: &str, receipt: &str) -> Result<Outcome> {
        let entry = AckMessageEntry {
            message_id: id.to_owned(),
            receipt_handle: receipt.to_owned(),
        };
        let request = AckMessageRequest {
            group: resource(self.of().group),
            topic: resource(self.of().topic),
            entries: vec![entry],
        };
        let client = &mut life.client;
        let answer: AckMessageResponse = client.ask("AckMessage", request, DEADLINE).await?;
        let entry = answer.entries.into_iter().next();
        Ok(outcome(
            entry.and_then(|entry| entry.status).or(answer.status),
        ))
    }

    /// Returns a message to be tried again.
    async fn give_back(&self, life: &mut Life, id: &str, receipt: &str) -> Result<bool> {
        let pause = Duration::from_millis(BACKOFF);
        let not_before = self.crew.env.clock.wall() + pause;
        let request = ChangeInvisibleDurationRequest {
            group: resource(self.of().group),
            topic: resource(self.of().topic),
            receipt_handle: receipt.to_owned(),
            invisible_duration: Some(pause.into()),
            message_id: id.to_owned(),
        };
        let client = &mut life.client;
        let answer = client.ask("ChangeInvisibleDuration", request, DEADLINE);
        let answer: Result<Answer> = answer.await;
        let outcome = match &answer {
            Ok(answer) => outcome(answer.status.clone()),
            Err(_) => Outcome::Info,
        };
        if outcome == Outcome::Ok {
            self.crew.book.keep_receipt(self.queue, id, receipt);
        }
        self.note(Event::Returned {
            id: id.to_owned(),
            outcome,
            next: Some(not_before.0),
        });
        answer.map(|_| false)
    }

    /// Sends a message to the dead letters.
    async fn give_up(&self, life: &mut Life, id: &str, receipt: &str) -> Result<()> {
        let request = ForwardMessageToDeadLetterQueueRequest {
            group: resource(self.of().group),
            topic: resource(self.of().topic),
            receipt_handle: receipt.to_owned(),
            message_id: id.to_owned(),
        };
        let client = &mut life.client;
        let answer = client.ask("ForwardMessageToDeadLetterQueue", request, DEADLINE);
        let answer: Answer = answer.await?;
        self.say(format_args!("gives up {id}: {:?}", answer.status));
        Ok(())
    }
}

/// What a status says of whether something was done.
pub(super) fn outcome(status: Option<Status>) -> Outcome {
    match status {
        Some(status) if status.is_ok() => Outcome::Ok,
        Some(status) if status.is_refusal() => Outcome::Fail,
        Some(_) | None => Outcome::Info,
    }
}
