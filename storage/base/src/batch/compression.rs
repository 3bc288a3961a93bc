//! The codecs of record batches: what a batch's records are once they are decompressed.
//!
//! A [`Decompressor`] gives them piece by piece, never more than a limit of them, so that
//! a few bytes cannot make a node hold or work through gigabytes. What it holds at a time
//! depends on the codec: 32 KiB for gzip, a block of at most 4 MiB and its history for
//! lz4, a block for snappy (the whole batch, for clients that do not frame it), the
//! window for zstd; never more than the limit and a part, and nothing by a length that is
//! only claimed. [`RecordsCheck`] looks at the records on the way, for produced batches;
//! compaction wants them whole ([`decompress`]) and back ([`compress`]).

mod snappy;
mod zstd;

use std::io::{self, Read, Write};

use bytes::buf::Reader;
use bytes::{Buf, Bytes};

use super::scan::RecordScan;
use super::{BatchError, Compression, RecordBatch};
use snappy::Snappy;
use zstd::Zstd;

/// Bytes of a piece of what gzip and lz4 give.
const PIECE_BYTES: usize = 32 * 1024;
/// What an lz4 frame starts with. Its older, unframed form is none of Kafka's.
const LZ4_MAGIC: &[u8] = &[0x04, 0x22, 0x4d, 0x18];

/// A batch's records as they are decompressed.
pub struct Decompressor {
    source: Source,
    buffer: Vec<u8>,
    produced: usize,
    limit: usize,
}

/// Every codec's decoder, over the batch's own bytes.
enum Source {
    Plain(Bytes),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Reader<Bytes>>>),
    Snappy(Snappy),
    Lz4(Box<lz4_flex::frame::FrameDecoder<Reader<Bytes>>>),
    Zstd(Box<Zstd>),
    /// No lz4 frame at all.
    Broken,
}

impl Decompressor {
    /// Of `batch`, up to `limit` bytes.
    #[must_use]
    pub fn new(batch: &RecordBatch, limit: usize) -> Decompressor {
        let body = batch.body().clone();
        let source = match batch.header().attributes.compression() {
            Compression::None => Source::Plain(body),
            Compression::Gzip => {
                let decoder = flate2::bufread::MultiGzDecoder::new(body.reader());
                Source::Gzip(Box::new(decoder))
            }
            Compression::Snappy => Source::Snappy(Snappy::new(body)),
            Compression::Lz4 if body.starts_with(LZ4_MAGIC) => {
                let decoder = lz4_flex::frame::FrameDecoder::new(body.reader());
                Source::Lz4(Box::new(decoder))
            }
            Compression::Lz4 => Source::Broken,
            Compression::Zstd => Source::Zstd(Box::new(Zstd::new(body, limit))),
        };
        Decompressor {
            source,
            buffer: Vec::new(),
            produced: 0,
            limit,
        }
    }

    /// The next piece, after a bounded amount of work: an empty one only says that there
    /// may be more. `None` at the end.
    ///
    /// # Errors
    /// `Decompress`, or `Expands` beyond the limit.
    pub fn piece(&mut self) -> Result<Option<&[u8]>, BatchError> {
        let left = self.limit - self.produced;
        let expands = BatchError::Expands { max: self.limit };
        let more = match &mut self.source {
            Source::Plain(body) => {
                self.buffer = std::mem::take(body).to_vec();
                !self.buffer.is_empty()
            }
            Source::Gzip(decoder) => read_piece(decoder, &mut self.buffer)?,
            Source::Lz4(decoder) => read_piece(decoder, &mut self.buffer)?,
            Source::Snappy(blocks) => match blocks.next(left, &mut self.buffer) {
                Ok(more) => more,
                Err(snappy::Bad::Block) => return Err(BatchError::Decompress),
                Err(snappy::Bad::Large) => return Err(expands),
            },
            Source::Zstd(frames) => match frames.next(left, &mut self.buffer) {
                Ok(more) => more,
                Err(zstd::Bad::Frame) => return Err(BatchError::Decompress),
                Err(zstd::Bad::Large) => return Err(expands),
            },
            Source::Broken => return Err(BatchError::Decompress),
        };
        if self.buffer.len() > left {
            return Err(expands);
        }
        self.produced += self.buffer.len();
        Ok(more.then_some(&self.buffer))
    }
}

/// Reads at most a piece; whether there was any.
fn read_piece(decoder: &mut impl Read, into: &mut Vec<u8>) -> Result<bool, BatchError> {
    into.resize(PIECE_BYTES, 0);
    let read = decoder.read(into).map_err(|_| BatchError::Decompress)?;
    into.truncate(read);
    Ok(read > 0)
}

/// All records of a batch, decompressed.
///
/// # Errors
/// `Decompress`, or `Expands` beyond `limit` bytes.
pub fn decompress(batch: &RecordBatch, limit: usize) -> Result<Bytes, BatchError> {
    if batch.header().attributes.compression() == Compression::None {
        return Ok(batch.body().clone());
    }
    let mut decompressor = Decompressor::new(batch, limit);
    let mut records = Vec::new();
    while let Some(piece) = decompressor.piece()? {
        records.extend_from_slice(piece);
    }
    Ok(records.into())
}

/// `records` under `codec`, in the form that every client reads.
///
/// # Errors
/// What a codec says; into memory, none has a reason to.
pub fn compress(records: &[u8], codec: Compression) -> io::Result<Bytes> {
    Ok(match codec {
        Compression::None => Bytes::copy_from_slice(records),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records)?;
            encoder.finish()?.into()
        }
        Compression::Snappy => snappy::compress(records)?,
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records)?;
            encoder.finish()?.into()
        }
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(records, level).into()
        }
    })
}

/// Looks at every record of a compressed batch without holding them: that they are as
/// many, as long and as numbered as they say. [`RecordBatch::verify`] does that for
/// batches that are not compressed.
pub struct RecordsCheck {
    decompressor: Decompressor,
    scan: RecordScan,
}

/// What a finished check saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedRecords {
    /// Bytes of the records, decompressed.
    pub bytes: usize,
    /// Whether one of them has no key.
    pub without_key: bool,
    /// Whether one of them has headers.
    pub with_headers: bool,
}

impl RecordsCheck {
    /// Of `batch`, whose records may take `limit` bytes.
    #[must_use]
    pub fn new(batch: &RecordBatch, limit: usize) -> RecordsCheck {
        RecordsCheck {
            decompressor: Decompressor::new(batch, limit),
            scan: RecordScan::new(batch.header().record_count),
        }
    }

    /// Goes on for a bounded amount of work; `None` if there may be more.
    ///
    /// # Errors
    /// `Decompress`, `Expands`, `Count` or `Record`.
    pub fn step(&mut self) -> Result<Option<CheckedRecords>, BatchError> {
        if let Some(piece) = self.decompressor.piece()? {
            self.scan.feed(piece)?;
            return Ok(None);
        }
        self.scan.finish()?;
        Ok(Some(CheckedRecords {
            bytes: self.decompressor.produced,
            without_key: self.scan.without_key(),
            with_headers: self.scan.with_headers(),
        }))
    }

    /// Goes on to the end.
    ///
    /// # Errors
    /// As [`RecordsCheck::step`].
    pub fn run(mut self) -> Result<CheckedRecords, BatchError> {
        loop {
            if let Some(checked) = self.step()? {
                return Ok(checked);
            }
        }
    }
}

#[cfg(test)]
mod tests;
