//! Writes shared chunks as they are: payload is never copied on its way to the socket.
//!
//! The queue is bounded by its user, who stops reading requests while
//! [`ChunkWriter::queued`] is high. Streams without vectored writes (the simulator's)
//! get small neighbours in one piece, so that a response is one write there too.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Chunks given to one vectored write.
const SLICES_MAX: usize = 64;
/// Chunks below this are gathered for streams without vectored writes.
const SMALL_BYTES: usize = 4 * 1024;
/// Most bytes gathered.
const GATHER_BYTES: usize = 16 * 1024;

/// A queue of chunks on their way to a stream.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    queue: VecDeque<Bytes>,
    queued: usize,
    gathered: Vec<u8>,
    unflushed: bool,
}

impl ChunkWriter {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues one chunk behind what is queued.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    /// Bytes queued and not yet taken by the stream.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Writes until the queue is empty and flushed.
    ///
    /// # Errors
    /// The stream's; a stream that takes no bytes gives `WriteZero`.
    pub fn poll_write<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let vectored = stream.is_write_vectored();
            let written = if vectored && self.queue.len() > 1 {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = self.queue.len().min(SLICES_MAX);
                for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
                    *slice = IoSlice::new(chunk);
                }
                ready!(Pin::new(&mut stream).poll_write_vectored(cx, &slices[..count]))?
            } else {
                self.gather();
                let bytes = match self.queue.front() {
                    Some(front) if self.gathered.is_empty() => &front[..],
                    _ => &self.gathered[..],
                };
                ready!(Pin::new(&mut stream).poll_write(cx, bytes))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Copies the small chunks at the front into one piece, if there is more than one.
    fn gather(&mut self) {
        self.gathered.clear();
        if self.queue.len() < 2 {
            return;
        }
        for chunk in &self.queue {
            if chunk.len() > SMALL_BYTES || self.gathered.len() + chunk.len() > GATHER_BYTES {
                break;
            }
            self.gathered.extend_from_slice(chunk);
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.queued -= written;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Takes at most `most` bytes a call.
    struct Narrow {
        most: usize,
        vectored: bool,
        got: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let take = bytes.len().min(self.most);
            self.got.extend_from_slice(&bytes[..take]);
            Poll::Ready(Ok(take))
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut left = self.most;
            for slice in slices {
                let take = slice.len().min(left);
                self.got.extend_from_slice(&slice[..take]);
                left -= take;
            }
            Poll::Ready(Ok(self.most - left))
        }
        fn is_write_vectored(&self) -> bool {
            self.vectored
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_byte_arrives_once_and_in_order(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6000), 0..100),
            most in 1usize..9000,
            vectored: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut stream = Narrow { most, vectored, got: Vec::new() };
                let mut writer = ChunkWriter::new();
                for chunk in &chunks {
                    writer.push(Bytes::copy_from_slice(chunk));
                }
                poll_fn(|cx| writer.poll_write(cx, &mut stream)).await.unwrap();
                assert_eq!(writer.queued(), 0);
                assert_eq!(stream.got, chunks.concat());
            });
        }
    }

    #[tokio::test]
    async fn a_full_stream_leaves_the_rest_queued() {
        let (mut client, mut server) = tokio::io::duplex(8);
        let mut writer = ChunkWriter::new();
        writer.push(Bytes::from_static(b"0123456789"));
        let pending =
            poll_fn(|cx| Poll::Ready(writer.poll_write(cx, &mut server).is_pending())).await;
        assert!(pending);
        assert_eq!(writer.queued(), 2);
        let mut bytes = [0; 10];
        let (wrote, read) = tokio::join!(
            poll_fn(|cx| writer.poll_write(cx, &mut server)),
            client.read_exact(&mut bytes)
        );
        wrote.unwrap();
        read.unwrap();
        assert_eq!(&bytes, b"0123456789");
    }
}
