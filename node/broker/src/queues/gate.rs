//! Limits of queues: what is asked before an append, and who drops the oldest messages.
//!
//! A machine tells its gate after every turn; an append looks at it and at the topic's
//! `weir.queue.*` configs, and waits for nobody. Limits are met to the batch. What a queue
//! itself sends, dead letters and messages that were promised to come later, is never
//! refused: it was acknowledged before.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use weir_api::AppendError;
use weir_api::log::{Acks, Appended};
use weir_base::{BoxFuture, RecordBatch, TopicId, TopicPartition};
use weir_metadata::topic_options::{OnFullPolicy, batch_bytes_max, queue_limit};
use weir_queue::{
    Admission, Capacity, Gate, OnFull, Prepare, QueueCommand, QueueMachine, QueueReply, Room,
    Schedule, Target,
};
use weir_replication::PartitionHandle;

use crate::Broker;
use crate::host::{Caller, HostError};

/// Pause before a machine that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// What limits did so far on this node.
#[derive(Debug, Default)]
pub(crate) struct Limited {
    /// Batches, and messages to be kept for later, that were refused.
    pub(crate) refused: AtomicU64,
    /// Batches that were sent elsewhere.
    pub(crate) redirected: AtomicU64,
}

impl Broker {
    /// How many partitions a topic has.
    pub(super) fn partitions_of(&self, topic: TopicId) -> u32 {
        let image = self.0.metadata.image();
        let partitions = image
            .topic(topic)
            .map_or(1, |record| record.partitions.len());
        u32::try_from(partitions).unwrap_or(u32::MAX)
    }

    /// What the topic says of groups without a limit of their own.
    fn default_capacity(&self, at: TopicPartition) -> Option<Capacity> {
        let image = self.0.metadata.image();
        let limit = queue_limit(&image, image.topic(at.topic)?)?;
        Some(Capacity {
            messages_max: limit.messages_max,
            on_full: match limit.policy {
                OnFullPolicy::Reject => OnFull::Reject,
                OnFullPolicy::DropOldest => OnFull::DropOldest,
                OnFullPolicy::Redirect(topic) => OnFull::Redirect(Target {
                    topic: topic.into(),
                    partition: at.index.0,
                }),
            },
        })
    }

    /// Tells a message that is to be kept what it is held against.
    pub(super) fn with_room(&self, at: TopicPartition, mut command: QueueCommand) -> QueueCommand {
        if let QueueCommand::Schedule(Schedule { room, .. })
        | QueueCommand::Prepare(Prepare { room, .. }) = &mut command
        {
            let partition = self.0.replication.partition(at);
            *room = partition.map(|partition| Room {
                end: partition.view().log_end,
                default: self.default_capacity(at),
            });
        }
        command
    }

    /// The largest batch that a topic takes from clients.
    pub(crate) fn batch_bytes_max(&self, at: TopicPartition) -> usize {
        let image = self.0.metadata.image();
        let max = image
            .topic(at.topic)
            .map(|topic| batch_bytes_max(&image, topic));
        max.unwrap_or(usize::MAX)
    }

    /// Whether the queues of a partition that is held here take a client's batch.
    pub(crate) fn admission(
        &self,
        to: TopicPartition,
        partition: &PartitionHandle,
        batch: &RecordBatch,
    ) -> Admission {
        let image = self.0.metadata.image();
        let Some((journal, _)) = image.partner(to) else {
            return Admission::Accept;
        };
        let header = batch.header();
        let is_own = header.is_idempotent() && header.producer_id.is_journal();
        if image.is_companion(to) || is_own {
            return Admission::Accept;
        }
        let Some(hosted) = self.0.queues.hosted(journal) else {
            return Admission::Accept;
        };
        let gate = hosted.host.desk().notice();
        let default = self.default_capacity(to);
        let admission = gate.admission(partition.view().log_end, default.as_ref());
        if admission == Admission::Accept || !header.is_idempotent() {
            return admission;
        }
        // What is there already is told so, not refused: its producer asks again.
        let mut known = partition.producers().into_iter();
        let is_repeated = known.any(|known| {
            known.id == header.producer_id
                && known.epoch == header.producer_epoch
                && header.base_sequence <= known.last_sequence
        });
        if is_repeated {
            return Admission::Accept;
        }
        match admission {
            // Its sequence numbers would have holes in both places.
            Admission::Redirect {
                group,
                messages_max,
                ..
            } => Admission::Full {
                group,
                messages_max,
            },
            admission @ (Admission::Accept | Admission::Full { .. }) => admission,
        }
    }

    /// Appends a client's batch, unless the partition's queues are full; `may_redirect`
    /// says whether it may then go elsewhere, which it does at most once.
    pub(crate) fn append_admitted(
        &self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
        may_redirect: bool,
    ) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let Some(partition) = self.0.replication.partition(to) else {
            return self.append_here(to, batch, acks, timeout);
        };
        // Before it is one of several: it would take them along.
        let (size, max) = (batch.size(), self.batch_bytes_max(to));
        if size > max && !batch.header().producer_id.is_journal() {
            return Box::pin(ready(Err(AppendError::TooLarge { size, max })));
        }
        let limited = &self.0.queues.limited;
        let (group, messages_max) = match self.admission(to, &partition, &batch) {
            Admission::Accept => return self.append_here(to, batch, acks, timeout),
            Admission::Redirect { target, .. } if may_redirect => {
                limited.redirected.fetch_add(1, Ordering::Relaxed);
                return Box::pin(self.clone().redirect(target, batch, acks, timeout));
            }
            Admission::Full {
                group,
                messages_max,
            }
            | Admission::Redirect {
                group,
                messages_max,
                ..
            } => (group, messages_max),
        };
        limited.refused.fetch_add(1, Ordering::Relaxed);
        let group = group.to_string();
        let full = AppendError::QueueFull {
            group,
            messages_max,
        };
        Box::pin(ready(Err(full)))
    }

    async fn redirect(
        self,
        target: Target,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
    ) -> Result<Appended, AppendError> {
        match self.target(&target).await {
            Ok(to) => self.forward_append(to, batch, acks, timeout, false).await,
            Err(error) => {
                tracing::warn!(topic = %target.topic, %error, "a full queue cannot redirect");
                Err(AppendError::UnknownPartition)
            }
        }
    }
}

/// Has a machine drop the oldest messages of groups that want it so, and tells it of
/// partitions that the topic got: by the next time that anything changes here.
pub(super) struct Trimmer {
    pub(super) broker: Broker,
    /// The partition with the messages.
    pub(super) parent: TopicPartition,
    pub(super) gates: watch::Receiver<Gate>,
    pub(super) host: Caller<QueueMachine>,
}

impl Trimmer {
    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        let env = self.broker.0.env.clone();
        let mut told = self.broker.partitions_of(self.parent.topic);
        loop {
            let Some(partition) = self.broker.0.replication.partition(self.parent) else {
                // Not opened yet, or moved away: then this task ends soon.
                env.sleep(PAUSE).await;
                continue;
            };
            let mut views = partition.views();
            let end = views.borrow_and_update().high_watermark;
            let gate = self.gates.borrow_and_update().clone();
            let count = self.broker.partitions_of(self.parent.topic);
            if count != told {
                match self.host.call(QueueCommand::Partitions { count }).await {
                    // Who serves later is told as it begins.
                    Ok(_) | Err(HostError::NotLeader | HostError::Unreadable(_)) => told = count,
                    Err(_) => env.sleep(PAUSE).await,
                }
            }
            let default = self.broker.default_capacity(self.parent);
            if gate.wants_trim(end, default.as_ref()) {
                let trim = QueueCommand::Trim { end, default };
                match self.host.call(trim).await {
                    Ok(QueueReply::Trim(dropped)) => {
                        if dropped > 0 {
                            tracing::warn!(partition = %self.parent, dropped, "a full queue drops");
                        }
                    }
                    Ok(_) | Err(_) => env.sleep(PAUSE).await,
                }
            }
            tokio::select! {
                biased;
                told = self.gates.changed() => {
                    if told.is_err() {
                        return;
                    }
                }
                moved = views.changed() => {
                    if moved.is_err() {
                        env.sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}
