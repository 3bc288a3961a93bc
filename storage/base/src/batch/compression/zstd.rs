//! Zstandard frames, block by block.
//!
//! A frame says how far back its blocks may look (its window), and the decoder holds that
//! much before it gives anything. A window that is larger than all that may come out is
//! lowered in the frame's head: no block can look further back than the frame's start.
//! Java's highest levels ask for 128 MiB for the smallest of batches.

use bytes::buf::Reader;
use bytes::{Buf, Bytes, BytesMut};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What a frame begins with, and what the sixteen kinds of frames to be skipped do.
const MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;
/// Where a frame says what its head holds, and where the window is if it has one.
const DESCRIPTOR_AT: usize = 4;
const WINDOW_AT: usize = 5;
/// The frame is one segment: its window is its size.
const SINGLE_SEGMENT: u8 = 0x20;
/// Windows start at 1 KiB.
const WINDOW_LOG_MIN: u32 = 10;

/// Why there is nothing next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The frame is malformed.
    Frame,
    /// More would come out than is allowed.
    Large,
}

/// The frames of a batch.
pub(super) struct Zstd {
    rest: Reader<Bytes>,
    decoder: Option<FrameDecoder>,
    /// How much the decoder keeps back of the frame under way.
    window: usize,
    window_max: usize,
}

impl Zstd {
    /// Of `body`, of which at most `limit` bytes may come out.
    pub(super) fn new(body: Bytes, limit: usize) -> Zstd {
        Zstd {
            rest: body.reader(),
            decoder: None,
            window: 0,
            window_max: limit.max(1 << WINDOW_LOG_MIN).next_power_of_two(),
        }
    }

    /// Decodes a block and gives what can be given, perhaps nothing; false at the end.
    pub(super) fn next(&mut self, max: usize, out: &mut Vec<u8>) -> Result<bool, Bad> {
        out.clear();
        let Some(decoder) = &mut self.decoder else {
            return self.next_frame(max);
        };
        if !decoder.is_finished() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let decoded = decoder.decode_blocks(&mut self.rest, one);
            decoded.map_err(|_| Bad::Frame)?;
        }
        let ready = decoder.can_collect();
        let held = if decoder.is_finished() || ready == 0 {
            0
        } else {
            self.window
        };
        if ready.saturating_add(held) > max {
            return Err(Bad::Large);
        }
        decoder.collect_to_writer(out).map_err(|_| Bad::Frame)?;
        if decoder.is_finished() {
            let said = decoder.get_checksum_from_data();
            if said.is_some() && said != decoder.get_calculated_checksum() {
                return Err(Bad::Frame);
            }
            self.decoder = None;
        }
        Ok(true)
    }

    fn next_frame(&mut self, max: usize) -> Result<bool, Bad> {
        let body = self.rest.get_mut();
        let mut peek = body.clone();
        if peek.is_empty() {
            return Ok(false);
        }
        let magic = peek.try_get_u32_le().map_err(|_| Bad::Frame)?;
        if SKIPPABLE.contains(&magic) {
            let length = peek.try_get_u32_le().map_err(|_| Bad::Frame)? as usize;
            if length > peek.len() {
                return Err(Bad::Frame);
            }
            peek.advance(length);
            *body = peek;
            return Ok(true);
        }
        if magic != MAGIC {
            return Err(Bad::Frame);
        }
        let window = self.lower_window();
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(self.window_max as u64);
        match decoder.init(&mut self.rest) {
            Ok(()) => {}
            // With its window lowered, only a frame of one segment can ask for that much.
            Err(FrameDecoderError::WindowSizeTooBig { .. }) => return Err(Bad::Large),
            Err(_) => return Err(Bad::Frame),
        }
        let size = usize::try_from(decoder.content_size()).unwrap_or(usize::MAX);
        if size > max {
            return Err(Bad::Large);
        }
        self.window = window.unwrap_or(size);
        self.decoder = Some(decoder);
        Ok(true)
    }

    /// The window of the frame that comes next, if it has one; a smaller one is written
    /// into its head where it asks for more than can come out.
    fn lower_window(&mut self) -> Option<usize> {
        let body = self.rest.get_mut();
        let (descriptor, window) = body.get(DESCRIPTOR_AT).zip(body.get(WINDOW_AT))?;
        if descriptor & SINGLE_SEGMENT != 0 {
            return None;
        }
        // Five bits of exponent, three of mantissa.
        let (log, eighths) = (u32::from(window >> 3), usize::from(window & 7));
        let base = 1usize
            .checked_shl(log + WINDOW_LOG_MIN)
            .unwrap_or(usize::MAX);
        let size = base.saturating_add((base / 8).saturating_mul(eighths));
        if size <= self.window_max {
            return Some(size);
        }
        let wanted = (self.window_max.ilog2() - WINDOW_LOG_MIN) << 3;
        let wanted = u8::try_from(wanted).unwrap_or(u8::MAX);
        // Copies this one batch; such windows are rare.
        let mut lowered = BytesMut::from(&body[..]);
        lowered[WINDOW_AT] = wanted;
        *body = lowered.freeze();
        Some(self.window_max)
    }
}
