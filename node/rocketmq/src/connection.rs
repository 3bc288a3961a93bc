//! One connection: its first byte, TLS if that says so, then HTTP/2 until it ends.
//!
//! Every call is a task of its own under `Env` and ends with its stream, so that a
//! client that goes away takes its long polls with it. Who pushes back: HTTP/2's
//! windows, and the number of calls at a time.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use weir_base::Env;
use weir_wire::{Connection, sniff};

use crate::context::Shared;
use crate::grpc;

/// How long a client may take for its first byte and the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Bytes of one call that may be on their way here: a usual message many times over.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same over all calls of a connection.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of headers of one call.
const HEADERS_MAX: u32 = 16 * 1024;

/// Serves a connection until it ends.
pub(crate) async fn run(shared: Arc<Shared>, connection: Connection) {
    let remote = connection.remote;
    let (mut draining, mut closed) = (connection.draining(), connection.closed());
    let env = &shared.env;
    let sniffed = sniff(connection.stream, &shared.options.encryption);
    let stream = match env.timeout(HANDSHAKE_MAX, sniffed).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => {
            tracing::debug!(%remote, %error, "connection ended before its first call");
            return;
        }
        None => {
            tracing::debug!(%remote, "connection closed: no handshake in time");
            return;
        }
    };
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request| {
        let under_way = UnderWay::start(&activity);
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(grpc::answer(shared, remote, under_way, request).await) }
    });
    let mut http = http2::Builder::new(Executor(env.clone()));
    // No date header: it would be hyper's own look at a clock. No keep-alive of ours
    // either: clients ping, and heartbeats tell which of them live.
    http.auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_MAX)
        .max_concurrent_streams(shared.options.calls_max);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut idle = pin!(activity.ended(env, shared.options.idle_close));
    let mut leaving = false;
    let ended = poll_fn(|cx| {
        if closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !leaving && (draining.as_mut().poll(cx).is_ready() || idle.as_mut().poll(cx).is_ready())
        {
            leaving = true;
            serving.as_mut().graceful_shutdown();
        }
        serving.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%remote, %error, "connection failed");
    }
}

/// Calls of one connection.
#[derive(Default)]
struct Activity {
    under_way: AtomicUsize,
    started: AtomicU64,
}

impl Activity {
    /// Completes when nothing was under way and nothing began for `idle`.
    async fn ended(&self, env: &Env, idle: Duration) {
        let mut before = u64::MAX;
        loop {
            let started = self.started.load(Ordering::Relaxed);
            if started == before && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
            before = started;
            env.sleep(idle).await;
        }
    }
}

/// A call under way, telemetry streams included.
pub(crate) struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn start(activity: &Arc<Activity>) -> UnderWay {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        activity.started.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs hyper's tasks, one a call, as the node's own.
#[derive(Clone)]
struct Executor(Env);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.0.tasks.spawn("rocketmq-call", call);
    }
}
