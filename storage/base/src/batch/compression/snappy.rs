//! Snappy, as Kafka's clients write it: the Java client's frame of blocks, or one raw block.
//!
//! ```text
//! 0x82 "SNAPPY" 0x00 | version i32 | compatible i32 | ( block length i32 | block )*
//! ```

use std::io;

use bytes::{Buf, Bytes};

/// What the framed form begins with.
const MAGIC: &[u8] = b"\x82SNAPPY\x00";
/// The frame's head: magic and two versions.
const HEAD_BYTES: usize = 16;
/// Bytes of a block that one byte may stand for: three give 64 at most.
const RATIO_MAX: usize = 22;

/// Why there is no next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is malformed.
    Block,
    /// It says that it is larger than allowed.
    Large,
}

/// The blocks of a batch.
pub(super) struct Snappy {
    rest: Bytes,
    framed: bool,
}

impl Snappy {
    pub(super) fn new(mut body: Bytes) -> Snappy {
        let framed = body.len() >= HEAD_BYTES && body.starts_with(MAGIC);
        if framed {
            body.advance(HEAD_BYTES);
        }
        Snappy { rest: body, framed }
    }

    /// Decompresses the next block, of at most `max` bytes, into `out`; whether there was one.
    pub(super) fn next(&mut self, max: usize, out: &mut Vec<u8>) -> Result<bool, Bad> {
        out.clear();
        if self.rest.is_empty() {
            return Ok(false);
        }
        let block = if self.framed {
            // What several frames behind each other look like, which Java reads too.
            if self.rest.len() >= HEAD_BYTES && self.rest.starts_with(MAGIC) {
                self.rest.advance(HEAD_BYTES);
                return Ok(true);
            }
            let length = self.rest.try_get_i32().map_err(|_| Bad::Block)?;
            let length = usize::try_from(length).map_err(|_| Bad::Block)?;
            if length > self.rest.len() {
                return Err(Bad::Block);
            }
            self.rest.split_to(length)
        } else {
            std::mem::take(&mut self.rest)
        };
        let claimed = snap::raw::decompress_len(&block).map_err(|_| Bad::Block)?;
        if claimed > block.len() * RATIO_MAX {
            return Err(Bad::Block);
        }
        if claimed > max {
            return Err(Bad::Large);
        }
        out.resize(claimed, 0);
        let written = snap::raw::Decoder::new().decompress(&block, out);
        (written == Ok(claimed)).then_some(true).ok_or(Bad::Block)
    }
}

/// One raw block.
pub(super) fn compress(records: &[u8]) -> io::Result<Bytes> {
    let block = snap::raw::Encoder::new().compress_vec(records);
    block.map(Bytes::from).map_err(io::Error::other)
}
