//! Carries a call to the node that leads a partition, over the link between the two.
//!
//! For callers that cannot be redirected: fronts whose clients know one node only, and
//! the outbox of a hosted machine. What must hold:
//!
//! - An answer is the leader's own word, or says that it is not known: once the request
//!   has left, a broken link or a deadline is [`AppendError::Unanswered`], never a refusal.
//! - Only what surely was not appended is tried again, until the caller's time is up.
//! - Bytes on their way are bounded on this side, requests on the other (`weir-peer`).
//!
//! Called by `append`; calls the leader's `append` through [`ForwardService`], which
//! answers members of the cluster alone and never forwards further. On a crash the
//! caller's link breaks and it hears `Unanswered`.
//!
//! ```text
//! request: postcard Request, then the batch's bytes       answer: postcard Answer
//! nothing: is somebody there?                             answer: nothing
//! ```

mod checks;
mod deliveries;
mod keeping;
mod queue_calls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use weir_api::log::{Acks, Appended};
use weir_api::queues::{Cancelled, QueueError, ScheduleHandle};
use weir_api::{AppendError, NotLeader, QueueApi, QueueCallError};
use weir_base::limits::BATCH_BYTES_CEILING;
use weir_base::{BoxFuture, LeaderEpoch, Monotonic, NodeId, RecordBatch, TopicPartition};
use weir_peer::{FrameStream, PeerError, PeerService, Peers, Service};

use crate::Broker;
use queue_calls::{QueueAnswer, QueueRequest};

/// Bytes of batches on their way to other nodes, in KiB; more is refused as overload.
const KIB_ON_THE_WAY_MAX: u32 = 2 * BATCH_BYTES_CEILING / 1024;
/// Pause before another leader is looked for, unless the image changes earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Longest that a forwarded append waits at its leader, whatever the caller asked for.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What is asked of a leader. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Append the batch that follows.
    Append {
        to: TopicPartition,
        acks: Acks,
        timeout: Duration,
    },
    /// Take a delayed message back; the handle in its text form.
    Cancel { at: TopicPartition, handle: String },
    /// As `Append`, of a batch that a full queue sent on: it goes no further.
    AppendRedirected {
        to: TopicPartition,
        acks: Acks,
        timeout: Duration,
    },
    /// A call on its queues.
    Queue(QueueRequest),
}

/// What it says. Goes over the wire: append-only.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Append(Result<Appended, AppendError>),
    Cancel(CancelAnswer),
    Queue(QueueAnswer),
}

/// What became of a message that was to be taken back. Append-only, as [`Answer`].
#[derive(Debug, Serialize, Deserialize)]
enum CancelAnswer {
    Cancelled,
    AlreadyFired,
    Unknown,
    Forged,
    /// Nothing was done: not led here, loading, or overloaded.
    NotNow,
    Indeterminate,
}

/// What an error of a leader's queue says of a call that changes something.
pub(super) enum Undone {
    /// The queue looked, and refused.
    Refused(QueueError),
    /// There is no queue that could know.
    NoQueue,
    /// Nothing was done: not led here, loading, or overloaded.
    NotNow,
    /// Done or not.
    Indeterminate,
}

impl From<QueueCallError> for Undone {
    fn from(error: QueueCallError) -> Self {
        match error {
            QueueCallError::Refused(error) => Undone::Refused(error),
            QueueCallError::NoQueue => Undone::NoQueue,
            QueueCallError::Indeterminate => Undone::Indeterminate,
            QueueCallError::UnknownPartition
            | QueueCallError::NotLeader(_)
            | QueueCallError::NotAvailable
            | QueueCallError::Loading
            | QueueCallError::Overloaded
            | QueueCallError::IllegalGroupName(_)
            | QueueCallError::Unreadable(_)
            | QueueCallError::TooLarge { .. } => Undone::NotNow,
        }
    }
}

impl CancelAnswer {
    fn of(done: Result<Cancelled, QueueCallError>) -> Self {
        match done.map_err(Undone::from) {
            Ok(Cancelled::Cancelled) => CancelAnswer::Cancelled,
            Ok(Cancelled::AlreadyFired) => CancelAnswer::AlreadyFired,
            Ok(Cancelled::Unknown) => CancelAnswer::Unknown,
            Err(Undone::Refused(_) | Undone::NoQueue) => CancelAnswer::Forged,
            Err(Undone::NotNow) => CancelAnswer::NotNow,
            Err(Undone::Indeterminate) => CancelAnswer::Indeterminate,
        }
    }

    fn result(self) -> Result<Cancelled, QueueCallError> {
        match self {
            CancelAnswer::Cancelled => Ok(Cancelled::Cancelled),
            CancelAnswer::AlreadyFired => Ok(Cancelled::AlreadyFired),
            CancelAnswer::Unknown => Ok(Cancelled::Unknown),
            CancelAnswer::Forged => Err(QueueError::ForgedHandle.into()),
            CancelAnswer::NotNow => Err(QueueCallError::NotAvailable),
            CancelAnswer::Indeterminate => Err(QueueCallError::Indeterminate),
        }
    }
}

/// The sending side.
pub(crate) struct Forwarding {
    peers: Peers,
    kib: Arc<Semaphore>,
    receives: Semaphore,
}

impl Forwarding {
    pub(crate) fn new(peers: Peers) -> Self {
        let permits = usize::try_from(KIB_ON_THE_WAY_MAX).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            peers,
            kib: Arc::new(Semaphore::new(permits)),
            receives: Semaphore::new(deliveries::RECEIVES_MAX),
        }
    }
}

/// What one attempt gave.
enum Attempt {
    /// The last word.
    Done(Result<Appended, AppendError>),
    /// Surely not appended; another attempt may find the leader.
    NotYet(AppendError),
}

impl Broker {
    /// See [`weir_api::LogApi::append_forwarded`].
    pub(crate) async fn forward_append(
        self,
        to: TopicPartition,
        batch: RecordBatch,
        acks: Acks,
        timeout: Duration,
        may_redirect: bool,
    ) -> Result<Appended, AppendError> {
        let env = self.0.env.clone();
        let until = env.clock.now() + timeout;
        let mut images = self.0.metadata.images();
        loop {
            images.mark_unchanged();
            let why = match self.attempt(to, &batch, (acks, may_redirect), until).await {
                Attempt::Done(result) => return result,
                Attempt::NotYet(why) => why,
            };
            let now = env.clock.now();
            if now >= until {
                return Err(why);
            }
            let pause = RETRY_PAUSE.min(until.since(now));
            // Either way it is looked at again.
            let _moved = env.timeout(pause, images.changed()).await;
        }
    }

    async fn attempt(
        &self,
        to: TopicPartition,
        batch: &RecordBatch,
        (acks, may_redirect): (Acks, bool),
        until: Monotonic,
    ) -> Attempt {
        let left = until.since(self.0.env.clock.now());
        let Some(hint) = self.leader_hint(to) else {
            return Attempt::Done(Err(AppendError::UnknownPartition));
        };
        let result = match hint.leader {
            None => Err(AppendError::NotLeader(hint)),
            Some(leader) if leader == self.0.node => {
                let batch = batch.clone();
                let appended = self.append_admitted(to, batch, acks, left, may_redirect);
                appended.await
            }
            Some(leader) => {
                let timeout = left;
                let request = if may_redirect {
                    Request::Append { to, acks, timeout }
                } else {
                    Request::AppendRedirected { to, acks, timeout }
                };
                self.ask(leader, &request, batch, left).await
            }
        };
        match result {
            Err(error @ AppendError::NotLeader(_)) => Attempt::NotYet(error),
            result => Attempt::Done(result),
        }
    }

    async fn ask(
        &self,
        leader: NodeId,
        request: &Request,
        batch: &RecordBatch,
        left: Duration,
    ) -> Result<Appended, AppendError> {
        let forwarding = &self.0.forwarding;
        let kib = u32::try_from(batch.size() / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(_permit) = forwarding.kib.try_acquire_many(kib) else {
            return Err(AppendError::Overloaded);
        };
        // Nobody heard of it: as if it were led by nobody just now.
        let unheard = AppendError::NotLeader(NotLeader {
            leader: None,
            epoch: LeaderEpoch(0),
        });
        let Ok(mut body) = postcard::to_stdvec(request) else {
            return Err(unheard);
        };
        for chunk in batch.chunks() {
            body.extend_from_slice(&chunk);
        }
        let asked = forwarding
            .peers
            .request(leader, Service::Broker, body.into(), left);
        match asked.await {
            Ok(answer) => match postcard::from_bytes(&answer) {
                Ok(Answer::Append(result)) => result,
                Ok(Answer::Cancel(_) | Answer::Queue(_)) | Err(_) => {
                    Err(AppendError::Unanswered(leader))
                }
            },
            Err(PeerError::Lost { .. } | PeerError::Frame(_)) => {
                Err(AppendError::Unanswered(leader))
            }
            Err(error @ (PeerError::Unreachable { .. } | PeerError::Refused { .. })) => {
                tracing::debug!(%leader, %error, "not forwarded");
                Err(unheard)
            }
        }
    }
}

/// The receiving side.
pub(crate) struct ForwardService(pub(crate) Broker);

impl PeerService for ForwardService {
    fn on_request(
        &self,
        from: NodeId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        if body.is_empty() {
            // A sign of life is asked for, and this is one.
            return Box::pin(std::future::ready(Ok(body)));
        }
        let broker = self.0.clone();
        Box::pin(async move {
            let node = broker.0.node;
            let refuse = |detail: String| PeerError::Refused { node, detail };
            if !broker.0.metadata.image().nodes.contains_key(&from) {
                return Err(refuse(format!("node {from} is no member of the cluster")));
            }
            let decoded = postcard::take_from_bytes::<Request>(&body);
            let (request, rest) = decoded.map_err(|error| refuse(error.to_string()))?;
            let rest = body.slice_ref(rest);
            let answer = match request {
                Request::Append { to, acks, timeout } => {
                    Answer::Append(broker.append_for(to, &rest, acks, timeout, true).await)
                }
                Request::AppendRedirected { to, acks, timeout } => {
                    Answer::Append(broker.append_for(to, &rest, acks, timeout, false).await)
                }
                Request::Cancel { at, handle } => {
                    Answer::Cancel(broker.cancel_for(at, &handle).await)
                }
                Request::Queue(request) => Answer::Queue(broker.queue_for(request).await),
            };
            postcard::to_stdvec(&answer)
                .map(Bytes::from)
                .map_err(|error| refuse(error.to_string()))
        })
    }

    fn on_stream(&self, _: NodeId, stream: FrameStream) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(stream) })
    }

    fn on_datagram(&self, _: NodeId, _: Bytes) {}
}

impl Broker {
    /// Appends for another node, if this one leads. The sender checked the batch; its
    /// checksum is looked at again, since it came over a wire.
    async fn append_for(
        &self,
        to: TopicPartition,
        batch: &Bytes,
        acks: Acks,
        timeout: Duration,
        may_redirect: bool,
    ) -> Result<Appended, AppendError> {
        let batch = RecordBatch::parse(batch)?;
        batch.verify_checksum()?;
        let timeout = timeout.min(WAIT_MAX);
        let appended = self.append_admitted(to, batch, acks, timeout, may_redirect);
        appended.await
    }
}

impl Broker {
    /// See [`QueueApi::cancel_forwarded`].
    pub(crate) async fn forward_cancel(
        self,
        at: TopicPartition,
        handle: ScheduleHandle,
        timeout: Duration,
    ) -> Result<Cancelled, QueueCallError> {
        let queues: &dyn QueueApi = &self;
        let hint = match queues.cancel(at, handle).await {
            Err(QueueCallError::NotLeader(hint)) => hint,
            done => return done,
        };
        let Some(leader) = hint.leader.filter(|leader| *leader != self.0.node) else {
            return Err(QueueCallError::NotAvailable);
        };
        let handle = handle.to_string();
        let Ok(request) = postcard::to_stdvec(&Request::Cancel { at, handle }) else {
            return Err(QueueCallError::NotAvailable);
        };
        let peers = &self.0.forwarding.peers;
        let asked = peers.request(leader, Service::Broker, request.into(), timeout);
        match asked.await {
            Ok(answer) => match postcard::from_bytes(&answer) {
                Ok(Answer::Cancel(answer)) => answer.result(),
                Ok(Answer::Append(_) | Answer::Queue(_)) | Err(_) => {
                    Err(QueueCallError::Indeterminate)
                }
            },
            Err(PeerError::Lost { .. } | PeerError::Frame(_)) => Err(QueueCallError::Indeterminate),
            Err(PeerError::Unreachable { .. } | PeerError::Refused { .. }) => {
                Err(QueueCallError::NotAvailable)
            }
        }
    }

    /// Takes a delayed message back for another node, if this one leads.
    async fn cancel_for(&self, at: TopicPartition, handle: &str) -> CancelAnswer {
        let queues: &dyn QueueApi = self;
        match ScheduleHandle::parse(handle) {
            Some(handle) => CancelAnswer::of(queues.cancel(at, handle).await),
            None => CancelAnswer::Forged,
        }
    }
}
