//! Waiting for messages on several partitions at once.
//!
//! A receive that waits on a queue is answered with leases, so it cannot be waited on at
//! several queues for one caller: the first to answer would leave the others' leases to
//! nobody. One partition is therefore waited on there. Several are watched, which leases
//! nothing, until any has something; that one is then asked.
//!
//! A client that knows an old route names a queue that another node leads now: that one is
//! asked for it, and for no other, since the client asks for the others, too (decisions/0005).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use weir_api::image::TopicRecord;
use weir_api::queue::ELSEWHERE_WAIT_MAX;
use weir_api::queues::{Delivery, MemberName, Receive};
use weir_base::batch::Record;
use weir_base::{BoxFuture, Monotonic, NodeId, TopicPartition};

use super::super::{groups, queue};
use super::{Asked, receive_at};
use crate::context::Call;
use crate::errors::{self, Refusal};
use crate::proto::Code;

/// How long leadership may move before the client is told: it then asks for its route.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause while it moves.
const PAUSE: Duration = Duration::from_millis(100);

/// A wait so short that its end does not say that there was nothing.
const MOMENT: Duration = Duration::from_millis(100);

/// How much longer than it waits a receive at another node may take.
const ELSEWHERE_OVERTIME: Duration = Duration::from_secs(2);

type Deliveries = Vec<(TopicPartition, Vec<Delivery>)>;

/// What was leased.
pub(super) enum Found {
    /// Here, by partition: the records are in their logs.
    Here(Deliveries),
    /// By the leader of the queue that the client named.
    Elsewhere(TopicPartition, Vec<(Delivery, Record)>),
}

impl Found {
    fn is_empty(&self) -> bool {
        match self {
            Found::Here(found) => found.is_empty(),
            Found::Elsewhere(_, found) => found.is_empty(),
        }
    }
}

/// Leases up to a batch of messages, waiting as long as was asked. A receive may be
/// repeated whatever became of it: what was leased to nobody comes again.
pub(super) async fn deliveries(
    call: &Call,
    topic: &TopicRecord,
    asked: &Asked,
) -> Result<Found, Refusal> {
    let clock = &call.shared.env.clock;
    let deadline = clock.now() + asked.wait;
    let mut patience = clock.now() + PATIENCE;
    loop {
        let left = deadline.since(clock.now());
        match once(call, topic, asked, left).await {
            Ok(found) if !found.is_empty() || left.is_zero() => return Ok(found),
            Ok(_) => patience = clock.now() + PATIENCE,
            Err(refusal) if !passes(&refusal) || patience <= clock.now() || left.is_zero() => {
                return Err(refusal);
            }
            Err(_) => call.shared.env.sleep(PAUSE).await,
        }
    }
}

/// Whether a refusal is one of a leadership that moves.
fn passes(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        Code::HaNotAvailable | Code::MasterPersistenceTimeout
    )
}

/// Asks who leads just now; empty if it is worth asking again.
async fn once(
    call: &Call,
    topic: &TopicRecord,
    asked: &Asked,
    left: Duration,
) -> Result<Found, Refusal> {
    let image = call.shared.image();
    match asked.led_elsewhere(&image, call.shared.node()) {
        Some((at, leader)) => {
            let found = elsewhere(call, topic, (at, leader), asked, left).await?;
            Ok(Found::Elsewhere(at, found))
        }
        None => {
            let led = queue::led_of(&image, &asked.topic, call.shared.node());
            Ok(Found::Here(here(call, topic, &led, asked, left).await?))
        }
    }
}

async fn elsewhere(
    call: &Call,
    topic: &TopicRecord,
    (at, leader): (TopicPartition, NodeId),
    asked: &Asked,
    left: Duration,
) -> Result<Vec<(Delivery, Record)>, Refusal> {
    let wait = left.min(ELSEWHERE_WAIT_MAX);
    let receive = asked.receive(call, asked.batch_max, wait);
    let settings = groups::settings(topic);
    let timeout = wait + ELSEWHERE_OVERTIME;
    let queues = &call.shared.api.queues;
    let received = queues.receive_elsewhere(leader, at, receive, settings, timeout);
    received.await.map_err(|error| errors::queue(&error))
}

async fn here(
    call: &Call,
    topic: &TopicRecord,
    led: &[TopicPartition],
    asked: &Asked,
    left: Duration,
) -> Result<Deliveries, Refusal> {
    if led.is_empty() {
        return Err(Refusal::new(
            Code::HaNotAvailable,
            format!(
                "this node leads nothing of topic '{}': ask for its route again",
                asked.topic
            ),
        ));
    }
    if let [only] = led {
        let receive = asked.receive(call, asked.batch_max, left);
        let found = receive_at(call, topic, *only, receive).await?;
        return Ok(match found.is_empty() {
            true => Vec::new(),
            false => vec![(*only, found)],
        });
    }
    let ready = watch(call, topic, led, asked, left).await;
    round(call, topic, &ready, asked).await
}

/// Asks each partition once, without waiting.
async fn round(
    call: &Call,
    topic: &TopicRecord,
    ready: &[TopicPartition],
    asked: &Asked,
) -> Result<Deliveries, Refusal> {
    let mut found = Vec::new();
    let mut room = asked.batch_max;
    let mut refusal = None;
    for at in ready {
        if room == 0 {
            break;
        }
        let receive = asked.receive(call, room, Duration::ZERO);
        match receive_at(call, topic, *at, receive).await {
            Ok(deliveries) => {
                room = room.saturating_sub(deliveries.len());
                if !deliveries.is_empty() {
                    found.push((*at, deliveries));
                }
            }
            // What was leased already must reach the client.
            Err(refused) => refusal = Some(refused),
        }
    }
    match refusal {
        Some(refusal) if found.is_empty() => Err(refusal),
        Some(_) | None => Ok(found),
    }
}

/// The partitions that have something, at least one if any has within `left`; one that
/// cannot say is among them. Begins with another one every time, so that one that always
/// has something does not keep the others from their turn.
async fn watch(
    call: &Call,
    topic: &TopicRecord,
    led: &[TopicPartition],
    asked: &Asked,
    left: Duration,
) -> Vec<TopicPartition> {
    let clock = &call.shared.env.clock;
    let began = clock.now();
    let first = first(began, led.len());
    // Not the client: the end of a watch must not end its leases.
    let watcher: MemberName = format!("{}#{}", call.client, began.0).into();
    let mut waiting = led.to_vec();
    waiting.rotate_left(first);
    let mut watches: Vec<BoxFuture<'_, (TopicPartition, bool)>> = Vec::new();
    for at in waiting.iter().copied() {
        let watching = Receive {
            member: Arc::clone(&watcher),
            attempt_id: None,
            ..asked.receive(call, 0, left)
        };
        watches.push(Box::pin(async move {
            let told = receive_at(call, topic, at, watching).await;
            let in_time = left <= MOMENT || clock.now().since(began) < left;
            (at, told.is_err() || in_time)
        }));
    }
    let told = any(watches).await;
    waiting.retain(|at| told.iter().all(|(done, _)| done != at));
    if !waiting.is_empty() {
        let (queues, tasks) = (Arc::clone(&call.shared.api.queues), &call.shared.env.tasks);
        tasks.spawn("rocketmq-watched", async move {
            for at in waiting {
                // Otherwise it ends when its time is over.
                let _left = queues.leave(at, Arc::clone(&watcher)).await;
            }
        });
    }
    let ready = told.into_iter().filter(|(_, has_some)| *has_some);
    ready.map(|(at, _)| at).collect()
}

/// Spreads the beginnings without drawing numbers.
fn first(now: Monotonic, count: usize) -> usize {
    let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    usize::try_from((now.0 / 1_000) % count).unwrap_or(0)
}

/// The outputs of those futures that are ready as soon as one is.
async fn any<T>(mut futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    poll_fn(|cx| {
        let mut done = Vec::new();
        for future in &mut futures {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                done.push(output);
            }
        }
        match done.is_empty() && !futures.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(done),
        }
    })
    .await
}
