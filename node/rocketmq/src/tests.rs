//! The front over a fake broker, asked by a gRPC client over real sockets.
#![expect(
    clippy::disallowed_methods,
    reason = "the client is no part of the node, and a test that hangs must fail"
)]

mod filters;
mod handshake;
mod once;
mod receiving;
mod refusals;
mod sending;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;
use weir_api::fake::FakeBroker;
use weir_api::{FrontContext, NewTopic};
use weir_base::{Entropy, Env, TopicId};
use weir_os::{OsDisk, OsSpawner, os_env_with};

use crate::proto::{Resource, Status, TelemetryCommand};
use crate::{RocketmqFront, RocketmqOptions};

/// Runs a test on a runtime of its own, and fails it if it hangs.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), test).await };
    runtime.block_on(limited).expect("test finished in time")
}

struct Fixture {
    env: Env,
    broker: FakeBroker,
    front: RocketmqFront,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Fixture {
        Self::with(RocketmqOptions::default()).await
    }

    async fn with(options: RocketmqOptions) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        let env = Env {
            entropy: Entropy::from_seed([7; 32]),
            ..os_env_with(Arc::new(disk), Arc::new(OsSpawner::aborting()))
        };
        let broker = FakeBroker::new(&env);
        let options = RocketmqOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            ..options
        };
        let context = FrontContext {
            env: env.clone(),
            api: broker.api(),
        };
        let front = RocketmqFront::start(context, options).await.unwrap();
        broker.advertise("rocketmq", "127.0.0.1", front.local_address().port());
        Fixture {
            env,
            broker,
            front,
            _directory: directory,
        }
    }

    async fn client(&self, id: &'static str) -> Client {
        let stream = self.env.net.connect(self.front.local_address()).await;
        Client::over(stream.unwrap(), id).await
    }

    async fn topic(&self, name: &str, partitions: u32, configs: &[(&str, &str)]) -> TopicId {
        let configs = configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: configs.collect(),
            ..NewTopic::default()
        };
        let admin = self.broker.api().admin;
        let made = admin.create_topic(topic, false, Duration::from_secs(1));
        made.await.unwrap()
    }
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
        let path = request.uri().path_and_query().unwrap().as_str();
        *request.uri_mut() = format!("http://weir{path}").parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}

#[derive(Clone)]
struct Client {
    channel: Channel,
    id: &'static str,
}

impl Client {
    async fn over(stream: Box<dyn weir_base::ByteStream>, id: &'static str) -> Client {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Client {
            channel: Channel(sender),
            id,
        }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if !self.id.is_empty() {
            request
                .metadata_mut()
                .insert("x-mq-client-id", self.id.parse().unwrap());
        }
        request
    }

    fn path(method: &str) -> PathAndQuery {
        format!("/apache.rocketmq.v2.MessagingService/{method}")
            .parse()
            .unwrap()
    }

    /// One request, one answer.
    async fn ask<Req, Res>(&self, method: &str, request: Req) -> Result<Res, tonic::Status>
    where
        Req: Message + Send + Sync + 'static,
        Res: Message + Default + Send + Sync + 'static,
    {
        self.ask_with(method, self.request(request)).await
    }

    /// The same, with headers or a deadline.
    async fn ask_with<Req, Res>(
        &self,
        method: &str,
        request: tonic::Request<Req>,
    ) -> Result<Res, tonic::Status>
    where
        Req: Message + Send + Sync + 'static,
        Res: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<Req, Res>::default();
        let answer = grpc.unary(request, Self::path(method), codec).await;
        answer.map(tonic::Response::into_inner)
    }

    /// One request, all answers.
    async fn ask_for_all<Req, Res>(&self, method: &str, request: Req) -> Vec<Res>
    where
        Req: Message + Send + Sync + 'static,
        Res: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<Req, Res>::default();
        let (request, path) = (self.request(request), Self::path(method));
        let answers = grpc.server_streaming(request, path, codec).await.unwrap();
        let mut answers = answers.into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            all.push(answer);
        }
        all
    }

    /// Opens the telemetry stream and sends `first` down it.
    async fn telemetry(
        &self,
        first: TelemetryCommand,
    ) -> Result<
        (
            tokio::sync::mpsc::Sender<TelemetryCommand>,
            tonic::Streaming<TelemetryCommand>,
        ),
        tonic::Status,
    > {
        let (sender, outgoing) = tokio::sync::mpsc::channel(4);
        sender.send(first).await.unwrap();
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let codec = ProstCodec::<TelemetryCommand, TelemetryCommand>::default();
        let opened = grpc
            .streaming(self.request(outgoing), Self::path("Telemetry"), codec)
            .await?;
        Ok((sender, opened.into_inner()))
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource {
        resource_namespace: String::new(),
        name: name.to_owned(),
    })
}

fn code(status: Option<Status>) -> i32 {
    status.expect("a status").code
}
