//! Feeds a queue machine: reads what it wants of its partition and tells it the facts.
//!
//! A want stays here until it is answered: wants at the end of the log wait for the high
//! watermark. The machine leaves answers to older wants aside, so one that comes late or
//! twice does no harm, as long as it does not take the place of a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_base::{Offset, TopicPartition};
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

/// The newest want of each group, with its number.
#[derive(Default)]
struct Wants(BTreeMap<GroupNumber, (u64, Want)>);

impl Wants {
    /// Takes in what lay on the desk. An older want may come back behind a newer one: it could
    /// not be answered, and the machine has begun to serve anew meanwhile.
    fn take_in(&mut self, new: Vec<(u64, Want)>) {
        for (number, want) in new {
            let known = self.0.get(&want.group);
            if known.is_none_or(|(known, _)| *known < number) {
                self.0.insert(want.group, (number, want));
            }
        }
    }

    /// Those of which something is below `end`.
    fn ready(&self, end: Offset) -> Vec<(u64, Want)> {
        let ready = self.0.values().filter(|(_, want)| want.from < end);
        ready.cloned().collect()
    }
}

impl Feeder {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut wants = Wants::default();
        loop {
            if wants.0.is_empty() {
                wants.take_in(self.desk.wants().await);
            }
            let Some(partition) = self.broker.0.replication.partition(self.parent) else {
                // Not opened yet, or moved away: then this task ends soon.
                self.broker.0.env.sleep(PAUSE).await;
                continue;
            };
            let mut views = partition.views();
            let end = views.borrow_and_update().high_watermark;
            for (number, want) in wants.ready(end) {
                match self.answer(&partition, number, &want).await {
                    Ok(()) => drop(wants.0.remove(&want.group)),
                    Err(error) => {
                        tracing::warn!(partition = %self.parent, %error, "queue not fed");
                        self.broker.0.env.sleep(PAUSE).await;
                    }
                }
            }
            if wants.0.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                new = self.desk.wants() => wants.take_in(new),
                moved = views.changed() => {
                    if moved.is_err() {
                        self.broker.0.env.sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    async fn answer(
        &self,
        partition: &PartitionHandle,
        number: u64,
        want: &Want,
    ) -> Result<(), FindError> {
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
                desk.want_again(number, want);
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

#[cfg(test)]
mod tests {
    use weir_queue::Needs;

    use super::*;

    fn want(group: u64, from: u64) -> Want {
        Want {
            group: GroupNumber(group),
            from: Offset(from),
            records_max: 1,
            needs: Needs::default(),
        }
    }

    #[test]
    fn a_want_that_comes_back_does_not_take_the_place_of_a_newer_one() {
        let mut wants = Wants::default();
        wants.take_in(vec![(1, want(1, 24)), (2, want(2, 7))]);
        assert_eq!(wants.ready(Offset(8)), [(2, want(2, 7))]);
        // The machine serves anew, from further behind; what it wanted before comes back.
        wants.take_in(vec![(3, want(1, 23)), (1, want(1, 24))]);
        wants.take_in(vec![(1, want(1, 24)), (2, want(2, 7))]);
        assert_eq!(wants.ready(Offset(30)), [(3, want(1, 23)), (2, want(2, 7))]);
        // One that was answered and comes back is wanted, as nothing newer is.
        wants.0.clear();
        wants.take_in(vec![(3, want(1, 23))]);
        assert_eq!(wants.ready(Offset(30)), [(3, want(1, 23))]);
    }
}
