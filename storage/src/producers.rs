//! Idempotence: what each producer last wrote to this partition.
//!
//! Per producer: its epoch, its last sequence and its last five batches with their
//! offsets, so that a batch sent again is answered with the offsets of the original
//! (S-19, S-22). The state is a fold of the log: it is cut with it (M11) and rebuilt from
//! the newest snapshot and the batches behind it. It upholds I11. A producer that was
//! silent for [`PRODUCER_EXPIRY`] is forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_base::{BatchHeader, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::log::{ProducerSummary, SequenceError};

/// Batches a producer may have in flight, and so send again.
pub const WINDOW_BATCHES: usize = 5;
/// Silence after which a producer is forgotten.
pub const PRODUCER_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// Sequences count to 2^31-1 and go on at 0.
const SEQUENCE_MASK: i64 = 0x7fff_ffff;

/// The state of all producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Producer {
    epoch: ProducerEpoch,
    /// -1 if the epoch has no data batch yet.
    last_sequence: i32,
    last_timestamp: Timestamp,
    window: VecDeque<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    first_sequence: i32,
    last_sequence: i32,
    base: Offset,
    end: Offset,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    New,
    /// It is there already.
    Duplicate {
        /// First offset of the original.
        base: Offset,
        /// One past its last.
        end: Offset,
    },
    /// Refuse it.
    Refused(SequenceError),
}

/// The sequence `steps` after `sequence`.
fn advance(sequence: i32, steps: u32) -> i32 {
    i32::try_from((i64::from(sequence) + i64::from(steps)) & SEQUENCE_MASK).unwrap_or(0)
}

fn last_sequence(header: &BatchHeader) -> i32 {
    advance(header.base_sequence, header.last_offset_delta)
}

/// Whether it is a control batch as Kafka's are, without a sequence: they only fence. A
/// journal's have one.
fn is_marker(header: &BatchHeader) -> bool {
    header.attributes.is_control() && header.base_sequence < 0
}

impl Producers {
    /// Whether a leader may append a batch with this header now.
    #[must_use]
    pub fn check(&self, header: &BatchHeader, now: Timestamp) -> Verdict {
        if !header.is_idempotent() {
            return Verdict::New;
        }
        let known = self
            .by_id
            .get(&header.producer_id)
            .filter(|producer| !producer.is_expired(now));
        let control = is_marker(header);
        let Some(producer) = known else {
            // A journal counts on for ever: after a day of silence, or in a log made anew,
            // it goes on where it is.
            let may_begin = header.base_sequence == 0 || header.producer_id.is_journal();
            return if control || may_begin {
                Verdict::New
            } else {
                Verdict::Refused(SequenceError::UnknownProducer {
                    producer: header.producer_id,
                })
            };
        };
        if header.producer_epoch < producer.epoch {
            return Verdict::Refused(SequenceError::Fenced {
                epoch: header.producer_epoch,
                current: producer.epoch,
            });
        }
        if control {
            return Verdict::New;
        }
        let mut expected = 0;
        if header.producer_epoch == producer.epoch {
            if let Some(original) = producer.find(header).filter(|_| !weir_base::mutant!(M13)) {
                return Verdict::Duplicate {
                    base: original.base,
                    end: original.end,
                };
            }
            expected = advance(producer.last_sequence, 1);
        }
        if header.base_sequence == expected {
            return Verdict::New;
        }
        Verdict::Refused(SequenceError::OutOfOrder {
            sequence: header.base_sequence,
            expected,
        })
    }

    /// Notes a batch that is in the log at `base..end` since `now`.
    pub fn on_append(&mut self, header: &BatchHeader, base: Offset, end: Offset, now: Timestamp) {
        if !header.is_idempotent() {
            return;
        }
        let producer = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| Producer::new(header.producer_epoch, now));
        if producer.is_expired(now) || header.producer_epoch > producer.epoch {
            *producer = Producer::new(header.producer_epoch, now);
        }
        producer.last_timestamp = now;
        if is_marker(header) {
            return;
        }
        producer.last_sequence = last_sequence(header);
        let window_max = if weir_base::mutant!(M12) {
            1
        } else {
            WINDOW_BATCHES
        };
        if producer.window.len() == window_max {
            producer.window.pop_front();
        }
        producer.window.push_back(Entry {
            first_sequence: header.base_sequence,
            last_sequence: producer.last_sequence,
            base,
            end,
        });
    }

    /// Copies the state of the producer of `header` over from `other`: with
    /// [`Producers::absorb`], lets a group of batches be checked before any is written.
    pub fn borrow_from(&mut self, other: &Producers, header: &BatchHeader) {
        if let Some(producer) = other.by_id.get(&header.producer_id) {
            self.by_id
                .entry(header.producer_id)
                .or_insert_with(|| producer.clone());
        }
    }

    /// Takes over every producer of `staged`.
    pub fn absorb(&mut self, staged: Producers) {
        self.by_id.extend(staged.by_id);
    }

    /// Drops producers silent since a day before `now`: called before a snapshot.
    pub fn expire(&mut self, now: Timestamp) {
        self.by_id.retain(|_, producer| !producer.is_expired(now));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.by_id.clear();
    }

    /// All producers, by id.
    #[must_use]
    pub fn summaries(&self) -> Vec<ProducerSummary> {
        self.by_id
            .iter()
            .map(|(id, producer)| ProducerSummary {
                id: *id,
                epoch: producer.epoch,
                last_sequence: producer.last_sequence,
                last_timestamp: producer.last_timestamp,
            })
            .collect()
    }
}

impl Producer {
    fn new(epoch: ProducerEpoch, now: Timestamp) -> Self {
        Self {
            epoch,
            last_sequence: -1,
            last_timestamp: now,
            window: VecDeque::new(),
        }
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        self.last_timestamp + PRODUCER_EXPIRY < now
    }

    fn find(&self, header: &BatchHeader) -> Option<&Entry> {
        let last = last_sequence(header);
        self.window.iter().find(|entry| {
            entry.first_sequence == header.base_sequence && entry.last_sequence == last
        })
    }
}

#[cfg(test)]
mod tests;
