//! Delayed and half messages carried to the leader of their partition: messages of one id
//! must come to one partition, whichever node their senders know.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_api::queue::QueueCall;
use weir_api::queues::{
    HalfHandle, Prepare, Prepared, QueueError, Schedule, ScheduleHandle, Scheduled,
};
use weir_api::{QueueApi, QueueCallError};
use weir_base::{Timestamp, TopicPartition};

use super::Undone;
use super::queue_calls::{ODD_ANSWER, QueueAnswer, QueueRequest};
use crate::Broker;

/// What became of a message. Goes over the wire: append-only. Handles in their text form.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum KeptAnswer {
    Kept(String),
    Duplicate {
        handle: Option<String>,
        told: Option<String>,
    },
    TooManyScheduled(u64),
    TooManyHalves(u64),
    TooManyIds(u64),
    TooLarge {
        bytes: u64,
        max: u64,
    },
    TooFar {
        at: Timestamp,
        max: Duration,
    },
    SentBefore,
    /// Nothing was done: not led here, loading, or overloaded.
    NotNow,
    Indeterminate,
    /// A group of the queue has as many messages waiting as it may.
    Full {
        group: String,
        messages_max: u64,
    },
    /// Larger than the topic allows.
    OverTopic {
        size: u64,
        max: u64,
    },
}

impl From<QueueCallError> for KeptAnswer {
    fn from(error: QueueCallError) -> Self {
        let number = |max: usize| u64::try_from(max).unwrap_or(u64::MAX);
        if let QueueCallError::TooLarge { size, max } = error {
            let (size, max) = (number(size), number(max));
            return KeptAnswer::OverTopic { size, max };
        }
        match Undone::from(error) {
            Undone::Refused(QueueError::TooManyScheduled { max }) => {
                KeptAnswer::TooManyScheduled(number(max))
            }
            Undone::Refused(QueueError::TooManyHalves { max }) => {
                KeptAnswer::TooManyHalves(number(max))
            }
            Undone::Refused(QueueError::TooManyIds { max }) => KeptAnswer::TooManyIds(number(max)),
            Undone::Refused(QueueError::PayloadTooLarge { bytes, max }) => KeptAnswer::TooLarge {
                bytes: number(bytes),
                max: number(max),
            },
            Undone::Refused(QueueError::DelayTooLong { at, max }) => KeptAnswer::TooFar { at, max },
            Undone::Refused(QueueError::SentBefore) => KeptAnswer::SentBefore,
            Undone::Refused(QueueError::Full {
                group,
                messages_max,
            }) => KeptAnswer::Full {
                group: group.to_string(),
                messages_max,
            },
            // No other refusal is made of a message that was checked here.
            Undone::Refused(_) | Undone::NoQueue | Undone::NotNow => KeptAnswer::NotNow,
            Undone::Indeterminate => KeptAnswer::Indeterminate,
        }
    }
}

impl From<Result<Scheduled, QueueCallError>> for KeptAnswer {
    fn from(done: Result<Scheduled, QueueCallError>) -> Self {
        match done {
            Ok(Scheduled::Kept(handle)) => KeptAnswer::Kept(handle.to_string()),
            Ok(Scheduled::Duplicate { handle, told }) => KeptAnswer::Duplicate {
                handle: handle.map(|handle| handle.to_string()),
                told: told.map(|told| told.to_string()),
            },
            Err(error) => error.into(),
        }
    }
}

impl From<Result<Prepared, QueueCallError>> for KeptAnswer {
    fn from(done: Result<Prepared, QueueCallError>) -> Self {
        match done {
            Ok(Prepared::Kept(handle)) => KeptAnswer::Kept(handle.to_string()),
            Ok(Prepared::Duplicate { handle, told }) => KeptAnswer::Duplicate {
                handle: Some(handle.to_string()),
                told: told.map(|told| told.to_string()),
            },
            Err(error) => error.into(),
        }
    }
}

/// What a leader says of a message that it has.
enum Has {
    /// It keeps it under this handle.
    New(String),
    /// It had one of its id before.
    Before {
        handle: Option<String>,
        told: Option<Arc<str>>,
    },
}

impl KeptAnswer {
    fn has(self) -> Result<Has, QueueCallError> {
        let number = |max: u64| usize::try_from(max).unwrap_or(usize::MAX);
        Err(QueueCallError::Refused(match self {
            KeptAnswer::Kept(handle) => return Ok(Has::New(handle)),
            KeptAnswer::Duplicate { handle, told } => {
                let told = told.map(Into::into);
                return Ok(Has::Before { handle, told });
            }
            KeptAnswer::TooManyScheduled(max) => QueueError::TooManyScheduled { max: number(max) },
            KeptAnswer::TooManyHalves(max) => QueueError::TooManyHalves { max: number(max) },
            KeptAnswer::TooManyIds(max) => QueueError::TooManyIds { max: number(max) },
            KeptAnswer::TooLarge { bytes, max } => QueueError::PayloadTooLarge {
                bytes: number(bytes),
                max: number(max),
            },
            KeptAnswer::TooFar { at, max } => QueueError::DelayTooLong { at, max },
            KeptAnswer::SentBefore => QueueError::SentBefore,
            KeptAnswer::Full {
                group,
                messages_max,
            } => QueueError::Full {
                group: group.into(),
                messages_max,
            },
            KeptAnswer::OverTopic { size, max } => {
                let (size, max) = (number(size), number(max));
                return Err(QueueCallError::TooLarge { size, max });
            }
            KeptAnswer::NotNow => return Err(QueueCallError::NotAvailable),
            KeptAnswer::Indeterminate => return Err(QueueCallError::Indeterminate),
        }))
    }

    fn scheduled(self) -> Result<Scheduled, QueueCallError> {
        let scheduled = match self.has()? {
            Has::New(handle) => ScheduleHandle::parse(&handle).map(Scheduled::Kept),
            Has::Before { handle, told } => Some(Scheduled::Duplicate {
                handle: handle.as_deref().and_then(ScheduleHandle::parse),
                told,
            }),
        };
        // With a handle that cannot be read it is there all the same.
        scheduled.ok_or(QueueCallError::Indeterminate)
    }

    fn prepared(self) -> Result<Prepared, QueueCallError> {
        let (handle, before) = match self.has()? {
            Has::New(handle) => (Some(handle), None),
            Has::Before { handle, told } => (handle, Some(told)),
        };
        let handle = handle.as_deref().and_then(HalfHandle::parse);
        let handle = handle.ok_or(QueueCallError::Indeterminate)?;
        Ok(match before {
            None => Prepared::Kept(handle),
            Some(told) => Prepared::Duplicate { handle, told },
        })
    }
}

/// What is asked of the leader.
struct ToKeep {
    request: QueueRequest,
    payload_bytes: usize,
}

impl Broker {
    /// See [`QueueApi::schedule_forwarded`].
    pub(crate) async fn forward_schedule(
        self,
        at: TopicPartition,
        schedule: Schedule,
        timeout: Duration,
    ) -> Result<Scheduled, QueueCallError> {
        let queues: &dyn QueueApi = &self;
        let here = queues.schedule(at, schedule.clone());
        let ask = ToKeep {
            payload_bytes: schedule.payload.len(),
            request: QueueRequest::Schedule {
                at,
                deliver_at: schedule.deliver_at,
                payload: schedule.payload,
                dedup: schedule.dedup,
            },
        };
        self.keep(here, ask, timeout, KeptAnswer::scheduled).await
    }

    /// See [`QueueApi::prepare_forwarded`].
    pub(crate) async fn forward_prepare(
        self,
        at: TopicPartition,
        prepare: Prepare,
        timeout: Duration,
    ) -> Result<Prepared, QueueCallError> {
        let queues: &dyn QueueApi = &self;
        let here = queues.prepare_once(at, prepare.clone());
        let ask = ToKeep {
            payload_bytes: prepare.payload.len(),
            request: QueueRequest::Prepare {
                at,
                payload: prepare.payload,
                producers: prepare.producers,
                check_after: prepare.check_after,
                dedup: prepare.dedup,
            },
        };
        self.keep(here, ask, timeout, KeptAnswer::prepared).await
    }

    /// Keeps a message here if this node leads, else has the leader keep it.
    async fn keep<T>(
        &self,
        here: QueueCall<T>,
        ask: ToKeep,
        timeout: Duration,
        read: fn(KeptAnswer) -> Result<T, QueueCallError>,
    ) -> Result<T, QueueCallError> {
        let leader = match here.await {
            Err(QueueCallError::NotLeader(hint)) => hint.leader,
            done => return done,
        };
        let Some(leader) = leader.filter(|leader| *leader != self.0.node) else {
            return Err(QueueCallError::NotAvailable);
        };
        // As for batches: bytes on their way are bounded.
        let kib = u32::try_from(ask.payload_bytes / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(_permit) = self.0.forwarding.kib.try_acquire_many(kib) else {
            return Err(QueueCallError::Overloaded);
        };
        let answer = self.ask_queue_of(leader, ask.request, timeout).await?;
        let QueueAnswer::Kept(answer) = answer else {
            return Err(ODD_ANSWER);
        };
        read(answer)
    }

    /// Keeps a message for another node, if this one leads.
    pub(super) async fn schedule_for(&self, at: TopicPartition, schedule: Schedule) -> KeptAnswer {
        let queues: &dyn QueueApi = self;
        queues.schedule(at, schedule).await.into()
    }

    /// Keeps a half message for another node, if this one leads.
    pub(super) async fn prepare_for(&self, at: TopicPartition, prepare: Prepare) -> KeptAnswer {
        let queues: &dyn QueueApi = self;
        queues.prepare_once(at, prepare).await.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaders_refusal_is_the_same_from_afar() {
        let refused = [
            QueueError::TooManyScheduled { max: 1 },
            QueueError::TooManyHalves { max: 2 },
            QueueError::TooManyIds { max: 3 },
            QueueError::PayloadTooLarge { bytes: 5, max: 4 },
            QueueError::SentBefore,
            QueueError::Full {
                group: "g".into(),
                messages_max: 6,
            },
        ];
        let refused = refused.into_iter().map(QueueCallError::Refused);
        let too_large = QueueCallError::TooLarge { size: 8, max: 7 };
        for error in refused.chain([too_large, QueueCallError::Indeterminate]) {
            let said = error.to_string();
            let refused = KeptAnswer::from(error).has();
            assert_eq!(refused.err().map(|error| error.to_string()), Some(said));
        }
    }
}
