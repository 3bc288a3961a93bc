//! A small RocketMQ 5 client: gRPC over one connection to one node, every call with a
//! deadline, and the stream of settings and commands that every client keeps open.
//!
//! After a call that failed the client is to be dropped, and its connection with it: what
//! became of the call is unknown. It begins no call beside another and gives none up on a
//! connection that goes on, so that nothing in HTTP/2 depends on the time outside.

pub(crate) mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;
use weir_base::Env;
use weir_base::env::TaskHandle;

use wire::{HeartbeatRequest, Settings, TelemetryCommand};

/// How much longer than a call's deadline its connection waits for the answer: the node is
/// told the deadline and answers by then.
const GRACE: Duration = Duration::from_millis(500);

/// One client at one node.
pub(crate) struct RocketmqClient {
    env: Env,
    id: String,
    channel: Channel,
    /// Ends the connection when it is dropped.
    _connection: TaskHandle,
    /// What goes down the stream; open as long as this is.
    _telling: Option<mpsc::Sender<TelemetryCommand>>,
}

/// What a node tells its client.
pub(crate) type Commands = Streaming<TelemetryCommand>;

impl RocketmqClient {
    /// Connects within `deadline` as the client called `id`.
    ///
    /// # Errors
    /// If nothing answers there in time.
    pub(crate) async fn connect(
        env: &Env,
        to: SocketAddr,
        id: String,
        deadline: Duration,
    ) -> Result<Self> {
        let connecting = async {
            let stream = env.net.connect(to).await?;
            let executor = Executor(env.clone());
            Ok::<_, anyhow::Error>(http2::handshake(executor, TokioIo::new(stream)).await?)
        };
        let connected = env.timeout(deadline, connecting).await;
        let (sender, connection) = connected.context("no connection in time")??;
        let connection = env.tasks.spawn_owned("rocketmq-client", async move {
            // Whoever waits for an answer is told.
            connection.await.unwrap_or_default();
        });
        Ok(Self {
            env: env.clone(),
            id,
            channel: Channel(sender),
            _connection: connection,
            _telling: None,
        })
    }

    /// Opens the stream and tells what the client is here for. Its commands follow the
    /// node's answer.
    ///
    /// # Errors
    /// If there is no answer in time, or a refusal.
    pub(crate) async fn tell(
        &mut self,
        settings: Settings,
        deadline: Duration,
    ) -> Result<Commands> {
        let (sender, telling) = mpsc::channel(1);
        let first = TelemetryCommand {
            settings: Some(settings),
            ..TelemetryCommand::default()
        };
        sender.try_send(first)?;
        self._telling = Some(sender);
        let (env, request) = (
            self.env.clone(),
            self.request(ReceiverStream::new(telling))?,
        );
        let mut grpc = Grpc::new(self.channel.clone());
        let opening = async move {
            grpc.ready().await?;
            let codec = ProstCodec::<TelemetryCommand, TelemetryCommand>::default();
            let opened = grpc.streaming(request, path("Telemetry")?, codec).await?;
            let mut commands = opened.into_inner();
            let answer = commands.message().await?.context("the stream ended")?;
            ensure!(answer.settings.is_some(), "no settings: {answer:?}");
            Ok(commands)
        };
        let opened = env.timeout(deadline, opening).await;
        opened.ok_or_else(|| anyhow!("no settings within {deadline:?}"))?
    }

    /// Says that the client lives, as every client does now and then.
    ///
    /// # Errors
    /// As [`RocketmqClient::ask`].
    pub(crate) async fn heartbeat(&mut self, client_type: i32, deadline: Duration) -> Result<()> {
        let request = HeartbeatRequest {
            group: None,
            client_type,
        };
        let answer: wire::Answer = self.ask("Heartbeat", request, deadline).await?;
        let status = answer.status.unwrap_or_default();
        ensure!(status.is_ok(), "heartbeat: {status:?}");
        Ok(())
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// If it does not come whole in time: the outcome is unknown.
    pub(crate) async fn ask<Req, Res>(
        &mut self,
        method: &str,
        request: Req,
        deadline: Duration,
    ) -> Result<Res>
    where
        Req: Message + Send + Sync + 'static,
        Res: Message + Default + Send + Sync + 'static,
    {
        let mut all = self.ask_for_all(method, request, deadline).await?;
        let answer = all.pop().with_context(|| format!("{method}: no answer"))?;
        ensure!(all.is_empty(), "{method}: more than one answer");
        Ok(answer)
    }

    /// One request, all answers.
    ///
    /// # Errors
    /// As [`RocketmqClient::ask`].
    pub(crate) async fn ask_for_all<Req, Res>(
        &mut self,
        method: &str,
        request: Req,
        deadline: Duration,
    ) -> Result<Vec<Res>>
    where
        Req: Message + Send + Sync + 'static,
        Res: Message + Default + Send + Sync + 'static,
    {
        let (env, request) = (self.env.clone(), self.limited(request, deadline)?);
        let mut grpc = Grpc::new(self.channel.clone());
        let asking = async move {
            grpc.ready().await?;
            let codec = ProstCodec::<Req, Res>::default();
            let answers = grpc.server_streaming(request, path(method)?, codec).await?;
            let mut answers = answers.into_inner();
            let mut all = Vec::new();
            while let Some(answer) = answers.message().await? {
                all.push(answer);
            }
            Ok(all)
        };
        let answered = env.timeout(deadline + GRACE, asking).await;
        answered.ok_or_else(|| anyhow!("{method}: no answer within {deadline:?}"))?
    }

    fn limited<T>(&self, message: T, deadline: Duration) -> Result<tonic::Request<T>> {
        let mut request = self.request(message)?;
        request.set_timeout(deadline);
        Ok(request)
    }

    fn request<T>(&self, message: T) -> Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        let id = self.id.parse()?;
        request.metadata_mut().insert("x-mq-client-id", id);
        Ok(request)
    }
}

fn path(method: &str) -> Result<PathAndQuery> {
    Ok(format!("/apache.rocketmq.v2.MessagingService/{method}").parse()?)
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
        // HTTP/2 wants a whole address, of which nothing is looked at.
        let path = request.uri().path();
        if let Ok(whole) = format!("http://weir{path}").parse() {
            *request.uri_mut() = whole;
        }
        Box::pin(self.0.send_request(request))
    }
}

/// Runs hyper's tasks as the machine's own.
#[derive(Clone)]
struct Executor(Env);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.tasks.spawn("rocketmq-client-call", task);
    }
}
