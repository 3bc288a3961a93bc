//! Builds batches: for journals, control records and producers of other protocols.

use bytes::Bytes;

use super::header::Attributes;
use super::{BATCH_HEADER_BYTES, BatchHeader, LENGTH_PREFIX_BYTES, RecordBatch};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Collects records into one uncompressed batch.
#[derive(Debug)]
pub struct BatchBuilder {
    timestamp: Timestamp,
    attributes: Attributes,
    producer: (ProducerId, ProducerEpoch, i32),
    count: u32,
    body: Vec<u8>,
}

impl BatchBuilder {
    /// A batch whose records all carry `timestamp`.
    #[must_use]
    pub fn new(timestamp: Timestamp) -> Self {
        let producer = (ProducerId::NONE, ProducerEpoch(-1), -1);
        Self {
            timestamp,
            attributes: Attributes::default(),
            producer,
            count: 0,
            body: Vec::new(),
        }
    }

    /// Marks it as a control batch, which consumers skip.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes.set_control();
        self
    }

    /// Makes it part of an idempotent producer's sequence.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Adds a record without headers.
    #[must_use]
    pub fn record(self, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.record_with_headers(key, value, &[])
    }

    /// Adds a record.
    #[must_use]
    pub fn record_with_headers(
        self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(*value)));
        self.record_with_raw_headers(key, value, headers)
    }

    /// Adds a record whose headers may be anything the format allows: names that are no
    /// UTF-8, values that are null.
    #[must_use]
    pub fn record_with_raw_headers<'a>(
        mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Self {
        let mut record = vec![0u8]; // attributes
        put_varint(&mut record, 0); // timestamp delta
        put_varint(&mut record, i64::from(self.count));
        put_bytes(&mut record, key);
        put_bytes(&mut record, value);
        put_varint(&mut record, len(headers.len()));
        for (name, value) in headers {
            put_bytes(&mut record, Some(name));
            put_bytes(&mut record, value);
        }
        put_varint(&mut self.body, len(record.len()));
        self.body.extend_from_slice(&record);
        self.count += 1;
        self
    }

    /// Bytes of the batch so far.
    #[must_use]
    pub fn size(&self) -> usize {
        BATCH_HEADER_BYTES + self.body.len()
    }

    /// The batch, at offset 0 until a leader stamps it. Panics if it holds no
    /// record: an empty batch cannot be stored.
    #[must_use]
    pub fn build(self) -> RecordBatch {
        assert!(self.count > 0, "a record batch holds at least one record");
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let length = self.body.len() + BATCH_HEADER_BYTES - LENGTH_PREFIX_BYTES;
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            length: i32::try_from(length).unwrap_or(i32::MAX),
            leader_epoch: LeaderEpoch::default(),
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.count - 1,
            base_timestamp: self.timestamp,
            max_timestamp: self.timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.count,
        };
        let mut batch = RecordBatch::from_parts(header, Bytes::from(self.body));
        batch.header.crc = batch.checksum();
        batch.head = batch.header.encode();
        batch
    }
}

fn len(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, len(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}
