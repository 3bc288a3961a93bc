//! Waiting for messages on several partitions at once.
//!
//! A receive that waits on a queue is answered with leases, so it cannot be waited on at
//! several queues for one caller: the first to answer would leave the others' leases to
//! nobody. One partition is therefore waited on there. Several are asked in turn without
//! waiting, again whenever one of them grew, and twice a second for what comes back by
//! itself: retries, leases that ended.

use std::time::Duration;

use weir_api::image::TopicRecord;
use weir_api::log::{OffsetQuery, Read, ReadPartition};
use weir_api::queues::Delivery;
use weir_base::{Monotonic, TopicPartition};

use super::super::queue;
use super::{Asked, receive_at};
use crate::context::Call;
use crate::errors::Refusal;
use crate::proto::Code;

/// Longest pause between two rounds over several partitions.
const ROUND: Duration = Duration::from_millis(500);

/// How long leadership may move before the client is told: it then asks for its route.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause while it moves.
const PAUSE: Duration = Duration::from_millis(100);

type Deliveries = Vec<(TopicPartition, Vec<Delivery>)>;

/// Leases up to a batch of messages, waiting as long as was asked. A receive may be
/// repeated whatever became of it: what was leased to nobody comes again.
pub(super) async fn deliveries(
    call: &Call,
    topic: &TopicRecord,
    asked: &Asked,
) -> Result<Deliveries, Refusal> {
    let clock = &call.shared.env.clock;
    let deadline = clock.now() + asked.wait;
    let mut patience = clock.now() + PATIENCE;
    loop {
        let led = queue::led_of(&call.shared.image(), &asked.topic, call.shared.node());
        let left = deadline.since(clock.now());
        match once(call, topic, &led, asked, left).await {
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

/// Asks the partitions that this node leads just now; empty if it is worth asking again.
async fn once(
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
        let until = call.shared.api.cluster.now() + left;
        let receive = asked.receive(call, asked.batch_max, until);
        let found = receive_at(call, topic, *only, receive).await?;
        return Ok(match found.is_empty() {
            true => Vec::new(),
            false => vec![(*only, found)],
        });
    }
    let ends = ends(call, led).await;
    let found = round(call, topic, led, asked).await?;
    if found.is_empty() && !left.is_zero() {
        grown(call, ends, left.min(ROUND)).await;
    }
    Ok(found)
}

/// Asks each partition once, beginning with another one every time.
async fn round(
    call: &Call,
    topic: &TopicRecord,
    led: &[TopicPartition],
    asked: &Asked,
) -> Result<Deliveries, Refusal> {
    let first = first(clock_now(call), led.len());
    let mut found = Vec::new();
    let mut room = asked.batch_max;
    let mut refusal = None;
    for at in led.iter().cycle().skip(first).take(led.len()) {
        if room == 0 {
            break;
        }
        let now = call.shared.api.cluster.now();
        match receive_at(call, topic, *at, asked.receive(call, room, now)).await {
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

fn clock_now(call: &Call) -> Monotonic {
    call.shared.env.clock.now()
}

/// Spreads the beginnings of rounds without drawing numbers.
fn first(now: Monotonic, count: usize) -> usize {
    let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
    usize::try_from((now.0 / 1_000) % count).unwrap_or(0)
}

/// Where the partitions end now.
async fn ends(call: &Call, led: &[TopicPartition]) -> Vec<ReadPartition> {
    let mut ends = Vec::with_capacity(led.len());
    for at in led {
        let end = call
            .shared
            .api
            .log
            .offset(*at, OffsetQuery::Latest, None)
            .await;
        // One that cannot say is asked again by the next round.
        if let Ok(Some(from)) = end.map(|end| end.offset) {
            ends.push(ReadPartition {
                at: *at,
                from,
                bytes_max: 1,
                leader_epoch: None,
                last_fetched_epoch: None,
            });
        }
    }
    ends
}

/// Completes when a partition grew beyond its end, or the time is over.
async fn grown(call: &Call, ends: Vec<ReadPartition>, wait_max: Duration) {
    if ends.is_empty() {
        call.shared.env.sleep(wait_max).await;
        return;
    }
    let read = Read {
        partitions: ends,
        bytes_min: 1,
        bytes_max: 1,
        wait_max,
    };
    let began = clock_now(call);
    let outcomes = call.shared.api.log.read(read).await;
    if outcomes.iter().any(|outcome| outcome.result.is_err()) {
        // An error answers at once: without a pause this would be a busy loop.
        let spent = clock_now(call).since(began);
        call.shared.env.sleep(wait_max.saturating_sub(spent)).await;
    }
}
