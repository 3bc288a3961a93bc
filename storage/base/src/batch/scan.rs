//! The framing of records, checked piece by piece as they come out of a codec.
//!
//! It owns a few numbers and no bytes: a record may be as large as it likes and is never
//! held. What it lets pass is what [`super::read_records`] reads, numbered from 0 without
//! gaps. [`super::RecordsCheck`] feeds it.

use super::BatchError;

/// Where the scan stands: what the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    RecordLength,
    Attributes,
    TimestampDelta,
    OffsetDelta,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
    /// Nothing is left of the record but the bytes being skipped.
    RecordEnd,
}

/// Checks records as their bytes arrive.
#[derive(Debug)]
pub(super) struct RecordScan {
    expected: u32,
    index: u32,
    field: Field,
    /// The varint being read, and how many of its bytes there were.
    varint: (u64, u32),
    /// Bytes of the record that no field has claimed yet.
    left: usize,
    /// Bytes of the field being stepped over.
    skip: usize,
    headers: u64,
    without_key: bool,
    with_headers: bool,
}

impl RecordScan {
    /// Expects `count` records.
    pub(super) fn new(count: u32) -> Self {
        Self {
            expected: count,
            index: 0,
            field: Field::RecordLength,
            varint: (0, 0),
            left: 0,
            skip: 0,
            headers: 0,
            without_key: false,
            with_headers: false,
        }
    }

    /// Whether a record seen so far has no key.
    pub(super) fn without_key(&self) -> bool {
        self.without_key
    }

    /// Whether a record seen so far has headers.
    pub(super) fn with_headers(&self) -> bool {
        self.with_headers
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `Record` at the first malformed one, `Count` at the first too many.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> Result<(), BatchError> {
        while let Some((&byte, rest)) = piece.split_first() {
            if self.skip > 0 {
                let step = self.skip.min(piece.len());
                self.skip -= step;
                piece = &piece[step..];
                if self.skip == 0 && self.field == Field::RecordEnd {
                    self.end_of_record().ok_or_else(|| self.malformed())?;
                }
                continue;
            }
            piece = rest;
            if self.field == Field::RecordLength && self.index == self.expected {
                return Err(BatchError::count(
                    self.index + 1,
                    self.expected.saturating_sub(1),
                ));
            }
            self.byte(byte).ok_or_else(|| self.malformed())?;
        }
        Ok(())
    }

    /// After the last byte.
    ///
    /// # Errors
    /// `Record` if one is cut short, `Count` if there are too few.
    pub(super) fn finish(&self) -> Result<(), BatchError> {
        if self.field != Field::RecordLength || self.varint.1 > 0 {
            return Err(self.malformed());
        }
        if self.index == self.expected {
            return Ok(());
        }
        Err(BatchError::count(
            self.index,
            self.expected.saturating_sub(1),
        ))
    }

    fn malformed(&self) -> BatchError {
        BatchError::Record {
            index: self.index as usize,
        }
    }

    /// A byte of a varint, or the attributes.
    fn byte(&mut self, byte: u8) -> Option<()> {
        if self.field != Field::RecordLength {
            self.left = self.left.checked_sub(1)?;
        }
        if self.field == Field::Attributes {
            self.field = Field::TimestampDelta;
            return Some(());
        }
        let (value, at) = self.varint;
        if at >= 10 {
            return None;
        }
        let value = value | u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 != 0 {
            self.varint = (value, at + 1);
            return (at < 9).then_some(());
        }
        self.varint = (0, 0);
        self.field((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A field whose number is read.
    fn field(&mut self, value: i64) -> Option<()> {
        self.field = match self.field {
            Field::RecordLength => {
                self.left = usize::try_from(value).ok()?;
                Field::Attributes
            }
            Field::Attributes | Field::TimestampDelta => Field::OffsetDelta,
            Field::OffsetDelta => {
                if value != i64::from(self.index) {
                    return None;
                }
                Field::KeyLength
            }
            Field::KeyLength => {
                self.without_key |= value == -1;
                self.nullable(value)?;
                Field::ValueLength
            }
            Field::ValueLength => {
                self.nullable(value)?;
                Field::HeaderCount
            }
            Field::HeaderCount => {
                self.headers = u64::try_from(value).ok()?;
                self.with_headers |= value > 0;
                self.next_header()
            }
            Field::HeaderKeyLength => {
                self.claim(value)?;
                Field::HeaderValueLength
            }
            Field::HeaderValueLength => {
                self.nullable(value)?;
                self.headers -= 1;
                self.next_header()
            }
            Field::RecordEnd => return None,
        };
        if self.field == Field::RecordEnd && self.skip == 0 {
            return self.end_of_record();
        }
        Some(())
    }

    fn next_header(&self) -> Field {
        match self.headers {
            0 => Field::RecordEnd,
            _ => Field::HeaderKeyLength,
        }
    }

    /// Steps over as many bytes of the record, or none for the format's null.
    fn nullable(&mut self, length: i64) -> Option<()> {
        match length {
            -1 => Some(()),
            length => self.claim(length),
        }
    }

    fn claim(&mut self, length: i64) -> Option<()> {
        let length = usize::try_from(length).ok()?;
        self.left = self.left.checked_sub(length)?;
        self.skip = length;
        Some(())
    }

    fn end_of_record(&mut self) -> Option<()> {
        if self.left > 0 {
            return None;
        }
        self.index += 1;
        self.field = Field::RecordLength;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::verify_records;
    use super::*;
    use crate::Timestamp;
    use crate::batch::BatchBuilder;

    fn scan(body: &[u8], count: u32, piece: usize) -> Result<bool, BatchError> {
        let mut scan = RecordScan::new(count);
        for piece in body.chunks(piece) {
            scan.feed(piece)?;
        }
        scan.finish()?;
        Ok(scan.without_key())
    }

    #[test]
    fn it_agrees_with_the_check_of_plain_records_on_every_changed_byte() {
        let batch = BatchBuilder::new(Timestamp(1_000))
            .record_with_headers(Some(b"key"), Some(b"value"), &[("h", b"1"), ("i", b"")])
            .record(Some(b""), Some(&[7; 200]))
            .record(None, None)
            .build();
        for count in 1..5 {
            let right = count == 3;
            assert_eq!(scan(batch.body(), count, 7).is_ok(), right);
        }
        for at in 0..batch.body().len() {
            for byte in 0..=255 {
                let mut body = batch.body().to_vec();
                body[at] = byte;
                let plain = verify_records(&body, 3).is_ok();
                for piece in [1, 3, 1_000] {
                    let scanned = scan(&body, 3, piece).is_ok();
                    assert_eq!(scanned, plain, "byte {at} = {byte}, pieces of {piece}");
                }
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error_and_missing_keys_are_told() {
        let batch = |key| {
            BatchBuilder::new(Timestamp(0))
                .record(Some(b"k"), None)
                .record(key, Some(b"v"))
                .build()
        };
        let keyless = batch(None);
        assert_eq!(scan(keyless.body(), 2, 1), Ok(true));
        assert_eq!(scan(batch(Some(b"")).body(), 2, 1), Ok(false));
        for length in 0..keyless.body().len() {
            assert!(scan(&keyless.body()[..length], 2, 1).is_err(), "{length}");
        }
    }
}
