//! OffsetCommit: positions of a group. Unknown partitions, too long notes and positions
//! beyond the end (where this node knows the end) are refused one by one (G1); the rest
//! is stored all or none.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use weir_api::groups::{
    CommitOffsets, CommittedOffset, GroupCommand, GroupReply, OFFSET_METADATA_BYTES_MAX, OffsetKey,
};
use weir_api::image::{ClusterImage, TopicRecord};
use weir_api::log::OffsetQuery;
use weir_base::Offset;

use super::groups::{ask, code_of, member, optional, shared};
use super::topics;
use crate::context::Call;
use crate::errors::NONE;

pub(super) async fn handle(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = call.shared.image();
    let mut offsets = Vec::new();
    let mut refused: BTreeMap<(usize, usize), ResponseError> = BTreeMap::new();
    for (t, topic) in request.topics.iter().enumerate() {
        for (p, partition) in topic.partitions.iter().enumerate() {
            match admit(&call, &image, &topic.name, partition).await {
                Ok(offset) => offsets.push(offset),
                Err(error) => drop(refused.insert((t, p), error)),
            }
        }
    }
    let nothing_left = offsets.is_empty() && !refused.is_empty();
    let commit = CommitOffsets {
        group: shared(&request.group_id),
        member: member(&request.member_id),
        instance: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        offsets,
    };
    let code = if nothing_left {
        NONE
    } else {
        code_of(&ask!(
            &call,
            CommitOffsets,
            GroupCommand::CommitOffsets(commit)
        ))
    };
    let topics = request.topics.into_iter().enumerate().map(|(t, topic)| {
        let partitions = topic.partitions.iter().enumerate().map(|(p, partition)| {
            let refused = refused.get(&(t, p));
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(refused.map_or(code, ResponseError::code))
        });
        OffsetCommitResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

async fn admit(
    call: &Call,
    image: &ClusterImage,
    topic: &str,
    commit: &OffsetCommitRequestPartition,
) -> Result<(OffsetKey, CommittedOffset), ResponseError> {
    let record = image.topics.get(topic);
    let record: &TopicRecord = record.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let at = topics::partition(record, commit.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let metadata = commit.committed_metadata.as_deref().unwrap_or("");
    if metadata.len() > OFFSET_METADATA_BYTES_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let offset =
        Offset::from_wire(commit.committed_offset).ok_or(ResponseError::InvalidCommitOffsetSize)?;
    // Another node leads most partitions, and their end is not known here.
    let end = call
        .shared
        .api
        .log
        .offset(at, OffsetQuery::Latest, None)
        .await;
    if let Ok(end) = end
        && end.offset.is_some_and(|end| offset > end)
    {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let key = OffsetKey {
        topic: record.name.clone(),
        topic_id: record.id,
        partition: at.index.0,
    };
    let committed = CommittedOffset {
        offset,
        leader_epoch: commit.committed_leader_epoch,
        metadata: shared(metadata),
        at: call.shared.api.cluster.now(),
    };
    Ok((key, committed))
}
