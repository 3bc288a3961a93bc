//! The messages of `apache.rocketmq.v2`, written by hand: field numbers and types are
//! the protocol, names follow it. Only what is served or sent is here; fields and
//! messages that are not are skipped by the decoder, as the format wants.

mod code;
mod domain;
mod service;
mod settings;
mod telemetry;
mod time;

pub(crate) use code::Code;
pub(crate) use domain::{
    Address, AddressScheme, Assignment, Broker, DeadLetterQueue, Digest, DigestType, Encoding,
    Endpoints, FilterExpression, FilterType, Message, MessageQueue, MessageType, Permission,
    Resource, Status, SystemProperties,
};
#[cfg(test)]
pub(crate) use service::AckMessageEntry;
pub(crate) use service::{
    AckMessageRequest, AckMessageResponse, AckMessageResultEntry, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, EndTransactionRequest, ForwardMessageToDeadLetterQueueRequest,
    HeartbeatRequest, NotifyClientTerminationRequest, QueryAssignmentRequest,
    QueryAssignmentResponse, QueryRouteRequest, QueryRouteResponse, RecallMessageRequest,
    RecallMessageResponse, ReceiveMessageRequest, ReceiveMessageResponse, SendMessageRequest,
    SendMessageResponse, SendResultEntry, StatusOnly, TransactionResolution, TransactionSource,
    Unread, received,
};
#[cfg(test)]
pub(crate) use settings::SubscriptionEntry;
pub(crate) use settings::{
    ClientType, CustomizedBackoff, ExponentialBackoff, Metric, Publishing, RetryPolicy, Settings,
    Subscription, pub_sub, strategy,
};
#[cfg(test)]
pub(crate) use telemetry::{Nonce, ThreadStackTrace};
pub(crate) use telemetry::{RecoverOrphanedTransactionCommand, TelemetryCommand, command};
pub(crate) use time::{WireDuration, WireTimestamp};
