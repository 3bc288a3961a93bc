//! Fetch: long polls over many partitions, with incremental sessions.
//!
//! The payload of the response are the log's own chunks. Every partition's error is
//! its own; any error, or a log that diverged, ends the wait at once.

pub(crate) mod sessions;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use weir_api::image::ClusterImage;
use weir_api::log::{Read, ReadOutcome, ReadPartition};
use weir_api::{NotLeader, ReadError};
use weir_base::{LeaderEpoch, Offset, Uuid};

use super::topics::{self, add_endpoint, leader_hint};
use crate::codec::RequestHead;
use crate::codec::fetch::{FetchAnswer, LeaderEndpoint, PartitionAnswer, TopicKey};
use crate::context::{Call, millis};
use crate::errors::{self, NONE};
use crate::session::Reply;
use sessions::{PartitionKey, Wanted};

pub(super) async fn handle(head: &RequestHead, call: Call, request: FetchRequest) -> Reply {
    let answer = fetch(&call, request).await;
    Reply::Chunks(answer.encode(head.correlation, head.version))
}

async fn fetch(call: &Call, request: FetchRequest) -> FetchAnswer {
    let (session, epoch) = if call.version >= 7 {
        (request.session_id, request.session_epoch)
    } else {
        (0, -1)
    };
    let (wanted, forgotten) = partitions(call.version, &request);
    let now = call.shared.env.clock.now();
    let begun = {
        let mut sessions = call.shared.fetch_sessions();
        sessions.begin(session, epoch, wanted, forgotten, now, &call.shared.entropy)
    };
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            return FetchAnswer {
                error: error.code(),
                ..FetchAnswer::default()
            };
        }
    };
    let mut answer = FetchAnswer {
        session: begun.session,
        ..FetchAnswer::default()
    };
    answer.partitions = read(call, &request, begun.partitions, &mut answer.endpoints).await;
    if begun.incremental {
        let mut sessions = call.shared.fetch_sessions();
        sessions.retain_changed(begun.session, &mut answer.partitions);
    }
    answer
}

/// What the request asks for and forgets, in its order.
fn partitions(
    version: i16,
    request: &FetchRequest,
) -> (Vec<(PartitionKey, Wanted)>, Vec<PartitionKey>) {
    let key = |name: &kafka_protocol::messages::TopicName, id: &uuid::Uuid| {
        if version >= 13 {
            TopicKey::Id(Uuid(*id.as_bytes()))
        } else {
            TopicKey::Name(name.0.clone())
        }
    };
    let count = request
        .topics
        .iter()
        .map(|topic| topic.partitions.len())
        .sum();
    let mut wanted = Vec::with_capacity(count);
    for topic in &request.topics {
        let topic_key = key(&topic.topic, &topic.topic_id);
        for part in &topic.partitions {
            let key = PartitionKey {
                topic: topic_key.clone(),
                index: part.partition,
            };
            let want = Wanted {
                offset: part.fetch_offset,
                bytes_max: part.partition_max_bytes,
                leader_epoch: part.current_leader_epoch,
                last_fetched_epoch: part.last_fetched_epoch,
            };
            wanted.push((key, want));
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_key = key(&topic.topic, &topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|index| PartitionKey {
            topic: topic_key.clone(),
            index: *index,
        }));
    }
    (wanted, forgotten)
}

/// Reads what is wanted; one answer a partition, in order.
async fn read(
    call: &Call,
    request: &FetchRequest,
    wanted: Vec<(PartitionKey, Wanted)>,
    endpoints: &mut Vec<LeaderEndpoint>,
) -> Vec<(TopicKey, PartitionAnswer)> {
    let image = call.shared.image();
    let mut reads = Vec::with_capacity(wanted.len());
    let mut refused = false;
    let planned: Vec<(PartitionKey, Option<ResponseError>)> = wanted
        .into_iter()
        .map(|(key, want)| {
            let planned = plan(&image, &key, &want);
            let error = planned.map(|read| reads.push(read)).err();
            refused |= error.is_some();
            (key, error)
        })
        .collect();
    let bytes = |value: i32| usize::try_from(value).unwrap_or(0);
    let outcomes = if reads.is_empty() && refused {
        Vec::new()
    } else {
        let read = Read {
            partitions: reads,
            bytes_min: bytes(request.min_bytes),
            bytes_max: bytes(request.max_bytes).min(call.shared.options.fetch_bytes_max),
            wait_max: if refused {
                std::time::Duration::ZERO
            } else {
                // Longer than a silent connection is kept, nobody waits: a connection full
                // of waiting fetches reads nothing, not even that its client is gone.
                millis(request.max_wait_ms).min(call.shared.options.idle_close)
            },
        };
        call.shared.api.log.read(read).await
    };
    let mut outcomes = outcomes.into_iter();
    let answers = planned.into_iter().map(|(key, error)| {
        let answer = match error {
            Some(error) => failed(error, None),
            None => match outcomes.next() {
                Some(outcome) => answer(call, outcome, endpoints),
                None => failed(ResponseError::UnknownServerError, None),
            },
        };
        let index = key.index;
        (key.topic, PartitionAnswer { index, ..answer })
    });
    answers.collect()
}

fn plan(
    image: &ClusterImage,
    key: &PartitionKey,
    want: &Wanted,
) -> Result<ReadPartition, ResponseError> {
    let topic = topics::by_key(image, &key.topic).ok_or(match &key.topic {
        TopicKey::Name(_) => ResponseError::UnknownTopicOrPartition,
        TopicKey::Id(_) => ResponseError::UnknownTopicId,
    })?;
    let at = topics::partition(topic, key.index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let from = Offset::from_wire(want.offset).ok_or(ResponseError::OffsetOutOfRange)?;
    Ok(ReadPartition {
        at,
        from,
        bytes_max: usize::try_from(want.bytes_max).unwrap_or(0),
        leader_epoch: LeaderEpoch::from_wire(want.leader_epoch),
        last_fetched_epoch: LeaderEpoch::from_wire(want.last_fetched_epoch),
    })
}

fn answer(
    call: &Call,
    outcome: ReadOutcome,
    endpoints: &mut Vec<LeaderEndpoint>,
) -> PartitionAnswer {
    let error = match outcome.result {
        Ok(read) => {
            return PartitionAnswer {
                error: NONE,
                high_watermark: read.high_watermark.to_wire(),
                log_start: read.log_start.to_wire(),
                diverging: read
                    .diverging
                    .map(|(epoch, end)| (epoch.to_wire(), end.to_wire())),
                records: read.chunks,
                ..PartitionAnswer::default()
            };
        }
        Err(error) => error,
    };
    let elsewhere: Option<&NotLeader> = match &error {
        ReadError::NotLeader(elsewhere) | ReadError::FencedEpoch(elsewhere) => Some(elsewhere),
        ReadError::UnknownPartition
        | ReadError::UnknownEpoch
        | ReadError::OutOfRange { .. }
        | ReadError::NotReady
        | ReadError::Storage => None,
    };
    if let Some(elsewhere) = elsewhere {
        add_endpoint(endpoints, &call.shared.image(), elsewhere.leader);
    }
    let mut answer = failed(errors::read(&error), elsewhere.map(leader_hint));
    if let ReadError::OutOfRange { start, end, .. } = error {
        answer.high_watermark = end.to_wire();
        answer.log_start = start.to_wire();
    }
    answer
}

fn failed(error: ResponseError, leader: Option<(i32, i32)>) -> PartitionAnswer {
    PartitionAnswer {
        error: error.code(),
        high_watermark: -1,
        log_start: -1,
        leader,
        ..PartitionAnswer::default()
    }
}
