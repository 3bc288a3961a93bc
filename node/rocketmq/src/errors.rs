//! Weir's errors in RocketMQ's words: one exhaustive map an enum, never with `_`, so
//! that a new error breaks the build here and not a client there.
//!
//! Clients tell by the code alone whether to try again: 4xxxx is the caller's doing, of
//! which only 42900 (too many requests) is repeated after a pause; everything else of a
//! send is repeated at once, at another queue.

use weir_api::queues::{QueueError, Receipt, ReceiptError, SettingsError};
use weir_api::{AdminError, AppendError, QueueCallError};

use crate::proto::{
    AckMessageResponse, ChangeInvisibleDurationResponse, Code, QueryAssignmentResponse,
    QueryRouteResponse, RecallMessageResponse, ReceiveMessageResponse, SendMessageResponse, Status,
    StatusOnly, received,
};

/// Why a call, or one message of it, was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// For people: what is wrong, with the limit or the remedy.
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        Status {
            code: refusal.code.into(),
            message: refusal.message,
        }
    }
}

/// The status of success.
pub(crate) fn ok() -> Status {
    Status {
        code: Code::Ok.into(),
        message: "OK".to_owned(),
    }
}

/// A refusal as the end of a telemetry stream, the only place where gRPC carries it: its
/// code goes in front of the words, since gRPC has none for it.
pub(crate) fn stream_error(refusal: &Refusal) -> tonic::Status {
    let code = i32::from(refusal.code);
    let message = format!("{code} {:?}: {}", refusal.code, refusal.message);
    match code {
        40_000..50_000 => tonic::Status::invalid_argument(message),
        _ => tonic::Status::internal(message),
    }
}

/// A failed append.
pub(crate) fn append(error: &AppendError) -> Refusal {
    let code = match error {
        AppendError::UnknownPartition => Code::TopicNotFound,
        // Clients repeat these at another queue, which another node may lead.
        AppendError::NotLeader(_)
        | AppendError::LeadershipLost(_)
        | AppendError::NotEnoughReplicas { .. } => Code::HaNotAvailable,
        AppendError::NotEnoughReplicasAfterAppend { .. } => Code::SlavePersistenceTimeout,
        AppendError::TimedOut(_) | AppendError::Unanswered(_) => Code::MasterPersistenceTimeout,
        // Clients repeat these after a pause.
        AppendError::Overloaded | AppendError::QueueFull { .. } => Code::TooManyRequests,
        AppendError::TooLarge { .. } => Code::MessageBodyTooLarge,
        AppendError::Timestamp { .. } | AppendError::InvalidRecord(_) | AppendError::Batch(_) => {
            Code::MessageCorrupted
        }
        AppendError::OutOfOrderSequence { .. }
        | AppendError::ProducerFenced
        | AppendError::UnknownProducer
        | AppendError::DiskFull
        | AppendError::Storage => Code::InternalServerError,
    };
    Refusal::new(code, error.to_string())
}

/// A failed queue call.
pub(crate) fn queue(error: &QueueCallError) -> Refusal {
    let code = match error {
        QueueCallError::UnknownPartition => Code::TopicNotFound,
        QueueCallError::NotLeader(_) | QueueCallError::NotAvailable | QueueCallError::Loading => {
            Code::HaNotAvailable
        }
        QueueCallError::Indeterminate => Code::MasterPersistenceTimeout,
        QueueCallError::Overloaded => Code::TooManyRequests,
        QueueCallError::NoQueue => Code::NotFound,
        QueueCallError::IllegalGroupName(_) => Code::IllegalConsumerGroup,
        QueueCallError::Unreadable(_) => Code::InternalServerError,
        QueueCallError::TooLarge { .. } => Code::MessageBodyTooLarge,
        QueueCallError::Refused(error) => return refused_by_queue(error),
    };
    Refusal::new(code, error.to_string())
}

fn refused_by_queue(error: &QueueError) -> Refusal {
    let code = match error {
        QueueError::InvalidGroupName { .. } => Code::IllegalConsumerGroup,
        QueueError::NoSuchGroup(_) => Code::ConsumerGroupNotFound,
        QueueError::TooManyGroups { .. }
        | QueueError::TooManyWaiting { .. }
        | QueueError::Full { .. }
        | QueueError::TooManyScheduled { .. }
        | QueueError::TooManyHalves { .. }
        | QueueError::TooManyIds { .. } => Code::TooManyRequests,
        QueueError::Settings(SettingsError::Filter(_)) => Code::IllegalFilterExpression,
        QueueError::Settings(SettingsError::OutOfBounds { .. } | SettingsError::Topic { .. }) => {
            Code::BadRequest
        }
        QueueError::InvisibleDuration { .. } | QueueError::RetryDelay { .. } => {
            Code::IllegalInvisibleTime
        }
        QueueError::Receipt(error) => return bad_receipt(error),
        QueueError::DelayTooLong { .. } => Code::IllegalDeliveryTime,
        QueueError::PayloadTooLarge { .. } => Code::MessageBodyTooLarge,
        QueueError::ForgedHandle | QueueError::NoSuchHalf | QueueError::AlreadyDecided(_) => {
            Code::InvalidTransactionId
        }
        QueueError::SentBefore => Code::MessagePropertyConflictWithType,
        QueueError::ToldTooLong { .. } => Code::IllegalMessageId,
        QueueError::Replay(_) | QueueError::NoSuchOutgoing => Code::InternalServerError,
    };
    Refusal::new(code, error.to_string())
}

/// A receipt that does not count. Clients stop repeating on this code alone.
pub(crate) fn bad_receipt(error: &ReceiptError) -> Refusal {
    let code = match error {
        ReceiptError::Forged | ReceiptError::OtherGroup | ReceiptError::Expired { .. } => {
            Code::InvalidReceiptHandle
        }
    };
    Refusal::new(code, error.to_string())
}

/// A receipt from a client.
pub(crate) fn receipt(handle: &str) -> Result<Receipt, Refusal> {
    Receipt::parse(handle).ok_or_else(|| bad_receipt(&ReceiptError::Forged))
}

/// A failed call about a receipt. Leases do not outlive a leadership, so one whose leader
/// is elsewhere is over: who went on asking here would ask for ever.
pub(crate) fn settling(error: &QueueCallError) -> Refusal {
    match error {
        QueueCallError::NotLeader(_) | QueueCallError::NoQueue => Refusal::new(
            Code::InvalidReceiptHandle,
            "another node leads the partition since: the message is delivered again",
        ),
        // The topic was looked up before, so no partition of it ever gave this receipt.
        QueueCallError::UnknownPartition => bad_receipt(&ReceiptError::Forged),
        QueueCallError::NotAvailable
        | QueueCallError::Loading
        | QueueCallError::Indeterminate
        | QueueCallError::Overloaded
        | QueueCallError::IllegalGroupName(_)
        | QueueCallError::Unreadable(_)
        | QueueCallError::TooLarge { .. }
        | QueueCallError::Refused(_) => queue(error),
    }
}

/// A failed call about a handle that a client brought, of a half or a delayed message: `code`
/// if no queue of the topic gave it.
pub(crate) fn handle(error: &QueueCallError, code: Code) -> Refusal {
    match error {
        QueueCallError::UnknownPartition
        | QueueCallError::NoQueue
        | QueueCallError::Refused(QueueError::ForgedHandle) => {
            Refusal::new(code, QueueError::ForgedHandle.to_string())
        }
        QueueCallError::NotLeader(_)
        | QueueCallError::NotAvailable
        | QueueCallError::Loading
        | QueueCallError::Indeterminate
        | QueueCallError::Overloaded
        | QueueCallError::IllegalGroupName(_)
        | QueueCallError::Unreadable(_)
        | QueueCallError::TooLarge { .. }
        | QueueCallError::Refused(_) => queue(error),
    }
}

/// One status for all, or a word that each part of the answer has its own.
pub(crate) fn overall<'a>(mut statuses: impl Iterator<Item = &'a Status>) -> Status {
    let first = statuses.next().cloned().unwrap_or_else(ok);
    if statuses.all(|status| status.code == first.code) {
        return first;
    }
    Status {
        code: Code::MultipleResults.into(),
        message: "each message has its own result".to_owned(),
    }
}

/// A topic that could not be made.
pub(crate) fn admin(error: &AdminError) -> Refusal {
    let code = match error {
        AdminError::UnknownTopic(_) | AdminError::UnknownTopicId(_) => Code::TopicNotFound,
        AdminError::InvalidTopicName(_) => Code::IllegalTopic,
        AdminError::TopicExists(_)
        | AdminError::InvalidPartitions(_)
        | AdminError::InvalidReplicationFactor(_)
        | AdminError::InvalidAssignment(_)
        | AdminError::InvalidConfig(_)
        | AdminError::InvalidRequest(_)
        | AdminError::NoReassignment
        | AdminError::PreferredLeaderNotAvailable
        | AdminError::ElectionNotNeeded => Code::BadRequest,
        AdminError::Unavailable(_) => Code::HaNotAvailable,
        AdminError::TimedOut(_) => Code::ProxyTimeout,
    };
    Refusal::new(code, error.to_string())
}

/// An answer that holds nothing but a refusal: its status, in field 1.
macro_rules! refused {
    ($($answer:ident),+) => {
        $(impl From<Status> for $answer {
            fn from(status: Status) -> Self {
                Self { status: Some(status), ..Self::default() }
            }
        })+
    };
}
refused!(
    AckMessageResponse,
    ChangeInvisibleDurationResponse,
    QueryAssignmentResponse,
    QueryRouteResponse,
    RecallMessageResponse,
    SendMessageResponse
);

impl From<Status> for StatusOnly {
    fn from(status: Status) -> Self {
        Self {
            status: Some(status),
        }
    }
}

impl From<Status> for ReceiveMessageResponse {
    fn from(status: Status) -> Self {
        Self {
            content: Some(received::Content::Status(status)),
        }
    }
}
