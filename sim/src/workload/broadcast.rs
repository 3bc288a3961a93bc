//! A broadcast inside nodes: who sends versions of a few things, and subscribers, each of
//! which is a group of its own and gets all of it.
//!
//! Now and then an older version is sent behind a newer one, as by a producer that was slow.
//! A node's clients die with it; what they saw does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir_api::queue::QueueCallError;
use weir_api::queues::envelope::HEADER_VERSION;
use weir_api::queues::{Backoff, Delivery, GroupSettings};
use weir_api::{Acks, Api, NewTopic};
use weir_base::batch::BatchBuilder;
use weir_base::{Env, RecordBatch, TopicPartition};
use weir_checkers::queue::{Event, Outcome, QueueHistory};

use super::queue::{outcome, receive};

/// The topic.
pub const TOPIC: &str = "prices";
/// Its partitions.
pub const PARTITIONS: u32 = 2;
/// Who subscribes: the first wants everything, the others no older version of what they know.
pub const SUBSCRIBERS: [&str; 3] = ["archive", "screen-1", "screen-2"];
/// What there are versions of, in each partition.
const SUBJECTS: u64 = 4;
/// Pause after anything that did not work, and between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before an attempt is repeated.
const BACKOFF: Duration = Duration::from_millis(200);
/// Lease of a delivery, the shortest there is.
const LEASE: Duration = Duration::from_secs(1);
/// How long a call may take.
const WAIT: Duration = Duration::from_secs(2);

/// Whether a subscriber wants no older version of what it knows.
#[must_use]
pub fn wants_newest(subscriber: &str) -> bool {
    subscriber != SUBSCRIBERS[0]
}

/// What a message is about, and its version: `0s3.17.99` is the message of number 99, the
/// version 17 of the subject 3 of partition 0.
#[must_use]
pub fn version_of(id: &str) -> Option<(&str, u64)> {
    let (subject, rest) = id.split_once('.')?;
    let (version, _) = rest.split_once('.')?;
    Some((subject, version.parse().ok()?))
}

/// What all clients share, whichever node they die with.
#[derive(Clone, Default)]
pub struct Clients(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    quiet: AtomicBool,
}

#[derive(Default)]
struct State {
    histories: BTreeMap<&'static str, QueueHistory>,
    numbers: u64,
    /// The newest version sent, by partition and subject.
    newest: BTreeMap<(u32, u64), u64>,
}

impl Clients {
    /// Sends nothing any more from now on: what is there is consumed.
    pub fn drain(&self) {
        self.0.quiet.store(true, Ordering::Relaxed);
    }

    /// What each subscriber saw so far, and what was sent to it.
    #[must_use]
    pub fn histories(&self) -> BTreeMap<&'static str, QueueHistory> {
        self.lock().histories.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, subscriber: &'static str, event: Event) {
        let mut state = self.lock();
        let history = state.histories.entry(subscriber).or_default();
        history.events.push(event);
    }

    fn noted(&self, subscriber: &str) -> usize {
        let state = self.lock();
        let history = state.histories.get(subscriber);
        history.map_or(0, |history| history.events.len())
    }

    /// Starts the clients of one node, for every partition that it leads.
    pub fn start(&self, env: &Env, api: &Api) {
        for index in 0..PARTITIONS {
            let client = Client {
                env: env.clone(),
                api: api.clone(),
                shared: self.clone(),
                index,
            };
            env.tasks.spawn("sender", client.clone().send());
            for subscriber in SUBSCRIBERS {
                let listening = client.clone().listen(subscriber);
                env.tasks.spawn("subscriber", listening);
            }
        }
    }
}

#[derive(Clone)]
struct Client {
    env: Env,
    api: Api,
    shared: Clients,
    index: u32,
}

impl Client {
    /// The partition, when this node leads it; makes the topic if nobody did.
    async fn led(&self) -> TopicPartition {
        loop {
            let image = self.api.cluster.image();
            if let Some(topic) = image.topics.get(TOPIC) {
                let at = TopicPartition::new(topic.id, self.index);
                let leader = image.partition(at).and_then(|record| record.leader);
                if leader == Some(self.api.cluster.node()) {
                    return at;
                }
            } else {
                let topic = NewTopic {
                    name: TOPIC.to_owned(),
                    partitions: Some(PARTITIONS),
                    ..NewTopic::default()
                };
                let made = self.api.admin.create_topic(topic, false, WAIT).await;
                if let Err(error) = made {
                    tracing::debug!(%error, "no topic yet");
                }
            }
            self.env.sleep(PAUSE).await;
        }
    }

    async fn send(self) {
        while !self.shared.0.quiet.load(Ordering::Relaxed) {
            let at = self.led().await;
            let (id, batch) = self.next_message();
            self.sent(&id, Outcome::Info);
            let appended = self
                .api
                .log
                .append_forwarded(at, batch, Acks::All, WAIT)
                .await;
            if appended.is_ok() {
                self.sent(&id, Outcome::Ok);
            }
            self.env.sleep(PAUSE).await;
        }
    }

    fn sent(&self, id: &str, outcome: Outcome) {
        for subscriber in SUBSCRIBERS {
            let sent = Event::Sent {
                id: id.to_owned(),
                due: None,
                outcome,
            };
            self.shared.note(subscriber, sent);
        }
    }

    /// A newer version of something, or in one of four cases the one before the newest.
    fn next_message(&self) -> (String, RecordBatch) {
        let mut state = self.shared.lock();
        state.numbers += 1;
        let number = state.numbers;
        let subject = number % SUBJECTS;
        let newest = state.newest.entry((self.index, subject)).or_default();
        let is_late = *newest > 1 && number / SUBJECTS % 4 == 3;
        let version = if is_late {
            *newest - 1
        } else {
            *newest += 1;
            *newest
        };
        drop(state);
        let subject = format!("{}s{subject}", self.index);
        let id = format!("{subject}.{version}.{number}");
        let told = version.to_string();
        let batch = BatchBuilder::new(self.env.clock.wall()).record_with_headers(
            Some(subject.as_bytes()),
            Some(id.as_bytes()),
            &[(HEADER_VERSION, told.as_bytes())],
        );
        (id, batch.build())
    }

    async fn listen(self, subscriber: &'static str) {
        loop {
            let at = self.led().await;
            if self.listen_once(at, subscriber).await.is_err() {
                self.env.sleep(PAUSE).await;
            }
        }
    }

    async fn listen_once(
        &self,
        at: TopicPartition,
        subscriber: &'static str,
    ) -> Result<(), QueueCallError> {
        let settings = GroupSettings {
            backoff: Backoff::List(vec![BACKOFF]),
            invisible: LEASE,
            broadcast: Some(TOPIC.into()),
            versioned: wants_newest(subscriber),
            ..GroupSettings::default()
        };
        let asked = self.shared.noted(subscriber);
        let got = receive(&self.api, at, (subscriber, settings)).await?;
        for (id, delivery) in got {
            self.take(at, subscriber, id, (&delivery, asked)).await;
        }
        Ok(())
    }

    /// Acknowledges most; some are refused once, some forgotten once.
    async fn take(
        &self,
        at: TopicPartition,
        subscriber: &'static str,
        id: String,
        (delivery, asked): (&Delivery, usize),
    ) {
        let delivered = Event::Delivered {
            id: id.clone(),
            attempt: delivery.attempt,
            at: self.env.clock.wall().0,
            asked,
        };
        self.shared.note(subscriber, delivered);
        let queues = &self.api.queues;
        let is_first = delivery.attempt == 1;
        match id.bytes().last() {
            Some(b'3') if is_first => {
                let returned = queues.nack(at, subscriber.into(), delivery.receipt, None);
                let ended = returned.await;
                tracing::debug!(?ended, "returned");
            }
            // Its lease ends the attempt.
            Some(b'7') if is_first => {}
            Some(_) | None => {
                let note = |outcome| {
                    let id = id.clone();
                    self.shared.note(subscriber, Event::Acked { id, outcome });
                };
                note(Outcome::Info);
                let acked = queues.ack(at, subscriber.into(), vec![delivery.receipt]);
                match acked.await {
                    Ok(results) if results.iter().all(Result::is_ok) => note(Outcome::Ok),
                    Ok(_) => note(Outcome::Fail),
                    Err(error) => note(outcome(&error)),
                }
            }
        }
    }
}
