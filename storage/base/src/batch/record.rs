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
pub fn read_records(header: &BatchHeader, body: &Bytes) -> Result<Vec<Record>, BatchError> {
    read_records_if(header, body, |_| true)
}

/// Reads those records in `body` that are `wanted`, by offset. The others are stepped over
/// by their lengths: a few of a thousand cost little, and what is malformed within one that
/// nobody wants is not seen.
///
/// # Errors
/// As `read_records`.
pub fn read_records_if(
    header: &BatchHeader,
    body: &Bytes,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<Record>, BatchError> {
    let mut scan = Scan(body);
    let mut records = Vec::new();
    for index in 0..header.record_count as usize {
        let read = scan.read(header, body, &wanted);
        records.extend(read.ok_or(BatchError::Record { index })?);
    }
    if scan.0.is_empty() {
        return Ok(records);
    }
    let count = header.record_count;
    Err(BatchError::count(count, count.saturating_sub(1)))
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

    /// Reads a record of `body`, `Some(None)` if it is not wanted. References are taken to
    /// what the record holds and to nothing else: each is an atomic operation.
    #[expect(
        clippy::option_option,
        reason = "malformed and not wanted are different things"
    )]
    fn read(
        &mut self,
        header: &BatchHeader,
        body: &Bytes,
        wanted: impl Fn(Offset) -> bool,
    ) -> Option<Option<Record>> {
        let length = usize::try_from(self.varint()?).ok()?;
        let mut rest = Scan(self.take(length)?);
        rest.take(1)?;
        let timestamp_delta = rest.varint()?;
        let offset = header.base_offset + u64::from(u32::try_from(rest.varint()?).ok()?);
        if !wanted(offset) {
            return Some(None);
        }
        let shared = |slice: &'a [u8]| body.slice_ref(slice);
        let key = rest.nullable()?.map(shared);
        let value = rest.nullable()?.map(shared);
        // Each header takes at least two bytes, so a lying count reserves nothing.
        let count = usize::try_from(rest.varint()?).ok()?;
        let mut headers = Vec::with_capacity(count.min(rest.0.len() / 2));
        for _ in 0..count {
            headers.push(RecordHeader {
                key: rest.nullable()?.map(shared)?,
                value: rest.nullable()?.map(shared),
            });
        }
        let timestamp = if header.attributes.is_log_append_time() {
            header.max_timestamp
        } else {
            Timestamp(header.base_timestamp.0.wrapping_add(timestamp_delta))
        };
        rest.0.is_empty().then_some(Some(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        }))
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
                let read = read_records(header, &body.clone().into());
                let numbered = read
                    .is_ok_and(|records| (0..).zip(&records).all(|(n, r)| r.offset == Offset(n)));
                let verified = verify_records(&body, header.record_count).is_ok();
                assert_eq!(verified, numbered, "byte {at} = {byte}");
            }
        }
    }

    #[test]
    fn only_what_is_wanted_is_read() {
        let mut builder = BatchBuilder::new(Timestamp(1_000));
        for n in 0..100u8 {
            builder = builder.record_with_headers(Some(&[n]), Some(b"value"), &[("h", &[n])]);
        }
        let batch = builder.build();
        let all = read_records(batch.header(), batch.body()).unwrap();
        let is_wanted = |offset: Offset| offset.0 % 7 == 3;
        let some = read_records_if(batch.header(), batch.body(), is_wanted).unwrap();
        let expected: Vec<Record> = all.into_iter().filter(|r| is_wanted(r.offset)).collect();
        assert_eq!((some.len(), &some), (14, &expected));
        let short = batch.body().slice(..batch.body().len() - 1);
        let cut = read_records_if(batch.header(), &short, is_wanted);
        assert!(
            matches!(cut, Err(BatchError::Record { index: 99 })),
            "{cut:?}"
        );
    }
}
