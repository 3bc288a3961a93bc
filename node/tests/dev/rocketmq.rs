//! A RocketMQ client of four requests over one connection. The protocol's numbers and types
//! are written down here apart from the front's.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

pub(crate) const OK: i32 = 20_000;
pub(crate) const NORMAL: i32 = 1;
pub(crate) const FIFO: i32 = 2;
pub(crate) const DELAY: i32 = 3;
pub(crate) const IDENTITY: i32 = 1;
pub(crate) const GZIP: i32 = 2;
const SIMPLE_CONSUMER: i32 = 3;
/// Why nothing is known of a request.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How long a receive waits.
const WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Resource {
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// A time, or a length of time.
#[derive(Clone, Copy, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Time {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

/// Of milliseconds.
pub(crate) fn time(millis: i64) -> Option<Time> {
    let nanos = i32::try_from(millis % 1_000).unwrap() * 1_000_000;
    let seconds = millis / 1_000;
    Some(Time { seconds, nanos })
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct MessageQueue {
    #[prost(message, optional, tag = "1")]
    topic: Option<Resource>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct System {
    #[prost(string, optional, tag = "1")]
    pub(crate) tag: Option<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) keys: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) message_id: String,
    #[prost(int32, tag = "5")]
    pub(crate) body_encoding: i32,
    #[prost(int32, tag = "6")]
    pub(crate) message_type: i32,
    #[prost(message, optional, tag = "7")]
    pub(crate) born_timestamp: Option<Time>,
    #[prost(string, tag = "8")]
    pub(crate) born_host: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) store_timestamp: Option<Time>,
    #[prost(message, optional, tag = "11")]
    pub(crate) delivery_timestamp: Option<Time>,
    #[prost(string, optional, tag = "12")]
    pub(crate) receipt_handle: Option<String>,
    #[prost(string, optional, tag = "17")]
    pub(crate) message_group: Option<String>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Message {
    #[prost(message, optional, tag = "1")]
    pub(crate) topic: Option<Resource>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) properties: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) system: Option<System>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) body: Bytes,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct SendMessageRequest {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<Message>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
pub(crate) struct Sent {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(crate) message_id: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct SendMessageResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Sent>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct ReceiveMessageRequest {
    #[prost(message, optional, tag = "1")]
    group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    message_queue: Option<MessageQueue>,
    #[prost(int32, tag = "4")]
    batch_size: i32,
    #[prost(message, optional, tag = "5")]
    invisible_duration: Option<Time>,
    #[prost(message, optional, tag = "7")]
    long_polling_timeout: Option<Time>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct ReceiveMessageResponse {
    #[prost(message, optional, tag = "2")]
    message: Option<Message>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct Receipt {
    #[prost(string, tag = "1")]
    message_id: String,
    #[prost(string, tag = "2")]
    receipt_handle: String,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct AckMessageRequest {
    #[prost(message, optional, tag = "1")]
    group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    topic: Option<Resource>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<Receipt>,
}

/// An answer of which only the status is read.
#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    topic: Option<Resource>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct Subscription {
    #[prost(message, optional, tag = "1")]
    group: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    subscriptions: Vec<Entry>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct Settings {
    #[prost(int32, optional, tag = "1")]
    client_type: Option<i32>,
    #[prost(message, optional, tag = "6")]
    subscription: Option<Subscription>,
}

#[derive(Clone, PartialEq, Eq, ::prost::Message)]
struct Command {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    settings: Option<Settings>,
}

fn resource(name: &str) -> Option<Resource> {
    let name = name.to_owned();
    Some(Resource { name })
}

/// A member of group `g` on one topic, at one node. It sends, too.
pub(crate) struct Member {
    channel: Channel,
    topic: String,
    /// The stream that every client keeps open.
    _stream: (mpsc::Sender<Command>, tonic::Streaming<Command>),
}

impl Member {
    /// Connects and subscribes: from then on nothing of the topic is missed.
    pub(crate) async fn start(port: u16, topic: &str) -> Member {
        Self::try_start(port, topic).await.unwrap()
    }

    /// The same at a node that may be down, or not be ready.
    pub(crate) async fn try_start(port: u16, topic: &str) -> Result<Member, Failed> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let stream = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        let channel = Channel(sender);
        let (telling, outgoing) = mpsc::channel(1);
        let subscription = Subscription {
            group: resource("g"),
            subscriptions: vec![Entry {
                topic: resource(topic),
            }],
        };
        let first = Command {
            status: None,
            settings: Some(Settings {
                client_type: Some(SIMPLE_CONSUMER),
                subscription: Some(subscription),
            }),
        };
        telling.send(first).await?;
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await?;
        let codec = ProstCodec::<Command, Command>::default();
        let outgoing = asked(ReceiverStream::new(outgoing));
        let opened = grpc.streaming(outgoing, path("Telemetry"), codec).await;
        let mut commands = opened?.into_inner();
        let told = commands.message().await?.ok_or("no settings")?;
        if told.status.as_ref().is_none_or(|status| status.code != OK) {
            return Err(format!("settings: {told:?}").into());
        }
        Ok(Member {
            channel,
            topic: topic.to_owned(),
            _stream: (telling, commands),
        })
    }

    async fn ask<Req, Res>(&self, method: &str, request: Req) -> Result<Vec<Res>, Failed>
    where
        Req: prost::Message + Send + Sync + 'static,
        Res: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let codec = ProstCodec::<Req, Res>::default();
        let answers = grpc.server_streaming(asked(request), path(method), codec);
        let mut answers = answers.await?.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        Ok(all)
    }

    /// What a message came to: stored under an id, or refused.
    pub(crate) async fn send(&self, message: &Message) -> Sent {
        self.try_send(message).await.unwrap()
    }

    /// The same at a node that may end meanwhile.
    pub(crate) async fn try_send(&self, message: &Message) -> Result<Sent, Failed> {
        let message = Message {
            topic: resource(&self.topic),
            ..message.clone()
        };
        let messages = vec![message];
        let asked = self.ask("SendMessage", SendMessageRequest { messages });
        let answer: Option<SendMessageResponse> = asked.await?.pop();
        let mut answer = answer.ok_or("no answer")?;
        let entry = answer.entries.pop();
        Ok(entry.unwrap_or_else(|| Sent {
            status: answer.status,
            message_id: String::new(),
        }))
    }

    /// The next message, settled.
    pub(crate) async fn take(&self) -> Message {
        let got = self.receive(1).await.remove(0);
        self.ack(&got).await;
        got
    }

    /// At least one message, or nothing after a while.
    pub(crate) async fn receive(&self, batch_size: i32) -> Vec<Message> {
        let request = ReceiveMessageRequest {
            group: resource("g"),
            message_queue: Some(MessageQueue {
                topic: resource(&self.topic),
            }),
            batch_size,
            invisible_duration: time(30_000),
            long_polling_timeout: time(i64::try_from(WAIT.as_millis()).unwrap()),
        };
        let answers = self.ask("ReceiveMessage", request).await.unwrap();
        let answers = answers.into_iter();
        answers
            .filter_map(|answer: ReceiveMessageResponse| answer.message)
            .collect()
    }

    async fn ack(&self, message: &Message) {
        let system = message.system.clone().unwrap();
        let request = AckMessageRequest {
            group: resource("g"),
            topic: resource(&self.topic),
            entries: vec![Receipt {
                message_id: system.message_id,
                receipt_handle: system.receipt_handle.unwrap(),
            }],
        };
        let answer: Answer = self.ask("AckMessage", request).await.unwrap().remove(0);
        assert_eq!(answer.status.map(|status| status.code), Some(OK));
    }
}

fn asked<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let id = "test".parse().unwrap();
    request.metadata_mut().insert("x-mq-client-id", id);
    request.set_timeout(WAIT * 4);
    request
}

fn path(method: &str) -> PathAndQuery {
    format!("/apache.rocketmq.v2.MessagingService/{method}")
        .parse()
        .unwrap()
}

/// A connection, as tonic wants it.
#[derive(Clone)]
struct Channel(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        *request.uri_mut() = format!("http://weir{path}").parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}
