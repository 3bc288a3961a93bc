//! The life of consumer groups in every version of every group request.

mod support;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use support::{Client, Fixture, name, run};
use weir_base::NodeId;

const NO_ERROR: i16 = 0;

fn join(version: i16, group: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(name("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    let mut request = JoinGroupRequest::default()
        .with_group_id(name(group))
        .with_member_id(name(member))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(name("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 {
        request.rebalance_timeout_ms = 10_000;
    }
    request
}

/// Joins alone, as clients of that version do.
async fn join_alone(client: &mut Client, version: i16, group: &str) -> JoinGroupResponse {
    let first = client.call(version, &join(version, group, "")).await;
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, ResponseError::MemberIdRequired.code());
    assert!(first.member_id.starts_with("test-client-"));
    client
        .call(version, &join(version, group, &first.member_id))
        .await
}

fn sync(group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"yours"));
    SyncGroupRequest::default()
        .with_group_id(name(group))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment])
}

fn commit(version: i16, group: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let mut partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(name("note")));
    if version >= 6 {
        partition.committed_leader_epoch = 1;
    }
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(name(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// What is committed for partition 0 of a topic: offset and note.
async fn committed(client: &mut Client, version: i16, group: &str, topic: &str) -> (i64, String) {
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(name(topic))
            .with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(name(group))
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let response = client.call(version, &request).await;
        assert_eq!(response.groups[0].error_code, NO_ERROR);
        let partition = &response.groups[0].topics[0].partitions[0];
        let note = partition.metadata.as_deref().unwrap_or("").to_owned();
        return (partition.committed_offset, note);
    }
    let topic = OffsetFetchRequestTopic::default()
        .with_name(name(topic))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(name(group))
        .with_topics(Some(vec![topic]));
    let response = client.call(version, &request).await;
    assert_eq!(response.error_code, NO_ERROR);
    let partition = &response.topics[0].partitions[0];
    let note = partition.metadata.as_deref().unwrap_or("").to_owned();
    (partition.committed_offset, note)
}

#[test]
fn a_member_joins_syncs_beats_and_leaves_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        for version in 0..=9 {
            let group = format!("group-{version}");
            let joined = join_alone(&mut client, version, &group).await;
            assert_eq!(joined.error_code, NO_ERROR, "join {version}");
            assert_eq!(joined.leader, joined.member_id);
            assert_eq!(joined.members.len(), 1);
            assert_eq!(joined.members[0].metadata, &b"subscription"[..]);
            assert_eq!(joined.protocol_name.as_deref(), Some("range"));

            let v = version.min(5);
            let mut request = sync(&group, &joined);
            if v >= 5 {
                request.protocol_type = Some(name("consumer"));
                request.protocol_name = Some(name("range"));
            }
            let synced = client.call(v, &request).await;
            assert_eq!(synced.error_code, NO_ERROR, "sync {v}");
            assert_eq!(synced.assignment, &b"yours"[..]);

            let v = version.min(4);
            let beat = HeartbeatRequest::default()
                .with_group_id(name(&group))
                .with_generation_id(joined.generation_id)
                .with_member_id(joined.member_id.clone());
            assert_eq!(client.call(v, &beat).await.error_code, NO_ERROR);
            let stale = beat.clone().with_generation_id(joined.generation_id + 1);
            assert_eq!(client.call(v, &stale).await.error_code, 22);
            let stranger = beat.clone().with_member_id(name("stranger"));
            assert_eq!(client.call(v, &stranger).await.error_code, 25);

            let v = version.min(5);
            let mut leave = LeaveGroupRequest::default().with_group_id(name(&group));
            if v >= 3 {
                let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
                let stranger = MemberIdentity::default().with_member_id(name("stranger"));
                leave.members = vec![member, stranger];
            } else {
                leave.member_id = joined.member_id.clone();
            }
            let left = client.call(v, &leave).await;
            assert_eq!(left.error_code, NO_ERROR);
            if v >= 3 {
                let codes: Vec<i16> = left.members.iter().map(|m| m.error_code).collect();
                assert_eq!(codes, [0, 25]);
            }
        }
    });
}

#[test]
fn two_members_rebalance_and_both_joins_answer_together() {
    run(async {
        let fixture = Fixture::start().await;
        let (mut one, mut two) = (fixture.client().await, fixture.client().await);
        let first = join_alone(&mut one, 5, "g").await;
        assert_eq!(one.call(3, &sync("g", &first)).await.error_code, NO_ERROR);
        let offered = two.call(5, &join(5, "g", "")).await;
        two.send(5, &join(5, "g", &offered.member_id)).await;
        // The second join waits for the first member, who learns of it by heartbeat.
        let beat = HeartbeatRequest::default()
            .with_group_id(name("g"))
            .with_generation_id(first.generation_id)
            .with_member_id(first.member_id.clone());
        while one.call(3, &beat).await.error_code != ResponseError::RebalanceInProgress.code() {}
        let again = one.call(5, &join(5, "g", &first.member_id)).await;
        let (_, second) = two.receive::<JoinGroupResponse>(5).await;
        assert_eq!(again.generation_id, first.generation_id + 1);
        assert_eq!(second.generation_id, again.generation_id);
        assert_eq!(again.members.len() + second.members.len(), 2);
    });
}

#[test]
fn offsets_are_committed_and_fetched_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        // Elsewhere, so that the end of the log is not known here.
        fixture.broker.set_leader("t", 0, Some(NodeId(9)));
        let mut client = fixture.client().await;
        assert_eq!(committed(&mut client, 5, "g", "t").await.0, -1);
        for version in 2..=9 {
            let offset = i64::from(version) * 10;
            let response = client
                .call(version, &commit(version, "g", "t", offset))
                .await;
            assert_eq!(response.topics[0].partitions[0].error_code, NO_ERROR);
            for version in 1..=9 {
                let found = committed(&mut client, version, "g", "t").await;
                assert_eq!(found, (offset, "note".to_owned()));
            }
        }
        // All of the group's.
        for version in 2..=7 {
            let all = OffsetFetchRequest::default()
                .with_group_id(name("g"))
                .with_topics(None);
            let response = client.call(version, &all).await;
            assert_eq!(response.topics[0].partitions[0].committed_offset, 90);
        }
        let response = client.call(9, &commit(9, "g", "unknown", 1)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 3);
        let long = "x".repeat(4097);
        let mut request = commit(9, "g", "t", 1);
        request.topics[0].partitions[0].committed_metadata = Some(name(&long));
        let response = client.call(9, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 12);
        assert_eq!(committed(&mut client, 9, "g", "t").await.0, 90);
    });
}

#[test]
fn a_leader_refuses_commits_beyond_its_end_and_offsets_die_with_their_topic() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let response = client.call(9, &commit(9, "g", "t", 1)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 1);
        let response = client.call(9, &commit(9, "g", "t", 0)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, NO_ERROR);
        assert_eq!(committed(&mut client, 9, "g", "t").await.0, 0);
        let admin = fixture.broker.api().admin;
        let second = std::time::Duration::from_secs(1);
        admin.delete_topic(id, second).await.unwrap();
        fixture.topic("t", 1).await;
        assert_eq!(committed(&mut client, 9, "g", "t").await.0, -1);
    });
}

#[test]
fn groups_are_described_listed_and_deleted_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let joined = join_alone(&mut client, 9, "live").await;
        client.call(3, &sync("live", &joined)).await;
        for version in 0..=6 {
            let request =
                DescribeGroupsRequest::default().with_groups(vec![name("live"), name("nobody")]);
            let response = client.call(version, &request).await;
            let [live, nobody] = &response.groups[..] else {
                panic!("two groups");
            };
            assert_eq!(live.group_state.as_str(), "Stable");
            assert_eq!(live.protocol_data.as_str(), "range");
            assert_eq!(live.members[0].member_assignment, &b"yours"[..]);
            assert_eq!(live.members[0].client_host.as_str(), "/127.0.0.1");
            assert_eq!(nobody.group_state.as_str(), "Dead");
            assert_eq!(nobody.error_code, if version >= 6 { 69 } else { 0 });
        }
        for version in 0..=5 {
            let mut request = ListGroupsRequest::default();
            let listed = client.call(version, &request).await;
            assert_eq!(listed.groups.len(), 1);
            assert_eq!(listed.groups[0].group_id.as_str(), "live");
            if version >= 4 {
                request.states_filter = vec![name("empty")];
                assert!(client.call(version, &request).await.groups.is_empty());
            }
        }
        for version in 0..=2 {
            client.call(9, &commit(9, "gone", "t", 0)).await;
            let request = DeleteGroupsRequest::default().with_groups_names(vec![
                name("live"),
                name("gone"),
                name("nobody"),
            ]);
            let response = client.call(version, &request).await;
            let codes: Vec<i16> = response.results.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [68, 0, 69]);
        }
        client.call(9, &commit(9, "other", "t", 0)).await;
        let delete = |topic: &str| {
            let partition = OffsetDeleteRequestPartition::default();
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(name(topic))
                .with_partitions(vec![partition]);
            OffsetDeleteRequest::default()
                .with_group_id(name("other"))
                .with_topics(vec![topic])
        };
        let response = client.call(0, &delete("unknown")).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 3);
        let response = client.call(0, &delete("t")).await;
        assert_eq!(response.topics[0].partitions[0].error_code, NO_ERROR);
        assert_eq!(committed(&mut client, 9, "other", "t").await.0, -1);
    });
}

#[test]
fn coordinators_are_found_in_every_version_and_others_say_so() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        for version in 0..=6 {
            let mut request = FindCoordinatorRequest::default();
            if version >= 4 {
                request.coordinator_keys = vec![name("a"), name("b")];
                let response = client.call(version, &request).await;
                assert_eq!(response.coordinators.len(), 2);
                assert!(response.coordinators.iter().all(|c| c.node_id.0 == 1));
            } else {
                request.key = name("a");
                let response = client.call(version, &request).await;
                assert_eq!((response.error_code, response.node_id.0), (0, 1));
            }
            if version >= 1 {
                request.key_type = 1;
                let response = client.call(version, &request).await;
                let code = response.coordinators.first().map(|c| c.error_code);
                assert_eq!(code.unwrap_or(response.error_code), 42);
            }
        }
        fixture.broker.set_coordinator(NodeId(2));
        let response = client.call(9, &join(9, "g", "")).await;
        assert_eq!(response.error_code, ResponseError::NotCoordinator.code());
        let response = client.call(4, &ListGroupsRequest::default()).await;
        assert_eq!(response.error_code, ResponseError::NotCoordinator.code());
    });
}
