//! Messages received and settled for clients of another node than their queue's leader.
//!
//! Clients learn of a new leader when they ask for their route again, which stock ones do every
//! 30 s: until then the node that they know asks for them. The records come along, since they
//! are read where they were leased. What is lost on the way comes again when its lease ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_api::queue::{ELSEWHERE_WAIT_MAX, QueueCall, Settlement};
use weir_api::queues::{
    Delivery, Filter, GroupName, GroupSettings, MemberName, Payload, QueueError, Receipt,
    ReceiptError, Receive,
};
use weir_api::{QueueApi, QueueCallError};
use weir_base::batch::{Record, RecordHeader};
use weir_base::limits::PEER_FRAME_BYTES_MAX;
use weir_base::{NodeId, Offset, Timestamp, TopicPartition};

use super::Undone;
use super::queue_calls::{ODD_ANSWER, QueueAnswer, QueueRequest};
use crate::Broker;

/// Receives under way to other nodes; further ones wait for one of them.
pub(super) const RECEIVES_MAX: usize = 64;
/// How long making a group may take.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(1);
/// Bytes that one receive asks for, were every message as large as its topic allows.
const RECEIVE_BYTES: usize = 16 * 1024 * 1024;
/// Of an answer, what is not messages: the frame's, and each message's numbers and receipt.
const ANSWER_OVERHEAD_BYTES: usize = 4 * 1024;
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// A receive. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    group: GroupName,
    member: MemberName,
    batch_max: u32,
    invisible: Option<Duration>,
    wait: Duration,
    filter: Option<Filter>,
    attempt_id: Option<Arc<str>>,
    /// Of the group, where it is to be made.
    settings: GroupSettings,
}

impl Asked {
    fn of(receive: Receive, settings: GroupSettings) -> Self {
        Self {
            settings,
            group: receive.group,
            member: receive.member,
            batch_max: u32::try_from(receive.batch_max).unwrap_or(u32::MAX),
            invisible: receive.invisible,
            wait: receive.wait,
            filter: receive.filter,
            attempt_id: receive.attempt_id,
        }
    }

    fn receive(&self) -> Receive {
        Receive {
            group: self.group.clone(),
            member: self.member.clone(),
            batch_max: usize::try_from(self.batch_max).unwrap_or(usize::MAX),
            invisible: self.invisible,
            wait: self.wait.min(ELSEWHERE_WAIT_MAX),
            filter: self.filter.clone(),
            attempt_id: self.attempt_id.clone(),
            auto_renew: false,
        }
    }
}

/// A message leased to a client of another node. Goes over the wire: append-only. The receipt in
/// its text form.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leased {
    offset: Offset,
    attempt: u16,
    receipt: String,
    invisible_until: Timestamp,
    timestamp: Timestamp,
    payload: Payload,
}

impl Leased {
    fn of((delivery, record): (Delivery, Record)) -> Self {
        Self {
            offset: delivery.offset,
            attempt: delivery.attempt,
            receipt: delivery.receipt.to_string(),
            invisible_until: delivery.invisible_until,
            timestamp: record.timestamp,
            payload: Payload::of(&record),
        }
    }

    fn bytes(&self) -> usize {
        self.payload.batch_bytes() + MESSAGE_OVERHEAD_BYTES
    }

    /// `None` if its receipt cannot be read: it could not be settled.
    fn delivered(self) -> Option<(Delivery, Record)> {
        let delivery = Delivery {
            offset: self.offset,
            attempt: self.attempt,
            receipt: Receipt::parse(&self.receipt)?,
            invisible_until: self.invisible_until,
        };
        let headers = self.payload.headers.into_iter();
        let record = Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.payload.key,
            value: self.payload.value,
            headers: headers
                .map(|(key, value): (Bytes, Option<Bytes>)| RecordHeader { key, value })
                .collect(),
        };
        Some((delivery, record))
    }
}

/// A [`Settlement`], receipts in their text form. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Settling {
    Ack(Vec<String>),
    Nack(String, Option<Duration>),
    Renew(String, Duration),
    DeadLetter(String, u16),
}

impl Settling {
    fn of(settlement: &Settlement) -> Self {
        match settlement {
            Settlement::Ack(receipts) => {
                Settling::Ack(receipts.iter().map(Receipt::to_string).collect())
            }
            Settlement::Nack(receipt, delay) => Settling::Nack(receipt.to_string(), *delay),
            Settlement::Renew(receipt, invisible) => {
                Settling::Renew(receipt.to_string(), *invisible)
            }
            Settlement::DeadLetter(receipt, attempts) => {
                Settling::DeadLetter(receipt.to_string(), *attempts)
            }
        }
    }

    /// `None` where a receipt is none.
    fn settlement(self) -> Option<Settlement> {
        Some(match self {
            Settling::Ack(receipts) => {
                let receipts = receipts.iter().map(|receipt| Receipt::parse(receipt));
                Settlement::Ack(receipts.collect::<Option<_>>()?)
            }
            Settling::Nack(receipt, delay) => Settlement::Nack(Receipt::parse(&receipt)?, delay),
            Settling::Renew(receipt, invisible) => {
                Settlement::Renew(Receipt::parse(&receipt)?, invisible)
            }
            Settling::DeadLetter(receipt, attempts) => {
                Settlement::DeadLetter(Receipt::parse(&receipt)?, attempts)
            }
        })
    }
}

/// Why a leader did not do it. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Declined {
    /// Nothing was done: not led there, loading.
    NotNow,
    Overloaded,
    NoQueue,
    Indeterminate,
    NoSuchGroup,
    Receipt(ReceiptError),
    Invisible {
        asked: Duration,
        least: Duration,
        most: Duration,
    },
    RetryDelay {
        asked: Duration,
        most: Duration,
    },
    TooManyWaiting(u32),
}

impl From<QueueCallError> for Declined {
    fn from(error: QueueCallError) -> Self {
        if error == QueueCallError::Overloaded {
            return Declined::Overloaded;
        }
        match Undone::from(error) {
            Undone::NoQueue => Declined::NoQueue,
            Undone::Indeterminate => Declined::Indeterminate,
            Undone::NotNow => Declined::NotNow,
            Undone::Refused(QueueError::NoSuchGroup(_)) => Declined::NoSuchGroup,
            Undone::Refused(QueueError::Receipt(error)) => Declined::Receipt(error),
            Undone::Refused(QueueError::InvisibleDuration { asked, least, most }) => {
                Declined::Invisible { asked, least, most }
            }
            Undone::Refused(QueueError::RetryDelay { asked, most }) => {
                Declined::RetryDelay { asked, most }
            }
            Undone::Refused(QueueError::TooManyWaiting { max }) => {
                Declined::TooManyWaiting(u32::try_from(max).unwrap_or(u32::MAX))
            }
            // Names and filters were checked where the client asked.
            Undone::Refused(error) => {
                tracing::warn!(%error, "refused to a client of another node");
                Declined::NotNow
            }
        }
    }
}

impl Declined {
    fn error(self, group: GroupName) -> QueueCallError {
        QueueCallError::Refused(match self {
            Declined::NotNow => return QueueCallError::NotAvailable,
            Declined::Overloaded => return QueueCallError::Overloaded,
            Declined::NoQueue => return QueueCallError::NoQueue,
            Declined::Indeterminate => return QueueCallError::Indeterminate,
            Declined::NoSuchGroup => QueueError::NoSuchGroup(group),
            Declined::Receipt(error) => QueueError::Receipt(error),
            Declined::Invisible { asked, least, most } => {
                QueueError::InvisibleDuration { asked, least, most }
            }
            Declined::RetryDelay { asked, most } => QueueError::RetryDelay { asked, most },
            Declined::TooManyWaiting(max) => QueueError::TooManyWaiting {
                max: usize::try_from(max).unwrap_or(usize::MAX),
            },
        })
    }
}

impl Broker {
    /// See [`QueueApi::receive_elsewhere`].
    pub(crate) async fn forward_receive(
        self,
        leader: NodeId,
        at: TopicPartition,
        (receive, settings): (Receive, GroupSettings),
        timeout: Duration,
    ) -> Result<Vec<(Delivery, Record)>, QueueCallError> {
        let until = self.0.env.clock.now() + timeout;
        let Ok(_permit) = self.0.forwarding.receives.acquire().await else {
            return Err(QueueCallError::NotAvailable);
        };
        let most = RECEIVE_BYTES / self.batch_bytes_max(at).max(1);
        let group = receive.group.clone();
        let receive = Receive {
            batch_max: receive.batch_max.min(most.max(1)),
            ..receive
        };
        let asked = Box::new(Asked::of(receive, settings));
        let request = QueueRequest::Receive { at, asked };
        let left = until.since(self.0.env.clock.now());
        let answer = self.ask_queue_of(leader, request, left).await?;
        let QueueAnswer::Receive(answer) = answer else {
            return Err(ODD_ANSWER);
        };
        let leased = answer.map_err(|declined| declined.error(group))?;
        Ok(leased.into_iter().filter_map(Leased::delivered).collect())
    }

    /// Receives for a client of another node.
    pub(super) async fn receive_for(
        &self,
        at: TopicPartition,
        asked: &Asked,
    ) -> Result<Vec<Leased>, Declined> {
        let queues: &dyn QueueApi = self;
        let leased = match queues.receive(at, asked.receive()).await {
            Err(QueueCallError::Refused(QueueError::NoSuchGroup(group))) => {
                let settings = asked.settings.clone();
                let made = queues.subscribe(at.topic, group, settings, SUBSCRIBE_MAX);
                made.await?;
                queues.receive(at, asked.receive()).await?
            }
            received => received?,
        };
        let found = queues.read_leased(at, &asked.group, leased).await?;
        let mut room = PEER_FRAME_BYTES_MAX - ANSWER_OVERHEAD_BYTES;
        let leased = found.into_iter().map(Leased::of);
        // The rest comes again when its lease ends.
        Ok(leased
            .take_while(|leased| match room.checked_sub(leased.bytes()) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            })
            .collect())
    }

    /// See [`QueueApi::settle_forwarded`].
    pub(crate) async fn forward_settlement(
        self,
        at: TopicPartition,
        group: GroupName,
        settlement: Settlement,
        timeout: Duration,
    ) -> Result<Vec<Result<(), ReceiptError>>, QueueCallError> {
        let queues: &dyn QueueApi = &self;
        let here: QueueCall<_> = queues.settle(at, group.clone(), settlement.clone());
        let elsewhere = match here.await {
            Err(QueueCallError::NotLeader(hint)) => hint,
            done => return done,
        };
        // Leases do not outlive a leadership: without a leader they are over.
        let Some(leader) = elsewhere.leader.filter(|leader| *leader != self.0.node) else {
            return Err(QueueCallError::NotLeader(elsewhere));
        };
        let request = QueueRequest::Settle {
            at,
            group: group.clone(),
            settling: Settling::of(&settlement),
        };
        let answer = self.ask_queue_of(leader, request, timeout).await?;
        let QueueAnswer::Settle(answer) = answer else {
            return Err(ODD_ANSWER);
        };
        answer.map_err(|declined| declined.error(group))
    }

    /// Settles for a client of another node.
    pub(super) async fn settle_for(
        &self,
        at: TopicPartition,
        group: GroupName,
        settling: Settling,
    ) -> Result<Vec<Result<(), ReceiptError>>, Declined> {
        let settlement = settling.settlement();
        let settlement = settlement.ok_or(Declined::Receipt(ReceiptError::Forged))?;
        let queues: &dyn QueueApi = self;
        Ok(queues.settle(at, group, settlement).await?)
    }
}
