//! Writes what a queue sends: released and committed messages to its own partition, dead
//! letters and replays to others.
//!
//! A parcel is one batch by the journal's own producer, with the sequence numbers that the
//! journal has on record, so that a repeat of it is known for what it is (S-34). Its bytes
//! are put together anew each time, from the journal and the partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_api::outgoing::{OutgoingSources, kept_payload, outgoing_payload};
use weir_api::{Acks, AdminApi, AdminError, LogApi, NewTopic};
use weir_base::batch::{BatchBuilder, Record};
use weir_base::{BoxFuture, Offset, ProducerEpoch, ProducerId, RecordBatch, TopicPartition};
use weir_queue::copies::append_copy;
use weir_queue::{
    Destination, Outgoing, OutgoingMessage, Payload, QueueCommand, QueueMachine, QueueRecord,
    QueueState, Target, producer_sequence,
};

use super::read::find_known;
use crate::Broker;
use crate::host::desk::Parcel;
use crate::host::outbox::{Carrier, CarryError};

/// How long one append may take before it is tried again.
const APPEND_WAIT: Duration = Duration::from_secs(5);
/// How long a dead-letter topic may take to be made.
const TOPIC_WAIT: Duration = Duration::from_secs(5);

/// One outgoing batch.
#[derive(Debug, Clone)]
pub(crate) struct QueueParcel {
    destination: Destination,
    sequence: u64,
    batch: Arc<Outgoing>,
}

impl Parcel for QueueParcel {
    type Lane = Destination;

    fn lane(&self) -> &Destination {
        &self.destination
    }

    fn number(&self) -> u64 {
        self.sequence
    }
}

/// The first of every destination, if that is not what `known` says.
pub(crate) fn parcels(state: &QueueState, known: &[QueueParcel]) -> Option<Vec<QueueParcel>> {
    let mut heads: Vec<(&Destination, u64, &Outgoing)> = Vec::new();
    for outgoing in state.outgoing() {
        if heads.last().is_none_or(|(last, ..)| *last != outgoing.0) {
            heads.push(outgoing);
        }
    }
    let same = |((to, sequence, _), known): (&(&Destination, u64, &Outgoing), &QueueParcel)| {
        **to == known.destination && *sequence == known.sequence
    };
    if heads.len() == known.len() && heads.iter().zip(known).all(same) {
        return None;
    }
    let heads = heads.into_iter();
    let parcels = heads.map(|(destination, sequence, batch)| QueueParcel {
        destination: destination.clone(),
        sequence,
        batch: Arc::new(batch.clone()),
    });
    Some(parcels.collect())
}

/// Of one machine.
pub(super) struct QueueCarrier {
    pub(super) broker: Broker,
    /// The partition with the messages.
    pub(super) parent: TopicPartition,
    /// That of the journal.
    pub(super) journal: TopicPartition,
}

impl Carrier<QueueMachine> for QueueCarrier {
    fn carry(&self, parcel: QueueParcel) -> BoxFuture<'static, Result<(), CarryError>> {
        let (broker, parent, journal) = (self.broker.clone(), self.parent, self.journal);
        Box::pin(async move {
            let to = match &parcel.destination {
                Destination::Here | Destination::Copies => parent,
                Destination::There(target) => broker.target(target).await?,
            };
            let batch = broker.parcel_batch(&parcel, parent, journal).await?;
            let appended = broker.append_forwarded(to, batch, Acks::All, APPEND_WAIT);
            match appended.await {
                Ok(_) => Ok(()),
                Err(error) => Err(CarryError::later(format!("append to {to}: {error}"))),
            }
        })
    }

    fn set_aside(
        &self,
        parcel: QueueParcel,
        why: String,
    ) -> BoxFuture<'static, Option<QueueCommand>> {
        let (broker, parent, journal) = (self.broker.clone(), self.parent, self.journal);
        Box::pin(async move {
            // What cannot be read now is not kept now.
            let payloads = broker
                .parcel_payloads(&parcel, parent, journal)
                .await
                .ok()?;
            let payloads = payloads.iter().map(Payload::encode);
            Some(QueueCommand::OutboxRefused {
                destination: parcel.destination,
                sequence: parcel.sequence,
                reason: why.into(),
                payloads: payloads.collect(),
            })
        })
    }

    fn done(&self, parcel: &QueueParcel) -> QueueCommand {
        QueueCommand::OutboxDone {
            destination: parcel.destination.clone(),
            sequence: parcel.sequence,
        }
    }
}

/// Whether a topic that cannot be made for this reason cannot be made later either.
fn is_final(error: &AdminError) -> bool {
    match error {
        AdminError::InvalidTopicName(_)
        | AdminError::InvalidPartitions(_)
        | AdminError::InvalidReplicationFactor(_)
        | AdminError::InvalidAssignment(_)
        | AdminError::InvalidConfig(_)
        | AdminError::InvalidRequest(_) => true,
        AdminError::TopicExists(_)
        | AdminError::UnknownTopic(_)
        | AdminError::UnknownTopicId(_)
        | AdminError::NoReassignment
        | AdminError::PreferredLeaderNotAvailable
        | AdminError::ElectionNotNeeded
        | AdminError::Unavailable(_)
        | AdminError::TimedOut(_) => false,
    }
}

/// The producer id of a journal: the same for ever, and no other's. Copies have one of their
/// own, since their sequence is.
fn producer_of(journal: TopicPartition, to: &Destination) -> ProducerId {
    let id = u128::from_be_bytes(journal.topic.0);
    let [high, low] = [id >> 64, id & u128::from(u64::MAX)].map(|half| half % (1 << 64));
    let mixed = (high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) + u128::from(journal.index.0);
    let within = i64::try_from(mixed & ((1 << 62) - 1)).unwrap_or(0);
    let lane = i64::from(*to == Destination::Copies) << 61;
    ProducerId(ProducerId::JOURNALS_FROM | (within ^ lane))
}

impl Broker {
    /// The partition of a target, whose topic is made if there is none.
    pub(super) async fn target(&self, target: &Target) -> Result<TopicPartition, CarryError> {
        let found = || {
            let image = self.0.metadata.image();
            let id = image.topics.get(&target.topic)?.id;
            let at = TopicPartition::new(id, target.partition);
            Some(image.partition(at).map(|_| at))
        };
        if found().is_none() {
            let topic = NewTopic {
                name: target.topic.to_string(),
                partitions: Some(target.partition.saturating_add(1)),
                ..NewTopic::default()
            };
            match self.create_topic(topic, false, TOPIC_WAIT).await {
                Ok(_) => tracing::info!(topic = %target.topic, "made for dead letters"),
                Err(AdminError::TopicExists(_)) => {}
                Err(error) => {
                    let why = format!("topic '{}' cannot be made: {error}", target.topic);
                    return Err(if is_final(&error) {
                        CarryError::refused(why)
                    } else {
                        CarryError::later(why)
                    });
                }
            }
        }
        let missing = || {
            let (topic, partition) = (&target.topic, target.partition);
            CarryError::refused(format!("topic '{topic}' has no partition {partition}"))
        };
        found().flatten().ok_or_else(missing)
    }

    async fn parcel_batch(
        &self,
        parcel: &QueueParcel,
        parent: TopicPartition,
        journal: TopicPartition,
    ) -> Result<RecordBatch, CarryError> {
        let batch = BatchBuilder::new(self.0.env.clock.wall()).producer(
            producer_of(journal, &parcel.destination),
            ProducerEpoch(0),
            producer_sequence(parcel.sequence),
        );
        let payloads = self.parcel_payloads(parcel, parent, journal).await?;
        let payloads = payloads.iter();
        let batch = if parcel.destination == Destination::Copies {
            payloads.fold(batch.control(), |batch, payload| {
                append_copy(payload, batch)
            })
        } else {
            payloads.fold(batch, |batch, payload| payload.append_to(batch))
        };
        Ok(batch.build())
    }

    /// What a parcel's messages are to be appended as, in order.
    async fn parcel_payloads(
        &self,
        parcel: &QueueParcel,
        parent: TopicPartition,
        journal: TopicPartition,
    ) -> Result<Vec<Payload>, CarryError> {
        let (mut kept, mut stored) = (Vec::new(), Vec::new());
        for message in &parcel.batch.messages {
            match message {
                OutgoingMessage::Released { payload_at, .. }
                | OutgoingMessage::Committed { payload_at, .. }
                | OutgoingMessage::Aside { payload_at, .. } => kept.push(*payload_at),
                OutgoingMessage::DeadLetter { offset, .. }
                | OutgoingMessage::Forwarded { offset }
                | OutgoingMessage::Replayed { offset, .. } => stored.push(*offset),
            }
        }
        let kept = self.all(journal, kept).await?;
        let stored = self.all(parent, stored).await?;
        let topic = {
            let image = self.0.metadata.image();
            let name = image.topic_names.get(&parent.topic);
            name.map_or_else(String::new, ToString::to_string)
        };
        let sources = Sources {
            kept,
            stored,
            topic,
            partition: parent.index.0,
        };
        let payloads = parcel.batch.messages.iter().map(|message| {
            let missing = || CarryError::later(format!("journal holds no payload of {message:?}"));
            outgoing_payload(message, &sources).ok_or_else(missing)
        });
        payloads.collect()
    }

    /// The records at `offsets` of a partition held here that still are.
    async fn all(
        &self,
        at: TopicPartition,
        offsets: Vec<Offset>,
    ) -> Result<BTreeMap<Offset, Record>, CarryError> {
        if offsets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let partition = self.0.replication.partition(at);
        let gone = || CarryError::later(format!("partition {at} is not held here"));
        let partition = partition.ok_or_else(gone)?;
        let found = find_known(&self.0.env, &partition, &offsets).await;
        let found = found.map_err(|error| CarryError::later(format!("read of {at}: {error}")))?;
        match found.end {
            None => Ok(found.records),
            Some(end) => Err(CarryError::later(format!(
                "batch is too large to be read from {end}"
            ))),
        }
    }
}

struct Sources {
    kept: BTreeMap<Offset, Record>,
    stored: BTreeMap<Offset, Record>,
    topic: String,
    partition: u32,
}

impl OutgoingSources for Sources {
    fn kept(&self, at: Offset) -> Option<Payload> {
        payload_of(self.kept.get(&at)?)
    }

    fn stored(&self, at: Offset) -> Option<Payload> {
        self.stored.get(&at).map(Payload::of)
    }

    fn origin(&self) -> (&str, u32) {
        (&self.topic, self.partition)
    }
}

/// The payload of a delayed or half message, out of its journal record.
pub(super) fn payload_of(record: &Record) -> Option<Payload> {
    let decoded = QueueRecord::decode(record.key.as_deref(), record.value.as_deref()).ok()?;
    kept_payload(&decoded)
}
