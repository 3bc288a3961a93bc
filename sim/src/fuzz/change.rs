//! Changes an input: by whole bytes, lengths and pieces, and by what a format would
//! notice at its door. Equal entropy gives equal inputs.

use weir_base::Entropy;
use weir_base::batch::BATCH_HEADER_BYTES;

/// Makes an input of `seed`, perhaps with a piece of `other`.
pub type Change = fn(entropy: &Entropy, seed: &[u8], other: &[u8]) -> Vec<u8>;

/// Inputs grow no larger than this.
const BYTES_MAX: usize = 256 * 1024;
/// Values that lengths and counts are read as, at their edges.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// One to four edits: bits, bytes, length fields of any width and order, cuts, pieces
/// doubled, moved in from `other` or left out.
#[must_use]
pub fn plainly(entropy: &Entropy, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=entropy.below(4) {
        edit(entropy, &mut data, other);
    }
    data.truncate(BYTES_MAX);
    data
}

fn edit(entropy: &Entropy, data: &mut Vec<u8>, other: &[u8]) {
    let at = below(entropy, data.len());
    match entropy.below(9) {
        0 | 1 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << entropy.below(8);
            }
        }
        2 => put(data, at, &entropy.next_u64().to_le_bytes()[..1]),
        3 | 4 => {
            let width = 1 << entropy.below(4);
            let value = edge(entropy, data.len());
            let (little, big) = (value.to_le_bytes(), value.to_be_bytes());
            match entropy.below(2) {
                0 => put(data, at, &little[..width]),
                _ => put(data, at, &big[8 - width..]),
            }
        }
        5 => data.truncate(at),
        6 => {
            let piece = piece(entropy, data).to_vec();
            data.splice(at..at, piece);
        }
        7 => {
            let piece = piece(entropy, other).to_vec();
            let end = at + below(entropy, data.len() - at + 1);
            data.splice(at..end, piece);
        }
        _ => {
            let end = at + below(entropy, (data.len() - at).min(64) + 1);
            data.drain(at..end);
        }
    }
}

/// An edge, or one beside the input's own length.
fn edge(entropy: &Entropy, len: usize) -> u64 {
    let edges = EDGES.into_iter().chain([len as u64]);
    let picked = edges.clone().nth(below(entropy, edges.count()));
    picked
        .unwrap_or_default()
        .wrapping_add(entropy.below(3))
        .wrapping_sub(1)
}

fn piece<'a>(entropy: &Entropy, of: &'a [u8]) -> &'a [u8] {
    let from = below(entropy, of.len());
    let len = below(entropy, (of.len() - from).min(4096) + 1);
    of.get(from..from + len).unwrap_or_default()
}

fn below(entropy: &Entropy, bound: usize) -> usize {
    usize::try_from(entropy.below(bound as u64)).unwrap_or(0)
}

/// Overwrites as much of `field` as there is room for.
fn put(data: &mut [u8], at: usize, field: &[u8]) {
    let room = data.len().saturating_sub(at).min(field.len());
    if let Some(place) = data.get_mut(at..at + room) {
        place.copy_from_slice(&field[..room]);
    }
}

fn u32_le(data: &[u8], at: usize) -> Option<usize> {
    let field = data.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// Changes batches; mends their checksums.
pub(super) fn batch(entropy: &Entropy, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = plainly(entropy, seed, other);
    if entropy.below(2) == 0 {
        let mut at = 0;
        while let Some(size) = seal_batch(&mut data, at) {
            at += size;
        }
    }
    data
}

/// Gives the batch at `at` the checksum that it should have; gives its size.
fn seal_batch(data: &mut [u8], at: usize) -> Option<usize> {
    let field = data.get(at + 8..)?.first_chunk()?;
    let size = usize::try_from(i32::from_be_bytes(*field)).ok()? + 12;
    if size < BATCH_HEADER_BYTES {
        return None;
    }
    let crc = crc32c::crc32c(data.get(at + 21..at + size)?);
    put(data, at + 17, &crc.to_be_bytes());
    Some(size)
}

/// Changes one request of a connection; mends its length prefix.
pub(super) fn kafka(entropy: &Entropy, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut frames = frames(seed);
    if frames.is_empty() || entropy.below(4) == 0 {
        return plainly(entropy, seed, other);
    }
    let at = below(entropy, frames.len());
    match entropy.below(8) {
        0 => drop(frames.remove(at)),
        1 => frames.insert(at, frames[below(entropy, frames.len())].clone()),
        _ => {
            let others = self::frames(other);
            let other = others.get(below(entropy, others.len()));
            let other = other.map_or(seed, Vec::as_slice);
            frames[at] = plainly(entropy, &frames[at], other);
        }
    }
    let mut data = Vec::new();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(&frame);
    }
    data
}

fn frames(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (frame, rest) = rest.split_at(length.min(rest.len()));
        frames.push(frame.to_vec());
        data = rest;
    }
    frames
}

/// Bytes of a segment's head, and of a frame's before its batch.
const SEGMENT_HEAD: usize = 64;
const FRAME_HEAD: usize = 56;

/// Changes a segment; mends the checksums and the chain of its frames.
pub(super) fn segment(entropy: &Entropy, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = plainly(entropy, seed, other);
    if entropy.below(2) == 0 {
        seal_head(&mut data);
        let mut previous = 0;
        let mut at = SEGMENT_HEAD;
        while let Some((size, crc)) = seal_frame(&mut data, at, Some(previous)) {
            previous = crc;
            at += size;
        }
    }
    data
}

/// Mends the head of a segment or of a write-ahead log file.
fn seal_head(data: &mut [u8]) {
    if let Some(head) = data.get(..60) {
        let crc = crc32c::crc32c(head);
        put(data, 60, &crc.to_le_bytes());
    }
}

/// Mends the frame at `at` and its batch; gives its size and checksum.
fn seal_frame(data: &mut [u8], at: usize, previous: Option<u32>) -> Option<(usize, u32)> {
    let length = u32_le(data, at + 20)?;
    let batch = at + FRAME_HEAD;
    if length < BATCH_HEADER_BYTES || data.len() < batch + length {
        return None;
    }
    seal_batch(data, batch);
    if let Some(previous) = previous {
        put(data, at + 8, &previous.to_le_bytes());
    }
    let crc = crc32c::crc32c(data.get(at + 8..batch + 21)?);
    put(data, at + 4, &crc.to_le_bytes());
    Some((FRAME_HEAD + length, crc))
}

/// Where groups begin in a write-ahead log file, and bytes of a record before its frame.
const BLOCK: usize = 4096;
const RECORD_HEAD: usize = 48;

/// Changes a write-ahead log file; mends the checksums of its records.
pub(super) fn wal(entropy: &Entropy, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = plainly(entropy, seed, other);
    if entropy.below(2) == 0 {
        seal_head(&mut data);
        let salt = u32_le(&data, 48).and_then(|salt| u32::try_from(salt).ok());
        let mut at = BLOCK;
        while at < data.len() {
            at = match seal_record(&mut data, at, salt.unwrap_or(0)) {
                Some(size) => at + size,
                None => (at + 1).next_multiple_of(BLOCK),
            };
        }
    }
    data
}

fn seal_record(data: &mut [u8], at: usize, salt: u32) -> Option<usize> {
    if data.get(at..at + 4)? != b"WWR1" {
        return None;
    }
    let (size, crc) = seal_frame(data, at + RECORD_HEAD, None)?;
    let length = u32::try_from(size).unwrap_or(u32::MAX);
    put(data, at + 36, &length.to_le_bytes());
    put(data, at + 40, &crc.to_le_bytes());
    let crc = crc32c::crc32c_append(salt, data.get(at + 8..at + RECORD_HEAD)?);
    put(data, at + 4, &crc.to_le_bytes());
    Some(RECORD_HEAD + size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_entropy_makes_equal_inputs_and_most_are_new() {
        let inputs = |seed: u8| -> Vec<Vec<u8>> {
            let entropy = Entropy::from_seed([seed; 32]);
            let change = || plainly(&entropy, b"some bytes", b"others");
            (0..200).map(|_| change()).collect()
        };
        assert_eq!(inputs(1), inputs(1));
        let new = inputs(1).iter().filter(|i| *i != b"some bytes").count();
        assert!(new > 150, "{new}");
    }

    #[test]
    fn an_empty_input_can_be_changed() {
        let entropy = Entropy::from_seed([1; 32]);
        for change in [plainly, batch, kafka, segment, wal] {
            for _ in 0..200 {
                drop(change(&entropy, &[], &[]));
            }
        }
    }
}
