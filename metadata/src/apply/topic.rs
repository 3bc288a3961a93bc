//! Commands about topics and configs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_base::companion::parent_of;
use weir_base::image::{
    ClusterImage, Durability, FlushMode, NodeRecord, PartitionRecord, Replica, TopicRecord,
};
use weir_base::limits::{PARTITIONS_PER_TOPIC_MAX, REPLICAS_MAX};
use weir_base::{LeaderEpoch, NodeId, PartitionEpoch, TopicId, Uuid, ids};

use super::companion;
use super::draft::Draft;
use super::partition::settle;
use crate::command::{ItemResult, Outcome, Refusal};
use crate::topic_options::{capped_min_isr, durability, min_isr, validate_cluster, validate_topic};

pub(super) fn create(
    draft: &mut Draft<'_>,
    id: TopicId,
    name: &str,
    internal: bool,
    configs: &BTreeMap<String, String>,
    replicas: &[Vec<NodeId>],
) -> ItemResult {
    if !ids::is_topic_name(name) {
        return Err(Refusal::InvalidTopicName(name.to_owned()));
    }
    if id.is_zero() {
        return Err(Refusal::InvalidRequest("a topic needs an id".to_owned()));
    }
    if let Some(there) = draft.image().topics.get(name) {
        // The same command again is done already.
        return if there.id == id {
            Ok(Outcome::Topic(id))
        } else {
            Err(Refusal::TopicExists(name.to_owned()))
        };
    }
    if draft.image().topic_names.contains_key(&id) {
        return Err(Refusal::InvalidRequest(format!("topic id {id} is in use")));
    }
    validate_topic(configs).map_err(Refusal::InvalidConfig)?;
    let parent = companion::parent_for(draft.image(), name, internal, replicas)?;
    let beside = parent
        .as_ref()
        .map(|parent| companion::replicas_from(parent, 0));
    let replicas = beside.as_deref().unwrap_or(replicas);
    check_count(replicas.len())?;
    let mut topic = TopicRecord {
        id,
        name: Arc::from(name),
        internal,
        configs: configs.clone(),
        partitions: Vec::with_capacity(replicas.len()),
    };
    add_partitions(draft, &mut topic, replicas)?;
    if let Some(parent) = parent {
        companion::join_moves(&mut topic, &parent);
    }
    draft.put_topic(topic);
    Ok(Outcome::Topic(id))
}

pub(super) fn delete(draft: &mut Draft<'_>, id: TopicId) -> ItemResult {
    companion::refuse_own_change(draft, id)?;
    if let Some(companion) = companion::id_of(draft.image(), id) {
        draft.remove_topic(companion);
    }
    draft.remove_topic(id);
    Ok(Outcome::Done)
}

pub(super) fn create_partitions(
    draft: &mut Draft<'_>,
    id: TopicId,
    from: u32,
    replicas: &[Vec<NodeId>],
) -> ItemResult {
    companion::refuse_own_change(draft, id)?;
    let mut topic = draft.topic(id)?.clone();
    let has = topic.partitions.len();
    if u32::try_from(has) != Ok(from) {
        return Err(Refusal::InvalidPartitions(format!(
            "topic '{}' has {has} partitions, not {from}",
            topic.name
        )));
    }
    check_count(has + replicas.len())?;
    add_partitions(draft, &mut topic, replicas)?;
    draft.put_topic(topic);
    if let Some(companion) = companion::id_of(draft.image(), id) {
        let mut companion = draft.topic(companion)?.clone();
        add_partitions(draft, &mut companion, replicas)?;
        draft.put_topic(companion);
    }
    Ok(Outcome::Done)
}

fn check_count(count: usize) -> Result<(), Refusal> {
    match u32::try_from(count) {
        Ok(count) if (1..=PARTITIONS_PER_TOPIC_MAX).contains(&count) => Ok(()),
        Ok(_) | Err(_) => Err(Refusal::InvalidPartitions(format!(
            "{count}: must be 1 to {PARTITIONS_PER_TOPIC_MAX}"
        ))),
    }
}

fn add_partitions(
    draft: &mut Draft<'_>,
    topic: &mut TopicRecord,
    replicas: &[Vec<NodeId>],
) -> Result<(), Refusal> {
    for nodes in replicas {
        let index = u32::try_from(topic.partitions.len())
            .map_err(|_| Refusal::InvalidPartitions("too many".to_owned()))?;
        let record = new_partition(draft, topic, index, nodes)?;
        topic.partitions.push(record);
    }
    Ok(())
}

/// A partition whose ISR is those of its replicas that are active at this moment.
fn new_partition(
    draft: &mut Draft<'_>,
    topic: &TopicRecord,
    index: u32,
    nodes: &[NodeId],
) -> Result<PartitionRecord, Refusal> {
    check_assignment(draft.image(), nodes)?;
    let is_active = |id: &&NodeId| {
        draft
            .image()
            .nodes
            .get(id)
            .is_some_and(NodeRecord::is_active)
    };
    let leader = nodes.iter().find(is_active).copied();
    // A companion does without for as long as its parent does.
    let may_wait = parent_of(&topic.name).is_some();
    if leader.is_none() && !may_wait {
        return Err(Refusal::InvalidAssignment(format!(
            "none of the nodes {nodes:?} is active"
        )));
    }
    let mut isr: Vec<NodeId> = nodes.iter().filter(is_active).copied().collect();
    isr.sort_unstable();
    // Nothing was written yet: every copy holds all of it.
    let mut all = nodes.to_vec();
    all.sort_unstable();
    let serial = draft.next_serial();
    let configs = &draft.image().configs;
    let mut record = PartitionRecord {
        replicas: nodes
            .iter()
            .map(|node| replica(draft.index, serial, index, *node))
            .collect(),
        leader,
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(1),
        isr,
        elr: if leader.is_none() { all } else { Vec::new() },
        last_known_elr: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
        min_isr: 1,
        durability: durability(configs, topic.internal, &topic.configs),
        pending_durability: None,
    };
    let asked = min_isr(configs, topic.internal, &topic.configs);
    record.min_isr = capped_min_isr(asked, &record);
    Ok(record)
}

/// Checks a list of nodes for one partition.
pub(crate) fn check_assignment(image: &ClusterImage, nodes: &[NodeId]) -> Result<(), Refusal> {
    let distinct: BTreeSet<_> = nodes.iter().collect();
    if nodes.is_empty() || nodes.len() > REPLICAS_MAX || distinct.len() != nodes.len() {
        return Err(Refusal::InvalidAssignment(format!(
            "{nodes:?}: must be 1 to {REPLICAS_MAX} different nodes"
        )));
    }
    match nodes.iter().find(|id| !image.nodes.contains_key(id)) {
        Some(id) => Err(Refusal::InvalidAssignment(format!(
            "node {id} is not registered"
        ))),
        None => Ok(()),
    }
}

/// A replica with an id that was never used: which entry, which assignment within it,
/// which partition, which node (S-06).
pub(super) fn replica(index: u64, serial: u16, partition: u32, node: NodeId) -> Replica {
    let mut id = [0; 16];
    // 48 bits of index: at a thousand entries a second, 8,900 years.
    id[..6].copy_from_slice(&index.to_be_bytes()[2..]);
    id[6..8].copy_from_slice(&serial.to_be_bytes());
    id[8..12].copy_from_slice(&partition.to_be_bytes());
    id[12..].copy_from_slice(&node.0.to_be_bytes());
    Replica { node, id: Uuid(id) }
}

pub(super) fn set_configs(
    draft: &mut Draft<'_>,
    id: TopicId,
    configs: &BTreeMap<String, String>,
) -> ItemResult {
    companion::refuse_own_change(draft, id)?;
    validate_topic(configs).map_err(Refusal::InvalidConfig)?;
    let cluster = draft.image().configs.clone();
    let topic = draft.topic(id)?;
    topic.configs.clone_from(configs);
    refresh(&cluster, topic);
    Ok(Outcome::Done)
}

pub(super) fn set_cluster_configs(
    draft: &mut Draft<'_>,
    configs: &BTreeMap<String, String>,
) -> ItemResult {
    validate_cluster(configs).map_err(Refusal::InvalidConfig)?;
    draft.put_configs(configs.clone());
    let names: Vec<_> = draft.image().topics.keys().cloned().collect();
    for name in names {
        if let Some(topic) = draft.topic_named(&name) {
            refresh(configs, topic);
        }
    }
    Ok(Outcome::Done)
}

/// Brings min ISR and durability of every partition in line with the configs.
pub(super) fn refresh(cluster: &BTreeMap<String, String>, topic: &mut TopicRecord) {
    let asked_isr = min_isr(cluster, topic.internal, &topic.configs);
    let asked = durability(cluster, topic.internal, &topic.configs);
    for record in &mut topic.partitions {
        let before = record.clone();
        record.min_isr = capped_min_isr(asked_isr, record);
        set_durability(record, asked);
        settle(record);
        if *record != before {
            record.partition_epoch = before.partition_epoch.next();
        }
    }
}

/// Weaker is in force at once; a sync flush only when everything written before it is
/// durable, or "sync" would cover history that is not.
fn set_durability(record: &mut PartitionRecord, asked: Durability) {
    let waits = asked.flush == FlushMode::Sync && record.durability.flush == FlushMode::Async;
    record.pending_durability = None;
    if waits {
        record.durability.replication = asked.replication;
        record.pending_durability = Some(asked);
    } else {
        record.durability = asked;
    }
}
