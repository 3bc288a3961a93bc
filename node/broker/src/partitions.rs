//! Which partitions this node holds: follows the image and opens, changes and closes.
//!
//! Every image is compared with what is open; nothing else is remembered, so a skipped
//! image does no harm. A log is removed only when a committed image no longer places it
//! here: what merely looks orphaned at start is left alone (S-13). An image in which the
//! copy here has another identity than the one held says the same of the old copy: it
//! was given up ([`crate::resigning`]) or moved away and back, nobody counts on it, and
//! the new one begins empty, once there is a leader to fetch it from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_base::image::{ClusterImage, NodeRecord, PartitionRecord, TopicRecord};
use weir_base::limits::BATCH_BYTES_CEILING;
use weir_base::{FaultClass, NodeId, TopicPartition, Uuid, companion};
use weir_metadata::topic_options::{TopicSettings, settings};
use weir_storage::{LogConfig, Storage};

use crate::Broker;
use crate::groups::GROUPS_TOPIC;
use crate::resigning::Resigning;

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
    held: BTreeMap<TopicPartition, Held>,
    resigning: Resigning,
}

/// A copy on this node.
struct Held {
    /// Its identity, as of the record it was opened for.
    replica: Uuid,
    /// Whether its log is in use; else its data is bad, or it was given up.
    is_open: bool,
}

/// A log to be opened.
struct Opening<'a> {
    at: TopicPartition,
    config: LogConfig,
    record: &'a PartitionRecord,
    replica: Uuid,
    hosts: Hosts,
}

/// Which machine runs on a log.
#[derive(Debug, Clone, Copy)]
enum Hosts {
    Nothing,
    Groups,
    /// That of the queues of a partition.
    Queue(TopicPartition),
}

impl Hosts {
    fn of(topic: &TopicRecord, at: TopicPartition) -> Self {
        if &*topic.name == GROUPS_TOPIC {
            return Hosts::Groups;
        }
        companion::parent_of(&topic.name).map_or(Hosts::Nothing, |topic| {
            Hosts::Queue(TopicPartition { topic, ..at })
        })
    }
}

impl Partitions {
    pub(crate) fn new(broker: Broker, storage: Arc<Storage>, resigning: Resigning) -> Self {
        let (applied, configs, nodes, held) = Default::default();
        Self {
            broker,
            storage,
            applied,
            configs,
            nodes,
            held,
            resigning,
        }
    }

    /// Runs until the image's source is gone.
    pub(crate) async fn follow(mut self) {
        let mut images = self.broker.0.metadata.images();
        if weir_base::mutant!(M24) {
            let image = images.borrow().clone();
            for at in self.storage.list_logs().await.unwrap_or_default() {
                if image.partition(at).is_none() {
                    self.storage.remove_log(at).await.ok();
                }
            }
        }
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
            let config = log_config(&settings(image, topic), topic.internal);
            for (index, record) in (0..).zip(&topic.partitions) {
                let at = TopicPartition::new(topic.id, index);
                let Some(replica) = record.replica(me).map(|replica| replica.id) else {
                    continue;
                };
                let held = self.held.get(&at);
                if let Some(held) = held.filter(|held| held.replica == replica) {
                    if held.is_open {
                        self.storage.set_config(at, config);
                        self.broker.0.replication.apply(at, record, &image.nodes);
                    }
                    continue;
                }
                if held.is_some() && !self.discard(at, record).await {
                    continue;
                }
                opening.push(Opening {
                    at,
                    config,
                    record,
                    replica,
                    hosts: Hosts::of(topic, at),
                });
            }
        }
        self.close_what_left(image).await;
        self.open_all(opening, &image.nodes).await;
        self.applied = image.topics.clone();
        self.configs.clone_from(&image.configs);
        self.nodes.clone_from(&image.nodes);
    }

    async fn open_all(&mut self, opening: Vec<Opening<'_>>, nodes: &BTreeMap<NodeId, NodeRecord>) {
        for some in opening.chunks(OPENING_MAX) {
            let opened = some
                .iter()
                .map(|opening| self.storage.open_log(opening.at, opening.config));
            for (opened, opening) in join_all(opened).await.into_iter().zip(some) {
                let (at, replica) = (opening.at, opening.replica);
                let broker = &self.broker.0;
                let is_open = match opened {
                    Ok((log, _)) => {
                        broker.replication.open(at, replica, log);
                        broker.replication.apply(at, opening.record, nodes);
                        if let Some(partition) = broker.replication.partition(at) {
                            match opening.hosts {
                                Hosts::Nothing => {}
                                Hosts::Groups => broker.groups.open(&broker.env, at, partition),
                                Hosts::Queue(parent) => {
                                    self.broker.open_queue(at, parent, partition);
                                }
                            }
                        }
                        true
                    }
                    Err(error) => {
                        tracing::error!(partition = %at, %error, "log not opened");
                        match error.class() {
                            FaultClass::Quarantine => self.resigning.replica(at, &error),
                            // Opened at the next change of its topic.
                            FaultClass::Rejected
                            | FaultClass::Retry
                            | FaultClass::DiskLost
                            | FaultClass::Stop => continue,
                        }
                        false
                    }
                };
                self.held.insert(at, Held { replica, is_open });
            }
        }
    }

    /// Removes a copy that the record no longer knows, so that a new one can take its
    /// place. Not before another node leads: until then it might be all there is, and it
    /// is looked at again with the next record. Says whether it is gone.
    async fn discard(&mut self, at: TopicPartition, record: &PartitionRecord) -> bool {
        let broker = &self.broker.0;
        broker.groups.stop(at);
        broker.queues.stop(at);
        broker.replication.close(at);
        if let Some(held) = self.held.get_mut(&at) {
            held.is_open = false;
        }
        if record.leader.is_none_or(|leader| leader == broker.node) {
            tracing::warn!(partition = %at, "the copy here was given up; nobody leads to begin anew from");
            return false;
        }
        match self.storage.remove_log(at).await {
            Ok(()) => {
                tracing::info!(partition = %at, "log removed: this copy begins anew");
                self.held.remove(&at);
                true
            }
            Err(error) => {
                tracing::error!(partition = %at, %error, "log not removed");
                false
            }
        }
    }

    async fn close_what_left(&mut self, image: &ClusterImage) {
        let me = self.broker.0.node;
        let left: Vec<_> = self
            .held
            .keys()
            .copied()
            .filter(|at| {
                !image
                    .partition(*at)
                    .is_some_and(|record| record.has_replica(me))
            })
            .collect();
        for at in left {
            self.held.remove(&at);
            self.broker.0.groups.close(&self.broker.0.env, at);
            self.broker.0.queues.close(&self.broker.0.env, at);
            self.broker.0.replication.close(at);
            match self.storage.remove_log(at).await {
                Ok(()) => tracing::info!(partition = %at, "log removed: no longer placed here"),
                Err(error) => tracing::error!(partition = %at, %error, "log not removed"),
            }
        }
    }
}

/// A topic of Weir's own may use the space kept back: acknowledgements, offsets and
/// decisions are what lets others be removed (reliability 3.5).
fn log_config(settings: &TopicSettings, is_internal: bool) -> LogConfig {
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
        compaction_bytes_max: defaults.compaction_bytes_max,
        // A machine's decisions become one batch, whatever is among them; nobody else writes.
        batch_bytes_max: match is_internal {
            true => BATCH_BYTES_CEILING,
            false => settings.max_message_bytes,
        },
        uses_reserve: is_internal,
    }
}

/// Awaits all, in order of arrival of their results; keeps the order of the inputs.
pub(crate) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
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
