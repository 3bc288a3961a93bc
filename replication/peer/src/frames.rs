//! Frames on a QUIC stream: a length of four bytes, little-endian, then that many bytes.
//!
//! The length is checked before anything is allocated for it, and the sender's bytes
//! are not copied before encryption; the receiver copies them once, out of packets.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::io::AsyncReadExt;
use weir_base::limits::PEER_FRAME_BYTES_MAX;
use weir_base::{BoxFuture, NodeId};

use crate::{FrameSink, FrameSource, PeerError};

/// Stream error codes. Append-only: numbers go over the wire.
pub(crate) const CODE_TORN: VarInt = VarInt::from_u32(1);
pub(crate) const CODE_NO_SERVICE: VarInt = VarInt::from_u32(2);

const LENGTH_BYTES: usize = 4;
/// Read ahead of a frame whose length is not known yet.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// Frames up to this size are copied out of the buffer.
const COPY_BYTES_MAX: usize = READ_AHEAD_BYTES / 2;

/// The length prefix of a frame.
///
/// # Errors
/// [`PeerError::Frame`] if it is over [`PEER_FRAME_BYTES_MAX`].
pub(crate) fn length_prefix(len: usize) -> Result<[u8; LENGTH_BYTES], PeerError> {
    u32::try_from(len)
        .ok()
        .filter(|_| len <= PEER_FRAME_BYTES_MAX)
        .map(u32::to_le_bytes)
        .ok_or_else(|| oversize(len))
}

fn oversize(len: usize) -> PeerError {
    PeerError::Frame(format!(
        "{len} bytes, of at most {PEER_FRAME_BYTES_MAX} in a frame"
    ))
}

/// The sending half of a stream.
pub(crate) struct QuicSink {
    node: NodeId,
    stream: SendStream,
    /// A frame was begun and not completed: the peer must not see a clean end.
    torn: bool,
    _in_use: std::sync::Arc<()>,
}

impl QuicSink {
    pub(crate) fn new(node: NodeId, stream: SendStream, in_use: std::sync::Arc<()>) -> Self {
        Self {
            node,
            stream,
            torn: false,
            _in_use: in_use,
        }
    }

    async fn send_frame(&mut self, chunks: Vec<Bytes>) -> Result<(), PeerError> {
        let prefix = length_prefix(chunks.iter().map(Bytes::len).sum())?;
        if self.torn {
            return Err(lost(self.node, "an earlier frame was cut short"));
        }
        let mut parts = Vec::with_capacity(chunks.len() + 1);
        parts.push(Bytes::copy_from_slice(&prefix));
        parts.extend(chunks);
        self.torn = true;
        self.stream
            .write_all_chunks(&mut parts)
            .await
            .map_err(|error| write_error(self.node, &error))?;
        self.torn = false;
        Ok(())
    }
}

impl FrameSink for QuicSink {
    fn send(&mut self, chunks: Vec<Bytes>) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(self.send_frame(chunks))
    }
}

impl Drop for QuicSink {
    fn drop(&mut self) {
        if self.torn {
            // Fails only if the stream is closed already.
            self.stream.reset(CODE_TORN).ok();
        }
    }
}

/// The receiving half of a stream.
pub(crate) struct QuicSource {
    node: NodeId,
    stream: RecvStream,
    /// Received and not yet returned; a part of a frame survives a cancelled `next` here.
    buffer: BytesMut,
    _in_use: std::sync::Arc<()>,
}

impl QuicSource {
    pub(crate) fn new(node: NodeId, stream: RecvStream, in_use: std::sync::Arc<()>) -> Self {
        Self {
            node,
            stream,
            buffer: BytesMut::new(),
            _in_use: in_use,
        }
    }

    /// The next frame; `None` at a clean end.
    pub(crate) async fn next_frame(&mut self) -> Result<Option<Bytes>, PeerError> {
        loop {
            let missing = match missing(&self.buffer)? {
                0 => {
                    let len = frame_len(&self.buffer).unwrap_or(0);
                    self.buffer.advance(LENGTH_BYTES);
                    return Ok(Some(take(&mut self.buffer, len)));
                }
                missing => missing,
            };
            self.buffer.reserve(missing);
            let read = self
                .stream
                .read_buf(&mut (&mut self.buffer).limit(missing))
                .await
                .map_err(|error| read_error(self.node, &error))?;
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(PeerError::Frame("stream ended inside a frame".to_owned()))
                };
            }
        }
    }
}

/// The frame at the front of the buffer. A small one is copied: whoever keeps it (the tail
/// of a log in memory) would keep the whole buffer that was read into, unaccounted for.
fn take(buffer: &mut BytesMut, len: usize) -> Bytes {
    let frame = buffer.split_to(len);
    match len {
        0..=COPY_BYTES_MAX => Bytes::copy_from_slice(&frame),
        _ => frame.freeze(),
    }
}

/// The length that the buffered frame announces, if that much arrived.
fn frame_len(buffer: &[u8]) -> Option<usize> {
    let prefix = buffer.first_chunk::<LENGTH_BYTES>()?;
    usize::try_from(u32::from_le_bytes(*prefix)).ok()
}

/// How many bytes to read next; zero if a whole frame is buffered.
fn missing(buffer: &[u8]) -> Result<usize, PeerError> {
    match frame_len(buffer) {
        None => Ok(READ_AHEAD_BYTES),
        Some(len) if len > PEER_FRAME_BYTES_MAX => Err(oversize(len)),
        Some(len) => Ok((LENGTH_BYTES + len).saturating_sub(buffer.len())),
    }
}

impl FrameSource for QuicSource {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(self.next_frame())
    }
}

pub(crate) fn lost(node: NodeId, detail: impl ToString) -> PeerError {
    PeerError::Lost {
        node,
        detail: detail.to_string(),
    }
}

pub(crate) fn no_service(node: NodeId) -> PeerError {
    PeerError::Refused {
        node,
        detail: "no such service".to_owned(),
    }
}

pub(crate) fn write_error(node: NodeId, error: &WriteError) -> PeerError {
    if *error == WriteError::Stopped(CODE_NO_SERVICE) {
        return no_service(node);
    }
    lost(node, error)
}

fn read_error(node: NodeId, error: &io::Error) -> PeerError {
    let quic = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ReadError>());
    match quic {
        Some(ReadError::Reset(code)) if *code == CODE_NO_SERVICE => no_service(node),
        _ => lost(node, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_believed() {
        let limit = u32::try_from(PEER_FRAME_BYTES_MAX).unwrap();
        assert_eq!(missing(&limit.to_le_bytes()).unwrap(), PEER_FRAME_BYTES_MAX);
        assert!(missing(&(limit + 1).to_le_bytes()).is_err());
        assert!(length_prefix(PEER_FRAME_BYTES_MAX).is_ok());
        assert!(length_prefix(PEER_FRAME_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn a_small_frame_does_not_keep_the_buffer() {
        for (len, is_free) in [(COPY_BYTES_MAX, true), (COPY_BYTES_MAX + 1, false)] {
            let mut buffer = BytesMut::zeroed(READ_AHEAD_BYTES);
            let frame = take(&mut buffer, len);
            buffer.clear();
            assert_eq!(buffer.try_reclaim(READ_AHEAD_BYTES), is_free);
            assert_eq!(frame.len(), len);
        }
    }

    #[test]
    fn missing_counts_down_to_a_whole_frame() {
        assert_eq!(missing(&[]).unwrap(), READ_AHEAD_BYTES);
        assert_eq!(missing(&[3, 0, 0]).unwrap(), READ_AHEAD_BYTES);
        assert_eq!(missing(&[3, 0, 0, 0]).unwrap(), 3);
        assert_eq!(missing(&[3, 0, 0, 0, 9, 9]).unwrap(), 1);
        assert_eq!(missing(&[3, 0, 0, 0, 9, 9, 9, 1]).unwrap(), 0);
        assert_eq!(missing(&[0, 0, 0, 0]).unwrap(), 0);
    }
}
