//! The messages of `apache.rocketmq.v2` that clients here send and read, as the protocol
//! has them: numbers and types count, and are written down apart from those of the front.

use std::time::Duration;

use bytes::Bytes;
use weir_base::Timestamp;

/// The code of success.
const OK: i32 = 20_000;

/// What a client is here for.
pub(crate) const PRODUCER: i32 = 1;
pub(crate) const PUSH_CONSUMER: i32 = 2;
pub(crate) const SIMPLE_CONSUMER: i32 = 3;

/// What a message is.
pub(crate) const NORMAL: i32 = 1;
pub(crate) const FIFO: i32 = 2;
pub(crate) const DELAY: i32 = 3;
pub(crate) const TRANSACTION: i32 = 4;

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn is_ok(&self) -> bool {
        self.code == OK
    }

    /// Whether the caller is at fault: then nothing was done.
    pub(crate) fn is_refusal(&self) -> bool {
        (40_000..50_000).contains(&self.code)
    }
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Resource {
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

pub(crate) fn resource(name: &str) -> Option<Resource> {
    let name = name.to_owned();
    Some(Resource { name })
}

/// `google.protobuf.Duration`, and `Timestamp`, which looks the same.
#[derive(Clone, Copy, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Span {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
        }
    }
}

impl From<Timestamp> for Span {
    fn from(at: Timestamp) -> Self {
        Self {
            seconds: at.0.div_euclid(1_000),
            nanos: i32::try_from(at.0.rem_euclid(1_000)).unwrap_or(0) * 1_000_000,
        }
    }
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct MessageQueue {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub(crate) id: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) broker: Option<Broker>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Broker {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SystemProperties {
    #[prost(string, tag = "3")]
    pub(crate) message_id: String,
    #[prost(int32, tag = "5")]
    pub(crate) body_encoding: i32,
    #[prost(int32, tag = "6")]
    pub(crate) message_type: i32,
    #[prost(message, optional, tag = "7")]
    pub(crate) born_timestamp: Option<Span>,
    #[prost(string, tag = "8")]
    pub(crate) born_host: String,
    #[prost(message, optional, tag = "11")]
    pub(crate) delivery_timestamp: Option<Span>,
    #[prost(string, optional, tag = "12")]
    pub(crate) receipt_handle: Option<String>,
    #[prost(int32, tag = "13")]
    pub(crate) queue_id: i32,
    #[prost(int32, optional, tag = "16")]
    pub(crate) delivery_attempt: Option<i32>,
    #[prost(string, optional, tag = "17")]
    pub(crate) message_group: Option<String>,
    #[prost(message, optional, tag = "19")]
    pub(crate) orphaned_transaction_recovery_duration: Option<Span>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Message {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(message, optional, tag = "3")]
    pub(crate) system_properties: Option<SystemProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) body: Bytes,
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
    #[prost(string, tag = "3")]
    pub(crate) transaction_id: String,
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
pub(crate) struct ReceiveMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) message_queue: Option<MessageQueue>,
    #[prost(int32, tag = "4")]
    pub(crate) batch_size: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) invisible_duration: Option<Span>,
    #[prost(bool, tag = "6")]
    pub(crate) auto_renew: bool,
    #[prost(message, optional, tag = "7")]
    pub(crate) long_polling_timeout: Option<Span>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct ReceiveMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(crate) message: Option<Message>,
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
pub(crate) struct ChangeInvisibleDurationRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub(crate) receipt_handle: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) invisible_duration: Option<Span>,
    #[prost(string, tag = "5")]
    pub(crate) message_id: String,
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
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct EndTransactionRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "2")]
    pub(crate) message_id: String,
    #[prost(string, tag = "3")]
    pub(crate) transaction_id: String,
    /// 1 commits, 2 rolls back.
    #[prost(int32, tag = "4")]
    pub(crate) resolution: i32,
    /// 1 by itself, 2 because it was asked.
    #[prost(int32, tag = "5")]
    pub(crate) source: i32,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct RecallMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(string, tag = "2")]
    pub(crate) recall_handle: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct HeartbeatRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub(crate) client_type: i32,
}

/// An answer of which only the status is read.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Answer {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Publishing {
    #[prost(message, repeated, tag = "1")]
    pub(crate) topics: Vec<Resource>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SubscriptionEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Subscription {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) subscriptions: Vec<SubscriptionEntry>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Settings {
    #[prost(int32, optional, tag = "1")]
    pub(crate) client_type: Option<i32>,
    #[prost(message, optional, tag = "5")]
    pub(crate) publishing: Option<Publishing>,
    #[prost(message, optional, tag = "6")]
    pub(crate) subscription: Option<Subscription>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct RecoverOrphanedTransaction {
    #[prost(message, optional, tag = "1")]
    pub(crate) message: Option<Message>,
    #[prost(string, tag = "2")]
    pub(crate) transaction_id: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct TelemetryCommand {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(crate) settings: Option<Settings>,
    #[prost(message, optional, tag = "5")]
    pub(crate) recover_orphaned_transaction: Option<RecoverOrphanedTransaction>,
}
