//! Which partitions this node holds: follows the image and opens, changes and closes.
//!
//! Every image is compared with what is open; nothing else is remembered, so a skipped
//! image does no harm. A log is removed only when a committed image no longer places it
//! here: what merely looks orphaned at start is left alone (S-13).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_base::image::{ClusterImage, NodeRecord, PartitionRecord, TopicRecord};
use weir_base::{NodeId, TopicPartition};
use weir_metadata::topic_options::{TopicSettings, settings};
use weir_storage::{LogConfig, LogError, Storage};

use crate::Broker;
use crate::groups::GROUPS_TOPIC;

/// Logs opened at once at start: opening waits for the disk.
const OPENING_MAX: usize = 32;

/// The task that keeps replicas in step with the image.
pub(crate) struct Partitions {
    broker: Broker,
    storage: Arc<Storage>,
    /// What was applied last, by topic name, to skip topics that did not change.
    applied: BTreeMap<Arc<str>, Arc<TopicRecord>>,
    configs: BTreeMap<String, String>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    open: BTreeSet<TopicPartition>,
}

impl Partitions {
    pub(crate) fn new(broker: Broker, storage: Arc<Storage>) -> Self {
        let (applied, configs, nodes, open) = Default::default();
        Self {
            broker,
            storage,
            applied,
            configs,
            nodes,
            open,
        }
    }

    /// Runs until the image's source is gone.
    pub(crate) async fn follow(mut self) {
        let mut images = self.broker.0.metadata.images();
        loop {
            let image = images.borrow_and_update().clone();
            self.apply(&image).await;
            if images.changed().await.is_err() {
                return;
            }
        }
    }

    async fn apply(&mut self, image: &ClusterImage) {
        let me = self.broker.0.node;
        // Records that precede this boot's registration may name a former run of this
        // node as leader: they are not for this one (I2).
        let boot = *self.broker.0.metadata.node_epoch().borrow();
        if boot.is_none() || image.nodes.get(&me).map(|node| node.epoch) != boot {
            return;
        }
        let all_changed = self.configs != image.configs || self.nodes != image.nodes;
        let mut opening = Vec::new();
        for topic in image.topics.values() {
            let before = self.applied.get(&topic.name);
            let is_new = before.is_none_or(|old| !Arc::ptr_eq(old, topic) && old != topic);
            if !is_new && !all_changed {
                continue;
            }
            let config = log_config(&settings(image, topic));
            for (index, record) in (0..).zip(&topic.partitions) {
                let at = TopicPartition::new(topic.id, index);
                if !record.has_replica(me) {
                    continue;
                }
                if self.open.contains(&at) {
                    self.storage.set_config(at, config);
                    self.broker.0.replication.apply(at, record, &image.nodes);
                } else {
                    opening.push((at, config, record.clone(), &*topic.name == GROUPS_TOPIC));
                }
            }
        }
        self.close_what_left(image).await;
        self.open_all(opening, &image.nodes).await;
        self.applied = image.topics.clone();
        self.configs.clone_from(&image.configs);
        self.nodes.clone_from(&image.nodes);
    }

    async fn open_all(
        &mut self,
        opening: Vec<(TopicPartition, LogConfig, PartitionRecord, bool)>,
        nodes: &BTreeMap<NodeId, NodeRecord>,
    ) {
        for some in opening.chunks(OPENING_MAX) {
            let opened = some
                .iter()
                .map(|(at, config, ..)| self.storage.open_log(*at, *config));
            for (opened, (at, _, record, hosts_groups)) in
                join_all(opened).await.into_iter().zip(some)
            {
                match opened {
                    Ok((log, _)) => {
                        let broker = &self.broker.0;
                        let Some(replica) = record.replica(broker.node) else {
                            continue;
                        };
                        broker.replication.open(*at, replica.id, log);
                        broker.replication.apply(*at, record, nodes);
                        if *hosts_groups && let Some(partition) = broker.replication.partition(*at)
                        {
                            broker.groups.open(&broker.env, *at, partition);
                        }
                        self.open.insert(*at);
                    }
                    Err(error) => self.broker.on_replica_failed(*at, &error),
                }
            }
        }
    }

    async fn close_what_left(&mut self, image: &ClusterImage) {
        let me = self.broker.0.node;
        let left: Vec<_> = self
            .open
            .iter()
            .copied()
            .filter(|at| {
                !image
                    .partition(*at)
                    .is_some_and(|record| record.has_replica(me))
            })
            .collect();
        for at in left {
            self.open.remove(&at);
            self.broker.0.groups.close(&self.broker.0.env, at);
            self.broker.0.replication.close(at);
            match self.storage.remove_log(at).await {
                Ok(()) => tracing::info!(partition = %at, "log removed: no longer placed here"),
                Err(error) => tracing::error!(partition = %at, %error, "log not removed"),
            }
        }
    }
}

impl Broker {
    /// A replica here cannot be used.
    pub(crate) fn on_replica_failed(&self, at: TopicPartition, error: &LogError) {
        tracing::error!(partition = %at, %error, "replica failed");
    }
}

fn log_config(settings: &TopicSettings) -> LogConfig {
    let defaults = LogConfig::default();
    LogConfig {
        segment_bytes: settings.segment_bytes.min(defaults.segment_bytes),
        segment_age: Duration::from_millis(settings.segment_ms),
        retention: settings
            .retention_ms
            .filter(|_| settings.cleanup_delete)
            .map(Duration::from_millis),
        retention_bytes: settings.retention_bytes.filter(|_| settings.cleanup_delete),
        compact: settings.cleanup_compact,
        tombstone_retention: Duration::from_millis(settings.delete_retention_ms),
        batch_bytes_max: settings.max_message_bytes,
        ..defaults
    }
}

/// Awaits all, in order of arrival of their results; keeps the order of the inputs.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(done) => *output = Some(done),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}
