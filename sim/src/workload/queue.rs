//! Queue clients inside nodes, as a front would be: consumers, senders of delayed and of
//! half messages, all noting what they see.
//!
//! A node's clients die with it; the history does not. What is under way is noted as
//! unknown before it is tried, and with its outcome behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_api::queue::QueueCallError;
use weir_api::queues::{
    Backoff, Cancelled, Decision, DecisionSource, Delivery, GroupSettings, HalfHandle, Message,
    Prepare, Receive, Returned, Schedule, Scheduled,
};
use weir_api::{Api, NotLeader};
use weir_base::{Env, Offset, TopicPartition};
use weir_checkers::queue::{Event, Outcome, QueueHistory};

/// The consumers' group.
pub const GROUP: &str = "workers";
/// Attempts of one message.
pub const ATTEMPTS_MAX: u16 = 3;
/// Pause after anything that did not work.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before an attempt is repeated.
const BACKOFF: Duration = Duration::from_millis(200);
/// Lease of a delivery, the shortest there is.
const LEASE: Duration = Duration::from_secs(1);
/// How long a client waits for messages or questions.
const WAIT: Duration = Duration::from_secs(1);
/// When a half message is asked about first.
const CHECK_AFTER: Duration = Duration::from_millis(500);
/// Who can be asked about half messages.
const PRODUCERS: &str = "tellers";

/// What all clients share, whichever node they die with.
#[derive(Clone, Default)]
pub struct Clients(Arc<Inner>);

#[derive(Default)]
struct Inner {
    history: Mutex<QueueHistory>,
    numbers: AtomicU64,
    quiet: AtomicBool,
}

impl Clients {
    /// Begins nothing new from now on: what is there is consumed.
    pub fn drain(&self) {
        self.0.quiet.store(true, Ordering::Relaxed);
    }

    /// What was seen so far.
    #[must_use]
    pub fn history(&self) -> QueueHistory {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, QueueHistory> {
        self.0
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: Event) {
        self.lock().events.push(event);
    }

    /// Starts the clients of one node, for every partition of `topic` that it leads.
    pub fn start(&self, env: &Env, api: &Api, topic: &'static str, partitions: u32) {
        for index in 0..partitions {
            let client = Client {
                env: env.clone(),
                api: api.clone(),
                shared: self.clone(),
                topic,
                index,
            };
            env.tasks.spawn("consumer", client.clone().consume());
            env.tasks.spawn("sender", client.clone().send());
            env.tasks.spawn("teller", client.answer_checks());
        }
    }
}

/// Makes a group, if there is none of that name, and receives for it once: ids of messages,
/// which are their bodies, with how each was delivered.
pub(super) async fn receive(
    api: &Api,
    at: TopicPartition,
    (group, settings): (&str, GroupSettings),
) -> Result<Vec<(String, Delivery)>, QueueCallError> {
    let queues = &api.queues;
    let made = queues.ensure_group(at, group.into(), settings, Offset::ZERO, false);
    made.await?;
    let receive = Receive {
        group: group.into(),
        member: format!("{}-{}", api.cluster.node(), at.index.0).into(),
        batch_max: 16,
        invisible: None,
        wait: WAIT,
        filter: None,
        attempt_id: None,
        auto_renew: false,
    };
    let got = queues.receive(at, receive).await?;
    let offsets = got.iter().map(|delivery| delivery.offset).collect();
    let records = queues.records(at, offsets).await?.into_iter();
    let taken = records.zip(got).map(|(record, delivery)| {
        let body = record.and_then(|record| record.value).unwrap_or_default();
        (String::from_utf8_lossy(&body).into_owned(), delivery)
    });
    Ok(taken.collect())
}

/// How a call ended that gave this error.
pub(super) fn outcome(error: &QueueCallError) -> Outcome {
    match error {
        QueueCallError::Indeterminate => Outcome::Info,
        QueueCallError::UnknownPartition
        | QueueCallError::NotLeader(NotLeader { .. })
        | QueueCallError::NotAvailable
        | QueueCallError::Loading
        | QueueCallError::Overloaded
        | QueueCallError::NoQueue
        | QueueCallError::IllegalGroupName(_)
        | QueueCallError::Unreadable(_)
        | QueueCallError::TooLarge { .. }
        | QueueCallError::Refused(_) => Outcome::Fail,
    }
}

fn outcome_of<T>(result: &Result<T, QueueCallError>) -> Outcome {
    result.as_ref().map_or_else(outcome, |_| Outcome::Ok)
}

#[derive(Clone)]
struct Client {
    env: Env,
    api: Api,
    shared: Clients,
    topic: &'static str,
    index: u32,
}

impl Client {
    /// The partition, when this node leads it.
    async fn led(&self) -> TopicPartition {
        loop {
            let image = self.api.cluster.image();
            if let Some(topic) = image.topics.get(self.topic) {
                let at = TopicPartition::new(topic.id, self.index);
                let leader = image.partition(at).and_then(|record| record.leader);
                if leader == Some(self.api.cluster.node()) {
                    return at;
                }
            }
            self.env.sleep(PAUSE).await;
        }
    }

    async fn consume(self) {
        loop {
            let at = self.led().await;
            let settings = GroupSettings {
                attempts_max: ATTEMPTS_MAX,
                backoff: Backoff::List(vec![BACKOFF]),
                invisible: LEASE,
                ..GroupSettings::default()
            };
            let asked = self.shared.lock().events.len();
            let received = receive(&self.api, at, (GROUP, settings));
            let Ok(got) = received.await else {
                self.env.sleep(PAUSE).await;
                continue;
            };
            for (id, delivery) in got {
                self.take(at, id, (&delivery, asked)).await;
            }
        }
    }

    /// Acknowledges most; some are refused once, some always, some forgotten.
    async fn take(&self, at: TopicPartition, id: String, (delivery, asked): (&Delivery, usize)) {
        self.shared.note(Event::Delivered {
            id: id.clone(),
            attempt: delivery.attempt,
            at: self.env.clock.wall().0,
            asked,
        });
        let queues = &self.api.queues;
        let first = delivery.attempt == 1;
        let last = id.bytes().last().unwrap_or_default();
        match last {
            b'3' => {}
            b'5' if first => {}
            // Its consumer forgets about it: the lease ends the attempt.
            b'7' if first => return,
            _ => {
                let note = |outcome| {
                    let id = id.clone();
                    self.shared.note(Event::Acked { id, outcome });
                };
                note(Outcome::Info);
                let acked = queues.ack(at, GROUP.into(), vec![delivery.receipt]);
                match acked.await {
                    Ok(results) if results.iter().all(Result::is_ok) => note(Outcome::Ok),
                    Ok(_) => note(Outcome::Fail),
                    Err(error) => note(outcome(&error)),
                }
                return;
            }
        }
        let returned = queues.nack(at, GROUP.into(), delivery.receipt, None).await;
        let next = match &returned {
            Ok(Returned::Retry(next)) => Some(next.0),
            Ok(Returned::DeadLettered) | Err(_) => None,
        };
        self.shared.note(Event::Returned {
            id,
            outcome: outcome_of(&returned),
            next,
        });
    }

    fn payload(id: &str) -> bytes::Bytes {
        let message = Message {
            id: id.into(),
            body: bytes::Bytes::copy_from_slice(id.as_bytes()),
            ..Message::default()
        };
        message.payload().encode()
    }

    async fn send(self) {
        while !self.shared.0.quiet.load(Ordering::Relaxed) {
            let at = self.led().await;
            let number = self.shared.0.numbers.fetch_add(1, Ordering::Relaxed);
            if number.is_multiple_of(2) {
                self.delay(at, number).await;
            } else {
                self.prepare(at, number).await;
            }
            self.env.sleep(PAUSE).await;
        }
    }

    async fn delay(&self, at: TopicPartition, number: u64) {
        let id = format!("d{number}");
        let wait = Duration::from_millis(100 + number * 37 % 1_500);
        let due = self.env.clock.wall() + wait;
        let note = |outcome| {
            let (id, due) = (id.clone(), Some(due.0));
            self.shared.note(Event::Sent { id, due, outcome });
        };
        note(Outcome::Info);
        let schedule = Schedule {
            deliver_at: due,
            payload: Self::payload(&id),
            dedup: None,
            room: None,
        };
        let kept = self.api.queues.schedule(at, schedule).await;
        note(outcome_of(&kept));
        let Ok(Scheduled::Kept(handle)) = kept else {
            return;
        };
        if number % 10 == 4 {
            let note = |outcome| {
                let id = id.clone();
                self.shared.note(Event::Cancelled { id, outcome });
            };
            note(Outcome::Info);
            match self.api.queues.cancel(at, handle).await {
                Ok(Cancelled::Cancelled) => note(Outcome::Ok),
                Ok(Cancelled::AlreadyFired | Cancelled::Unknown) => note(Outcome::Fail),
                Err(error) => note(outcome(&error)),
            }
        }
    }

    async fn prepare(&self, at: TopicPartition, number: u64) {
        let id = format!("h{number}");
        let check_at = (self.env.clock.wall() + CHECK_AFTER).0;
        let note = |outcome| {
            let id = id.clone();
            self.shared.note(Event::Prepared {
                id,
                outcome,
                check_at,
            });
        };
        note(Outcome::Info);
        let prepare = Prepare {
            payload: Self::payload(&id),
            producers: PRODUCERS.into(),
            check_after: Some(CHECK_AFTER),
            room: None,
            dedup: None,
        };
        let prepared = self.api.queues.prepare(at, prepare).await;
        note(outcome_of(&prepared));
        // Every fourth producer dies here: another one is asked.
        if let Ok(handle) = prepared
            && number % 8 != 1
        {
            self.decide(at, handle, &id, DecisionSource::Producer).await;
        }
    }

    async fn decide(
        &self,
        at: TopicPartition,
        handle: HalfHandle,
        id: &str,
        source: DecisionSource,
    ) {
        // The id says how, whoever is asked.
        let commit = !id.ends_with('9');
        let note = |outcome| {
            let id = id.to_owned();
            self.shared.note(Event::Decided {
                id,
                commit,
                outcome,
                at: self.env.clock.wall().0,
            });
        };
        note(Outcome::Info);
        let decision = if commit {
            Decision::Commit
        } else {
            Decision::Rollback
        };
        let decided = self.api.queues.resolve(at, handle, decision, source).await;
        note(outcome_of(&decided));
    }

    async fn answer_checks(self) {
        loop {
            let at = self.led().await;
            let member = format!("teller-{}-{}", self.api.cluster.node(), self.index);
            let queues = &self.api.queues;
            let asked = queues.await_checks(at, member.into(), PRODUCERS.into(), 16, WAIT);
            let asked = async {
                let checks = asked.await?;
                let places = checks.iter().map(|check| check.payload_at).collect();
                Ok::<_, QueueCallError>((queues.kept(at, places).await?, checks))
            };
            let Ok((kept, checks)) = asked.await else {
                self.env.sleep(PAUSE).await;
                continue;
            };
            for (payload, check) in kept.into_iter().zip(checks) {
                // Compacted away meanwhile: it was decided.
                let Some(payload) = payload else { continue };
                let id = Message::from_payload(&payload).id;
                self.shared.note(Event::Asked {
                    id: id.to_string(),
                    at: self.env.clock.wall().0,
                });
                self.decide(at, check.handle, &id, DecisionSource::Check)
                    .await;
            }
        }
    }
}
