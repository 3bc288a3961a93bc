//! Length-prefixed frames: a big-endian `i32` and that many bytes.
//!
//! The buffer grows with the data received, never by the length field alone: a peer
//! that announces 100 MiB and sends nothing holds one small buffer. A peer that sent
//! large frames before is trusted to send another, which spares the copies of growing.
//! One that has completed no frame yet is trusted with little: it may be anybody.
//! Frames are handed out as slices of the buffer they were read into.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use weir_base::limits::BYTES_BEFORE_AUTHENTICATION_MAX;

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;
/// Least room offered to a read.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Room made when there is too little.
const READ_BYTES: usize = 64 * 1024;

/// Why a stream of frames ended.
#[derive(Debug, Error)]
pub enum FrameError {
    /// A negative length.
    #[error("frame length {length} is negative")]
    Length {
        /// The field's value.
        length: i32,
    },
    /// More than the connection may send now.
    #[error("frame of {length} bytes, at most {limit} are accepted here")]
    TooLarge {
        /// Bytes announced.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The peer closed in the middle of a frame.
    #[error("connection closed {have} bytes into a frame")]
    Truncated {
        /// Bytes of the frame received, its length field included.
        have: usize,
    },
    /// The socket failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: usize,
    /// The largest frame the peer completed: as much is reserved at once for the next.
    trusted: usize,
    /// Room made when there is too little.
    step: usize,
}

impl FrameReader {
    /// Accepts frames of at most `limit` bytes, the length field not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            trusted: BYTES_BEFORE_AUTHENTICATION_MAX,
            step: BYTES_BEFORE_AUTHENTICATION_MAX,
        }
    }

    /// Changes the limit from the next frame on (after authentication).
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether part of a frame was received.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next frame without its length field; `None` when the peer closed between frames.
    ///
    /// # Errors
    /// [`FrameError`]; the stream cannot be read on after one.
    pub fn poll_next<S: AsyncRead + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<Option<Bytes>, FrameError>> {
        loop {
            let wanted = match self.announced()? {
                Some(length) if self.buffer.len() >= LENGTH_BYTES + length => {
                    self.trusted = self.trusted.max(length);
                    self.step = READ_BYTES;
                    let frame = self.buffer.split_to(LENGTH_BYTES + length).freeze();
                    return Poll::Ready(Ok(Some(frame.slice(LENGTH_BYTES..))));
                }
                Some(length) => LENGTH_BYTES + length - self.buffer.len(),
                None => READ_BYTES_MIN,
            };
            self.make_room(wanted);
            let read = {
                let mut read = pin!(stream.read_buf(&mut self.buffer));
                std::task::ready!(read.as_mut().poll(cx))?
            };
            if read == 0 {
                return Poll::Ready(match self.buffer.len() {
                    0 => Ok(None),
                    have => Err(FrameError::Truncated { have }),
                });
            }
        }
    }

    /// Completes when the peer has closed and nothing it sent is left to be read: for
    /// while no frame is wanted. Reads ahead for that until `ahead` bytes are held, and
    /// notices nothing behind those.
    pub fn poll_closed<S: AsyncRead + Unpin + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        ahead: usize,
    ) -> Poll<()> {
        while self.buffer.len() < ahead {
            self.make_room(READ_BYTES_MIN);
            let mut read = pin!(stream.read_buf(&mut self.buffer));
            match std::task::ready!(read.as_mut().poll(cx)) {
                Ok(0) | Err(_) if self.buffer.is_empty() => return Poll::Ready(()),
                // What is held comes first; the end is seen again behind it.
                Ok(0) | Err(_) => return Poll::Pending,
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// The length of the frame at the front of the buffer, if its length field is there.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(field) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*field);
        let bytes = usize::try_from(length).map_err(|_| FrameError::Length { length })?;
        if bytes > self.limit {
            return Err(FrameError::TooLarge {
                length: bytes,
                limit: self.limit,
            });
        }
        Ok(Some(bytes))
    }

    /// Reserves for the rest of the frame, but at most as much as the peer has earned:
    /// what it already sent of this frame, or once sent in one.
    fn make_room(&mut self, wanted: usize) {
        let free = self.buffer.capacity() - self.buffer.len();
        if free >= wanted || free >= READ_BYTES_MIN && free >= self.buffer.len() / 2 {
            return;
        }
        let earned = self.trusted.max(self.buffer.len());
        self.buffer.reserve(wanted.min(earned).max(self.step));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn next(reader: &mut FrameReader, mut from: &[u8]) -> Result<Option<Bytes>, FrameError> {
        poll_fn(|cx| reader.poll_next(cx, &mut from)).await
    }

    #[tokio::test]
    async fn limits_and_ends_are_told_apart() {
        let mut reader = FrameReader::new(10);
        assert!(matches!(next(&mut reader, &[]).await, Ok(None)));
        let mut reader = FrameReader::new(10);
        let error = next(&mut reader, &[0, 0, 0, 11]).await.unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLarge {
                length: 11,
                limit: 10
            }
        ));
        let mut reader = FrameReader::new(10);
        let error = next(&mut reader, &[0xff, 0xff, 0xff, 0xff])
            .await
            .unwrap_err();
        assert!(matches!(error, FrameError::Length { length: -1 }));
        let mut reader = FrameReader::new(10);
        let error = next(&mut reader, &[0, 0, 0, 3, 1]).await.unwrap_err();
        assert!(matches!(error, FrameError::Truncated { have: 5 }));
    }

    #[tokio::test]
    async fn an_end_is_noticed_while_no_frame_is_wanted_but_behind_what_was_sent() {
        async fn closed(reader: &mut FrameReader, from: &mut tokio::io::DuplexStream) -> bool {
            poll_fn(|cx| Poll::Ready(reader.poll_closed(cx, from, 64).is_ready())).await
        }
        let mut reader = FrameReader::new(10);
        let (client, mut server) = tokio::io::duplex(200);
        assert!(!closed(&mut reader, &mut server).await);
        drop(client);
        assert!(closed(&mut reader, &mut server).await);

        let (mut client, mut server) = tokio::io::duplex(200);
        client.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
        drop(client);
        assert!(!closed(&mut reader, &mut server).await, "a frame is left");
        let mut next = async || poll_fn(|cx| reader.poll_next(cx, &mut server)).await;
        assert_eq!(next().await.unwrap().as_deref(), Some(&[7][..]));
        assert!(next().await.unwrap().is_none());

        let mut reader = FrameReader::new(10);
        let (mut client, mut server) = tokio::io::duplex(200_000);
        client.write_all(&[0; 190_000]).await.unwrap();
        assert!(!closed(&mut reader, &mut server).await);
        assert!(
            reader.buffer.len() <= 2 * READ_BYTES,
            "reading ahead has a bound"
        );
    }

    #[tokio::test]
    async fn an_announced_length_reserves_little() {
        let limit = 1 << 30;
        let mut reader = FrameReader::new(limit);
        let (mut client, mut server) = tokio::io::duplex(64);
        client.write_all(&(1i32 << 30).to_be_bytes()).await.unwrap();
        let pending =
            poll_fn(|cx| Poll::Ready(reader.poll_next(cx, &mut server).is_pending())).await;
        assert!(pending);
        assert!(reader.buffer.capacity() <= BYTES_BEFORE_AUTHENTICATION_MAX);
        // Nor does what follows reserve more than it sends.
        client.write_all(&[0; 40]).await.unwrap();
        let pending =
            poll_fn(|cx| Poll::Ready(reader.poll_next(cx, &mut server).is_pending())).await;
        assert!(pending && reader.is_mid_frame());
        assert!(reader.buffer.capacity() <= BYTES_BEFORE_AUTHENTICATION_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn frames_survive_any_fragmentation(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            pipe in 1usize..200,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut client, mut server) = tokio::io::duplex(pipe);
                let sending = async {
                    for frame in &frames {
                        let length = i32::try_from(frame.len()).unwrap();
                        client.write_all(&length.to_be_bytes()).await.unwrap();
                        client.write_all(frame).await.unwrap();
                    }
                    drop(client);
                };
                let receiving = async {
                    let mut reader = FrameReader::new(300);
                    let mut got = Vec::new();
                    while let Some(frame) = poll_fn(|cx| reader.poll_next(cx, &mut server)).await.unwrap() {
                        got.push(frame.to_vec());
                    }
                    got
                };
                let ((), got) = tokio::join!(sending, receiving);
                assert_eq!(got, frames);
            });
        }
    }
}
