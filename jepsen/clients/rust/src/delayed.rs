//! Delayed records: their copies at the end of the log, which are control records for queues, are passed over.

use crate::checks::Checks;
use crate::report::{Result, until};
use crate::watch::Watch;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::process::Command;
use std::time::Duration;

const RECORDS: usize = 200;
const SHORT: Duration = Duration::from_secs(30);

/// A topic with a queue group, if there is one.
pub fn topic() -> Option<String> {
    std::env::var("DELAYED")
        .ok()
        .filter(|name| !name.is_empty())
}

/// Sends numbers, every second of which asks to come a second or two later.
fn send(
    producer: &ThreadedProducer<Watch>,
    watch: &Watch,
    topic: &str,
    numbers: std::ops::Range<usize>,
) -> Result<()> {
    let before = watch.counts().acknowledged;
    let count = numbers.len();
    for number in numbers {
        let (value, after) = (number.to_string(), (1000 + 5 * number).to_string());
        let mut record = BaseRecord::<(), str>::to(topic).partition(0);
        if number % 2 == 1 {
            record = record.headers(OwnedHeaders::new().insert(Header {
                key: "weir.deliver.after",
                value: Some(&after),
            }));
        }
        producer
            .send(record.payload(&value))
            .map_err(|(error, _)| error)?;
    }
    producer.flush(SHORT)?;
    let counts = watch.counts();
    if counts.acknowledged - before != count {
        return Err(format!("not all acknowledged: {:?}", counts.failures.first()).into());
    }
    Ok(())
}

/// Adds the numbers that come within a moment; whether the end was reached.
fn take(consumer: &BaseConsumer, found: &mut Vec<usize>) -> Result<bool> {
    while let Some(message) = consumer.poll(Duration::from_millis(200)) {
        match message {
            Ok(message) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                found.push(value.parse()?);
            }
            Err(KafkaError::PartitionEOF(_)) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Reads all there is.
fn whole(consumer: &BaseConsumer) -> Result<()> {
    let mut found = Vec::new();
    until("the end", || take(consumer, &mut found))?;
    if !found.iter().copied().eq(0..RECORDS) {
        return Err(format!("{} records of {RECORDS}, or out of order", found.len()).into());
    }
    Ok(())
}

/// Every reader sees each record once and gets to the end, and what is sent behind the copies.
pub fn check(checks: &Checks, topic: &str) -> Result {
    let (watch, group) = (Watch::default(), format!("{topic}-group"));
    let plain = checks.producer(&watch, &[])?;
    send(&plain, &watch, topic, 0..RECORDS / 2)?;
    let packed_watch = Watch::default();
    let packed = checks.producer(&packed_watch, &[("compression.type", "gzip")])?;
    send(&packed, &packed_watch, topic, RECORDS / 2..RECORDS)?;
    let command = std::env::var("RELEASED")?;
    let released = (RECORDS / 2).to_string();
    let status = Command::new("sh")
        .args(["-c", &command, "released", topic, &released])
        .status()?;
    if !status.success() {
        return Err("not all was released".into());
    }
    let mut readers = Vec::new();
    for level in ["read_uncommitted", "read_committed"] {
        let more = [("isolation.level", level), ("enable.partition.eof", "true")];
        let reader: BaseConsumer = checks.consumer_with(&format!("{topic}-{level}"), &more)?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, 0, Offset::Beginning)?;
        reader.assign(&from)?;
        whole(&reader)?;
        readers.push(reader);
    }
    let (_, end) = readers[0].fetch_watermarks(topic, 0, SHORT)?;
    if end <= i64::try_from(RECORDS)? {
        return Err(format!("the log ends at {end}: no copy is in it").into());
    }
    let member = checks.consumer_with(&group, &[("enable.partition.eof", "true")])?;
    member.subscribe(&[topic])?;
    whole(&member)?;
    member.commit_consumer_state(CommitMode::Sync)?;
    drop(member); // which says farewell
    send(&plain, &watch, topic, RECORDS..RECORDS + 1)?;
    let again = checks.consumer_with(&group, &[])?;
    again.subscribe(&[topic])?;
    readers.push(again);
    for reader in &readers {
        let mut more = Vec::new();
        until("the record behind the copies", || {
            take(reader, &mut more)?;
            Ok(!more.is_empty())
        })?;
        if more != [RECORDS] {
            return Err(format!("behind the copies came {more:?}").into());
        }
    }
    Ok(format!(
        "{RECORDS} records read up to {end}, uncommitted, committed and by a group, and one sent after"
    ))
}
