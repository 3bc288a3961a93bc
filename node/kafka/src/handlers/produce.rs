//! Produce: one record batch a partition, checked here, appended in request order.
//!
//! All batches of a request are handed to the log before the request's future exists,
//! so that the order of requests on a connection is the order of appends.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use weir_api::image::ClusterImage;
use weir_api::{Acks, AppendError, Appended};
use weir_base::{BatchError, BoxFuture, RecordBatch, Timestamp, TopicPartition};

use super::topics::{self, WriteRules, add_endpoint, leader_hint};
use crate::close::CloseReason;
use crate::codec::RequestHead;
use crate::codec::fetch::LeaderEndpoint;
use crate::codec::produce::{Produce, ProduceTopic};
use crate::context::{Call, Shared, millis};
use crate::errors::{self, NONE};
use crate::session::{Handling, Reply};

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
            | AppendError::Overloaded => None,
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

/// One partition's answer in the making.
struct Part {
    index: i32,
    started: Result<Appending, Failure>,
}

/// Hands every batch to the log and gives the future of the response.
pub(super) fn start(head: RequestHead, call: &Call, body: Bytes) -> Result<Handling, CloseReason> {
    let request = Produce::decode(body, head.version)
        .ok_or_else(|| head.malformed("produce request does not parse"))?;
    let image = call.shared.image();
    let acks = request.acks;
    let producing = Producing {
        shared: &call.shared,
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
    let topics: Vec<(StrBytes, weir_base::Uuid, Vec<Part>)> = topics.collect();
    let shared = call.shared.clone();
    Ok(Box::pin(async move {
        let mut responses = Vec::with_capacity(topics.len());
        let mut endpoints = Vec::new();
        let mut failed = None;
        for (name, id, parts) in topics {
            let mut partitions = Vec::with_capacity(parts.len());
            for part in parts {
                let done = match part.started {
                    Ok(appending) => appending.await.map_err(Failure::from),
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = &done {
                    add_endpoint(&mut endpoints, &shared.image(), failure.leader_node);
                    failed.get_or_insert(failure.code);
                }
                partitions.push(partition_response(head.version, part.index, done));
            }
            let mut topic = TopicProduceResponse::default().with_partition_responses(partitions);
            if head.version >= 13 {
                topic.topic_id = topics::wire_id(id);
            } else {
                topic.name = TopicName(name);
            }
            responses.push(topic);
        }
        if acks == 0 {
            return match failed {
                None => Ok(Reply::Nothing),
                Some(code) => Err(CloseReason::Unacknowledged(code.to_string())),
            };
        }
        let mut response = ProduceResponse::default().with_responses(responses);
        if head.version >= 10 {
            response.node_endpoints = endpoints.iter().map(node_endpoint).collect();
        }
        head.encode(&response).map(Reply::One)
    }))
}

struct Producing<'a> {
    shared: &'a Shared,
    image: &'a ClusterImage,
    version: i16,
    acks: Result<Acks, ()>,
    transactional: bool,
    timeout: std::time::Duration,
    now: Timestamp,
}

impl Producing<'_> {
    fn topic(&self, topic: ProduceTopic) -> (StrBytes, weir_base::Uuid, Vec<Part>) {
        let record = if self.version >= 13 {
            self.image.topic(topic.id)
        } else {
            self.image.topics.get(topic.name.as_str())
        };
        let rules = record.map(|record| WriteRules::of(self.image, record));
        let parts = topic.partitions.into_iter().map(|part| {
            let started = match record.zip(rules) {
                None => Err(Failure::new(self.unknown_topic(), "topic does not exist")),
                Some((record, rules)) => topics::partition(record, part.index)
                    .ok_or_else(|| AppendError::UnknownPartition.into())
                    .and_then(|to| self.append(to, &rules, part.records)),
            };
            Part {
                index: part.index,
                started,
            }
        });
        (topic.name, topic.id, parts.collect())
    }

    fn unknown_topic(&self) -> ResponseError {
        if self.version >= 13 {
            ResponseError::UnknownTopicId
        } else {
            ResponseError::UnknownTopicOrPartition
        }
    }

    fn append(
        &self,
        to: TopicPartition,
        rules: &WriteRules,
        records: Option<Bytes>,
    ) -> Result<Appending, Failure> {
        let acks = self.acks.map_err(|()| {
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
        Ok(self.shared.api.log.append(to, batch, acks, self.timeout))
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

/// Checks a batch against the topic's rules and stamps it with the broker's time if
/// the topic wants that.
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
    // Compressed records are stored as sent, unread.
    let readable = header.attributes.codec() == 0;
    if rules.compacted && readable && has_record_without_key(&batch)? {
        return Err(AppendError::InvalidRecord(
            "records of a compacted topic need a key".into(),
        ));
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
    use weir_base::TopicId;
    use weir_base::batch::BatchBuilder;

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
