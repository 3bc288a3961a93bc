//! What a client is told to do, and tells of itself.

use std::collections::BTreeMap;

use super::{Endpoints, FilterExpression, Resource, WireDuration};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ClientType {
    Unspecified = 0,
    Producer = 1,
    PushConsumer = 2,
    SimpleConsumer = 3,
    PullConsumer = 4,
    LitePushConsumer = 5,
    LiteSimpleConsumer = 6,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct RetryPolicy {
    #[prost(int32, tag = "1")]
    pub(crate) max_attempts: i32,
    #[prost(oneof = "strategy::Strategy", tags = "2, 3")]
    pub(crate) strategy: Option<strategy::Strategy>,
}

pub(crate) mod strategy {
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub(crate) enum Strategy {
        #[prost(message, tag = "2")]
        ExponentialBackoff(super::ExponentialBackoff),
        #[prost(message, tag = "3")]
        CustomizedBackoff(super::CustomizedBackoff),
    }
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ExponentialBackoff {
    #[prost(message, optional, tag = "1")]
    pub(crate) initial: Option<WireDuration>,
    #[prost(message, optional, tag = "2")]
    pub(crate) max: Option<WireDuration>,
    #[prost(float, tag = "3")]
    pub(crate) multiplier: f32,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct CustomizedBackoff {
    #[prost(message, repeated, tag = "1")]
    pub(crate) next: Vec<WireDuration>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct UserAgent {
    #[prost(int32, tag = "1")]
    pub(crate) language: i32,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(string, tag = "3")]
    pub(crate) platform: String,
    #[prost(string, tag = "4")]
    pub(crate) hostname: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Settings {
    #[prost(enumeration = "ClientType", optional, tag = "1")]
    pub(crate) client_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(crate) access_point: Option<Endpoints>,
    #[prost(message, optional, tag = "3")]
    pub(crate) backoff_policy: Option<RetryPolicy>,
    #[prost(message, optional, tag = "4")]
    pub(crate) request_timeout: Option<WireDuration>,
    #[prost(oneof = "pub_sub::PubSub", tags = "5, 6")]
    pub(crate) pub_sub: Option<pub_sub::PubSub>,
    #[prost(message, optional, tag = "7")]
    pub(crate) user_agent: Option<UserAgent>,
    #[prost(message, optional, tag = "8")]
    pub(crate) metric: Option<Metric>,
    #[prost(btree_map = "string, string", tag = "9")]
    pub(crate) client_properties: BTreeMap<String, String>,
}

pub(crate) mod pub_sub {
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub(crate) enum PubSub {
        #[prost(message, tag = "5")]
        Publishing(super::Publishing),
        #[prost(message, tag = "6")]
        Subscription(super::Subscription),
    }
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Publishing {
    #[prost(message, repeated, tag = "1")]
    pub(crate) topics: Vec<Resource>,
    #[prost(int32, tag = "2")]
    pub(crate) max_body_size: i32,
    #[prost(bool, tag = "3")]
    pub(crate) validate_message_type: bool,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct SubscriptionEntry {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(crate) expression: Option<FilterExpression>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Subscription {
    #[prost(message, optional, tag = "1")]
    pub(crate) group: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) subscriptions: Vec<SubscriptionEntry>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) fifo: Option<bool>,
    #[prost(int32, optional, tag = "4")]
    pub(crate) receive_batch_size: Option<i32>,
    #[prost(message, optional, tag = "5")]
    pub(crate) long_polling_timeout: Option<WireDuration>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Metric {
    #[prost(bool, tag = "1")]
    pub(crate) on: bool,
    #[prost(message, optional, tag = "2")]
    pub(crate) endpoints: Option<Endpoints>,
}
