//! The table of methods, and what all calls have in common: who calls, until when, and
//! how a refusal becomes an answer.
//!
//! A refusal travels as `Status` in field 1 of an answer that gRPC itself calls OK;
//! only the telemetry stream and methods that do not exist fail as gRPC calls.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic_prost::ProstCodec;

use crate::connection::UnderWay;
use crate::context::{Call, Shared};
use crate::errors::{Refusal, stream_error};
use crate::handlers;
use crate::proto::{Code, Status, StatusOnly, TelemetryCommand, Unread};

/// Path of every method, before its name.
const SERVICE: &str = "/apache.rocketmq.v2.MessagingService/";
/// Largest telemetry command: settings with very many subscriptions.
pub(crate) const COMMAND_BYTES_MAX: usize = 256 * 1024;
/// Longest client id; those of real clients have about 60 bytes.
const CLIENT_ID_BYTES_MAX: usize = 255;

/// Answers one call.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    remote: SocketAddr,
    under_way: UnderWay,
    request: Request<Incoming>,
) -> Response<Body> {
    let call = identify(shared, remote, request.headers());
    let path = request.uri().path().to_owned();
    match path.strip_prefix(SERVICE).unwrap_or_default() {
        "QueryRoute" => unary(call, request, handlers::query_route::handle).await,
        "Heartbeat" => unary(call, request, handlers::heartbeat::handle).await,
        "SendMessage" => unary(call, request, handlers::send_message::handle).await,
        "QueryAssignment" => unary(call, request, handlers::query_assignment::handle).await,
        "NotifyClientTermination" => {
            unary(call, request, handlers::notify_client_termination::handle).await
        }
        "ReceiveMessage" => several(call, request, handlers::receive_message::handle).await,
        "AckMessage" => unary(call, request, handlers::ack_message::handle).await,
        "ChangeInvisibleDuration" => {
            unary(call, request, handlers::change_invisible_duration::handle).await
        }
        "ForwardMessageToDeadLetterQueue" => {
            unary(call, request, handlers::forward_to_dead_letters::handle).await
        }
        "EndTransaction" => unary(call, request, handlers::end_transaction::handle).await,
        "RecallMessage" => unary(call, request, handlers::recall_message::handle).await,
        "Telemetry" => telemetry(call, under_way, request).await,
        method @ ("PullMessage"
        | "UpdateOffset"
        | "GetOffset"
        | "QueryOffset"
        | "SyncLiteSubscription") => {
            let method = method.to_owned();
            let refuse = move |_: Call, _: Unread| {
                let refusal = Refusal::new(
                    Code::NotImplemented,
                    format!("{method} is not served: use a push or a simple consumer"),
                );
                async move { Err::<StatusOnly, _>(refusal) }
            };
            unary(call, request, refuse).await
        }
        _ => tonic::Status::unimplemented(format!("no method {path}")).into_http(),
    }
}

/// A call, if its client said who it is.
type Identified = Result<Call, Refusal>;

/// Who calls, and how long they wait.
fn identify(shared: Arc<Shared>, remote: SocketAddr, headers: &HeaderMap) -> Identified {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let client = header("x-mq-client-id").unwrap_or_default();
    if client.is_empty() || client.len() > CLIENT_ID_BYTES_MAX {
        return Err(Refusal::new(
            Code::ClientIdRequired,
            format!("the header x-mq-client-id must have 1 to {CLIENT_ID_BYTES_MAX} bytes"),
        ));
    }
    let timeout = header("grpc-timeout").and_then(parse_timeout);
    shared.clients.heard(client, shared.env.clock.now());
    Ok(Call {
        client: client.into(),
        remote,
        deadline: timeout.map(|timeout| shared.env.clock.now() + timeout),
        shared,
    })
}

/// `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = Some(digits).filter(|d| d.len() <= 8)?.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

type Answering<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send>>;

/// One request, one answer.
async fn unary<Req, Res, F, Fut>(
    call: Identified,
    request: Request<Incoming>,
    handle: F,
) -> Response<Body>
where
    Req: Message + Default + Send + 'static,
    Res: Message + Default + From<Status> + Send + 'static,
    F: Fn(Call, Req) -> Fut + Send,
    Fut: Future<Output = Result<Res, Refusal>> + Send + 'static,
{
    let bytes_max = request_bytes_max(&call);
    let mut grpc =
        Grpc::new(ProstCodec::<Res, Req>::default()).max_decoding_message_size(bytes_max);
    let answer = grpc.unary(Method { call, handle }, request).await;
    if !is_too_large(&answer) {
        return answer;
    }
    let refuse = |_: Call, _: Unread| std::future::ready(Err::<Res, _>(too_large(bytes_max)));
    let call = Err(too_large(bytes_max));
    Grpc::new(ProstCodec::<Res, Unread>::default())
        .unary(
            Method {
                call,
                handle: refuse,
            },
            nothing(),
        )
        .await
}

/// One request, a few answers that are there together.
async fn several<Req, Res, F, Fut>(
    call: Identified,
    request: Request<Incoming>,
    handle: F,
) -> Response<Body>
where
    Req: Message + Default + Send + 'static,
    Res: Message + Default + From<Status> + Send + 'static,
    F: Fn(Call, Req) -> Fut + Send,
    Fut: Future<Output = Result<Vec<Res>, Refusal>> + Send + 'static,
{
    let bytes_max = request_bytes_max(&call);
    let mut grpc =
        Grpc::new(ProstCodec::<Res, Req>::default()).max_decoding_message_size(bytes_max);
    let answer = grpc
        .server_streaming(Method { call, handle }, request)
        .await;
    if !is_too_large(&answer) {
        return answer;
    }
    let refuse = |_: Call, _: Unread| std::future::ready(Err::<Vec<Res>, _>(too_large(bytes_max)));
    let call = Err(too_large(bytes_max));
    Grpc::new(ProstCodec::<Res, Unread>::default())
        .server_streaming(
            Method {
                call,
                handle: refuse,
            },
            nothing(),
        )
        .await
}

/// Whether gRPC refused a request for its size, before it was read. Handlers never fail as
/// gRPC calls, so nothing else has this code.
fn is_too_large(answer: &Response<Body>) -> bool {
    let status = tonic::Status::from_header_map(answer.headers());
    status.is_some_and(|status| status.code() == tonic::Code::OutOfRange)
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::new(
        Code::PayloadTooLarge,
        format!(
            "the request is larger than {bytes_max} bytes (request_bytes_max): send less at once"
        ),
    )
}

/// A request that holds one empty message, to be answered in the form of its method.
fn nothing() -> Request<String> {
    Request::new("\0".repeat(5))
}

/// The stream of settings and commands, which lasts as long as the client.
async fn telemetry(
    call: Identified,
    under_way: UnderWay,
    request: Request<Incoming>,
) -> Response<Body> {
    let opened = Opening {
        call,
        under_way: Some(under_way),
    };
    Grpc::new(ProstCodec::<TelemetryCommand, TelemetryCommand>::default())
        .max_decoding_message_size(COMMAND_BYTES_MAX)
        .streaming(opened, request)
        .await
}

fn request_bytes_max(call: &Identified) -> usize {
    // Who has no name is answered with a refusal; what it sent is not read in full.
    call.as_ref().map_or(COMMAND_BYTES_MAX, |call| {
        call.shared.options.request_bytes_max
    })
}

struct Method<F> {
    call: Identified,
    handle: F,
}

impl<F> Method<F> {
    fn handled<Req, Res, Fut>(
        &self,
        request: Req,
    ) -> impl Future<Output = Result<Res, Refusal>> + Send + 'static
    where
        F: Fn(Call, Req) -> Fut,
        Fut: Future<Output = Result<Res, Refusal>> + Send + 'static,
    {
        let handling = self.call.clone().map(|call| (self.handle)(call, request));
        async move { handling?.await }
    }
}

impl<Req, Res, F, Fut> UnaryService<Req> for Method<F>
where
    Req: Send + 'static,
    Res: From<Status> + Send + 'static,
    F: Fn(Call, Req) -> Fut,
    Fut: Future<Output = Result<Res, Refusal>> + Send + 'static,
{
    type Response = Res;
    type Future = Answering<Res>;

    fn call(&mut self, request: tonic::Request<Req>) -> Answering<Res> {
        let handled = self.handled(request.into_inner());
        Box::pin(async move {
            let answer = handled
                .await
                .unwrap_or_else(|refusal| Res::from(refusal.into()));
            Ok(tonic::Response::new(answer))
        })
    }
}

impl<Req, Res, F, Fut> ServerStreamingService<Req> for Method<F>
where
    Req: Send + 'static,
    Res: From<Status> + Send + 'static,
    F: Fn(Call, Req) -> Fut,
    Fut: Future<Output = Result<Vec<Res>, Refusal>> + Send + 'static,
{
    type Response = Res;
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<Res, tonic::Status>>>;
    type Future = Answering<Self::ResponseStream>;

    fn call(&mut self, request: tonic::Request<Req>) -> Self::Future {
        let handled = self.handled(request.into_inner());
        Box::pin(async move {
            let answers = handled
                .await
                .unwrap_or_else(|refusal| vec![Res::from(refusal.into())]);
            let answers: Vec<_> = answers.into_iter().map(Ok).collect();
            Ok(tonic::Response::new(tokio_stream::iter(answers)))
        })
    }
}

struct Opening {
    call: Identified,
    under_way: Option<UnderWay>,
}

impl StreamingService<TelemetryCommand> for Opening {
    type Response = TelemetryCommand;
    type ResponseStream = handlers::telemetry::Commands;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, tonic::Status>>;

    fn call(
        &mut self,
        request: tonic::Request<tonic::Streaming<TelemetryCommand>>,
    ) -> Self::Future {
        let opened = self.call.clone().map(|call| {
            handlers::telemetry::open(call, self.under_way.take(), request.into_inner())
        });
        std::future::ready(
            opened
                .map(tonic::Response::new)
                .map_err(|refusal| stream_error(&refusal)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, timeout) in [
            ("3S", Some(Duration::from_secs(3))),
            ("2999m", Some(Duration::from_millis(2_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("5u", Some(Duration::from_micros(5))),
            ("", None),
            ("S", None),
            ("3", None),
            ("3\u{e4}", None),
            ("-3S", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse_timeout(text), timeout, "{text}");
        }
    }
}
