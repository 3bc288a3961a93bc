//! Produce: one record batch a partition, checked here, appended in request order.
//!
//! All batches of a request are handed to the log before the next request is looked at,
//! so that the order of requests on a connection is the order of appends. A batch whose
//! records are compressed is looked into first, in small steps between which other
//! connections have their turn; this one's next requests wait for it.
//!
//! On topics with queue groups, delivery times in headers are held against what can be kept;
//! the batch is stored as it is, and who reads the log sees it at once. The broker takes it into
//! the queue's timeline from there.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use weir_api::image::ClusterImage;
use weir_api::queues::envelope::{DELIVER_PREFIX, check_delivery_time};
use weir_api::{Acks, AppendError, Appended};
use weir_base::batch::{Compression, Record, RecordsCheck};
use weir_base::{BatchError, BoxFuture, ProducerId, RecordBatch, Timestamp, TopicPartition};

use super::topics::{self, WriteRules, add_endpoint, leader_hint};
use crate::close::CloseReason;
use crate::codec::RequestHead;
use crate::codec::fetch::LeaderEndpoint;
use crate::codec::produce::{Produce, ProduceTopic};
use crate::context::{Call, Shared, millis};
use crate::errors::{self, NONE};
use crate::session::{Handling, Reply, Started, yield_now};

/// Pieces of records, of some 32 KiB, looked at before other connections get a turn.
const STEPS_PER_TURN: u32 = 4;
/// Most bytes of a record that is to be delivered later, decompressed: it is kept in one batch
/// of a journal.
const DELAYED_BYTES_MAX: usize = 32 * 1024 * 1024;
const KEY_NEEDED: AppendError =
    AppendError::InvalidRecord(Cow::Borrowed("records of a compacted topic need a key"));

/// Why a partition's batch was not appended or not acknowledged.
#[derive(Debug)]
struct Failure {
    code: ResponseError,
    message: Option<String>,
    leader: Option<(i32, i32)>,
    leader_node: Option<weir_base::NodeId>,
}

impl Failure {
    fn new(code: ResponseError, message: &str) -> Failure {
        Failure {
            code,
            message: Some(message.to_owned()),
            leader: None,
            leader_node: None,
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        let elsewhere = match &error {
            AppendError::NotLeader(elsewhere) | AppendError::LeadershipLost(elsewhere) => {
                Some(*elsewhere)
            }
            AppendError::UnknownPartition
            | AppendError::NotEnoughReplicas { .. }
            | AppendError::NotEnoughReplicasAfterAppend { .. }
            | AppendError::TimedOut(_)
            | AppendError::Unanswered(_)
            | AppendError::Batch(_)
            | AppendError::TooLarge { .. }
            | AppendError::Timestamp { .. }
            | AppendError::InvalidRecord(_)
            | AppendError::OutOfOrderSequence { .. }
            | AppendError::ProducerFenced
            | AppendError::UnknownProducer
            | AppendError::DiskFull
            | AppendError::Storage
            | AppendError::Overloaded
            | AppendError::QueueFull { .. } => None,
        };
        Failure {
            code: errors::append(&error),
            message: Some(error.to_string()),
            leader: elsewhere.as_ref().map(leader_hint),
            leader_node: elsewhere.and_then(|elsewhere| elsewhere.leader),
        }
    }
}

type Appending = BoxFuture<'static, Result<Appended, AppendError>>;

/// One topic's partitions, each with its answer in the making.
struct Topic<T> {
    name: StrBytes,
    id: weir_base::Uuid,
    parts: Vec<Part<T>>,
}

struct Part<T> {
    index: i32,
    step: Result<T, Failure>,
}

/// A batch that only its compressed records may yet keep from the log.
struct Admitted {
    to: TopicPartition,
    batch: RecordBatch,
    /// The topic is compacted.
    keys_needed: bool,
    /// The topic has queue groups, which keep to delivery times; counted from this time.
    delays_from: Option<Timestamp>,
}

impl Admitted {
    fn is_compressed(&self) -> bool {
        self.batch.header().attributes.compression() != Compression::None
    }
}

/// Hands every batch to the log and gives the future of the response; if there is
/// something to decompress, a future that does so first.
#[expect(
    clippy::async_yields_async,
    reason = "the session takes the next request between the two"
)]
pub(super) fn start(head: RequestHead, call: &Call, body: Bytes) -> Result<Started, CloseReason> {
    let request = Produce::decode(body, head.version)
        .ok_or_else(|| head.malformed("produce request does not parse"))?;
    let image = call.shared.image();
    let producing = Producing {
        image: &image,
        version: head.version,
        acks: match request.acks {
            0 => Ok(Acks::None),
            1 => Ok(Acks::Leader),
            -1 => Ok(Acks::All),
            _ => Err(()),
        },
        transactional: request.transactional_id.is_some(),
        timeout: millis(request.timeout_ms),
        now: call.shared.api.cluster.now(),
    };
    let topics = request.topics.into_iter().map(|t| producing.topic(t));
    let mut topics: Vec<Topic<Admitted>> = topics.collect();
    let appends = Appends {
        shared: call.shared.clone(),
        head,
        acks: producing.acks,
        timeout: producing.timeout,
    };
    let mut admitted = topics.iter().flat_map(|topic| &topic.parts);
    if !admitted.any(|part| part.step.as_ref().is_ok_and(Admitted::is_compressed)) {
        return Ok(Started::Handling(appends.begin(topics)));
    }
    Ok(Started::Checking(Box::pin(async move {
        look_inside(&appends.shared, &mut topics).await;
        appends.begin(topics)
    })))
}

/// Turns what has bad records inside into failures.
async fn look_inside(shared: &Shared, topics: &mut [Topic<Admitted>]) {
    let parts = topics.iter_mut().flat_map(|topic| &mut topic.parts);
    for part in parts {
        if let Ok(admitted) = &part.step
            && admitted.is_compressed()
            && let Err(error) = check_inside(shared, admitted).await
        {
            part.step = Err(error.into());
        }
    }
}

async fn check_inside(shared: &Shared, admitted: &Admitted) -> Result<(), AppendError> {
    // What is held while decompressing is bounded for the node, not for a connection.
    let _turn = shared.checks.acquire().await;
    let limit = shared.options.decompressed_bytes_max;
    let mut check = RecordsCheck::new(&admitted.batch, limit);
    let mut steps = 0u32;
    let checked = loop {
        if let Some(checked) = check.step().map_err(AppendError::Batch)? {
            break checked;
        }
        steps += 1;
        if steps.is_multiple_of(STEPS_PER_TURN) {
            yield_now().await;
        }
    };
    if admitted.keys_needed && checked.without_key {
        return Err(KEY_NEEDED);
    }
    let Some(now) = admitted.delays_from.filter(|_| checked.with_headers) else {
        return Ok(());
    };
    let records = weir_api::records::open(&admitted.batch).map_err(AppendError::Batch)?;
    check_delays(&records, now)
}

/// Refuses delivery times that no queue can keep to, and what is too large to be kept.
fn check_delays(records: &[Record], now: Timestamp) -> Result<(), AppendError> {
    for record in records {
        let mut headers = record.headers.iter();
        let is_delayed = headers.any(|header| header.key.starts_with(DELIVER_PREFIX));
        let (size, max) = (bytes_of(record), DELAYED_BYTES_MAX);
        if is_delayed && size > max {
            return Err(AppendError::TooLarge { size, max });
        }
    }
    let mut checked = records
        .iter()
        .map(|record| check_delivery_time(&record.headers, now));
    let refused = checked.find_map(Result::err);
    refused.map_or(Ok(()), |error| {
        Err(AppendError::InvalidRecord(error.to_string().into()))
    })
}

/// Of key, value and headers.
fn bytes_of(record: &Record) -> usize {
    let len = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers = headers.map(|header| header.key.len() + len(header.value.as_ref()));
    len(record.key.as_ref()) + len(record.value.as_ref()) + headers.sum::<usize>()
}

/// What appending takes besides the batches.
struct Appends {
    shared: Arc<Shared>,
    head: RequestHead,
    acks: Result<Acks, ()>,
    timeout: Duration,
}

impl Appends {
    /// Hands the batches to the log, in order, before it returns.
    fn begin(self, topics: Vec<Topic<Admitted>>) -> Handling {
        let acks = self.acks.unwrap_or(Acks::All);
        let append = |part: Part<Admitted>| Part {
            index: part.index,
            step: part.step.map(|Admitted { to, batch, .. }| {
                self.shared.api.log.append(to, batch, acks, self.timeout)
            }),
        };
        let topics = topics.into_iter().map(|topic| Topic {
            name: topic.name,
            id: topic.id,
            parts: topic.parts.into_iter().map(append).collect(),
        });
        let topics: Vec<Topic<Appending>> = topics.collect();
        Box::pin(self.finish(topics))
    }

    /// Waits for the log and answers.
    async fn finish(self, topics: Vec<Topic<Appending>>) -> Result<Reply, CloseReason> {
        let version = self.head.version;
        let mut responses = Vec::with_capacity(topics.len());
        let mut endpoints = Vec::new();
        let mut failed = None;
        for topic in topics {
            let mut partitions = Vec::with_capacity(topic.parts.len());
            for part in topic.parts {
                let done = match part.step {
                    Ok(appending) => appending.await.map_err(Failure::from),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = &done {
                    add_endpoint(&mut endpoints, &self.shared.image(), failure.leader_node);
                    failed.get_or_insert(failure.code);
                }
                partitions.push(partition_response(version, part.index, done));
            }
            let mut response = TopicProduceResponse::default().with_partition_responses(partitions);
            if version >= 13 {
                response.topic_id = topics::wire_id(topic.id);
            } else {
                response.name = TopicName(topic.name);
            }
            responses.push(response);
        }
        if self.acks == Ok(Acks::None) {
            return match failed {
                None => Ok(Reply::Nothing),
                Some(code) => Err(CloseReason::Unacknowledged(code.to_string())),
            };
        }
        let mut response = ProduceResponse::default().with_responses(responses);
        if version >= 10 {
            response.node_endpoints = endpoints.iter().map(node_endpoint).collect();
        }
        self.head.encode(&response).map(Reply::One)
    }
}

struct Producing<'a> {
    image: &'a ClusterImage,
    version: i16,
    acks: Result<Acks, ()>,
    transactional: bool,
    timeout: Duration,
    now: Timestamp,
}

impl Producing<'_> {
    fn topic(&self, topic: ProduceTopic) -> Topic<Admitted> {
        let record = if self.version >= 13 {
            self.image.topic(topic.id)
        } else {
            self.image.topics.get(topic.name.as_str())
        };
        let rules = record.map(|record| WriteRules::of(self.image, record));
        let parts = topic.partitions.into_iter().map(|part| {
            let step = match record.zip(rules) {
                None => Err(Failure::new(self.unknown_topic(), "topic does not exist")),
                Some((record, rules)) => topics::partition(record, part.index)
                    .ok_or_else(|| AppendError::UnknownPartition.into())
                    .and_then(|to| self.admitted(to, &rules, part.records)),
            };
            Part {
                index: part.index,
                step,
            }
        });
        Topic {
            name: topic.name,
            id: topic.id,
            parts: parts.collect(),
        }
    }

    fn unknown_topic(&self) -> ResponseError {
        if self.version >= 13 {
            ResponseError::UnknownTopicId
        } else {
            ResponseError::UnknownTopicOrPartition
        }
    }

    fn admitted(
        &self,
        to: TopicPartition,
        rules: &WriteRules,
        records: Option<Bytes>,
    ) -> Result<Admitted, Failure> {
        self.acks.map_err(|()| {
            Failure::new(
                ResponseError::InvalidRequiredAcks,
                "acks must be -1, 0 or 1",
            )
        })?;
        let records = records.filter(|records| !records.is_empty());
        let records =
            records.ok_or_else(|| Failure::new(ResponseError::InvalidRecord, "no record batch"))?;
        let batch = parse(&records).map_err(AppendError::Batch)?;
        if self.transactional || batch.header().attributes.is_transactional() {
            return Err(Failure::new(
                ResponseError::InvalidTxnState,
                "transactions are not supported",
            ));
        }
        let batch = admit(batch, rules, self.now)?;
        let delays_from = self.image.partner(to).map(|_| self.now);
        if let Some(now) = delays_from
            && batch.header().attributes.compression() == Compression::None
            && batch.has_header(DELIVER_PREFIX)
        {
            let records = batch.records().map_err(AppendError::Batch)?;
            check_delays(&records, now)?;
        }
        Ok(Admitted {
            to,
            batch,
            keys_needed: rules.compacted,
            delays_from,
        })
    }
}

/// Exactly one batch. Bytes behind one that verifies are a second batch; behind one that
/// does not they are a sign of a lying length.
fn parse(records: &Bytes) -> Result<RecordBatch, BatchError> {
    let (batch, used) = RecordBatch::parse_prefix(records)?;
    match records.len() - used {
        0 => Ok(batch),
        extra => {
            batch.verify()?;
            Err(BatchError::Trailing { extra })
        }
    }
}

/// Checks a batch against the topic's rules, all but compressed records, and stamps it
/// with the broker's time if the topic wants that.
fn admit(
    batch: RecordBatch,
    rules: &WriteRules,
    now: Timestamp,
) -> Result<RecordBatch, AppendError> {
    if batch.size() > rules.batch_bytes_max {
        return Err(AppendError::TooLarge {
            size: batch.size(),
            max: rules.batch_bytes_max,
        });
    }
    batch.verify().map_err(AppendError::Batch)?;
    let header = batch.header();
    if header.attributes.is_control() {
        return Err(AppendError::InvalidRecord(
            "control batches are the broker's".into(),
        ));
    }
    let producer = header.producer_id;
    if producer.is_journal() || producer < ProducerId::NONE {
        // A journal's sequence may begin anywhere: a client's must not pass for one. The
        // code is final to every client, while those about producers make some begin anew
        // under the same id.
        return Err(AppendError::InvalidRecord(
            "producer ids of clients are at least 0 and below 2^62".into(),
        ));
    }
    let readable = header.attributes.compression() == Compression::None;
    if rules.compacted && readable && has_record_without_key(&batch)? {
        return Err(KEY_NEEDED);
    }
    if rules.log_append_time {
        return Ok(batch.with_log_append_time(now));
    }
    if header.attributes.is_log_append_time() {
        return Err(AppendError::InvalidRecord(
            "the timestamp type is the broker's to set".into(),
        ));
    }
    let none = Timestamp(-1);
    for stamp in [header.base_timestamp, header.max_timestamp] {
        let behind = now.0.saturating_sub(stamp.0) > rules.behind_max;
        let ahead = stamp.0.saturating_sub(now.0) > rules.ahead_max;
        if stamp != none && (behind || ahead) {
            return Err(AppendError::Timestamp { timestamp: stamp.0 });
        }
    }
    Ok(batch)
}

fn has_record_without_key(batch: &RecordBatch) -> Result<bool, BatchError> {
    Ok(batch.records()?.iter().any(|record| record.key.is_none()))
}

fn partition_response(
    version: i16,
    index: i32,
    done: Result<Appended, Failure>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match done {
        Ok(appended) => response
            .with_error_code(NONE)
            .with_base_offset(appended.base.to_wire())
            .with_log_append_time_ms(appended.append_time.map_or(-1, |time| time.0))
            .with_log_start_offset(appended.log_start.to_wire()),
        Err(failure) => {
            let mut response = response
                .with_error_code(failure.code.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1);
            if version >= 8 {
                response.error_message = failure.message.map(StrBytes::from_string);
            }
            if version >= 10
                && let Some((leader, epoch)) = failure.leader
            {
                response.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(leader))
                    .with_leader_epoch(epoch);
            }
            response
        }
    }
}

fn node_endpoint(endpoint: &LeaderEndpoint) -> NodeEndpoint {
    NodeEndpoint::default()
        .with_node_id(BrokerId(endpoint.node))
        .with_host(StrBytes::from_string(endpoint.host.clone()))
        .with_port(i32::from(endpoint.port))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_api::image::TopicRecord;
    use weir_base::batch::BatchBuilder;
    use weir_base::{ProducerEpoch, TopicId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn rules(configs: &[(&str, &str)]) -> WriteRules {
        let configs = configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let topic = TopicRecord {
            id: TopicId::ZERO,
            name: "t".into(),
            internal: false,
            configs: configs.collect(),
            partitions: Vec::new(),
        };
        WriteRules::of(&ClusterImage::default(), &topic)
    }

    fn at(timestamp: i64) -> RecordBatch {
        BatchBuilder::new(Timestamp(timestamp))
            .record(None, Some(b"v"))
            .build()
    }

    #[test]
    fn timestamps_far_from_the_brokers_clock_are_refused() {
        let hour = 3_600_000;
        let plain = rules(&[]);
        for fine in [-1, 0, NOW.0, NOW.0 + hour] {
            assert_eq!(admit(at(fine), &plain, NOW), Ok(at(fine)));
        }
        let ahead = NOW.0 + hour + 1;
        let refused = Err(AppendError::Timestamp { timestamp: ahead });
        assert_eq!(admit(at(ahead), &plain, NOW), refused);
        let strict = rules(&[("message.timestamp.before.max.ms", "10")]);
        let behind = NOW.0 - 11;
        let refused = Err(AppendError::Timestamp { timestamp: behind });
        assert_eq!(admit(at(behind), &strict, NOW), refused);
        // i64::MIN behind and i64::MAX ahead must not wrap.
        assert!(admit(at(i64::MAX), &plain, NOW).is_err());
        assert!(admit(at(i64::MIN), &strict, NOW).is_err());
    }

    #[test]
    fn log_append_time_replaces_the_producers() {
        let stamping = rules(&[("message.timestamp.type", "LogAppendTime")]);
        let stamped = admit(at(5), &stamping, NOW).unwrap();
        stamped.verify().unwrap();
        assert_eq!(stamped.records().unwrap()[0].timestamp, NOW);
        let forged = at(5).with_log_append_time(Timestamp(5));
        let refused = admit(forged, &rules(&[]), NOW);
        assert!(matches!(refused, Err(AppendError::InvalidRecord(_))));
    }

    #[test]
    fn delays_that_no_queue_can_keep_are_refused_by_name() {
        let asks = |name: &'static str, value: &'static str| {
            let headers = [(name, value.as_bytes())];
            let batch = BatchBuilder::new(NOW).record_with_headers(None, Some(b"v"), &headers);
            let batch = batch.build();
            assert_eq!(batch.has_header(DELIVER_PREFIX), name.starts_with("weir."));
            check_delays(&batch.records().unwrap(), NOW)
        };
        assert_eq!(asks("weir.deliver.after", "60000"), Ok(()));
        assert_eq!(asks("deliver", "soon"), Ok(()));
        // 367 days.
        let refused = asks("weir.deliver.after", "31708800000").unwrap_err();
        assert!(matches!(refused, AppendError::InvalidRecord(_)));
        assert!(refused.to_string().contains("at most 366"), "{refused}");
        assert!(asks("weir.deliver.at", "soon").is_err());
    }

    #[test]
    fn a_record_that_is_too_large_to_be_kept_is_not_delayed() {
        let check = |name, bytes| {
            let value = vec![0; bytes];
            let batch = BatchBuilder::new(NOW);
            let batch = batch.record_with_headers(None, Some(&value), &[(name, &b"5"[..])]);
            check_delays(&batch.build().records().unwrap(), NOW)
        };
        let after = "weir.deliver.after";
        let fits = DELAYED_BYTES_MAX - after.len() - 1;
        assert_eq!(check(after, fits), Ok(()));
        let (size, max) = (DELAYED_BYTES_MAX + 1, DELAYED_BYTES_MAX);
        let refused = Err(AppendError::TooLarge { size, max });
        assert_eq!(check(after, fits + 1), refused);
        assert_eq!(check("other", fits + 1), Ok(()));
    }

    #[test]
    fn compacted_topics_take_only_records_with_keys() {
        let rules = rules(&[("cleanup.policy", "delete, compact")]);
        let refused = admit(at(NOW.0), &rules, NOW);
        assert!(matches!(refused, Err(AppendError::InvalidRecord(_))));
        let keyed = BatchBuilder::new(NOW).record(Some(b"k"), None).build();
        assert_eq!(admit(keyed.clone(), &rules, NOW), Ok(keyed));
    }

    #[test]
    fn sizes_and_control_batches_are_checked_before_the_log_sees_them() {
        let small = rules(&[("max.message.bytes", "70")]);
        let batch = at(NOW.0);
        let size = batch.size();
        let refused = admit(batch.clone(), &small, NOW);
        assert_eq!(size > 70, refused.is_err());
        let tiny = rules(&[("max.message.bytes", "60")]);
        let refused = Err(AppendError::TooLarge { size, max: 60 });
        assert_eq!(admit(batch, &tiny, NOW), refused);
        let control = BatchBuilder::new(NOW)
            .record(Some(b"k"), None)
            .control()
            .build();
        let refused = admit(control, &rules(&[]), NOW);
        assert!(matches!(refused, Err(AppendError::InvalidRecord(_))));
    }

    #[test]
    fn a_producer_id_is_a_clients_or_none() {
        let by = |id: i64| {
            BatchBuilder::new(NOW)
                .producer(ProducerId(id), ProducerEpoch(0), 0)
                .record(None, Some(b"v"))
                .build()
        };
        let last = ProducerId::JOURNALS_FROM - 1;
        for fine in [ProducerId::NONE.0, 0, last] {
            assert_eq!(admit(by(fine), &rules(&[]), NOW), Ok(by(fine)));
        }
        for bad in [i64::MIN, -2, last + 1, i64::MAX] {
            let refused = admit(by(bad), &rules(&[]), NOW);
            assert!(
                matches!(refused, Err(AppendError::InvalidRecord(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_topics_settings_go_before_the_clusters() {
        let mut image = ClusterImage::default();
        image
            .configs
            .insert("message.max.bytes".to_owned(), "500".to_owned());
        let mut topic = TopicRecord {
            id: TopicId::ZERO,
            name: "t".into(),
            internal: false,
            configs: BTreeMap::new(),
            partitions: Vec::new(),
        };
        assert_eq!(WriteRules::of(&image, &topic).batch_bytes_max, 500);
        topic
            .configs
            .insert("max.message.bytes".to_owned(), "400".to_owned());
        assert_eq!(WriteRules::of(&image, &topic).batch_bytes_max, 400);
    }
}
