//! HTTP over the seams: axum on `Env`'s listeners, with a bound on connections and on
//! how long one may be silent.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_base::{BoxFuture, ByteStream, Env, Listener};

/// A connection on which nothing moves for this long is closed, so that silent ones
/// cannot hold all places. Longer than any answer takes.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// After a failed accept (no descriptors left), time for others to close theirs.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A listener that accepts while there are free places; further connections wait in
/// the kernel's backlog.
pub(crate) struct BoundedListener {
    pub(crate) env: Env,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) places: Arc<Semaphore>,
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    return (BoundedStream::new(stream, place, self.env.clone()), from);
                }
                Err(error) => {
                    tracing::warn!(%error, "admin accept failed");
                    self.env.sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_address()
    }
}

/// A connection that gives its place back when dropped and fails when idle.
pub(crate) struct BoundedStream {
    stream: Box<dyn ByteStream>,
    _place: OwnedSemaphorePermit,
    env: Env,
    idle: BoxFuture<'static, ()>,
}

impl BoundedStream {
    fn new(stream: Box<dyn ByteStream>, place: OwnedSemaphorePermit, env: Env) -> Self {
        let idle = env.clock.sleep_until(env.clock.now() + IDLE_MAX);
        Self {
            stream,
            _place: place,
            env,
            idle,
        }
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
