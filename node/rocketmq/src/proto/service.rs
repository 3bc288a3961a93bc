//! Requests and answers, one pair a method.

use super::{
    Assignment, Endpoints, FilterExpression, Message, MessageQueue, Resource, Status, WireDuration,
    WireTimestamp,
};

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct QueryRouteRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct QueryRouteResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) message_queues: Vec<MessageQueue>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SendMessageRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) messages: Vec<Message>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SendResultEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(crate) message_id: String,
    #[prost(string, tag = "3")]
    pub(crate) transaction_id: String,
    #[prost(int64, tag = "4")]
    pub(crate) offset: i64,
    #[prost(string, tag = "5")]
    pub(crate) recall_handle: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SendMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<SendResultEntry>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct QueryAssignmentRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "3")]
    pub(crate) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct QueryAssignmentResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) assignments: Vec<Assignment>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ReceiveMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) message_queue: Option<MessageQueue>,
    #[prost(message, optional, tag = "3")]
    pub(crate) filter_expression: Option<FilterExpression>,
    #[prost(int32, tag = "4")]
    pub(crate) batch_size: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) invisible_duration: Option<WireDuration>,
    #[prost(bool, tag = "6")]
    pub(crate) auto_renew: bool,
    #[prost(message, optional, tag = "7")]
    pub(crate) long_polling_timeout: Option<WireDuration>,
    #[prost(string, optional, tag = "8")]
    pub(crate) attempt_id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ReceiveMessageResponse {
    #[prost(oneof = "received::Content", tags = "1, 2, 3")]
    pub(crate) content: Option<received::Content>,
}

pub(crate) mod received {
    #[derive(Clone, PartialEq, Eq, ::prost::Oneof)]
    #[expect(
        clippy::large_enum_variant,
        reason = "messages are what nearly all of them are"
    )]
    pub(crate) enum Content {
        #[prost(message, tag = "1")]
        Status(super::Status),
        #[prost(message, tag = "2")]
        Message(super::Message),
        #[prost(message, tag = "3")]
        DeliveryTimestamp(super::WireTimestamp),
    }
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct AckMessageEntry {
    #[prost(string, tag = "1")]
    pub(crate) message_id: String,
    #[prost(string, tag = "2")]
    pub(crate) receipt_handle: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct AckMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) topic: Option<Resource>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) entries: Vec<AckMessageEntry>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct AckMessageResultEntry {
    #[prost(string, tag = "1")]
    pub(crate) message_id: String,
    #[prost(string, tag = "2")]
    pub(crate) receipt_handle: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct AckMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entries: Vec<AckMessageResultEntry>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ForwardMessageToDeadLetterQueueRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub(crate) receipt_handle: String,
    #[prost(string, tag = "4")]
    pub(crate) message_id: String,
    #[prost(int32, tag = "5")]
    pub(crate) delivery_attempt: i32,
    #[prost(int32, tag = "6")]
    pub(crate) max_delivery_attempts: i32,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct HeartbeatRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(enumeration = "super::ClientType", tag = "2")]
    pub(crate) client_type: i32,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct NotifyClientTerminationRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum TransactionResolution {
    Unspecified = 0,
    Commit = 1,
    Rollback = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum TransactionSource {
    Unspecified = 0,
    Client = 1,
    ServerCheck = 2,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct EndTransactionRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "2")]
    pub(crate) message_id: String,
    #[prost(string, tag = "3")]
    pub(crate) transaction_id: String,
    #[prost(enumeration = "TransactionResolution", tag = "4")]
    pub(crate) resolution: i32,
    #[prost(enumeration = "TransactionSource", tag = "5")]
    pub(crate) source: i32,
    #[prost(string, tag = "6")]
    pub(crate) trace_context: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ChangeInvisibleDurationRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub(crate) receipt_handle: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) invisible_duration: Option<WireDuration>,
    #[prost(string, tag = "5")]
    pub(crate) message_id: String,
    #[prost(bool, optional, tag = "7")]
    pub(crate) suspend: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ChangeInvisibleDurationResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(crate) receipt_handle: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct RecallMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "2")]
    pub(crate) recall_handle: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct RecallMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(crate) message_id: String,
}

/// The answers that hold a status and nothing else: those of Heartbeat,
/// EndTransaction, NotifyClientTermination, ForwardMessageToDeadLetterQueue and of
/// every method that is not served. Each of them has the status in field 1.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct StatusOnly {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
}

/// A request of which nothing is looked at.
#[derive(Clone, Copy, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Unread {}
