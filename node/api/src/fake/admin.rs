//! Changes of the fake cluster: checked as the real one checks them, applied at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_base::ids::is_topic_name;
use weir_base::limits::PARTITIONS_PER_TOPIC_MAX;
use weir_base::{BoxFuture, NodeId, TopicId};

use super::{FakeBroker, configs};
use crate::admin::{AdminApi, ConfigChange, ConfigEntry, ConfigResource, NamedPartition, NewTopic};
use crate::{AdminError, ClusterApi};

impl FakeBroker {
    fn place(&self, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, AdminError> {
        let nodes: Vec<NodeId> = self.image().nodes.keys().copied().collect();
        if let Some(assignment) = &topic.assignment {
            return check_assignment(assignment, &nodes).map(|()| assignment.clone());
        }
        let partitions = topic.partitions.unwrap_or(1);
        if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(&partitions) {
            let why = format!("{partitions} is not in 1..={PARTITIONS_PER_TOPIC_MAX}");
            return Err(AdminError::InvalidPartitions(why));
        }
        let replicas = topic.replication_factor.map_or(1, usize::from);
        if !(1..=nodes.len()).contains(&replicas) {
            let why = format!("{replicas} replicas on {} nodes", nodes.len());
            return Err(AdminError::InvalidReplicationFactor(why));
        }
        // This node first, so that a test reaches every partition.
        let mut order = vec![self.node()];
        order.extend(nodes.into_iter().filter(|node| *node != self.node()));
        order.truncate(replicas);
        Ok((0..partitions).map(|_| order.clone()).collect())
    }

    fn create(&self, topic: NewTopic, validate_only: bool) -> Result<TopicId, AdminError> {
        if !is_topic_name(&topic.name) {
            return Err(AdminError::InvalidTopicName(topic.name));
        }
        if self.image().topics.contains_key(topic.name.as_str()) {
            return Err(AdminError::TopicExists(topic.name));
        }
        for (key, value) in &topic.configs {
            configs::check(key, value).map_err(AdminError::InvalidConfig)?;
        }
        let assignment = self.place(&topic)?;
        if validate_only {
            return Ok(TopicId::ZERO);
        }
        Ok(self.install_topic(&topic.name, topic.internal, topic.configs, &assignment))
    }

    fn delete(&self, id: TopicId) -> Result<(), AdminError> {
        let known = self.image().topic_names.contains_key(&id);
        if !known {
            return Err(AdminError::UnknownTopicId(id));
        }
        self.change_image(|image| {
            if let Some(name) = image.topic_names.remove(&id) {
                image.topics.remove(&name);
            }
        });
        self.state().partitions.retain(|at, _| at.topic != id);
        self.wake_readers();
        Ok(())
    }

    fn grow(
        &self,
        topic: &str,
        total: u32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let image = self.image();
        let record = image.topics.get(topic);
        let record = record.ok_or_else(|| AdminError::UnknownTopic(topic.to_owned()))?;
        let now = record.partitions.len();
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total <= now || total > PARTITIONS_PER_TOPIC_MAX as usize {
            let why = format!("topic has {now} partitions, {total} asked for");
            return Err(AdminError::InvalidPartitions(why));
        }
        let placed = match assignment {
            Some(assignment) if assignment.len() != total - now => {
                let why = format!("{} new partitions assigned", assignment.len());
                return Err(AdminError::InvalidAssignment(why));
            }
            Some(assignment) => {
                let nodes: Vec<NodeId> = image.nodes.keys().copied().collect();
                check_assignment(&assignment, &nodes)?;
                assignment
            }
            None => vec![vec![self.node()]; total - now],
        };
        if validate_only {
            return Ok(());
        }
        let new: Vec<_> = placed
            .iter()
            .map(|nodes| self.new_partition(nodes))
            .collect();
        self.change_image(|image| {
            if let Some(record) = image.topics.get_mut(topic) {
                Arc::make_mut(record).partitions.extend(new);
            }
        });
        Ok(())
    }

    fn change_configs(
        &self,
        resource: &ConfigResource,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let mut set = if replace {
            self.configured(resource)?;
            BTreeMap::new()
        } else {
            self.configured(resource)?
        };
        for change in changes {
            apply_change(&mut set, change)?;
        }
        if validate_only {
            return Ok(());
        }
        self.change_image(|image| match resource {
            ConfigResource::Cluster => image.configs = set,
            ConfigResource::Topic(name) => {
                if let Some(topic) = image.topics.get_mut(name.as_str()) {
                    Arc::make_mut(topic).configs = set;
                }
            }
        });
        Ok(())
    }

    fn configured(
        &self,
        resource: &ConfigResource,
    ) -> Result<BTreeMap<String, String>, AdminError> {
        let image = self.image();
        match resource {
            ConfigResource::Cluster => Ok(image.configs.clone()),
            ConfigResource::Topic(name) => match image.topics.get(name.as_str()) {
                Some(topic) => Ok(topic.configs.clone()),
                None => Err(AdminError::UnknownTopic(name.clone())),
            },
        }
    }

    fn elect(&self, at: &NamedPartition) -> Result<(), AdminError> {
        let image = self.image();
        let partition = self.named(&image, at)?;
        let preferred = partition.replicas.first().map(|replica| replica.node);
        if partition.leader == preferred {
            return Err(AdminError::ElectionNotNeeded);
        }
        let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
        self.set_leader(&at.topic, index, preferred);
        Ok(())
    }

    fn move_replicas(
        &self,
        at: &NamedPartition,
        replicas: Option<Vec<NodeId>>,
    ) -> Result<(), AdminError> {
        let image = self.image();
        self.named(&image, at)?;
        let Some(nodes) = replicas else {
            return Err(AdminError::NoReassignment);
        };
        let known: Vec<NodeId> = image.nodes.keys().copied().collect();
        check_assignment(std::slice::from_ref(&nodes), &known)?;
        let moved = self.new_partition(&nodes);
        self.change_image(|image| {
            let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
            if let Some(topic) = image.topics.get_mut(at.topic.as_str())
                && let Some(partition) = Arc::make_mut(topic).partitions.get_mut(index)
            {
                partition.replicas = moved.replicas;
                partition.isr = moved.isr;
                partition.leader = moved.leader;
                partition.leader_epoch = partition.leader_epoch.next();
                partition.partition_epoch = partition.partition_epoch.next();
            }
        });
        self.wake_readers();
        Ok(())
    }

    fn named<'a>(
        &self,
        image: &'a weir_base::ClusterImage,
        at: &NamedPartition,
    ) -> Result<&'a weir_base::image::PartitionRecord, AdminError> {
        let topic = image.topics.get(at.topic.as_str());
        let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
        topic
            .and_then(|topic| topic.partitions.get(index))
            .ok_or_else(|| AdminError::UnknownTopic(at.topic.clone()))
    }
}

fn check_assignment(assignment: &[Vec<NodeId>], nodes: &[NodeId]) -> Result<(), AdminError> {
    for replicas in assignment {
        let mut distinct = replicas.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let known = replicas.iter().all(|node| nodes.contains(node));
        if replicas.is_empty() || distinct.len() != replicas.len() || !known {
            let why = format!("{replicas:?} must be distinct nodes of the cluster");
            return Err(AdminError::InvalidAssignment(why));
        }
    }
    if assignment.is_empty() {
        return Err(AdminError::InvalidAssignment("no partitions".to_owned()));
    }
    Ok(())
}

fn apply_change(
    set: &mut BTreeMap<String, String>,
    change: ConfigChange,
) -> Result<(), AdminError> {
    let list = |set: &BTreeMap<String, String>, key: &str| -> Vec<String> {
        let value = set.get(key).map_or("", String::as_str);
        let items = value.split(',').filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    let (key, value) = match change {
        ConfigChange::Delete { key } => {
            set.remove(&key);
            return Ok(());
        }
        ConfigChange::Set { key, value } => (key, value),
        ConfigChange::Append { key, value } => {
            let mut items = list(set, &key);
            items.push(value);
            (key, items.join(","))
        }
        ConfigChange::Subtract { key, value } => {
            let mut items = list(set, &key);
            items.retain(|item| *item != value);
            (key, items.join(","))
        }
    };
    configs::check(&key, &value).map_err(AdminError::InvalidConfig)?;
    set.insert(key, value);
    Ok(())
}

impl AdminApi for FakeBroker {
    fn create_topic(
        &self,
        topic: NewTopic,
        validate_only: bool,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<TopicId, AdminError>> {
        Box::pin(std::future::ready(self.create(topic, validate_only)))
    }

    fn delete_topic(
        &self,
        topic: TopicId,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        Box::pin(std::future::ready(self.delete(topic)))
    }

    fn create_partitions(
        &self,
        topic: String,
        total: u32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let result = self.grow(&topic, total, assignment, validate_only);
        Box::pin(std::future::ready(result))
    }

    fn alter_configs(
        &self,
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let result = self.change_configs(&resource, changes, replace, validate_only);
        Box::pin(std::future::ready(result))
    }

    fn configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, AdminError> {
        Ok(configs::describe(&self.configured(resource)?))
    }

    fn elect_preferred(
        &self,
        partition: NamedPartition,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        Box::pin(std::future::ready(self.elect(&partition)))
    }

    fn reassign(
        &self,
        partition: NamedPartition,
        replicas: Option<Vec<NodeId>>,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        Box::pin(std::future::ready(self.move_replicas(&partition, replicas)))
    }
}
