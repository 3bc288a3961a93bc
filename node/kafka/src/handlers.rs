//! One file a verb. Each takes a decoded request and gives the response; [`route`]
//! decodes, encodes and picks.

mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod configs;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod elect_leaders;
pub(crate) mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, ApiKey, FetchRequest};

use crate::close::CloseReason;
use crate::codec::{RequestHead, versions};
use crate::context::{Call, Shared};
use crate::session::{Handling, Reply, Started};

/// Decodes a request with the crate, hands it to its handler and encodes what that gives.
macro_rules! answer {
    ($module:ident, $request:ty, $head:ident, $body:ident, $call:ident) => {{
        let request: $request = $head.decode($body)?;
        Box::pin(async move {
            let response = $module::handle($call, request).await;
            $head.encode(&response).map(Reply::One)
        })
    }};
}

/// Starts handling a request frame.
///
/// # Errors
/// The reason to close the connection, where the protocol has no way to answer.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the table of versions says what is served; a test holds the two together"
)]
pub(crate) fn route(
    shared: &Arc<Shared>,
    remote: SocketAddr,
    mut frame: Bytes,
) -> Result<Started, CloseReason> {
    let head = RequestHead::read(&mut frame)?;
    let api = head.api as i16;
    let row = versions::row(head.api).ok_or(CloseReason::UnknownApi(api))?;
    if !(row.min..=row.max).contains(&head.version) {
        if head.api as i16 == ApiKey::ApiVersions as i16 {
            let answer = Box::pin(async move { api_versions::unsupported(head) });
            return Ok(Started::Handling(answer));
        }
        return Err(CloseReason::UnsupportedVersion {
            api,
            version: head.version,
        });
    }
    let api = head.api;
    if api as i16 != ApiKey::Produce as i16 && frame.len() > shared.options.request_bytes_max {
        return Err(head.malformed(format!("{} bytes", frame.len())));
    }
    let call = Call {
        shared: shared.clone(),
        version: head.version,
        client_id: head.client_id.clone(),
        remote,
    };
    let handling: Handling = match api {
        ApiKey::Produce => return produce::start(head, &call, frame),
        ApiKey::Fetch => {
            let request: FetchRequest = head.decode(frame)?;
            Box::pin(async move { Ok(fetch::handle(&head, call, request).await) })
        }
        ApiKey::ApiVersions => api_versions::handle(head, frame)?,
        ApiKey::Metadata => answer!(metadata, messages::MetadataRequest, head, frame, call),
        ApiKey::ListOffsets => answer!(
            list_offsets,
            messages::ListOffsetsRequest,
            head,
            frame,
            call
        ),
        ApiKey::CreateTopics => answer!(
            create_topics,
            messages::CreateTopicsRequest,
            head,
            frame,
            call
        ),
        ApiKey::DeleteTopics => answer!(
            delete_topics,
            messages::DeleteTopicsRequest,
            head,
            frame,
            call
        ),
        ApiKey::InitProducerId => answer!(
            init_producer_id,
            messages::InitProducerIdRequest,
            head,
            frame,
            call
        ),
        ApiKey::FindCoordinator => answer!(
            find_coordinator,
            messages::FindCoordinatorRequest,
            head,
            frame,
            call
        ),
        ApiKey::JoinGroup => answer!(join_group, messages::JoinGroupRequest, head, frame, call),
        ApiKey::SyncGroup => answer!(sync_group, messages::SyncGroupRequest, head, frame, call),
        ApiKey::Heartbeat => answer!(heartbeat, messages::HeartbeatRequest, head, frame, call),
        ApiKey::LeaveGroup => answer!(leave_group, messages::LeaveGroupRequest, head, frame, call),
        ApiKey::OffsetCommit => answer!(
            offset_commit,
            messages::OffsetCommitRequest,
            head,
            frame,
            call
        ),
        ApiKey::OffsetFetch => answer!(
            offset_fetch,
            messages::OffsetFetchRequest,
            head,
            frame,
            call
        ),
        ApiKey::DescribeGroups => answer!(
            describe_groups,
            messages::DescribeGroupsRequest,
            head,
            frame,
            call
        ),
        ApiKey::ListGroups => answer!(list_groups, messages::ListGroupsRequest, head, frame, call),
        ApiKey::DeleteGroups => answer!(
            delete_groups,
            messages::DeleteGroupsRequest,
            head,
            frame,
            call
        ),
        ApiKey::OffsetDelete => answer!(
            offset_delete,
            messages::OffsetDeleteRequest,
            head,
            frame,
            call
        ),
        ApiKey::CreatePartitions => answer!(
            create_partitions,
            messages::CreatePartitionsRequest,
            head,
            frame,
            call
        ),
        ApiKey::DeleteRecords => answer!(
            delete_records,
            messages::DeleteRecordsRequest,
            head,
            frame,
            call
        ),
        ApiKey::OffsetForLeaderEpoch => answer!(
            offset_for_leader_epoch,
            messages::OffsetForLeaderEpochRequest,
            head,
            frame,
            call
        ),
        ApiKey::DescribeConfigs => answer!(
            describe_configs,
            messages::DescribeConfigsRequest,
            head,
            frame,
            call
        ),
        ApiKey::AlterConfigs => answer!(
            alter_configs,
            messages::AlterConfigsRequest,
            head,
            frame,
            call
        ),
        ApiKey::IncrementalAlterConfigs => answer!(
            incremental_alter_configs,
            messages::IncrementalAlterConfigsRequest,
            head,
            frame,
            call
        ),
        ApiKey::DescribeCluster => answer!(
            describe_cluster,
            messages::DescribeClusterRequest,
            head,
            frame,
            call
        ),
        ApiKey::DescribeTopicPartitions => answer!(
            describe_topic_partitions,
            messages::DescribeTopicPartitionsRequest,
            head,
            frame,
            call
        ),
        ApiKey::DescribeLogDirs => answer!(
            describe_log_dirs,
            messages::DescribeLogDirsRequest,
            head,
            frame,
            call
        ),
        ApiKey::ElectLeaders => answer!(
            elect_leaders,
            messages::ElectLeadersRequest,
            head,
            frame,
            call
        ),
        ApiKey::AlterPartitionReassignments => answer!(
            alter_partition_reassignments,
            messages::AlterPartitionReassignmentsRequest,
            head,
            frame,
            call
        ),
        ApiKey::ListPartitionReassignments => answer!(
            list_partition_reassignments,
            messages::ListPartitionReassignmentsRequest,
            head,
            frame,
            call
        ),
        ApiKey::DescribeProducers => answer!(
            describe_producers,
            messages::DescribeProducersRequest,
            head,
            frame,
            call
        ),
        _ => return Err(CloseReason::UnknownApi(api as i16)),
    };
    Ok(Started::Handling(handling))
}

#[cfg(test)]
mod allocations;
#[cfg(test)]
mod tests;
