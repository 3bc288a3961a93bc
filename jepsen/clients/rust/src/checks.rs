//! The checks, each with the text of its PASS line.

use crate::report::{Result, kill, until};
use crate::watch::Watch;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: i32 = 3;
const RECORDS: usize = 200;
const SHORT: Duration = Duration::from_secs(30);

/// Partition and offset of what was read.
type Seen = BTreeSet<(i32, i64)>;

pub struct Checks {
    bootstrap: String,
    topic: String,
}

impl Checks {
    pub fn new(bootstrap: String) -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
        let topic = format!("rdkafka-{}-{:x}", std::process::id(), now & 0xffff_ffff);
        Self { bootstrap, topic }
    }

    fn config(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    }

    pub fn producer(
        &self,
        watch: &Watch,
        more: &[(&str, &str)],
    ) -> Result<ThreadedProducer<Watch>> {
        let mut config = self.config(more);
        config.set("acks", "all").set("enable.idempotence", "true");
        config.set("linger.ms", "5").set("debug", "msg");
        config.set_log_level(RDKafkaLogLevel::Debug);
        Ok(config.create_with_context(watch.clone())?)
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer> {
        self.consumer_with(group, &[])
    }

    /// A member of `group` that commits when told to, with more options.
    pub fn consumer_with(&self, group: &str, more: &[(&str, &str)]) -> Result<BaseConsumer> {
        let mut config = self.config(&[
            ("group.id", group),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
        ]);
        for (key, value) in more {
            config.set(*key, *value);
        }
        Ok(config.create()?)
    }

    pub fn create_topic(&self) -> Result {
        let admin: AdminClient<DefaultClientContext> = self.config(&[]).create()?;
        let topic = NewTopic::new(&self.topic, PARTITIONS, TopicReplication::Fixed(3));
        let options = AdminOptions::new().operation_timeout(Some(SHORT));
        for made in futures_executor::block_on(admin.create_topics([&topic], &options))? {
            made.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        let consumer = self.consumer(&self.topic)?;
        until("partition leaders", || {
            Ok(self.leader(&consumer, PARTITIONS - 1)?.is_some())
        })?;
        Ok(format!("{PARTITIONS} partitions, 3 replicas"))
    }

    fn leader(&self, consumer: &BaseConsumer, partition: i32) -> Result<Option<i32>> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), SHORT)?;
        let partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        let mut leaders = partitions
            .filter(|p| p.id() == partition)
            .map(|p| p.leader());
        Ok(leaders.next().filter(|leader| *leader > 0))
    }

    /// What `take` makes of the first `count` records of a partition for which it makes something.
    fn read<T>(
        &self,
        partition: i32,
        count: usize,
        take: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let consumer = self.consumer(&format!("{}-read", self.topic))?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
        consumer.assign(&from)?;
        let mut found = Vec::new();
        until(&format!("{count} records"), || {
            while found.len() < count
                && let Some(message) = consumer.poll(Duration::from_millis(500))
            {
                // An error here is news of a node that went away; the client goes on by itself.
                if let Ok(message) = message {
                    found.extend(take(&message));
                }
            }
            Ok(found.len() >= count)
        })?;
        Ok(found)
    }

    /// Records come back as they were, and librdkafka says itself that their batches were compressed so.
    pub fn codec(&self, codec: &str) -> Result {
        let watch = Watch::default();
        let producer = self.producer(&watch, &[("compression.type", codec)])?;
        let body = |i: usize| format!("{codec} value {i} ").repeat(5);
        for i in 0..RECORDS {
            let (key, value) = (format!("key-{i}"), body(i));
            let header = Header {
                key: "codec",
                value: Some(codec),
            };
            let record = BaseRecord::to(&self.topic).partition(0).key(&key);
            let record = record.headers(OwnedHeaders::new().insert(header));
            producer
                .send(record.payload(&value))
                .map_err(|(error, _)| error)?;
        }
        producer.flush(SHORT)?;
        let counts = watch.counts();
        if counts.acknowledged != RECORDS {
            let first = counts.failures.first();
            return Err(format!("{} acknowledged, {first:?}", counts.acknowledged).into());
        }
        // What a batch was sent with; to a broker whose versions it does not trust librdkafka compresses nothing.
        let sent = if codec == "none" {
            "uncompressed"
        } else {
            codec
        };
        let ending = format!(", {sent})");
        let other = counts.batches.iter().find(|said| !said.ends_with(&ending));
        if counts.batches.is_empty() || other.is_some() {
            return Err(format!("not known to be sent as {sent}: {other:?}").into());
        }
        let found = self.read(0, RECORDS, |message| {
            let headers = message.headers()?;
            let mine = headers
                .iter()
                .any(|h| h.key == "codec" && h.value == Some(codec.as_bytes()));
            mine.then(|| {
                (
                    message.key().map(<[u8]>::to_vec),
                    message.payload().map(<[u8]>::to_vec),
                )
            })
        })?;
        for (i, (key, value)) in found.into_iter().enumerate() {
            if key != Some(format!("key-{i}").into_bytes()) || value != Some(body(i).into_bytes()) {
                return Err(format!("record {i} differs").into());
            }
        }
        Ok(format!("{RECORDS} records with keys and headers"))
    }

    /// Two members share the partitions, one leaves, the other takes over; offsets are kept.
    pub fn group(&self) -> Result {
        let (group, total) = (format!("{}-group", self.topic), CODECS.len() * RECORDS);
        let all = PARTITIONS as usize;
        let mut seen = Seen::new();
        let first = self.consumer(&group)?;
        first.subscribe(&[&self.topic])?;
        until("the first member owns everything", || {
            step(&first, &mut seen)?;
            Ok(first.assignment()?.count() == all)
        })?;
        let second = self.consumer(&group)?;
        second.subscribe(&[&self.topic])?;
        until("two members share", || {
            step(&first, &mut seen)?;
            step(&second, &mut seen)?;
            let (a, b) = (first.assignment()?.count(), second.assignment()?.count());
            Ok(a > 0 && b > 0 && a + b == all)
        })?;
        drop(second); // which says farewell
        until("the first member takes over", || {
            step(&first, &mut seen)?;
            Ok(first.assignment()?.count() == all)
        })?;
        until("all records", || {
            step(&first, &mut seen)?;
            Ok(seen.len() == total)
        })?;
        commit(&first)?;
        drop(first);
        self.committed_all(&group, &seen)?;
        Ok(format!("joined, left, {total} records read and committed"))
    }

    /// Offsets need not be dense: control records take some and are never shown.
    fn committed_all(&self, group: &str, seen: &Seen) -> Result<()> {
        let third = self.consumer(group)?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, 0, PARTITIONS - 1);
        for found in third.committed_offsets(asked, SHORT)?.elements() {
            let partition = found.partition();
            let last = seen.iter().filter(|(p, _)| *p == partition).map(|s| s.1);
            let Some(last) = last.max() else { continue };
            let (_, end) = third.fetch_watermarks(&self.topic, partition, SHORT)?;
            let Offset::Offset(at) = found.offset() else {
                return Err(format!("partition {partition}: nothing is committed").into());
            };
            if at <= last || at > end {
                return Err(format!(
                    "partition {partition}: committed {at}, last record {last}, end {end}"
                )
                .into());
            }
        }
        Ok(())
    }

    /// An idempotent producer goes on through the kill of the leader: all is there once and in order.
    pub fn leader_kill(&self) -> Result {
        let (count, partition) = (3000, 1);
        let watch = Watch::default();
        let producer = self.producer(&watch, &[("message.timeout.ms", "60000")])?;
        let asking = self.consumer(&self.topic)?;
        let mut killed = 0;
        for i in 0..count {
            if i == count - 1 {
                // The last record comes alone, so that one which is there twice cannot hide behind the end.
                producer.flush(2 * SHORT)?;
            }
            let value = i.to_string();
            let record = BaseRecord::<(), str>::to(&self.topic).partition(partition);
            producer
                .send(record.payload(&value))
                .map_err(|(error, _)| error)?;
            std::thread::sleep(Duration::from_micros(1500));
            if i == count / 3 {
                killed = self.leader(&asking, partition)?.ok_or("no leader")?;
                kill(killed)?;
            }
        }
        producer.flush(2 * SHORT)?;
        let counts = watch.counts();
        if counts.acknowledged != count {
            let first = counts.failures.first();
            return Err(format!("{} acknowledged, {first:?}", counts.acknowledged).into());
        }
        let values = self.read(partition, count, |message| {
            Some(String::from_utf8_lossy(message.payload()?).into_owned())
        })?;
        if !values.iter().cloned().eq((0..count).map(|i| i.to_string())) {
            let (found, distinct) = (values.len(), BTreeSet::from_iter(values).len());
            return Err(format!(
                "{} lost, {} duplicates, or out of order, in {found} records",
                count - distinct,
                found - distinct
            )
            .into());
        }
        Ok(format!(
            "node {killed} killed, {count} records once and in order, longest gap between acks {} ms",
            counts.gap.as_millis()
        ))
    }
}

/// Reads for a moment and commits what was read.
fn step(member: &BaseConsumer, seen: &mut Seen) -> Result<()> {
    let (began, before) = (Instant::now(), seen.len());
    while began.elapsed() < Duration::from_millis(200)
        && let Some(message) = member.poll(Duration::from_millis(100))
    {
        // An error here is news of a node that went away; the client goes on by itself.
        if let Ok(message) = message {
            seen.insert((message.partition(), message.offset()));
        }
    }
    if seen.len() > before {
        commit(member)?;
    }
    Ok(())
}

/// When a rebalance overtakes the commit, the next owner reads and commits the records again.
fn commit(member: &BaseConsumer) -> Result<()> {
    match member.commit_consumer_state(CommitMode::Sync) {
        Err(KafkaError::ConsumerCommit(
            Code::RebalanceInProgress
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::AssignmentLost
            | Code::NoOffset,
        ))
        | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
