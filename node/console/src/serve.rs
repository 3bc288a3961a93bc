//! HTTP over the seams: a listener of `Env`, one supervised task a connection, and
//! bounds on how many there are and how long one may be silent.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use weir_base::{BoxFuture, ByteStream, Env, Listener};

/// A connection on which nothing moves for this long is closed, so that silent ones
/// cannot hold all places. Longer than any answer takes.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// After a failed accept (no descriptors left), time for others to close theirs.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Serves until asked to stop, and then until the requests under way are answered.
/// Accepts while there are free places; further connections wait in the kernel's backlog.
pub(crate) async fn serve(
    env: Env,
    listener: Box<dyn Listener>,
    router: Router,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    let connections = watch::Sender::new(());
    let asked = stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the console was dropped, which stops it too.
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&env, &*listener, &places) => accepted,
        };
        let (stream, place) = accepted;
        let stream = TokioIo::new(BoundedStream::new(stream, env.clone()));
        let served = serve_connection(stream, router.clone(), asked.clone());
        let alive = connections.subscribe();
        env.tasks.spawn("console connection", async move {
            served.await;
            drop((place, alive));
        });
    }
    drop(listener);
    connections.closed().await;
}

async fn accept(
    env: &Env,
    listener: &dyn Listener,
    places: &Arc<Semaphore>,
) -> (Box<dyn ByteStream>, OwnedSemaphorePermit) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "admin accept failed");
                env.sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TokioIo<BoundedStream>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    // No date header: it would be hyper's own look at a clock.
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let done = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match done {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection broke off");
    }
}

/// A connection that fails when idle.
struct BoundedStream {
    stream: Box<dyn ByteStream>,
    env: Env,
    idle: BoxFuture<'static, ()>,
}

impl BoundedStream {
    fn new(stream: Box<dyn ByteStream>, env: Env) -> Self {
        let idle = env.clock.sleep_until(env.clock.now() + IDLE_MAX);
        Self { stream, env, idle }
    }

    fn moved(&mut self) {
        self.idle = self.env.clock.sleep_until(self.env.clock.now() + IDLE_MAX);
    }

    /// Nothing moves just now: how long already?
    fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                self.moved();
                Poll::Ready(read)
            }
            Poll::Pending => self.stalled(cx),
        }
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.moved();
                Poll::Ready(written)
            }
            Poll::Pending => self.stalled(cx),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
