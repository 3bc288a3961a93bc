//! Single records inside an uncompressed batch.

use bytes::Bytes;

use super::{BatchError, BatchHeader};
use crate::{Offset, Timestamp};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub offset: Offset,
    /// Its time, the producer's or the broker's as the batch says.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Name; UTF-8 by convention, not checked.
    pub key: Bytes,
    /// Value.
    pub value: Option<Bytes>,
}

/// Reads the records in `body`, which is the batch's own or its decompressed form.
///
/// # Errors
/// `Record` at the first malformed one, `Count` if there are more or fewer than the header says.
pub fn read_records(header: &BatchHeader, body: Bytes) -> Result<Vec<Record>, BatchError> {
    let mut records = Vec::new();
    walk(body, header.record_count, |raw| {
        let timestamp = if header.attributes.is_log_append_time() {
            header.max_timestamp
        } else {
            Timestamp(header.base_timestamp.0.wrapping_add(raw.timestamp_delta))
        };
        let headers = raw.headers()?;
        records.push(Record {
            offset: header.base_offset + u64::from(raw.offset_delta),
            timestamp,
            key: raw.key,
            value: raw.value,
            headers,
        });
        Some(())
    })?;
    Ok(records)
}

/// Checks that `body` holds `count` well-formed records numbered from 0. On the path of
/// every produced batch: walks plain slices, takes no references.
pub(super) fn verify_records(body: &[u8], count: u32) -> Result<(), BatchError> {
    let mut scan = Scan(body);
    for index in 0..count {
        scan.record(index).ok_or(BatchError::Record {
            index: index as usize,
        })?;
    }
    if scan.0.is_empty() {
        return Ok(());
    }
    Err(BatchError::count(count, count.saturating_sub(1)))
}

/// Whether a record in `body`, which was verified, has a header whose name begins so. Walks
/// plain slices, and looks at no value.
pub(super) fn has_header(body: &[u8], count: u32, prefix: &[u8]) -> bool {
    let mut scan = Scan(body);
    (0..count).any(|_| scan.record_has_header(prefix).unwrap_or(false))
}

/// Reads from the front of a slice; `None` means malformed.
struct Scan<'a>(&'a [u8]);

impl<'a> Scan<'a> {
    /// Steps over a record that must be number `index`.
    fn record(&mut self, index: u32) -> Option<()> {
        let length = usize::try_from(self.varint()?).ok()?;
        let mut rest = Scan(self.take(length)?);
        rest.take(1)?; // attributes, unused by the format
        rest.varint()?; // timestamp delta
        if rest.varint()? != i64::from(index) {
            return None;
        }
        rest.nullable()?; // key
        rest.nullable()?; // value
        // Each header takes at least two bytes, so a lying count ends early.
        for _ in 0..usize::try_from(rest.varint()?).ok()? {
            rest.nullable().filter(|key| key.is_some())?;
            rest.nullable()?;
        }
        rest.0.is_empty().then_some(())
    }

    /// Steps over a record; whether one of its headers begins so.
    fn record_has_header(&mut self, prefix: &[u8]) -> Option<bool> {
        let length = usize::try_from(self.varint()?).ok()?;
        let mut rest = Scan(self.take(length)?);
        rest.take(1)?;
        rest.varint()?;
        rest.varint()?;
        rest.nullable()?;
        rest.nullable()?;
        for _ in 0..usize::try_from(rest.varint()?).ok()? {
            if rest.nullable()??.starts_with(prefix) {
                return Some(true);
            }
            rest.nullable()?;
        }
        Some(false)
    }

    /// A zig-zag varint of at most ten bytes.
    fn varint(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
            if byte & 0x80 == 0 {
                self.0 = self.0.get(at + 1..)?;
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A length-prefixed value; the inner `None` is the format's null.
    #[expect(
        clippy::option_option,
        reason = "malformed and null are different things"
    )]
    fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?)),
        }
    }
}

struct RawRecord {
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<Bytes>,
    value: Option<Bytes>,
    rest: Cursor,
}

impl RawRecord {
    fn headers(&self) -> Option<Vec<RecordHeader>> {
        let mut rest = self.rest.clone();
        let mut headers = Vec::new();
        for _ in 0..rest.count()? {
            let key = rest.bytes()??;
            headers.push(RecordHeader {
                key,
                value: rest.bytes()?,
            });
        }
        rest.0.is_empty().then_some(headers)
    }
}

fn walk(
    body: Bytes,
    count: u32,
    mut visit: impl FnMut(RawRecord) -> Option<()>,
) -> Result<(), BatchError> {
    let mut cursor = Cursor(body);
    for index in 0..count as usize {
        cursor
            .record()
            .and_then(&mut visit)
            .ok_or(BatchError::Record { index })?;
    }
    if cursor.0.is_empty() {
        return Ok(());
    }
    Err(BatchError::count(count, count.saturating_sub(1)))
}

/// Reads from the front of a shared slice; `None` means malformed.
#[derive(Clone)]
struct Cursor(Bytes);

impl Cursor {
    fn record(&mut self) -> Option<RawRecord> {
        let length = usize::try_from(self.varint()?).ok()?;
        let mut rest = Cursor(self.take(length)?);
        rest.take(1)?; // attributes, unused by the format
        let timestamp_delta = rest.varint()?;
        let offset_delta = u32::try_from(rest.varint()?).ok()?;
        let key = rest.bytes()?;
        let value = rest.bytes()?;
        Some(RawRecord {
            timestamp_delta,
            offset_delta,
            key,
            value,
            rest,
        })
    }

    /// A zig-zag varint of at most ten bytes.
    fn varint(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
            if byte & 0x80 == 0 {
                self.0 = self.0.slice(at + 1..);
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    /// A length-prefixed value; the inner `None` is the format's null.
    #[expect(
        clippy::option_option,
        reason = "malformed and null are different things"
    )]
    fn bytes(&mut self) -> Option<Option<Bytes>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?)),
        }
    }

    /// A number of headers; each takes at least two bytes, so a lying count ends early.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?)
            .ok()
            .filter(|count| *count <= self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    #[test]
    fn verifying_and_reading_agree_on_every_changed_byte() {
        let batch = BatchBuilder::new(Timestamp(1_000))
            .record_with_headers(Some(b"key"), Some(b"value"), &[("h", b"1"), ("i", b"2")])
            .record(None, None)
            .build();
        let header = batch.header();
        for at in 0..batch.body().len() {
            for byte in 0..=255 {
                let mut body = batch.body().to_vec();
                body[at] = byte;
                let read = read_records(header, body.clone().into());
                let numbered = read
                    .is_ok_and(|records| (0..).zip(&records).all(|(n, r)| r.offset == Offset(n)));
                let verified = verify_records(&body, header.record_count).is_ok();
                assert_eq!(verified, numbered, "byte {at} = {byte}");
            }
        }
    }
}
