//! An image being changed by one item, with what is needed to undo it.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_base::image::{ClusterImage, Document, NodeRecord, PartitionRecord, TopicRecord};
use weir_base::invariant::Invariant;
use weir_base::{NodeEpoch, NodeId, TopicId, TopicPartition, Uuid};

use crate::command::Refusal;
use crate::invariants::{Violation, check_image, check_partition, check_partition_step};

/// The image, and the former values of what was touched, kept at the first touch only:
/// a topic is copied once an item, not once a command.
pub(crate) struct Draft<'a> {
    image: &'a mut ClusterImage,
    /// Log index of the entry.
    pub(crate) index: u64,
    serial: &'a mut u16,
    topics: BTreeMap<Arc<str>, Option<Arc<TopicRecord>>>,
    nodes: BTreeMap<NodeId, Option<NodeRecord>>,
    documents: BTreeMap<String, Option<Document>>,
    configs: Option<BTreeMap<String, String>>,
    cluster_id: Option<Uuid>,
    next_producer_id: i64,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(image: &'a mut ClusterImage, index: u64, serial: &'a mut u16) -> Self {
        Self {
            cluster_id: image.cluster_id,
            next_producer_id: image.next_producer_id,
            image,
            index,
            serial,
            topics: BTreeMap::new(),
            nodes: BTreeMap::new(),
            documents: BTreeMap::new(),
            configs: None,
        }
    }

    pub(crate) fn image(&self) -> &ClusterImage {
        self.image
    }

    /// A number that no other assignment of this entry has.
    pub(crate) fn next_serial(&mut self) -> u16 {
        *self.serial = self.serial.wrapping_add(1);
        *self.serial
    }

    /// The node, if `epoch` is its present boot.
    pub(crate) fn node(
        &mut self,
        id: NodeId,
        epoch: NodeEpoch,
    ) -> Result<&mut NodeRecord, Refusal> {
        let current = match self.image.nodes.get(&id) {
            Some(node) => node.epoch,
            None => return Err(Refusal::UnknownNode(id)),
        };
        if current != epoch {
            return Err(Refusal::StaleNodeEpoch {
                id,
                sent: epoch,
                current,
            });
        }
        self.keep_node(id);
        self.image
            .nodes
            .get_mut(&id)
            .ok_or(Refusal::UnknownNode(id))
    }

    pub(crate) fn put_node(&mut self, node: NodeRecord) {
        self.keep_node(node.id);
        self.image.nodes.insert(node.id, node);
    }

    fn keep_node(&mut self, id: NodeId) {
        let former = self.image.nodes.get(&id);
        self.nodes.entry(id).or_insert_with(|| former.cloned());
    }

    pub(crate) fn topic(&mut self, id: TopicId) -> Result<&mut TopicRecord, Refusal> {
        let name = self
            .image
            .topic_names
            .get(&id)
            .cloned()
            .ok_or(Refusal::UnknownTopicId(id))?;
        self.topic_named(&name).ok_or(Refusal::UnknownTopicId(id))
    }

    pub(crate) fn topic_named(&mut self, name: &Arc<str>) -> Option<&mut TopicRecord> {
        self.keep_topic(name);
        self.image.topics.get_mut(name).map(Arc::make_mut)
    }

    pub(crate) fn put_topic(&mut self, topic: TopicRecord) {
        self.keep_topic(&topic.name);
        self.image.topic_names.insert(topic.id, topic.name.clone());
        self.image
            .topics
            .insert(topic.name.clone(), Arc::new(topic));
    }

    pub(crate) fn remove_topic(&mut self, id: TopicId) {
        if let Some(name) = self.image.topic_names.get(&id).cloned() {
            self.keep_topic(&name);
            self.image.topic_names.remove(&id);
            self.image.topics.remove(&name);
        }
    }

    fn keep_topic(&mut self, name: &Arc<str>) {
        let former = self.image.topics.get(name);
        self.topics
            .entry(name.clone())
            .or_insert_with(|| former.cloned());
    }

    pub(crate) fn partition(
        &mut self,
        at: TopicPartition,
    ) -> Result<&mut PartitionRecord, Refusal> {
        let index = usize::try_from(at.index.0).map_err(|_| Refusal::UnknownPartition(at))?;
        self.topic(at.topic)?
            .partitions
            .get_mut(index)
            .ok_or(Refusal::UnknownPartition(at))
    }

    pub(crate) fn put_document(&mut self, key: &str, document: Option<Document>) {
        let former = self.image.documents.get(key);
        self.documents
            .entry(key.to_owned())
            .or_insert_with(|| former.cloned());
        match document {
            Some(document) => {
                self.image.documents.insert(key.to_owned(), document);
            }
            None => {
                self.image.documents.remove(key);
            }
        }
    }

    pub(crate) fn put_configs(&mut self, configs: BTreeMap<String, String>) {
        let former = std::mem::replace(&mut self.image.configs, configs);
        self.configs.get_or_insert(former);
    }

    pub(crate) fn set_cluster_id(&mut self, id: Uuid) {
        self.image.cluster_id = Some(id);
    }

    pub(crate) fn set_next_producer_id(&mut self, next: i64) {
        self.image.next_producer_id = next;
    }

    /// Checks what the item touched; everything, if it took a node's rights.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        for (name, former) in &self.topics {
            let Some(topic) = self.image.topics.get(name) else {
                continue;
            };
            let former = former.as_ref().filter(|f| f.id == topic.id);
            for (index, record) in (0..).zip(&topic.partitions) {
                let at = TopicPartition::new(topic.id, index);
                let before = former.and_then(|f| f.partitions.get(position(index)));
                if before == Some(record) {
                    continue;
                }
                check_partition(self.image, at, record)?;
                if let Some(before) = before {
                    check_partition_step(at, before, record)?;
                }
            }
        }
        let mut lost_rights = false;
        for (id, former) in &self.nodes {
            let (Some(former), Some(node)) = (former, self.image.nodes.get(id)) else {
                continue;
            };
            if node.epoch < former.epoch {
                return Err(Violation {
                    invariant: Invariant::I9,
                    detail: format!("node {id}: epoch {} then {}", former.epoch, node.epoch),
                });
            }
            lost_rights |= former.is_active() && !node.is_active();
        }
        if lost_rights {
            check_image(self.image)?;
        }
        Ok(())
    }

    /// Puts everything back.
    pub(crate) fn roll_back(self) {
        for (name, former) in self.topics {
            if let Some(topic) = self.image.topics.remove(&name) {
                self.image.topic_names.remove(&topic.id);
            }
            if let Some(former) = former {
                self.image.topic_names.insert(former.id, name.clone());
                self.image.topics.insert(name, former);
            }
        }
        for (id, former) in self.nodes {
            match former {
                Some(former) => self.image.nodes.insert(id, former),
                None => self.image.nodes.remove(&id),
            };
        }
        for (key, former) in self.documents {
            match former {
                Some(former) => self.image.documents.insert(key, former),
                None => self.image.documents.remove(&key),
            };
        }
        if let Some(former) = self.configs {
            self.image.configs = former;
        }
        self.image.cluster_id = self.cluster_id;
        self.image.next_producer_id = self.next_producer_id;
    }
}

fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
