//! The nouns: topics, queues, messages.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Code, WireDuration, WireTimestamp};

/// What a message is; the client decides, the topic must allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum MessageType {
    Unspecified = 0,
    Normal = 1,
    Fifo = 2,
    Delay = 3,
    Transaction = 4,
    Lite = 5,
    Priority = 6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Permission {
    Unspecified = 0,
    None = 1,
    Read = 2,
    Write = 3,
    ReadWrite = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum FilterType {
    Unspecified = 0,
    Tag = 1,
    Sql = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum AddressScheme {
    Unspecified = 0,
    Ipv4 = 1,
    Ipv6 = 2,
    DomainName = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum DigestType {
    Unspecified = 0,
    Crc32 = 1,
    Md5 = 2,
    Sha1 = 3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Encoding {
    Unspecified = 0,
    Identity = 1,
    Gzip = 2,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Status {
    #[prost(enumeration = "Code", tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// A topic or a group, in a namespace.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Resource {
    #[prost(string, tag = "1")]
    pub(crate) resource_namespace: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct FilterExpression {
    #[prost(enumeration = "FilterType", tag = "1")]
    pub(crate) r#type: i32,
    #[prost(string, tag = "2")]
    pub(crate) expression: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Address {
    #[prost(string, tag = "1")]
    pub(crate) host: String,
    #[prost(int32, tag = "2")]
    pub(crate) port: i32,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Endpoints {
    #[prost(enumeration = "AddressScheme", tag = "1")]
    pub(crate) scheme: i32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) addresses: Vec<Address>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Broker {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) id: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) endpoints: Option<Endpoints>,
}

/// A partition, with the node that leads it.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct MessageQueue {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub(crate) id: i32,
    #[prost(enumeration = "Permission", tag = "3")]
    pub(crate) permission: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) broker: Option<Broker>,
    #[prost(enumeration = "MessageType", repeated, tag = "5")]
    pub(crate) accept_message_types: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Assignment {
    #[prost(message, optional, tag = "1")]
    pub(crate) message_queue: Option<MessageQueue>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Digest {
    #[prost(enumeration = "DigestType", tag = "1")]
    pub(crate) r#type: i32,
    #[prost(string, tag = "2")]
    pub(crate) checksum: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct DeadLetterQueue {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(string, tag = "2")]
    pub(crate) message_id: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SystemProperties {
    #[prost(string, optional, tag = "1")]
    pub(crate) tag: Option<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) keys: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) message_id: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) body_digest: Option<Digest>,
    #[prost(enumeration = "Encoding", tag = "5")]
    pub(crate) body_encoding: i32,
    #[prost(enumeration = "MessageType", tag = "6")]
    pub(crate) message_type: i32,
    #[prost(message, optional, tag = "7")]
    pub(crate) born_timestamp: Option<WireTimestamp>,
    #[prost(string, tag = "8")]
    pub(crate) born_host: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) store_timestamp: Option<WireTimestamp>,
    #[prost(string, tag = "10")]
    pub(crate) store_host: String,
    #[prost(message, optional, tag = "11")]
    pub(crate) delivery_timestamp: Option<WireTimestamp>,
    #[prost(string, optional, tag = "12")]
    pub(crate) receipt_handle: Option<String>,
    #[prost(int32, tag = "13")]
    pub(crate) queue_id: i32,
    #[prost(int64, optional, tag = "14")]
    pub(crate) queue_offset: Option<i64>,
    #[prost(message, optional, tag = "15")]
    pub(crate) invisible_duration: Option<WireDuration>,
    #[prost(int32, optional, tag = "16")]
    pub(crate) delivery_attempt: Option<i32>,
    #[prost(string, optional, tag = "17")]
    pub(crate) message_group: Option<String>,
    #[prost(string, optional, tag = "18")]
    pub(crate) trace_context: Option<String>,
    #[prost(message, optional, tag = "19")]
    pub(crate) orphaned_transaction_recovery_duration: Option<WireDuration>,
    #[prost(message, optional, tag = "20")]
    pub(crate) dead_letter_queue: Option<DeadLetterQueue>,
    #[prost(string, optional, tag = "21")]
    pub(crate) lite_topic: Option<String>,
    #[prost(int32, optional, tag = "22")]
    pub(crate) priority: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Message {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) user_properties: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) system_properties: Option<SystemProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) body: Bytes,
}
