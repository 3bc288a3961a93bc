//! Tells the steps in what leaders write.
//!
//! A batch that goes elsewhere is known again by its sequence number, which the journal had
//! on record before: its producer is the journal's own.

use std::collections::{BTreeMap, BTreeSet};

use weir_api::queues::{
    Decision, Destination, EntryNumber, Outgoing, OutgoingMessage, QueueRecord, Target,
    producer_sequence,
};
use weir_base::image::ClusterImage;
use weir_base::{RecordBatch, TopicPartition};

use super::Step;

/// A step, and the journal of the queue that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) step: Step,
    pub(crate) journal: TopicPartition,
}

/// What goes to one partition: the steps that its appends are, by sequence number, and
/// whose they are.
type Going = BTreeMap<i32, (TopicPartition, BTreeSet<Step>)>;

/// Reads what leaders write, in the order in which it is written.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// To the partition of the journal.
    here: BTreeMap<TopicPartition, Going>,
    /// As copies there, by a producer of their own.
    copies: BTreeMap<TopicPartition, Going>,
    there: BTreeMap<Target, Going>,
    /// Half messages that were asked about.
    asked: BTreeSet<(TopicPartition, EntryNumber)>,
    /// Half and delayed messages that went to their partition.
    left: BTreeSet<(TopicPartition, EntryNumber)>,
}

impl Reader {
    /// The steps in a batch that the leader of `at` writes, with the image that it has.
    pub(crate) fn read(
        &mut self,
        image: &ClusterImage,
        at: TopicPartition,
        batch: &RecordBatch,
    ) -> Vec<Found> {
        if image.is_companion(at) {
            return self.read_journal(at, batch);
        }
        let header = batch.header();
        if !header.producer_id.is_journal() {
            return Vec::new();
        }
        let partner = image.partner(at).map(|(journal, _)| journal);
        let name = image.topic_names.get(&at.topic);
        let target = name.map(|name| Target {
            topic: name.clone(),
            partition: at.index.0,
        });
        let to_partner = if header.attributes.is_control() {
            &self.copies
        } else {
            &self.here
        };
        let here = partner.and_then(|journal| to_partner.get(&journal));
        let there = target.and_then(|target| self.there.get(&target));
        let going = [here, there].into_iter().flatten();
        let known = going.filter_map(|going| going.get(&header.base_sequence));
        let steps = known.flat_map(|(journal, steps)| {
            let found = |step: &Step| Found {
                step: *step,
                journal: *journal,
            };
            steps.iter().map(found)
        });
        steps.collect()
    }

    fn read_journal(&mut self, journal: TopicPartition, batch: &RecordBatch) -> Vec<Found> {
        let Ok(records) = batch.records() else {
            return Vec::new();
        };
        let mut steps = BTreeSet::new();
        for record in records {
            let decoded = QueueRecord::decode(record.key.as_deref(), record.value.as_deref());
            if let Ok(decoded) = decoded {
                self.read_record(journal, &decoded, &mut steps);
            }
        }
        steps
            .into_iter()
            .map(|step| Found { step, journal })
            .collect()
    }

    fn read_record(
        &mut self,
        journal: TopicPartition,
        record: &QueueRecord,
        steps: &mut BTreeSet<Step>,
    ) {
        match record {
            QueueRecord::Half { value: Some(_), .. } => {
                steps.insert(Step::HalfStored);
            }
            QueueRecord::HalfChecks {
                number,
                value: Some(checks),
            } => {
                steps.insert(if checks.parked {
                    Step::HalfParked
                } else {
                    Step::HalfAsked
                });
                self.asked.insert((journal, *number));
            }
            QueueRecord::Decided {
                number,
                value: Some(decided),
            } => {
                steps.insert(match decided.decision {
                    Decision::Commit => Step::CommitWritten,
                    Decision::Rollback => Step::RollbackWritten,
                });
                if self.asked.remove(&(journal, *number)) {
                    steps.insert(Step::HalfAnswered);
                }
            }
            QueueRecord::Scheduled {
                payload: Some(_), ..
            } => {
                steps.insert(Step::DelayStored);
            }
            QueueRecord::Cancelled { until: Some(_), .. } => {
                steps.insert(Step::CancelWritten);
            }
            QueueRecord::Departing {
                value: Some(going), ..
            } if matches!(going.message, OutgoingMessage::DeadLetter { .. }) => {
                steps.insert(Step::LastAttemptFailed);
            }
            QueueRecord::Outgoing {
                destination,
                sequence,
                value,
            } => self.read_outgoing(journal, (destination, *sequence), value.as_ref(), steps),
            QueueRecord::Half {
                number,
                value: None,
            } if self.left.remove(&(journal, *number)) => {
                steps.insert(Step::CommitDone);
            }
            QueueRecord::Scheduled {
                number,
                payload: None,
                ..
            } if self.left.remove(&(journal, *number)) => {
                steps.insert(Step::ReleaseDone);
            }
            QueueRecord::Reign(_)
            | QueueRecord::Group { .. }
            | QueueRecord::Cursor { .. }
            | QueueRecord::Block { .. }
            | QueueRecord::Attempts { .. }
            | QueueRecord::Ledger { .. }
            | QueueRecord::Gap { .. }
            | QueueRecord::Version { .. }
            | QueueRecord::Scheduled { .. }
            | QueueRecord::Cancelled { .. }
            | QueueRecord::Half { .. }
            | QueueRecord::Dedup { .. }
            | QueueRecord::HalfChecks { .. }
            | QueueRecord::Decided { .. }
            | QueueRecord::Sequence { .. }
            | QueueRecord::Departing { .. }
            | QueueRecord::Replay { .. }
            | QueueRecord::MovedBack { .. }
            | QueueRecord::Aside { .. }
            | QueueRecord::Delays(_)
            | QueueRecord::TakenIn { .. } => {}
        }
    }

    fn read_outgoing(
        &mut self,
        journal: TopicPartition,
        (destination, sequence): (&Destination, u64),
        batch: Option<&Outgoing>,
        steps: &mut BTreeSet<Step>,
    ) {
        let going = match destination {
            Destination::Here => self.here.entry(journal).or_default(),
            Destination::Copies => self.copies.entry(journal).or_default(),
            Destination::There(target) => self.there.entry(target.clone()).or_default(),
        };
        let sequence = producer_sequence(sequence);
        let Some(batch) = batch else {
            let done = going.remove(&sequence);
            let is_letter = done.is_some_and(|(_, steps)| steps.contains(&Step::LetterWritten));
            steps.extend(is_letter.then_some(Step::LetterDone));
            return;
        };
        let mut appends = BTreeSet::new();
        for message in &batch.messages {
            let (leaves, appended) = match message {
                OutgoingMessage::Released { number, .. } => {
                    self.left.insert((journal, *number));
                    (Step::ReleaseLeaves, Step::ReleaseVisible)
                }
                OutgoingMessage::Committed { number, .. } => {
                    self.left.insert((journal, *number));
                    (Step::CommitLeaves, Step::CommitVisible)
                }
                OutgoingMessage::DeadLetter { .. } => (Step::LetterLeaves, Step::LetterWritten),
                OutgoingMessage::Forwarded { .. }
                | OutgoingMessage::Replayed { .. }
                | OutgoingMessage::Aside { .. } => continue,
            };
            steps.insert(leaves);
            appends.insert(appended);
        }
        going.insert(sequence, (journal, appends));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use weir_api::queues::{HalfChecks, StoredDecision, StoredHalf};
    use weir_base::batch::BatchBuilder;
    use weir_base::{Offset, ProducerEpoch, ProducerId, Timestamp, Uuid, companion};

    use super::*;
    use crate::invariants::testing::Scene;

    const PARENT: Uuid = Uuid([1; 16]);
    const JOURNAL: Uuid = Uuid([2; 16]);

    /// A topic with a companion, both of one partition.
    fn image() -> ClusterImage {
        let scene = Scene::new().leader(1, 1, 5).seen().newest;
        let any = scene.topics.values().next().unwrap();
        let mut image = ClusterImage::default();
        for (id, name) in [
            (PARENT, "t".to_owned()),
            (JOURNAL, companion::name_of(PARENT)),
        ] {
            let mut record = (**any).clone();
            (record.id, record.name) = (id, name.as_str().into());
            image.topic_names.insert(id, name.as_str().into());
            image.topics.insert(name.as_str().into(), Arc::new(record));
        }
        image
    }

    fn journal(records: &[QueueRecord]) -> RecordBatch {
        let empty = BatchBuilder::new(Timestamp(1));
        let full = records.iter().fold(empty, |batch, record| {
            let (key, value) = record.encode();
            batch.record(Some(&key), value.as_deref())
        });
        full.build()
    }

    fn append(sequence: i32) -> RecordBatch {
        let id = ProducerId(ProducerId::JOURNALS_FROM);
        let batch = BatchBuilder::new(Timestamp(1)).producer(id, ProducerEpoch(0), sequence);
        batch.record(None, Some(b"m")).build()
    }

    fn half(value: bool) -> QueueRecord {
        let number = EntryNumber(7);
        let value = value.then(|| StoredHalf {
            producers: "p".into(),
            prepared_at: Timestamp(1),
            check_at: Timestamp(2),
            payload: Bytes::new(),
        });
        QueueRecord::Half { number, value }
    }

    fn decided(decision: Decision) -> QueueRecord {
        let until = Timestamp(9);
        QueueRecord::Decided {
            number: EntryNumber(7),
            value: Some(StoredDecision { decision, until }),
        }
    }

    fn outgoing(value: bool) -> QueueRecord {
        let committed = OutgoingMessage::Committed {
            number: EntryNumber(7),
            payload_at: Offset(0),
        };
        let messages = vec![committed];
        QueueRecord::Outgoing {
            destination: Destination::Here,
            sequence: 3,
            value: value.then_some(Outgoing { messages }),
        }
    }

    #[test]
    fn a_half_message_is_followed_to_its_end() {
        let (image, mut reader) = (image(), Reader::default());
        let journal_at = TopicPartition::new(JOURNAL, 0);
        let parent_at = TopicPartition::new(PARENT, 0);
        let mut steps = |at, batch: &RecordBatch| -> Vec<Step> {
            let found = reader.read(&image, at, batch).into_iter();
            found
                .inspect(|found| assert_eq!(found.journal, journal_at))
                .map(|found| found.step)
                .collect()
        };
        let asked = QueueRecord::HalfChecks {
            number: EntryNumber(7),
            value: Some(HalfChecks {
                checks: 1,
                next_at: Timestamp(3),
                parked: false,
            }),
        };
        assert_eq!(
            steps(journal_at, &journal(&[half(true)])),
            [Step::HalfStored]
        );
        assert_eq!(steps(journal_at, &journal(&[asked])), [Step::HalfAsked]);
        let answered = steps(journal_at, &journal(&[decided(Decision::Commit)]));
        assert_eq!(answered, [Step::HalfAnswered, Step::CommitWritten]);
        assert_eq!(steps(parent_at, &append(3)), [], "nothing is on its way");
        let leaves = steps(journal_at, &journal(&[outgoing(true)]));
        assert_eq!(leaves, [Step::CommitLeaves]);
        assert_eq!(steps(parent_at, &append(4)), [], "another batch");
        assert_eq!(steps(parent_at, &append(3)), [Step::CommitVisible]);
        assert_eq!(steps(parent_at, &append(3)), [Step::CommitVisible], "again");
        let done = steps(journal_at, &journal(&[half(false), outgoing(false)]));
        assert_eq!(done, [Step::CommitDone]);
        assert_eq!(steps(parent_at, &append(3)), []);
    }

    #[test]
    fn what_is_rolled_back_was_not_committed() {
        let (image, mut reader) = (image(), Reader::default());
        let at = TopicPartition::new(JOURNAL, 0);
        let records = [decided(Decision::Rollback), half(false)];
        let found = reader.read(&image, at, &journal(&records));
        let steps: Vec<Step> = found.iter().map(|found| found.step).collect();
        assert_eq!(steps, [Step::RollbackWritten]);
    }
}
