//! `/v1/groups`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use weir_api::console::{
    CommittedView, Done, GroupLine, GroupMemberView, GroupView, ResetOffset, ResetOffsets,
};
use weir_api::groups::{
    CommitOffsets, CommittedOffset, GroupCommand, GroupDescription, GroupError, GroupReply,
    GroupState, OffsetKey,
};
use weir_api::log::OffsetQuery;
use weir_api::{Api, GroupCallError};
use weir_base::{Offset, TopicPartition};

use crate::ConsoleState;
use crate::assignment::consumer_assignment;
use crate::failure::Failure;
use crate::offsets::OffsetsHere;
use crate::routes::{Answer, Body, Shared};

pub(crate) async fn list(State(state): Shared) -> Answer<Vec<GroupLine>> {
    let api = state.api()?;
    let node = api.cluster.node().0;
    let reply = match state.within(api.groups.call(GroupCommand::List)).await? {
        // This node coordinates nothing.
        Err(GroupCallError::NotCoordinator) => GroupReply::List(Vec::new()),
        reply => reply?,
    };
    let GroupReply::List(listed) = reply else {
        return Err(unexpected(&reply));
    };
    let mut lines: Vec<_> = listed
        .into_iter()
        .map(|listing| GroupLine {
            group: listing.group.to_string(),
            state: listing.state.name().to_owned(),
            protocol_type: listing.protocol_type.to_string(),
            coordinator: node,
        })
        .collect();
    lines.sort();
    Ok(Json(lines))
}

pub(crate) async fn show(
    State(state): Shared,
    Path(group): Path<String>,
    uri: Uri,
) -> Answer<GroupView> {
    let api = state.api()?;
    route(&state, api, &group, uri.path()).await?;
    let described = describe(&state, api, &group).await?;
    let all = GroupCommand::FetchOffsets {
        group: group.as_str().into(),
        partitions: None,
    };
    let reply = call(&state, api, all).await?;
    let GroupReply::FetchOffsets(committed) = reply else {
        return Err(unexpected(&reply));
    };
    let here = OffsetsHere::new(&state, api);
    let mut offsets = Vec::new();
    for (key, committed) in committed? {
        let Some(committed) = committed else {
            continue;
        };
        offsets.push(CommittedView {
            end: end(&here, api, &key).await?,
            topic: key.topic.to_string(),
            partition: key.partition,
            offset: committed.offset.0,
            metadata: committed.metadata.to_string(),
            at: committed.at.0,
        });
    }
    Ok(Json(GroupView {
        group,
        state: described.state.name().to_owned(),
        protocol_type: described.protocol_type.to_string(),
        protocol: described.protocol.to_string(),
        coordinator: api.cluster.node().0,
        members: described
            .members
            .iter()
            .map(|member| GroupMemberView {
                member: member.member.to_string(),
                instance: member.instance.as_ref().map(ToString::to_string),
                client_id: member.client_id.to_string(),
                client_host: member.client_host.to_string(),
                assignment: consumer_assignment(&member.assignment),
            })
            .collect(),
        offsets,
    }))
}

pub(crate) async fn delete(
    State(state): Shared,
    Path(group): Path<String>,
    uri: Uri,
) -> Answer<Done> {
    let api = state.api()?;
    route(&state, api, &group, uri.path()).await?;
    let command = GroupCommand::Delete {
        group: group.as_str().into(),
    };
    let reply = call(&state, api, command).await?;
    let GroupReply::Delete(deleted) = reply else {
        return Err(unexpected(&reply));
    };
    deleted?;
    Ok(Json(Done {
        message: format!("group '{group}' deleted"),
        id: None,
    }))
}

pub(crate) async fn reset(
    State(state): Shared,
    Path(group): Path<String>,
    uri: Uri,
    Body(wish): Body<ResetOffsets>,
) -> Answer<Done> {
    let api = state.api()?;
    if wish.offsets.is_empty() {
        return Err(Failure::bad_request("no offsets are given"));
    }
    route(&state, api, &group, uri.path()).await?;
    // The coordinator refuses a commit from outside while there are members (G1); asked
    // first so that a dry run says so too. A group that is new is founded by the commit.
    match describe(&state, api, &group).await {
        Ok(described) => match described.state {
            GroupState::Empty | GroupState::Dead => {}
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => return Err(GroupError::NotEmpty.into()),
        },
        Err(failure) if failure.status == StatusCode::NOT_FOUND => {}
        Err(failure) => return Err(failure),
    }
    let here = OffsetsHere::new(&state, api);
    let mut offsets = Vec::with_capacity(wish.offsets.len());
    for offset in &wish.offsets {
        offsets.push(checked(&here, api, offset).await?);
    }
    let count = offsets.len();
    let done = if wish.dry_run { "could be set" } else { "set" };
    if !wish.dry_run {
        let command = GroupCommand::CommitOffsets(CommitOffsets {
            group: group.as_str().into(),
            member: None,
            instance: None,
            generation: -1,
            offsets,
        });
        let reply = call(&state, api, command).await?;
        let GroupReply::CommitOffsets(committed) = reply else {
            return Err(unexpected(&reply));
        };
        committed?;
    }
    Ok(Json(Done {
        message: format!("{count} offsets of group '{group}' {done}"),
        id: None,
    }))
}

/// An offset to commit, if its partition exists and ends no earlier.
async fn checked(
    here: &OffsetsHere<'_>,
    api: &Api,
    wish: &ResetOffset,
) -> Result<(OffsetKey, CommittedOffset), Failure> {
    let image = api.cluster.image();
    let topic = image
        .topics
        .get(wish.topic.as_str())
        .ok_or_else(|| Failure::unknown_topic(&wish.topic))?;
    let key = OffsetKey {
        topic: wish.topic.as_str().into(),
        topic_id: topic.id,
        partition: wish.partition,
    };
    if image.partition(at(&key)).is_none() {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            "unknown_partition",
            format!("topic '{}' has no partition {}", wish.topic, wish.partition),
            "`weir topic describe` shows what there is",
        ));
    }
    // Known only for partitions led here; the command line asks the other leaders.
    if let Some(end) = end(here, api, &key).await?
        && wish.offset > end
    {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "out_of_range",
            format!(
                "offset {} of {}-{} is beyond its end, {end}",
                wish.offset, wish.topic, wish.partition
            ),
            "choose an offset that exists",
        ));
    }
    let committed = CommittedOffset {
        offset: Offset(wish.offset),
        leader_epoch: -1,
        metadata: "".into(),
        at: api.cluster.now(),
    };
    Ok((key, committed))
}

/// Lets the request through if this node coordinates the group, else sends it on.
async fn route(state: &ConsoleState, api: &Api, group: &str, path: &str) -> Result<(), Failure> {
    let coordinator = state.group_call(|| api.groups.coordinator(group)).await?;
    if coordinator.node == api.cluster.node() {
        return Ok(());
    }
    let admin = crate::admin_address(api, coordinator.node);
    Err(Failure::elsewhere(path, coordinator.node, admin))
}

async fn describe(
    state: &ConsoleState,
    api: &Api,
    group: &str,
) -> Result<GroupDescription, Failure> {
    let command = GroupCommand::Describe {
        group: group.into(),
    };
    let reply = call(state, api, command).await?;
    let GroupReply::Describe(described) = reply else {
        return Err(unexpected(&reply));
    };
    Ok(described?)
}

async fn call(
    state: &ConsoleState,
    api: &Api,
    command: GroupCommand,
) -> Result<GroupReply, Failure> {
    state.group_call(|| api.groups.call(command.clone())).await
}

async fn end(here: &OffsetsHere<'_>, api: &Api, key: &OffsetKey) -> Result<Option<u64>, Failure> {
    let image = api.cluster.image();
    match image.partition(at(key)) {
        Some(record) => here.find(at(key), record, OffsetQuery::Latest).await,
        None => Ok(None),
    }
}

fn at(key: &OffsetKey) -> TopicPartition {
    TopicPartition::new(key.topic_id, key.partition)
}

/// The coordinator answered another question than it was asked: its bug, said aloud.
fn unexpected(reply: &GroupReply) -> Failure {
    tracing::error!(?reply, "reply of another kind than the command");
    Failure::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the group coordinator answered another question",
        "report this with the node's log",
    )
}
