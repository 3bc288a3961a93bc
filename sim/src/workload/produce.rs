//! Idempotent producers, one a partition, and the check that nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weir_api::{Acks, Api, AppendError};
use weir_base::batch::BatchBuilder;
use weir_base::{Env, ProducerEpoch, ProducerId, RecordBatch, TopicPartition};

use super::kafka_client::Produced;
use super::router::Router;

const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Values by partition and counter, each with the offset it was acknowledged at, or
/// `None` while its outcome is unknown.
pub type Told = BTreeMap<(i32, u64), Option<i64>>;

/// What producers were told, shared with the checker.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Told>>);

impl Ledger {
    fn attempted(&self, partition: i32, counter: u64) {
        self.lock().entry((partition, counter)).or_insert(None);
    }

    fn acknowledged(&self, partition: i32, counter: u64, offset: i64) {
        self.lock().insert((partition, counter), Some(offset));
    }

    /// Number of acknowledged values.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        self.lock()
            .values()
            .filter(|offset| offset.is_some())
            .count()
    }

    /// A copy.
    #[must_use]
    pub fn snapshot(&self) -> Told {
        self.lock().clone()
    }

    /// One past the last offset of a partition that was acknowledged; 0 before the first.
    #[must_use]
    pub fn acknowledged_end(&self, partition: i32) -> u64 {
        let told = self.lock();
        let offsets = told.range((partition, 0)..(partition + 1, 0));
        let last = offsets.filter_map(|(_, offset)| *offset).max();
        last.and_then(|last| u64::try_from(last + 1).ok())
            .unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the topic, trying until a node says it is there.
///
/// # Errors
/// If the cluster refuses it.
pub async fn create_topic(
    env: &Env,
    nodes: &[SocketAddr],
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<()> {
    let mut router = Router::new(env, nodes);
    for _ in 0..200 {
        if let Ok(mut client) = router.any().await
            && let Ok(0) = client.create_topic(topic, partitions, configs).await
        {
            return Ok(());
        }
        env.sleep(RETRY_PAUSE).await;
    }
    bail!("topic {topic} could not be made")
}

/// Produces `count` values to one partition, each until it is acknowledged: a value
/// whose outcome is unknown is sent again with the same sequence number.
///
/// # Errors
/// If the broker answers what an idempotent producer must never see.
pub async fn idempotent_producer(
    env: Env,
    nodes: Vec<SocketAddr>,
    topic: String,
    partition: i32,
    count: u64,
    ledger: Ledger,
) -> Result<()> {
    let mut producer = Producer::start(env, &nodes, topic, partition, ledger).await;
    for counter in 0..count {
        producer.send(counter).await?;
    }
    Ok(())
}

/// An idempotent producer to one partition.
pub(crate) struct Producer {
    env: Env,
    router: Router,
    topic: String,
    partition: i32,
    id: (i64, i16),
    ledger: Ledger,
}

impl Producer {
    /// Asks for a producer id until it is given one.
    pub(crate) async fn start(
        env: Env,
        nodes: &[SocketAddr],
        topic: String,
        partition: i32,
        ledger: Ledger,
    ) -> Self {
        let mut router = Router::new(&env, nodes);
        let id = loop {
            match async { router.any().await?.new_producer().await }.await {
                Ok(id) => break id,
                Err(_) => env.sleep(RETRY_PAUSE).await,
            }
        };
        Self {
            env,
            router,
            topic,
            partition,
            id,
            ledger,
        }
    }

    /// Sends the value of this number, the one after the last, until it is acknowledged.
    ///
    /// # Errors
    /// If the broker answers what an idempotent producer must never see.
    pub(crate) async fn send(&mut self, counter: u64) -> Result<()> {
        let partition = self.partition;
        let batch = value_batch(&self.env, self.id, partition, counter)?;
        self.ledger.attempted(partition, counter);
        loop {
            let sent = async {
                let leader = self.router.leader(&self.topic, partition).await?;
                leader
                    .produce(&self.topic, partition, &batch, Duration::from_secs(1))
                    .await
            }
            .await;
            match sent {
                Ok(Produced::At(offset)) => {
                    self.ledger.acknowledged(partition, counter, offset);
                    return Ok(());
                }
                Ok(Produced::Refused(error)) => {
                    const NEVER: [i16; 5] = [2, 10, 45, 47, 87];
                    ensure!(
                        !NEVER.contains(&error),
                        "partition {partition}: error {error}"
                    );
                    self.router.disconnect();
                }
                Err(_) => self.router.disconnect(),
            }
            self.env.sleep(RETRY_PAUSE).await;
        }
    }
}

/// The same from inside a node, which carries every value to wherever the partition is
/// led, with `pause` between two.
///
/// # Errors
/// If the broker answers what an idempotent producer must never see.
pub async fn forwarding_producer(
    env: Env,
    api: Api,
    to: TopicPartition,
    count: u64,
    pause: Duration,
    ledger: Ledger,
) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let producer = loop {
        match api.groups.new_producer_id().await {
            Ok(id) => break (id, 0),
            Err(_) => env.sleep(RETRY_PAUSE).await,
        }
    };
    let partition = i32::try_from(to.index.0)?;
    for counter in 0..count {
        let batch = value_batch(&env, producer, partition, counter)?;
        ledger.attempted(partition, counter);
        loop {
            let sent = api
                .log
                .append_forwarded(to, batch.clone(), Acks::All, TIMEOUT);
            match sent.await {
                Ok(done) => {
                    ledger.acknowledged(partition, counter, done.base.to_wire());
                    break;
                }
                Err(
                    error @ (AppendError::UnknownPartition
                    | AppendError::OutOfOrderSequence { .. }
                    | AppendError::ProducerFenced
                    | AppendError::UnknownProducer
                    | AppendError::Batch(_)
                    | AppendError::TooLarge { .. }
                    | AppendError::Timestamp { .. }
                    | AppendError::InvalidRecord(_)),
                ) => bail!("partition {partition}, value {counter}: {error}"),
                Err(
                    AppendError::NotLeader(_)
                    | AppendError::LeadershipLost(_)
                    | AppendError::NotEnoughReplicas { .. }
                    | AppendError::NotEnoughReplicasAfterAppend { .. }
                    | AppendError::TimedOut(_)
                    | AppendError::DiskFull
                    | AppendError::Storage
                    | AppendError::Overloaded
                    | AppendError::QueueFull { .. }
                    | AppendError::Unanswered(_),
                ) => env.sleep(RETRY_PAUSE).await,
            }
        }
        env.sleep(pause).await;
    }
    Ok(())
}

fn value_batch(
    env: &Env,
    (id, epoch): (i64, i16),
    partition: i32,
    counter: u64,
) -> Result<RecordBatch> {
    let sequence = i32::try_from(counter)?;
    let builder = BatchBuilder::new(env.clock.wall());
    let builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    Ok(builder
        .record(None, Some(format!("{partition}-{counter}").as_bytes()))
        .build())
}

/// Reads everything back through the leaders and compares with what was acknowledged:
/// each value once, at its offset, in order.
///
/// # Errors
/// The first discrepancy, by partition and value.
pub async fn check_all(
    env: &Env,
    nodes: &[SocketAddr],
    topic: &str,
    partitions: i32,
    ledger: &Ledger,
) -> Result<()> {
    let told = ledger.snapshot();
    for partition in 0..partitions {
        let stored = read_all(env, nodes, topic, partition).await?;
        let mut at: BTreeMap<u64, i64> = BTreeMap::new();
        let mut previous = None;
        for (offset, value) in stored {
            let (p, counter) = value.split_once('-').context("not a value of ours")?;
            ensure!(
                p == partition.to_string(),
                "value {value} in partition {partition}"
            );
            let counter: u64 = counter.parse()?;
            ensure!(
                at.insert(counter, offset).is_none(),
                "{value} is stored twice"
            );
            ensure!(previous < Some(counter), "{value} is stored out of order");
            previous = Some(counter);
        }
        for ((_, counter), offset) in told.range((partition, 0)..(partition + 1, 0)) {
            if let Some(offset) = offset {
                let found = at.get(counter);
                ensure!(
                    found == Some(offset),
                    "{partition}-{counter} was acknowledged at {offset}, found at {found:?}"
                );
            }
        }
    }
    Ok(())
}

/// Offset and value of every record of a partition, read through its leader.
///
/// # Errors
/// If it cannot be read for 20 s, or a value is no text.
pub async fn read_all(
    env: &Env,
    nodes: &[SocketAddr],
    topic: &str,
    partition: i32,
) -> Result<Vec<(i64, String)>> {
    let read = read_all_records(env, nodes, topic, partition).await?;
    let values = read.into_iter();
    Ok(values.map(|read| (read.offset, read.value)).collect())
}

/// A record that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Its place.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970.
    pub at: i64,
    /// Its value.
    pub value: String,
}

/// As [`read_all`], with the timestamps.
///
/// # Errors
/// As [`read_all`].
pub async fn read_all_records(
    env: &Env,
    nodes: &[SocketAddr],
    topic: &str,
    partition: i32,
) -> Result<Vec<ReadBack>> {
    let mut router = Router::new(env, nodes);
    let mut values = Vec::new();
    let mut next = 0;
    let mut failures = 0;
    loop {
        let fetched = async {
            router
                .leader(topic, partition)
                .await?
                .fetch(topic, partition, next)
                .await
        }
        .await;
        match fetched {
            Ok(fetched) if fetched.error == 0 => {
                let before = next;
                for batch in fetched.batches {
                    next = batch.end_offset().to_wire();
                    if batch.header().attributes.is_control() {
                        continue;
                    }
                    for record in batch.records()? {
                        let value = record.value.with_context(|| {
                            let (key, offset) = (&record.key, record.offset);
                            format!("{topic}-{partition} has no value at {offset} of key {key:?}")
                        })?;
                        values.push(ReadBack {
                            offset: record.offset.to_wire(),
                            at: record.timestamp.0,
                            value: String::from_utf8(value.into())?,
                        });
                    }
                }
                if next == before && next >= fetched.high_watermark {
                    return Ok(values);
                }
            }
            Ok(_) | Err(_) => {
                router.disconnect();
                failures += 1;
                ensure!(failures < 400, "partition {partition} cannot be read back");
                env.sleep(RETRY_PAUSE).await;
            }
        }
    }
}
