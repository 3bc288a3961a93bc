//! What there is to watch of the queues that this node leads: depth, age, what is parked.
//!
//! Machines are asked every few seconds, one after the other, and a scrape reads what they
//! said last: it neither waits nor costs more with more queues. Series are by topic and
//! group, summed over the partitions led here; what is not led here any more is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use weir_api::{Metrics, QueueApi};
use weir_base::{Offset, TopicPartition};
use weir_queue::{EntryNumber, Message, QueueCommand, QueueMeasure, QueueReply, ReplayCommand};
use weir_replication::PartitionHandle;

use super::read::find;
use crate::Broker;

/// Parked half messages of one partition, the oldest, that are told in the log.
const PARKED_MAX: usize = 1_000;
/// Pause between two rounds.
const INTERVAL: Duration = Duration::from_secs(5);

/// Of one group on one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfGroup {
    depth: u64,
    /// Age of the oldest message that is not final.
    oldest: Duration,
    in_flight: u64,
    retrying: u64,
    acked: u64,
    dead_lettered: u64,
    dropped: u64,
    missing: u64,
}

/// Of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfTopic {
    delayed: u64,
    halves: u64,
    halves_parked: u64,
    outgoing: u64,
    aside: u64,
}

/// What was seen in the last round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    groups: BTreeMap<(String, String), OfGroup>,
    topics: BTreeMap<String, OfTopic>,
    /// Letters that were not moved back, by dead-letter topic.
    letters: BTreeMap<String, u64>,
}

/// Half messages that were told as parked, by partition. A new leader tells them again.
type Told = BTreeMap<TopicPartition, BTreeSet<EntryNumber>>;

/// The last round.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<Seen>);

impl Watched {
    /// Writes all of it.
    pub(crate) fn collect(&self, into: &mut Metrics) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.collect(into);
    }
}

/// Runs for as long as the node does.
pub(crate) async fn run(broker: Broker) {
    let mut told = Told::new();
    loop {
        broker.0.env.sleep(INTERVAL).await;
        let seen = broker.watch(&mut told).await;
        let watched = &broker.0.queues.watched.0;
        *watched.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

impl Broker {
    async fn watch(&self, told: &mut Told) -> Seen {
        let mut seen = Seen::default();
        let mut before = std::mem::take(told);
        let journals: Vec<TopicPartition> = self.0.queues.lock().keys().copied().collect();
        for journal in journals {
            let image = self.0.metadata.image();
            let Some((at, _)) = image.partner(journal) else {
                continue;
            };
            let Some(topic) = image.topic_names.get(&at.topic).map(ToString::to_string) else {
                continue;
            };
            let partition = self.0.replication.partition(at);
            let Some(partition) = partition.filter(|held| held.view().is_leader) else {
                continue;
            };
            let Some(hosted) = self.0.queues.hosted(journal) else {
                continue;
            };
            if let Ok(QueueReply::Measure(measure)) = hosted.host.call(QueueCommand::Measure).await
            {
                self.add(&mut seen, &topic, &partition, &measure).await;
                if measure.halves_parked > 0 {
                    let before = before.remove(&at).unwrap_or_default();
                    told.insert(at, self.tell_parked(at, &topic, before).await);
                }
            }
        }
        let image = self.0.metadata.image();
        let dead = image.topics.values().filter(|t| t.name.starts_with("dlq."));
        for topic in dead {
            for index in (0..).take(topic.partitions.len()) {
                let at = TopicPartition::new(topic.id, index);
                if let Some(letters) = self.letters_left(at).await {
                    *seen.letters.entry(topic.name.to_string()).or_default() += letters;
                }
            }
        }
        seen
    }

    /// Tells of half messages that are parked and were not when `before` was told; gives all.
    async fn tell_parked(
        &self,
        at: TopicPartition,
        topic: &str,
        before: BTreeSet<EntryNumber>,
    ) -> BTreeSet<EntryNumber> {
        let queues: &dyn QueueApi = self;
        let Ok(parked) = queues.list_half(at, PARKED_MAX, true).await else {
            return before;
        };
        let mut told: BTreeSet<EntryNumber> = BTreeSet::new();
        for half in parked {
            let number = half.handle.number;
            told.insert(number);
            if before.contains(&number) {
                continue;
            }
            let kept = queues.kept(at, vec![half.payload_at]).await.ok();
            let payload = kept.and_then(|kept| kept.into_iter().next().flatten());
            let message = payload.map(|payload| Message::from_payload(&payload));
            let id = message.map_or_else(|| "unreadable".into(), |message| message.id);
            tracing::warn!(
                topic, partition = at.index.0, id = &*id, group = &*half.producers,
                half = %half.handle, checks = half.checks,
                "a half message is parked: an operator or its producer must decide"
            );
        }
        told
    }

    async fn add(
        &self,
        seen: &mut Seen,
        topic: &str,
        partition: &PartitionHandle,
        measure: &QueueMeasure,
    ) {
        let of = seen.topics.entry(topic.to_owned()).or_default();
        of.delayed += measure.scheduled;
        of.halves += measure.halves;
        of.halves_parked += measure.halves_parked;
        of.outgoing += measure.outgoing;
        of.aside += measure.aside;
        let end = partition.view().high_watermark;
        for group in &measure.groups {
            let key = (topic.to_owned(), group.group.to_string());
            let settled = group.position.0 + group.finished_above;
            let depth = end.0.saturating_sub(settled);
            let oldest = if depth > 0 {
                self.age_of(partition, group.position).await
            } else {
                Duration::ZERO
            };
            let of = seen.groups.entry(key).or_default();
            of.depth += depth;
            of.oldest = of.oldest.max(oldest);
            of.in_flight += group.in_flight;
            of.retrying += group.retrying;
            of.acked += group.counts.acked;
            of.dead_lettered += group.counts.dead_lettered;
            of.dropped += group.counts.dropped;
            of.missing += group.counts.missing;
        }
    }

    async fn age_of(&self, partition: &PartitionHandle, at: Offset) -> Duration {
        let found = find(partition, &[at]).await.ok();
        let stored_at = found.and_then(|found| Some(found.records.get(&at)?.timestamp));
        stored_at.map_or(Duration::ZERO, |stored_at| {
            let age = self.0.env.clock.wall().0.saturating_sub(stored_at.0);
            Duration::from_millis(u64::try_from(age).unwrap_or(0))
        })
    }

    /// Letters of a partition that is led here.
    async fn letters_left(&self, at: TopicPartition) -> Option<u64> {
        let partition = self.0.replication.partition(at)?;
        let view = partition.view();
        if !view.is_leader {
            return None;
        }
        let held = view.high_watermark.0.saturating_sub(view.log_start.0);
        let image = self.0.metadata.image();
        let journal = image.partner(at).map(|(journal, _)| journal);
        let hosted = journal.and_then(|journal| self.0.queues.hosted(journal));
        let Some(hosted) = hosted else {
            return Some(held);
        };
        let list = QueueCommand::Replay(ReplayCommand::List {
            start: view.log_start,
            of: Vec::new(),
        });
        match hosted.host.call(list).await {
            Ok(QueueReply::Replay(Ok(report))) => Some(held.saturating_sub(report.moved_back)),
            Ok(_) | Err(_) => Some(held),
        }
    }
}

impl Seen {
    fn collect(&self, into: &mut Metrics) {
        for ((topic, group), of) in &self.groups {
            let labels = [("topic", topic.as_str()), ("group", group.as_str())];
            into.gauge(
                "weir_queue_depth",
                "Messages that are not final for a queue group, on partitions led here.",
                &labels,
                of.depth,
            );
            into.seconds(
                "weir_queue_oldest_age_seconds",
                "Age of the oldest message that is not final for a queue group.",
                &labels,
                of.oldest,
            );
            into.gauge(
                "weir_queue_in_flight",
                "Messages delivered to a queue group and not settled.",
                &labels,
                of.in_flight,
            );
            into.gauge(
                "weir_queue_retrying",
                "Messages of a queue group that wait for a retry.",
                &labels,
                of.retrying,
            );
            for (name, help, value) in [
                (
                    "weir_queue_acked_total",
                    "Messages that a queue group acknowledged.",
                    of.acked,
                ),
                (
                    "weir_queue_dead_lettered_total",
                    "Messages that a queue group moved to its dead letters.",
                    of.dead_lettered,
                ),
                (
                    "weir_queue_dropped_total",
                    "Messages that a full queue group dropped.",
                    of.dropped,
                ),
                (
                    "weir_queue_missing_total",
                    "Offsets at which a queue group found no record.",
                    of.missing,
                ),
            ] {
                into.counter(name, help, &labels, value);
            }
        }
        for (topic, of) in &self.topics {
            for (name, help, value) in [
                (
                    "weir_queue_delayed",
                    "Delayed messages that are not due.",
                    of.delayed,
                ),
                (
                    "weir_queue_halves",
                    "Half messages that nobody decided on.",
                    of.halves,
                ),
                (
                    "weir_queue_halves_parked",
                    "Half messages that are asked about no more: an operator must decide.",
                    of.halves_parked,
                ),
                (
                    "weir_queue_outgoing",
                    "Messages on their way to another partition, or to their own.",
                    of.outgoing,
                ),
                (
                    "weir_queue_undeliverable",
                    "Messages that were refused elsewhere: an operator must send them on.",
                    of.aside,
                ),
            ] {
                into.gauge(name, help, &[("topic", topic)], value);
            }
        }
        for (topic, letters) in &self.letters {
            into.gauge(
                "weir_dead_letters",
                "Dead letters that were not moved back, on partitions led here.",
                &[("topic", topic)],
                *letters,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_by_topic_and_group() {
        let mut seen = Seen::default();
        let key = ("jobs".to_owned(), "g".to_owned());
        let of = seen.groups.entry(key).or_default();
        (of.depth, of.oldest, of.dead_lettered) = (7, Duration::from_millis(1_500), 2);
        seen.topics
            .entry("jobs".to_owned())
            .or_default()
            .halves_parked = 3;
        seen.letters.insert("dlq.g".to_owned(), 5);
        let mut metrics = Metrics::default();
        seen.collect(&mut metrics);
        let text = metrics.to_text();
        for line in [
            "weir_queue_depth{topic=\"jobs\",group=\"g\"} 7",
            "weir_queue_oldest_age_seconds{topic=\"jobs\",group=\"g\"} 1.5",
            "weir_queue_dead_lettered_total{topic=\"jobs\",group=\"g\"} 2",
            "weir_queue_halves_parked{topic=\"jobs\"} 3",
            "weir_queue_undeliverable{topic=\"jobs\"} 0",
            "weir_dead_letters{topic=\"dlq.g\"} 5",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
        }
    }
}
