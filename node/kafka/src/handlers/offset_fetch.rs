//! OffsetFetch: committed positions, of one group up to version 7, of several since.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use weir_api::GroupCallError;
use weir_api::groups::{CommittedOffset, GroupCommand, GroupError, GroupReply, OffsetKey};
use weir_api::image::ClusterImage;

use super::groups::{ask, code, shared};
use crate::context::{Call, text};
use crate::errors::NONE;

/// A topic asked for: its name and partitions.
type Asked = (StrBytes, Vec<i32>);
/// A topic answered: its name, and each partition with what is committed.
type Answered = (StrBytes, Vec<(i32, Option<CommittedOffset>)>);

pub(super) async fn handle(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let asked = group
                .topics
                .map(|topics| topics.into_iter().map(asked).collect());
            let result = fetch(&call, &group.group_id, asked).await;
            let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            groups.push(match result {
                Ok(topics) => response.with_topics(topics.into_iter().map(grouped).collect()),
                Err(error) => response.with_error_code(code(&error)),
            });
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked: Option<Vec<Asked>> = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics.map(|t| (t.name.0, t.partition_indexes)).collect()
    });
    let response = OffsetFetchResponse::default();
    match fetch(&call, &request.group_id, asked.clone()).await {
        Ok(topics) => {
            let topics = topics.into_iter();
            response.with_topics(topics.map(|t| single(call.version, t, NONE)).collect())
        }
        // Version 1 has no place for a group's error but its partitions.
        Err(error) if call.version < 2 => {
            let topics = asked
                .unwrap_or_default()
                .into_iter()
                .map(|(name, partitions)| {
                    let none = partitions.into_iter().map(|index| (index, None));
                    single(call.version, (name, none.collect()), code(&error))
                });
            response.with_topics(topics.collect())
        }
        Err(error) => response.with_error_code(code(&error)),
    }
}

fn asked(topic: OffsetFetchRequestTopics) -> Asked {
    (topic.name.0, topic.partition_indexes)
}

async fn fetch(
    call: &Call,
    group: &str,
    asked: Option<Vec<Asked>>,
) -> Result<Vec<Answered>, GroupCallError> {
    let image = call.shared.image();
    let keys = asked.as_ref().map(|asked| {
        let topics = asked.iter().flat_map(|(name, partitions)| {
            let known = image.topics.get(name.as_str());
            let keys = partitions.iter().filter_map(move |index| {
                let known = known?;
                Some(OffsetKey {
                    topic: known.name.clone(),
                    topic_id: known.id,
                    partition: u32::try_from(*index).ok()?,
                })
            });
            keys.collect::<Vec<_>>()
        });
        topics.collect()
    });
    let command = GroupCommand::FetchOffsets {
        group: shared(group),
        partitions: keys,
    };
    let found = match ask!(call, FetchOffsets, command) {
        Ok(found) => found,
        // A group without offsets has none for any partition.
        Err(GroupCallError::Group(GroupError::NoSuchGroup)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let committed = current(&image, found);
    Ok(match asked {
        Some(asked) => asked
            .into_iter()
            .map(|(name, partitions)| {
                let of_topic = committed.get(name.as_str());
                let partitions = partitions.into_iter().map(|index| {
                    let offset = of_topic.and_then(|offsets| offsets.get(&index));
                    (index, offset.cloned())
                });
                (name, partitions.collect())
            })
            .collect(),
        None => committed
            .into_iter()
            .map(|(name, offsets)| {
                let offsets = offsets
                    .into_iter()
                    .map(|(index, offset)| (index, Some(offset)));
                (StrBytes::from_string(name), offsets.collect())
            })
            .collect(),
    })
}

/// What was committed for topics that still are what they were, by name and partition.
fn current(
    image: &ClusterImage,
    found: Vec<(OffsetKey, Option<CommittedOffset>)>,
) -> BTreeMap<String, BTreeMap<i32, CommittedOffset>> {
    let mut committed: BTreeMap<String, BTreeMap<i32, CommittedOffset>> = BTreeMap::new();
    for (key, offset) in found {
        let same = image
            .topics
            .get(&key.topic)
            .is_some_and(|t| t.id == key.topic_id);
        if let Some(offset) = offset.filter(|_| same)
            && let Ok(index) = i32::try_from(key.partition)
        {
            let of_topic = committed.entry(key.topic.to_string()).or_default();
            of_topic.insert(index, offset);
        }
    }
    committed
}

fn single(version: i16, (name, partitions): Answered, code: i16) -> OffsetFetchResponseTopic {
    let partitions = partitions.into_iter().map(|(index, offset)| {
        let (committed, epoch, metadata) = wire(offset);
        let mut partition = OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(committed)
            .with_metadata(Some(metadata))
            .with_error_code(code);
        if version >= 5 {
            partition.committed_leader_epoch = epoch;
        }
        partition
    });
    OffsetFetchResponseTopic::default()
        .with_name(name.into())
        .with_partitions(partitions.collect())
}

fn grouped((name, partitions): Answered) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(index, offset)| {
        let (committed, epoch, metadata) = wire(offset);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(committed)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
    });
    OffsetFetchResponseTopics::default()
        .with_name(name.into())
        .with_partitions(partitions.collect())
}

/// Offset, leader epoch and note; -1 where nothing is committed.
fn wire(offset: Option<CommittedOffset>) -> (i64, i32, StrBytes) {
    match offset {
        Some(found) => (
            found.offset.to_wire(),
            found.leader_epoch,
            text(&found.metadata),
        ),
        None => (-1, -1, StrBytes::new()),
    }
}
