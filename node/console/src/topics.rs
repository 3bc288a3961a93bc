//! `/v1/topics`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use weir_api::admin::{ConfigChange, ConfigResource};
use weir_api::console::{
    AlterTopic, ConfigView, CreateTopic, Done, FoundOffsets, OffsetsView, PartitionView, TopicLine,
    TopicView,
};
use weir_api::image::{PartitionRecord, TopicRecord};
use weir_api::log::OffsetQuery;
use weir_api::{Api, NewTopic};
use weir_base::{NodeId, Timestamp, TopicPartition};

use crate::CALL_TIMEOUT;
use crate::cluster::{Count, flush_name, replication_name};
use crate::failure::Failure;
use crate::offsets::OffsetsHere;
use crate::routes::{Answer, Body, Shared};

pub(crate) async fn list(State(state): Shared) -> Answer<Vec<TopicLine>> {
    let image = state.api()?.cluster.image();
    Ok(Json(
        image.topics.values().map(|topic| line(topic)).collect(),
    ))
}

fn line(topic: &TopicRecord) -> TopicLine {
    let count = Count::over(topic.partitions.iter());
    let first = topic.partitions.first();
    let durability = first.map(|record| record.durability).unwrap_or_default();
    TopicLine {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        internal: topic.internal,
        partitions: count.partitions,
        replication_factor: first.map_or(0, |record| record.replicas.len()),
        flush: flush_name(durability.flush).to_owned(),
        replication: replication_name(durability.replication).to_owned(),
        leaderless: count.leaderless,
        under_replicated: count.under_replicated,
    }
}

pub(crate) async fn create(
    State(state): Shared,
    Body(wish): Body<CreateTopic>,
) -> Result<Response, Failure> {
    let nodes = |nodes: Vec<u32>| nodes.into_iter().map(NodeId).collect();
    let topic = NewTopic {
        name: wish.name.clone(),
        partitions: wish.partitions,
        replication_factor: wish.replication_factor,
        assignment: wish
            .assignment
            .map(|partitions| partitions.into_iter().map(nodes).collect()),
        configs: wish.configs,
        internal: false,
    };
    let admin = &state.api()?.admin;
    let id = admin
        .create_topic(topic, wish.validate_only, CALL_TIMEOUT)
        .await?;
    let (status, done) = if wish.validate_only {
        let message = format!("topic '{}' could be created", wish.name);
        (StatusCode::OK, Done { message, id: None })
    } else {
        let done = Done {
            message: format!("topic '{}' created", wish.name),
            id: Some(id.to_string()),
        };
        (StatusCode::CREATED, done)
    };
    Ok((status, Json(done)).into_response())
}

pub(crate) async fn show(State(state): Shared, Path(name): Path<String>) -> Answer<TopicView> {
    let api = state.api()?;
    let topic = find(api, &name)?;
    let configs = api.admin.configs(&ConfigResource::Topic(name))?;
    let here = OffsetsHere::new(&state, api);
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (index, record) in (0..).zip(&topic.partitions) {
        let at = TopicPartition::new(topic.id, index);
        partitions.push(partition(&here, at, record).await?);
    }
    Ok(Json(TopicView {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        internal: topic.internal,
        configs: configs
            .into_iter()
            .map(|entry| ConfigView {
                key: entry.key,
                value: entry.value,
                is_set: entry.is_set,
                documentation: entry.documentation.to_owned(),
            })
            .collect(),
        partitions,
    }))
}

async fn partition(
    here: &OffsetsHere<'_>,
    at: TopicPartition,
    record: &PartitionRecord,
) -> Result<PartitionView, Failure> {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let log_start = here.find(at, record, OffsetQuery::Earliest).await?;
    let high_watermark = here.find(at, record, OffsetQuery::Latest).await?;
    Ok(PartitionView {
        partition: at.index.0,
        leader: record.leader.map(|node| node.0),
        leader_epoch: record.leader_epoch.0,
        replicas: record
            .replicas
            .iter()
            .map(|replica| replica.node.0)
            .collect(),
        isr: ids(&record.isr),
        elr: ids(&record.elr),
        adding: ids(&record.adding),
        removing: ids(&record.removing),
        min_isr: record.min_isr,
        flush: flush_name(record.durability.flush).to_owned(),
        replication: replication_name(record.durability.replication).to_owned(),
        offsets: log_start
            .zip(high_watermark)
            .map(|(log_start, high_watermark)| OffsetsView {
                log_start,
                high_watermark,
            }),
    })
}

#[derive(Debug, Deserialize)]
pub(crate) struct At {
    at: Option<String>,
}

pub(crate) async fn offsets(
    State(state): Shared,
    Path(name): Path<String>,
    Query(At { at }): Query<At>,
) -> Answer<FoundOffsets> {
    let query = match at.as_deref() {
        Some("earliest") => OffsetQuery::Earliest,
        None | Some("latest") => OffsetQuery::Latest,
        Some(time) => OffsetQuery::AtTime(Timestamp(time.parse().map_err(|_| {
            Failure::bad_request(format!("at={time}: write earliest, latest or milliseconds"))
        })?)),
    };
    let api = state.api()?;
    let topic = find(api, &name)?;
    let here = OffsetsHere::new(&state, api);
    let mut offsets = BTreeMap::new();
    for (index, record) in (0..).zip(&topic.partitions) {
        let at = TopicPartition::new(topic.id, index);
        let mut found = here.find(at, record, query).await?;
        if found.is_none() {
            // No record is as young: what is read next is what comes next.
            found = here.find(at, record, OffsetQuery::Latest).await?;
        }
        offsets.extend(found.map(|offset| (index, offset)));
    }
    Ok(Json(FoundOffsets {
        topic: name,
        offsets,
    }))
}

pub(crate) async fn alter(
    State(state): Shared,
    Path(name): Path<String>,
    Body(wish): Body<AlterTopic>,
) -> Answer<Done> {
    let api = state.api()?;
    let topic = find(api, &name)?;
    let mut changes: Vec<_> = wish
        .configs
        .into_iter()
        .map(|(key, value)| ConfigChange::Set { key, value })
        .collect();
    changes.extend(
        wish.unset
            .into_iter()
            .map(|key| ConfigChange::Delete { key }),
    );
    let grows = wish
        .partitions
        .filter(|total| usize::try_from(*total).is_ok_and(|total| total != topic.partitions.len()));
    if changes.is_empty() && wish.partitions.is_none() {
        return Err(Failure::bad_request("nothing is to be changed"));
    }
    let resource = || ConfigResource::Topic(name.clone());
    let grow = |total, validate_only| {
        api.admin
            .create_partitions(name.clone(), total, None, validate_only, CALL_TIMEOUT)
    };
    let alter = |validate_only| {
        api.admin
            .alter_configs(resource(), changes.clone(), false, validate_only)
    };
    // Two commands to the metadata group: both are checked before either is made.
    if let Some(total) = grows {
        grow(total, true).await?;
    }
    if !changes.is_empty() {
        state.within(alter(true)).await??;
    }
    if !wish.validate_only {
        if !changes.is_empty() {
            state.within(alter(false)).await??;
        }
        if let Some(total) = grows {
            grow(total, false).await?;
        }
    }
    let done = if wish.validate_only {
        "could be altered"
    } else {
        "altered"
    };
    Ok(Json(Done {
        message: format!("topic '{name}' {done}"),
        id: None,
    }))
}

pub(crate) async fn delete(State(state): Shared, Path(name): Path<String>) -> Answer<Done> {
    let api = state.api()?;
    let topic = find(api, &name)?;
    if topic.internal {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "internal_topic",
            format!("topic '{name}' is Weir's own"),
            "delete the groups whose state it holds instead",
        ));
    }
    api.admin.delete_topic(topic.id, CALL_TIMEOUT).await?;
    Ok(Json(Done {
        message: format!("topic '{name}' deleted"),
        id: None,
    }))
}

fn find(api: &Api, name: &str) -> Result<Arc<TopicRecord>, Failure> {
    let image = api.cluster.image();
    let topic = image.topics.get(name).cloned();
    topic.ok_or_else(|| Failure::unknown_topic(name))
}
