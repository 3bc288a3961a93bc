//! Queue calls carried to the leader: what it says of a group, what its clients elsewhere ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_api::queues::{
    Decision, DecisionSource, Dedup, GroupName, HalfHandle, MemberName, Payload, Prepare,
    QueueError, ReceiptError, Schedule,
};
use weir_api::{QueueApi, QueueCallError};
use weir_base::{BoxFuture, NodeId, Timestamp, TopicPartition};
use weir_peer::{PeerError, Service};

use super::deliveries::{Asked, Declined, Leased, Settling};
use super::keeping::KeptAnswer;
use super::{Answer, Request, Undone};
use crate::Broker;
use crate::partitions::join_all;
use crate::queues::Standing;

/// What is asked of a leader. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum QueueRequest {
    /// Where a group stands at some partitions.
    Standings {
        at: Vec<TopicPartition>,
        group: GroupName,
    },
    /// Decide on a half message; the handle in its text form.
    Resolve {
        at: TopicPartition,
        handle: String,
        decision: Decision,
        source: DecisionSource,
    },
    /// Keep a message until it is due.
    Schedule {
        at: TopicPartition,
        deliver_at: Timestamp,
        payload: Bytes,
        dedup: Option<Dedup>,
    },
    /// Keep a half message.
    Prepare {
        at: TopicPartition,
        payload: Bytes,
        producers: Arc<str>,
        check_after: Option<Duration>,
        dedup: Option<Dedup>,
    },
    /// Somebody here can be asked about half messages: of the first partition that has one.
    Check {
        at: Vec<TopicPartition>,
        member: MemberName,
        producers: Arc<str>,
    },
    /// A check reached nobody; the handle in its text form.
    Missed { at: TopicPartition, handle: String },
    /// Lease messages to a client, and send them along.
    Receive {
        at: TopicPartition,
        asked: Box<Asked>,
    },
    /// Settle what was leased.
    Settle {
        at: TopicPartition,
        group: GroupName,
        settling: Settling,
    },
}

/// What it says. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum QueueAnswer {
    /// In the order of the question.
    Standings(Vec<Standing>),
    Resolve(ResolveAnswer),
    Kept(KeptAnswer),
    /// The handle in its text form; the half message.
    Check(Option<(TopicPartition, String, Payload)>),
    Missed,
    Receive(Result<Vec<Leased>, Declined>),
    /// In the order of the receipts.
    Settle(Result<Vec<Result<(), ReceiptError>>, Declined>),
}

/// What an answer to another question comes to: something was done, or not.
pub(super) const ODD_ANSWER: QueueCallError = QueueCallError::Indeterminate;

/// What became of a decision. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ResolveAnswer {
    Decided,
    Forged,
    NotRemembered,
    DecidedBefore(Decision),
    /// Nothing was done: not led here, loading, or overloaded.
    NotNow,
    Indeterminate,
}

impl ResolveAnswer {
    fn of(done: Result<(), QueueCallError>) -> Self {
        match done.map_err(Undone::from) {
            Ok(()) => ResolveAnswer::Decided,
            Err(Undone::Refused(QueueError::AlreadyDecided(decision))) => {
                ResolveAnswer::DecidedBefore(decision)
            }
            Err(Undone::Refused(QueueError::NoSuchHalf) | Undone::NoQueue) => {
                ResolveAnswer::NotRemembered
            }
            Err(Undone::Refused(_)) => ResolveAnswer::Forged,
            Err(Undone::NotNow) => ResolveAnswer::NotNow,
            Err(Undone::Indeterminate) => ResolveAnswer::Indeterminate,
        }
    }

    fn result(self) -> Result<(), QueueCallError> {
        match self {
            ResolveAnswer::Decided => Ok(()),
            ResolveAnswer::Forged => Err(QueueError::ForgedHandle.into()),
            ResolveAnswer::NotRemembered => Err(QueueError::NoSuchHalf.into()),
            ResolveAnswer::DecidedBefore(decision) => {
                Err(QueueError::AlreadyDecided(decision).into())
            }
            ResolveAnswer::NotNow => Err(QueueCallError::NotAvailable),
            ResolveAnswer::Indeterminate => Err(QueueCallError::Indeterminate),
        }
    }
}

impl Broker {
    /// Carries a request; a broken link leaves open whether it was heard.
    pub(super) async fn ask_queue_of(
        &self,
        leader: NodeId,
        request: QueueRequest,
        timeout: Duration,
    ) -> Result<QueueAnswer, QueueCallError> {
        let Ok(request) = postcard::to_stdvec(&Request::Queue(request)) else {
            return Err(QueueCallError::NotAvailable);
        };
        let peers = &self.0.forwarding.peers;
        let asked = peers.request(leader, Service::Broker, request.into(), timeout);
        match asked.await {
            Ok(answer) => match postcard::from_bytes(&answer) {
                Ok(Answer::Queue(answer)) => Ok(answer),
                Ok(Answer::Append(_) | Answer::Cancel(_)) | Err(_) => {
                    Err(QueueCallError::Indeterminate)
                }
            },
            Err(PeerError::Lost { .. } | PeerError::Frame(_)) => Err(QueueCallError::Indeterminate),
            Err(PeerError::Unreachable { .. } | PeerError::Refused { .. }) => {
                Err(QueueCallError::NotAvailable)
            }
        }
    }

    /// What another leader says of a group, a word for each partition.
    pub(crate) async fn ask_standings(
        &self,
        leader: NodeId,
        at: Vec<TopicPartition>,
        group: GroupName,
        timeout: Duration,
    ) -> Vec<Standing> {
        let unknown = vec![Standing::Unknown; at.len()];
        let request = QueueRequest::Standings { at, group };
        match self.ask_queue_of(leader, request, timeout).await {
            Ok(QueueAnswer::Standings(told)) if told.len() == unknown.len() => told,
            Ok(_) | Err(_) => unknown,
        }
    }

    /// What this node says of a group, a word for each partition.
    pub(crate) async fn standings_here(
        &self,
        at: Vec<TopicPartition>,
        group: GroupName,
    ) -> Vec<Standing> {
        let mut each: Vec<BoxFuture<'_, Standing>> = Vec::with_capacity(at.len());
        for at in at {
            each.push(Box::pin(self.standing(at, group.clone())));
        }
        join_all(each.into_iter()).await
    }

    /// See [`QueueApi::resolve_forwarded`].
    pub(crate) async fn forward_decision(
        self,
        at: TopicPartition,
        handle: HalfHandle,
        (decision, source): (Decision, DecisionSource),
        timeout: Duration,
    ) -> Result<(), QueueCallError> {
        let queues: &dyn QueueApi = &self;
        let hint = match queues.resolve(at, handle, decision, source).await {
            Err(QueueCallError::NotLeader(hint)) => hint,
            done => return done,
        };
        let Some(leader) = hint.leader.filter(|leader| *leader != self.0.node) else {
            return Err(QueueCallError::NotAvailable);
        };
        let handle = handle.to_string();
        let request = QueueRequest::Resolve {
            at,
            handle,
            decision,
            source,
        };
        let answer = self.ask_queue_of(leader, request, timeout).await?;
        let QueueAnswer::Resolve(answer) = answer else {
            return Err(ODD_ANSWER);
        };
        answer.result()
    }

    /// Answers another node.
    pub(super) async fn queue_for(&self, request: QueueRequest) -> QueueAnswer {
        match request {
            QueueRequest::Standings { at, group } => {
                QueueAnswer::Standings(self.standings_here(at, group).await)
            }
            QueueRequest::Resolve {
                at,
                handle,
                decision,
                source,
            } => {
                let queues: &dyn QueueApi = self;
                QueueAnswer::Resolve(match HalfHandle::parse(&handle) {
                    Some(handle) => {
                        let resolved = queues.resolve(at, handle, decision, source);
                        ResolveAnswer::of(resolved.await)
                    }
                    None => ResolveAnswer::Forged,
                })
            }
            QueueRequest::Schedule {
                at,
                deliver_at,
                payload,
                dedup,
            } => {
                let schedule = Schedule {
                    deliver_at,
                    payload,
                    dedup,
                    room: None,
                };
                QueueAnswer::Kept(self.schedule_for(at, schedule).await)
            }
            QueueRequest::Prepare {
                at,
                payload,
                producers,
                check_after,
                dedup,
            } => {
                let prepare = Prepare {
                    payload,
                    producers,
                    check_after,
                    dedup,
                    room: None,
                };
                QueueAnswer::Kept(self.prepare_for(at, prepare).await)
            }
            QueueRequest::Check {
                at,
                member,
                producers,
            } => QueueAnswer::Check(self.check_for(at, member, producers).await),
            QueueRequest::Missed { at, handle } => {
                let queues: &dyn QueueApi = self;
                if let Some(handle) = HalfHandle::parse(&handle)
                    && let Err(error) = queues.check_missed(at, handle).await
                {
                    tracing::debug!(%at, %error, "a check that reached nobody is counted");
                }
                QueueAnswer::Missed
            }
            QueueRequest::Receive { at, asked } => {
                QueueAnswer::Receive(self.receive_for(at, &asked).await)
            }
            QueueRequest::Settle {
                at,
                group,
                settling,
            } => QueueAnswer::Settle(self.settle_for(at, group, settling).await),
        }
    }
}
