//! Consumer groups on a host: a member's life across a change of coordinator.

use std::time::Duration;

use bytes::Bytes;
use weir_base::{Offset, Timestamp, Uuid};
use weir_coordinator::{
    CommitOffsets, CommittedOffset, GroupCommand, GroupError, GroupMachine, GroupReply, JoinGroup,
    MemberId, OffsetKey, SyncGroup,
};

use super::toy::{Node, Shared, settle};

fn join(member: Option<MemberId>) -> GroupCommand {
    GroupCommand::Join(JoinGroup {
        group: "g".into(),
        member,
        fresh_member_id: "client-1".into(),
        instance: None,
        member_id_required: true,
        skip_assignment_understood: true,
        client_id: "client".into(),
        client_host: "/host".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(&[0, 0, 0, 0, 0, 0]))],
    })
}

fn commit(generation: i32) -> GroupCommand {
    let key = OffsetKey {
        topic: "t".into(),
        topic_id: Uuid([1; 16]),
        partition: 0,
    };
    let offset = CommittedOffset {
        offset: Offset(42),
        leader_epoch: -1,
        metadata: "".into(),
        at: Timestamp(0),
    };
    GroupCommand::CommitOffsets(CommitOffsets {
        group: "g".into(),
        member: Some("client-1".into()),
        instance: None,
        generation,
        offsets: vec![(key, offset)],
    })
}

fn heartbeat(generation: i32) -> GroupCommand {
    GroupCommand::Heartbeat {
        group: "g".into(),
        member: "client-1".into(),
        instance: None,
        generation,
    }
}

/// Calls, commits and waits for the reply.
async fn ask(cluster: &Shared, node: &Node<GroupMachine>, command: GroupCommand) -> GroupReply {
    let mut answer = node.call(command);
    settle().await;
    cluster.get().commit_all();
    answer
        .now()
        .await
        .expect("no answer")
        .expect("the host failed")
}

#[tokio::test]
async fn a_member_lives_on_at_the_next_coordinator() {
    let cluster = Shared::new(2);
    let nodes: Vec<Node<GroupMachine>> = (0..2).map(|node| Node::new(&cluster, node)).collect();
    cluster.get().lead(0, true);
    settle().await;
    let reply = ask(&cluster, &nodes[0], join(None)).await;
    assert!(matches!(
        reply,
        GroupReply::Join(Err(GroupError::MemberIdRequired(id))) if &*id == "client-1"
    ));
    let mut joining = nodes[0].call(join(Some("client-1".into())));
    assert!(
        joining.now().await.is_none(),
        "the first rebalance waits for company"
    );
    nodes[0].clock.pass(Duration::from_secs(3));
    assert!(
        joining.now().await.is_none(),
        "the generation is not committed"
    );
    cluster.get().commit_all();
    let joined = joining.now().await.unwrap().unwrap();
    assert!(matches!(joined, GroupReply::Join(Ok(joined)) if joined.generation == 1));
    let sync = GroupCommand::Sync(SyncGroup {
        group: "g".into(),
        member: "client-1".into(),
        instance: None,
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: vec![("client-1".into(), Bytes::from_static(b"mine"))],
    });
    let synced = ask(&cluster, &nodes[0], sync.clone()).await;
    assert!(matches!(synced, GroupReply::Sync(Ok(synced)) if synced.assignment == "mine"));
    let committed = ask(&cluster, &nodes[0], commit(1)).await;
    assert!(matches!(committed, GroupReply::CommitOffsets(Ok(()))));

    nodes[1].clock.pass(Duration::from_secs(1_000_000));
    cluster.get().lead(1, true);
    settle().await;
    nodes[1].clock.pass(Duration::from_secs(9));
    settle().await;
    let beaten = ask(&cluster, &nodes[1], heartbeat(1)).await;
    assert!(matches!(beaten, GroupReply::Heartbeat(Ok(()))));
    let synced = ask(&cluster, &nodes[1], sync).await;
    assert!(matches!(synced, GroupReply::Sync(Ok(synced)) if synced.assignment == "mine"));
    let fetch = GroupCommand::FetchOffsets {
        group: "g".into(),
        partitions: None,
    };
    let GroupReply::FetchOffsets(Ok(offsets)) = ask(&cluster, &nodes[1], fetch).await else {
        panic!("not the offsets");
    };
    assert_eq!(offsets.len(), 1);
    assert_eq!(
        offsets[0].1.as_ref().map(|offset| offset.offset),
        Some(Offset(42))
    );

    // Silence ends the session here too; the record of it is committed.
    nodes[1].clock.pass(Duration::from_secs(11));
    settle().await;
    cluster.get().commit_all();
    let stale = ask(&cluster, &nodes[1], commit(1)).await;
    assert!(matches!(
        stale,
        GroupReply::CommitOffsets(Err(GroupError::UnknownMember))
    ));
}
