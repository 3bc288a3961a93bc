//! Bytes of the group's log file: checksummed frames, and what to make of bad ones.
//!
//! ```text
//! file  := frame*
//! frame := magic u32 | payload bytes u32 | crc32c u32 | file u64 | sequence u64 | synced u64 | payload
//! ```
//! Integers are little-endian; the checksum covers all after it. `file` and `sequence`
//! tell a frame from any other that ever lay there. `synced` is how long the file was
//! known to be durable when the frame was written: bad bytes below what a *later* good
//! frame calls synced are not a torn write but a rotten disk (reliability: corruption
//! is not a crash). Pure.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

const MAGIC: u32 = 0x5752_4c31;
const HEADER: usize = 36;
/// Largest payload: one append of openraft, at most 300 entries.
const PAYLOAD_MAX: usize = 256 * 1024 * 1024;

/// One frame to be written.
pub(crate) fn encode(
    file: u64,
    sequence: u64,
    synced: u64,
    payload: &[u8],
) -> Result<Bytes, FrameError> {
    let len = u32::try_from(payload.len())
        .ok()
        .filter(|_| payload.len() <= PAYLOAD_MAX)
        .ok_or(FrameError::TooLarge(payload.len()))?;
    let mut bytes = BytesMut::with_capacity(HEADER + payload.len());
    bytes.put_u32_le(MAGIC);
    bytes.put_u32_le(len);
    bytes.put_u32_le(0);
    bytes.put_u64_le(file);
    bytes.put_u64_le(sequence);
    bytes.put_u64_le(synced);
    bytes.extend_from_slice(payload);
    let crc = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes.freeze())
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Payloads of the good frames, in order.
    pub(crate) payloads: Vec<Bytes>,
    /// Where the last good frame ends: the torn tail behind it is to be cut.
    pub(crate) end: u64,
}

/// Why a file cannot be read or a frame not written.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    /// Bad bytes where data was durable.
    #[error("bad bytes at {at}, below {synced} bytes that were durable")]
    Corrupt {
        /// Where.
        at: u64,
        /// How long the file was known to be durable.
        synced: u64,
    },
    /// Nothing good at all in a file that was complete when it got its name.
    #[error("no good frame in {0} bytes")]
    NoFrame(u64),
    /// Too much for one frame.
    #[error("{0} bytes are too many for one frame")]
    TooLarge(usize),
}

/// Reads a whole file.
///
/// # Errors
/// [`FrameError::Corrupt`] if bad bytes are followed by a frame that proves them to
/// have been durable.
pub(crate) fn scan(file: u64, bytes: &Bytes) -> Result<Scan, FrameError> {
    let mut payloads = Vec::new();
    let mut at = 0;
    let mut sequence = 0;
    while let Some(frame) = read(file, bytes, at) {
        if frame.sequence != sequence {
            break;
        }
        sequence += 1;
        at = frame.end;
        payloads.push(frame.payload);
    }
    // Byte by byte: a bad length must not hide what comes after it.
    for start in at + 1..bytes.len() {
        if let Some(later) = read(file, bytes, start)
            && later.sequence > sequence
            && later.synced > position(at)
        {
            return Err(FrameError::Corrupt {
                at: position(at),
                synced: later.synced,
            });
        }
    }
    if payloads.is_empty() {
        return Err(FrameError::NoFrame(position(bytes.len())));
    }
    Ok(Scan {
        payloads,
        end: position(at),
    })
}

struct Frame {
    sequence: u64,
    synced: u64,
    payload: Bytes,
    end: usize,
}

fn read(file: u64, bytes: &Bytes, at: usize) -> Option<Frame> {
    let header = bytes.get(at..at.checked_add(HEADER)?)?;
    let u32_at = |i: usize| Some(u32::from_le_bytes(header.get(i..i + 4)?.try_into().ok()?));
    let u64_at = |i: usize| Some(u64::from_le_bytes(header.get(i..i + 8)?.try_into().ok()?));
    if u32_at(0)? != MAGIC || u64_at(12)? != file {
        return None;
    }
    let len = usize::try_from(u32_at(4)?).ok()?;
    let end = at.checked_add(HEADER)?.checked_add(len)?;
    if len > PAYLOAD_MAX || crc32c::crc32c(bytes.get(at + 12..end)?) != u32_at(8)? {
        return None;
    }
    Some(Frame {
        sequence: u64_at(20)?,
        synced: u64_at(28)?,
        payload: bytes.slice(at + HEADER..end),
        end,
    })
}

fn position(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three frames, each written when all before it was durable; with their ends.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (sequence, payload) in (0..).zip([&b"one"[..], b"two", b"three"]) {
            let synced = position(bytes.len());
            bytes.extend_from_slice(&encode(7, sequence, synced, payload).unwrap());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, ends) = file();
        let scan = scan(7, &Bytes::from(bytes)).unwrap();
        assert_eq!(scan.payloads, [&b"one"[..], b"two", b"three"]);
        assert_eq!(scan.end, position(ends[2]));
    }

    #[test]
    fn every_torn_tail_is_cut_at_the_last_good_frame() {
        let (bytes, ends) = file();
        for len in ends[0]..bytes.len() {
            let scan = scan(7, &Bytes::copy_from_slice(&bytes[..len])).unwrap();
            let whole = ends.iter().filter(|end| **end <= len).count();
            assert_eq!(scan.payloads.len(), whole);
            assert_eq!(scan.end, position(ends[whole - 1]));
        }
    }

    #[test]
    fn any_flipped_bit_below_a_later_frame_is_corruption() {
        let (bytes, ends) = file();
        for at in 0..ends[1] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(
                matches!(scan(7, &Bytes::from(bad)), Err(FrameError::Corrupt { .. })),
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_bad_frame_that_was_never_durable_is_a_torn_tail() {
        // Both frames were written before the first of them was synced, and the disk
        // kept only the second.
        let mut bytes = encode(7, 0, 0, b"base").unwrap().to_vec();
        let base = bytes.len();
        for sequence in 1..3 {
            bytes.extend_from_slice(&encode(7, sequence, position(base), b"x").unwrap());
        }
        bytes[base + 5] ^= 1;
        assert_eq!(scan(7, &Bytes::from(bytes)).unwrap().end, position(base));
    }

    #[test]
    fn frames_of_another_file_do_not_count() {
        let (bytes, _) = file();
        assert!(matches!(
            scan(8, &Bytes::from(bytes)),
            Err(FrameError::NoFrame(_))
        ));
    }
}
