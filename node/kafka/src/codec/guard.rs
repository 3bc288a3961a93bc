//! A buffer that refuses counts it cannot hold.
//!
//! In flexible versions every length, array count and tag count is an unsigned varint,
//! read byte by byte. Each counted thing takes at least one byte, so a varint larger
//! than what is left of the frame (plus one, the encoding of lengths) is a lie, and is
//! refused before the decoder can reserve memory for it. Fixed-width counts of older
//! versions cannot be told from other numbers here: [`super::schema`] checks those.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

#[derive(Debug)]
pub(super) struct Guarded {
    bytes: Bytes,
    /// The varint being read: its value so far and the bits it has.
    varint: (u64, u32),
}

impl Guarded {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            varint: (0, 0),
        }
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.varint = (0, 0);
        self.bytes.advance(count);
    }

    /// The only way that the decoder reads varints (and booleans, which are small).
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        let (value, bits) = self.varint;
        let value = value | u64::from(byte & 0x7f) << bits;
        if byte & 0x80 != 0 && bits < 28 {
            self.varint = (value, bits + 7);
            return Ok(byte);
        }
        self.varint = (0, 0);
        let left = self.bytes.len();
        if value > left as u64 + 1 {
            return Err(TryGetError {
                requested: usize::try_from(value).unwrap_or(usize::MAX),
                available: left,
            });
        }
        Ok(byte)
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.varint = (0, 0);
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest};
    use kafka_protocol::protocol::Decodable;

    use super::*;

    #[test]
    fn a_lying_count_is_refused_before_memory_is_reserved() {
        // 4,294,967,294 topics in a frame of 15 bytes: the crate alone would abort.
        for count in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x80, 0x80, 0x01]] {
            let mut frame = count.to_vec();
            frame.extend_from_slice(&[0; 10]);
            let mut guarded = Guarded::new(frame.clone().into());
            assert!(MetadataRequest::decode(&mut guarded, 12).is_err());
            let mut guarded = Guarded::new(frame.into());
            assert!(CreateTopicsRequest::decode(&mut guarded, 7).is_err());
        }
    }
}
