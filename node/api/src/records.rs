//! The records of a stored batch, whatever its compression.
//!
//! Batches are stored as they were sent. Who needs single records, as queues do, opens
//! them here: bounded, since a few bytes can claim to be gigabytes.

use std::io::Read;

use bytes::Bytes;
use weir_base::batch::{Compression, Record, read_records};
use weir_base::limits::BATCH_BYTES_CEILING;
use weir_base::{BatchError, RecordBatch};

/// What Java's snappy stream begins with: eight bytes of name, two versions.
const XERIAL: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// The records of `batch`.
///
/// # Errors
/// If it does not open to at most 64 MiB, or does not parse.
pub fn open(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    let body = batch.body();
    let opened = match batch.header().attributes.compression() {
        Compression::None => return batch.records(),
        Compression::Gzip => read_all(flate2::read::MultiGzDecoder::new(&body[..])),
        Compression::Snappy => snappy(body),
        Compression::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(&body[..])),
        Compression::Zstd => zstd(body),
    };
    // Which byte is wrong is nobody's concern: the first record is not to be had.
    let opened = opened.ok_or(BatchError::Record { index: 0 })?;
    read_records(batch.header(), opened)
}

fn bytes_max() -> usize {
    usize::try_from(BATCH_BYTES_CEILING).unwrap_or(usize::MAX)
}

fn read_all(from: impl Read) -> Option<Bytes> {
    let mut opened = Vec::new();
    let limit = u64::from(BATCH_BYTES_CEILING) + 1;
    from.take(limit).read_to_end(&mut opened).ok()?;
    (opened.len() <= bytes_max()).then(|| opened.into())
}

fn zstd(body: &Bytes) -> Option<Bytes> {
    read_all(ruzstd::decoding::StreamingDecoder::new(&body[..]).ok()?)
}

/// One raw block, or Java's sequence of blocks, each behind its length.
fn snappy(body: &Bytes) -> Option<Bytes> {
    if !body.starts_with(&XERIAL) {
        return Some(block(body, bytes_max())?.into());
    }
    let mut rest = body.get(XERIAL_HEADER_BYTES..)?;
    let mut opened = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (packed, behind) = behind.split_at_checked(length)?;
        opened.extend(block(packed, bytes_max() - opened.len())?);
        rest = behind;
    }
    rest.is_empty().then(|| opened.into())
}

fn block(packed: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let claimed = snap::raw::decompress_len(packed).ok()?;
    if claimed > bytes_max {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(packed).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use weir_base::Timestamp;
    use weir_base::batch::{Attributes, BatchBuilder};

    use super::*;

    fn plain() -> RecordBatch {
        let batch = BatchBuilder::new(Timestamp(5));
        let batch = (0..50).fold(batch, |batch, n| {
            batch.record(Some(b"key"), Some(format!("value {n}").as_bytes()))
        });
        batch.build()
    }

    /// The same batch with its records packed.
    fn packed(codec: i16, body: Vec<u8>) -> RecordBatch {
        let mut header = *plain().header();
        header.attributes = Attributes(codec);
        let length = body.len() + 61 - 12;
        header.length = i32::try_from(length).unwrap();
        let mut bytes = header.encode().to_vec();
        bytes.extend(body);
        RecordBatch::parse(&bytes.into()).unwrap()
    }

    fn xerial(body: &[u8]) -> Vec<u8> {
        let mut packed = XERIAL.to_vec();
        packed.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for part in body.chunks(100) {
            let block = snap::raw::Encoder::new().compress_vec(part).unwrap();
            packed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            packed.extend(block);
        }
        packed
    }

    #[test]
    fn every_codec_gives_the_same_records() {
        let expected = plain().records().unwrap();
        let body = plain().body().clone();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&body).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&body).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(
            &body[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        let snappy = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        for (codec, body) in [
            (1, gzip.finish().unwrap()),
            (2, snappy),
            (2, xerial(&body)),
            (3, lz4.finish().unwrap()),
            (4, zstd),
        ] {
            assert_eq!(open(&packed(codec, body)), Ok(expected.clone()), "{codec}");
        }
    }

    #[test]
    fn what_does_not_open_is_an_error_and_takes_no_memory() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..65 {
            bomb.write_all(&zeros).unwrap();
        }
        // A raw block that claims 4 GiB.
        let claim = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        for (codec, body) in [
            (1, bomb.finish().unwrap()),
            (1, b"no gzip".to_vec()),
            (2, claim),
            (2, XERIAL.to_vec()),
            (3, vec![1, 2, 3]),
            (4, vec![1, 2, 3]),
        ] {
            assert!(open(&packed(codec, body)).is_err(), "{codec}");
        }
    }
}
