//! The words of Kafka's group protocol, as a member speaks them with its coordinator: one
//! connection, kept until it fails.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::Request;
use weir_base::Env;

use super::{GROUP, topic};
use crate::workload::kafka_client::{KafkaClient, text, topic_name};
use crate::workload::router::Router;

/// Longer than a join may wait for the other members.
const DEADLINE: Duration = Duration::from_secs(8);
const SESSION_MS: i32 = 6_000;
const REBALANCE_MS: i32 = 4_000;

/// What a coordinator answers, in Kafka's numbers.
pub(super) const DONE: i16 = 0;
pub(super) const ILLEGAL_GENERATION: i16 = 22;
pub(super) const UNKNOWN_MEMBER: i16 = 25;
pub(super) const REBALANCES: i16 = 27;
pub(super) const MEMBER_ID_REQUIRED: i16 = 79;

/// A member's place in a generation.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) id: String,
    pub(super) generation: i32,
}

/// The way to the group's coordinator.
pub(super) struct Desk {
    env: Env,
    router: Router,
    connected: Option<KafkaClient>,
}

impl Desk {
    pub(super) fn new(env: &Env, nodes: &[SocketAddr]) -> Self {
        Self {
            env: env.clone(),
            router: Router::new(env, nodes),
            connected: None,
        }
    }

    /// Looks for the coordinator anew with the next call.
    pub(super) fn leave_it(&mut self) {
        self.connected = None;
    }

    /// One request; the connection is given up if it fails.
    async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let mut client = match self.connected.take() {
            Some(client) => client,
            None => self.find().await?,
        };
        let response = client.call(request, version).await?;
        self.connected = Some(client);
        Ok(response)
    }

    async fn find(&mut self) -> Result<KafkaClient> {
        let request = FindCoordinatorRequest::default()
            .with_key(text(GROUP))
            .with_key_type(0);
        let found = self.router.any().await?.call(&request, 3).await?;
        anyhow::ensure!(found.error_code == 0, "error {}", found.error_code);
        let port = u16::try_from(found.port)?;
        let at = self.env.net.resolve(&found.host, port).await?;
        let at = *at.first().context("the coordinator does not resolve")?;
        KafkaClient::connect(&self.env, at, DEADLINE).await
    }

    /// Joins, and waits until all have; `id` is empty for a newcomer.
    pub(super) async fn join(&mut self, id: &str) -> Result<JoinGroupResponse> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("turns"))
            .with_metadata(Bytes::from_static(b"all"));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(id))
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_protocol_type(text("weir-sim"))
            .with_protocols(vec![protocol]);
        self.call(&request, 5).await
    }

    /// Gets this member's share, a byte a partition; `shares` are what its leader decided.
    pub(super) async fn sync(
        &mut self,
        seat: &Seat,
        shares: Vec<(String, Vec<u8>)>,
    ) -> Result<(i16, Bytes)> {
        let shares = shares.into_iter().map(|(id, share)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(&id))
                .with_assignment(share.into())
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id(seat.generation)
            .with_member_id(text(&seat.id))
            .with_assignments(shares.collect());
        let response = self.call(&request, 3).await?;
        Ok((response.error_code, response.assignment))
    }

    /// Says that it is alive.
    pub(super) async fn beat(&mut self, seat: &Seat) -> Result<i16> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id(seat.generation)
            .with_member_id(text(&seat.id));
        Ok(self.call(&request, 3).await?.error_code)
    }

    /// Goes, and says so.
    pub(super) async fn leave(&mut self, id: &str) -> Result<()> {
        let member = MemberIdentity::default().with_member_id(text(id));
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_members(vec![member]);
        self.call(&request, 3).await.map(drop)
    }

    /// Commits positions, by partition.
    pub(super) async fn commit(&mut self, seat: &Seat, positions: &[(i32, i64)]) -> Result<i16> {
        let partitions = positions.iter().map(|(partition, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic().name))
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id_or_member_epoch(seat.generation)
            .with_member_id(text(&seat.id))
            .with_topics(vec![topic]);
        let response = self.call(&request, 7).await?;
        let topic = response.topics.first().context("no topic")?;
        let mut codes = topic.partitions.iter().map(|p| p.error_code);
        Ok(codes.find(|code| *code != DONE).unwrap_or(DONE))
    }

    /// The group's positions; those without one are left out.
    pub(super) async fn positions(&mut self, partitions: &[i32]) -> Result<Vec<(i32, i64)>> {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic().name))
            .with_partition_indexes(partitions.to_vec());
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_topics(Some(vec![topic]));
        let response = self.call(&request, 7).await?;
        let topic = response.topics.first().context("no topic")?;
        let mut codes = topic.partitions.iter().map(|p| p.error_code);
        let failed = codes.find(|code| *code != DONE);
        let code = failed.unwrap_or(response.error_code);
        if code != DONE {
            self.leave_it();
            anyhow::bail!("error {code}");
        }
        let known = topic.partitions.iter().filter(|p| p.committed_offset >= 0);
        Ok(known
            .map(|p| (p.partition_index, p.committed_offset))
            .collect())
    }
}
