//! `/v1/cluster`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use weir_api::console::{ClusterView, NodeView};
use weir_api::image::{
    ClusterImage, FlushMode, NodeRecord, NodeState, PartitionRecord, ReplicationMode,
};

use crate::address;
use crate::routes::{Answer, Shared};

pub(crate) async fn show(State(state): Shared) -> Answer<ClusterView> {
    let api = state.api()?;
    let image = api.cluster.image();
    let count = Count::of(&image);
    Ok(Json(ClusterView {
        cluster_id: image.cluster_id.map(|id| id.to_string()),
        version: image.version,
        node: api.cluster.node().0,
        controller: api.cluster.controller().map(|node| node.0),
        nodes: image
            .nodes
            .values()
            .map(|node| view(&image, node))
            .collect(),
        topics: image.topics.len(),
        partitions: count.partitions,
        leaderless: count.leaderless,
        under_replicated: count.under_replicated,
        under_min_isr: count.under_min_isr,
    }))
}

fn view(image: &ClusterImage, node: &NodeRecord) -> NodeView {
    let count = |is: &dyn Fn(&PartitionRecord) -> bool| {
        image.partitions().filter(|(_, record)| is(record)).count()
    };
    NodeView {
        id: node.id.0,
        name: node.name.clone(),
        state: state_name(node.state).to_owned(),
        epoch: node.epoch.0,
        rack: node.rack.clone(),
        peer: node.peer_address.clone(),
        endpoints: node
            .endpoints
            .iter()
            .map(|(front, endpoint)| (front.clone(), address(endpoint)))
            .collect::<BTreeMap<_, _>>(),
        leads: count(&|record| record.leader == Some(node.id)),
        replicas: count(&|record| record.has_replica(node.id)),
    }
}

/// What is amiss, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) partitions: usize,
    pub(crate) leaderless: usize,
    pub(crate) under_replicated: usize,
    pub(crate) under_min_isr: usize,
}

impl Count {
    pub(crate) fn of(image: &ClusterImage) -> Self {
        Self::over(image.partitions().map(|(_, record)| record))
    }

    pub(crate) fn over<'a>(partitions: impl Iterator<Item = &'a PartitionRecord>) -> Self {
        let mut count = Self::default();
        for record in partitions {
            let min_isr = usize::try_from(record.min_isr).unwrap_or(usize::MAX);
            count.partitions += 1;
            count.leaderless += usize::from(record.leader.is_none());
            count.under_replicated += usize::from(record.isr.len() < record.replicas.len());
            count.under_min_isr += usize::from(record.isr.len() < min_isr);
        }
        count
    }
}

pub(crate) fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Fenced => "fenced",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
    }
}

pub(crate) fn flush_name(flush: FlushMode) -> &'static str {
    match flush {
        FlushMode::Sync => "sync",
        FlushMode::Async => "async",
    }
}

pub(crate) fn replication_name(replication: ReplicationMode) -> &'static str {
    match replication {
        ReplicationMode::Sync => "sync",
        ReplicationMode::Async => "async",
    }
}
