//! Feeds a queue machine: reads what it wants of its partition and tells it the facts.
//!
//! A want stays here until it is answered: wants at the end of the log wait for the high
//! watermark. The machine leaves answers to older wants aside, so one that comes late or
//! twice does no harm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_base::TopicPartition;
use weir_metadata::topic_options::settings;
use weir_queue::{Feed, GroupNumber, MessageFacts, QueueCommand, QueueMachine, Want};
use weir_replication::PartitionHandle;

use super::read::{FindError, batches, messages_if};
use crate::Broker;
use crate::host::desk::Desk;
use crate::host::{Caller, HostError};

/// Bytes read for one answer.
const READ_BYTES: usize = 256 * 1024;
/// Pause before a partition that cannot be read is looked at again.
const PAUSE: Duration = Duration::from_millis(50);

/// Facts are refused by nobody but a host that does not serve.
type Answer = weir_base::BoxFuture<'static, Result<weir_queue::QueueReply, HostError>>;

/// The task of one machine.
pub(super) struct Feeder {
    pub(super) broker: Broker,
    /// The partition with the messages.
    pub(super) parent: TopicPartition,
    pub(super) desk: Arc<Desk<QueueMachine>>,
    pub(super) host: Caller<QueueMachine>,
}

impl Feeder {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut wants: BTreeMap<GroupNumber, Want> = BTreeMap::new();
        loop {
            if wants.is_empty() {
                let new = self.desk.wants().await;
                wants.extend(new.into_iter().map(|want| (want.group, want)));
            }
            let Some(partition) = self.broker.0.replication.partition(self.parent) else {
                // Not opened yet, or moved away: then this task ends soon.
                self.broker.0.env.sleep(PAUSE).await;
                continue;
            };
            let mut views = partition.views();
            let end = views.borrow_and_update().high_watermark;
            let ready: Vec<Want> = wants.values().filter(|w| w.from < end).cloned().collect();
            for want in ready {
                match self.answer(&partition, &want).await {
                    Ok(()) => drop(wants.remove(&want.group)),
                    Err(error) => {
                        tracing::warn!(partition = %self.parent, %error, "queue not fed");
                        self.broker.0.env.sleep(PAUSE).await;
                    }
                }
            }
            if wants.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                new = self.desk.wants() => {
                    wants.extend(new.into_iter().map(|want| (want.group, want)));
                }
                moved = views.changed() => {
                    if moved.is_err() {
                        self.broker.0.env.sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    async fn answer(&self, partition: &PartitionHandle, want: &Want) -> Result<(), FindError> {
        let feed = self.read(partition, want).await?;
        // Counts from here on; its reply waits for a commit, the next want does not.
        let answer: Answer = self.host.call(QueueCommand::Feed(feed));
        let (env, desk, want) = (
            self.broker.0.env.clone(),
            Arc::clone(&self.desk),
            want.clone(),
        );
        let told = async move {
            // The machine goes on without it, and would wait for it for ever.
            if let Err(HostError::Overloaded | HostError::NoLease) = answer.await {
                env.sleep(PAUSE).await;
                desk.want(vec![want]);
            }
        };
        self.broker.0.env.tasks.spawn("queue-fed", told);
        Ok(())
    }

    async fn read(&self, partition: &PartitionHandle, want: &Want) -> Result<Feed, FindError> {
        let start = partition.view().log_start;
        let mut feed = Feed {
            group: want.group,
            from: want.from,
            facts: Vec::new(),
            no_messages: Vec::new(),
            end: want.from,
        };
        if want.from < start {
            // What retention took is missing to the group.
            feed.end = start;
            return Ok(feed);
        }
        let fetched = partition.read(want.from, READ_BYTES).await?;
        let compacted = self.is_compacted();
        let mut next = want.from;
        for batch in batches(fetched.chunk.chunks, want.from)? {
            if feed.facts.len() >= want.records_max {
                break;
            }
            if compacted && batch.base_offset() > next {
                feed.no_messages.push((next, batch.base_offset()));
            }
            next = next.max(batch.base_offset());
            let header = batch.header();
            let is_sent = header.is_idempotent() && header.producer_id.is_journal();
            // Of a control batch, what is no copy of a message is none.
            let has_holes = compacted || header.attributes.is_control();
            let from = next;
            let opened = messages_if(&batch, |offset| offset >= from).unwrap_or_else(|error| {
                // One bad batch must not stop the group: its messages count as missing.
                tracing::error!(partition = %self.parent, %error, "queue passes over a batch");
                Vec::new()
            });
            for record in opened {
                if feed.facts.len() >= want.records_max {
                    feed.end = next;
                    return Ok(feed);
                }
                if has_holes && record.offset > next {
                    feed.no_messages.push((next, record.offset));
                }
                let facts = MessageFacts::of(&record, want.needs);
                feed.facts.push(if is_sent {
                    facts.sent_by_queue()
                } else {
                    facts
                });
                next = record.offset + 1;
            }
            if has_holes && batch.end_offset() > next {
                feed.no_messages.push((next, batch.end_offset()));
            }
            next = next.max(batch.end_offset());
        }
        feed.end = next;
        Ok(feed)
    }

    /// Whether holes in the log are no sign of loss.
    fn is_compacted(&self) -> bool {
        let image = self.broker.0.metadata.image();
        let topic = image.topic(self.parent.topic);
        topic.is_some_and(|topic| settings(&image, topic).cleanup_compact)
    }
}
