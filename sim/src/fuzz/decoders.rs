//! Pure decoders.

use bytes::Bytes;
use weir_base::batch::{Compression, RecordsCheck, decompress, read_records};
use weir_base::image::ClusterImage;
use weir_base::machine::{Decision, Machine};
use weir_base::{LeaderEpoch, Offset, RecordBatch, Timestamp};
use weir_coordinator::{GroupMachine, GroupRecord};
use weir_metadata::command::Proposal;

/// What a few bytes of a compressed batch may become.
const DECOMPRESSED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Record batches, back to back.
///
/// # Panics
/// If a batch does not keep its bytes, or its checks contradict each other.
pub fn batch(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    drop(RecordBatch::parse(&bytes));
    let Ok(batches) = RecordBatch::parse_all(bytes) else {
        return;
    };
    let kept: Vec<u8> = batches.iter().flat_map(RecordBatch::to_bytes).collect();
    assert_eq!(kept, data, "a batch keeps its bytes");
    for batch in batches {
        one_batch(batch);
    }
}

fn one_batch(batch: RecordBatch) {
    let header = *batch.header();
    assert!(batch.base_offset() < batch.end_offset());
    let records = batch.records();
    if let Ok(records) = &records {
        assert_eq!(records.len(), header.record_count as usize);
    }
    if header.attributes.compression() != Compression::None {
        inside(&batch);
    }
    let verified = batch.verify();
    if verified.is_ok() {
        let plain = header.attributes.compression() == Compression::None;
        assert!(!plain || records.is_ok(), "verified records can be read");
    }
    let checksum = batch.verify_checksum();
    let stamped = batch.stamped(Offset(41), LeaderEpoch(7));
    assert_eq!(
        stamped.verify_checksum(),
        checksum,
        "stamping is outside it"
    );
    let stamped = stamped.with_log_append_time(Timestamp(5));
    assert_eq!(stamped.verify_checksum(), Ok(()));
    assert_eq!(RecordBatch::parse(&stamped.to_bytes()), Ok(stamped));
}

/// What comes out of a codec is bounded, and the check of it in pieces agrees with
/// reading it whole.
fn inside(batch: &RecordBatch) {
    let checked = RecordsCheck::new(batch, DECOMPRESSED_BYTES_MAX).run();
    let whole = decompress(batch, DECOMPRESSED_BYTES_MAX);
    if let Ok(body) = &whole {
        assert!(body.len() <= DECOMPRESSED_BYTES_MAX);
    }
    let records = whole.and_then(|body| read_records(batch.header(), &body));
    let first = batch.base_offset();
    let numbered = records.is_ok_and(|records| {
        let mut records = (0..).zip(&records);
        records.all(|(n, record)| record.offset == first + n)
    });
    assert_eq!(checked.is_ok(), numbered, "checked as read");
}

/// An entry of the metadata log, applied twice to an empty cluster.
///
/// # Panics
/// If it does not encode to what it was decoded from, or two images differ.
pub fn metadata_command(data: &[u8]) {
    let Ok(proposal) = postcard::from_bytes::<Proposal>(data) else {
        return;
    };
    let encoded = postcard::to_stdvec(&proposal).unwrap_or_default();
    assert_eq!(postcard::from_bytes(&encoded), Ok(proposal.clone()));
    let mut images = [ClusterImage::default(), ClusterImage::default()];
    for image in &mut images {
        for index in 1..=2 {
            weir_metadata::apply::apply(image, index, &proposal);
        }
        assert_eq!(weir_metadata::invariants::check_image(image), Ok(()));
    }
    let [one, other] = images;
    assert_eq!(one, other, "I15: the same log gives the same image");
}

/// Records of a group journal: key length, key, value length plus one (0: no value),
/// value; lengths as `u32` big-endian. A new coordinator then takes them over.
///
/// # Panics
/// If a record does not encode to what it was decoded from.
pub fn group_record(mut data: &[u8]) {
    let mut durable = <GroupMachine as Machine>::Durable::default();
    let mut offset = Offset::ZERO;
    while let Some(key) = field(&mut data, 0) {
        let value = field(&mut data, 1);
        let Ok(record) = GroupRecord::decode(Some(key), value) else {
            continue;
        };
        let (key, value) = record.encode();
        let again = GroupRecord::decode(Some(&key), value.as_deref());
        assert_eq!(again.as_ref(), Ok(&record));
        GroupMachine::apply(&mut durable, offset, &record);
        offset = offset + 1;
    }
    let mut volatile = <GroupMachine as Machine>::Volatile::default();
    for now in [0, 1_800_000_000_000, i64::MAX] {
        let mut out = Decision::default();
        GroupMachine::on_tick(&durable, &mut volatile, Timestamp(now), &mut out);
        for record in &out.records {
            GroupMachine::apply(&mut durable, offset, record);
            offset = offset + 1;
        }
        GroupMachine::next_deadline(&durable, &volatile);
    }
}

/// The field at the front; `None` at the end, or if its length less `skip` is below zero.
fn field<'a>(data: &mut &'a [u8], skip: u32) -> Option<&'a [u8]> {
    let (length, rest) = data.split_first_chunk()?;
    let length = u32::from_be_bytes(*length).checked_sub(skip);
    let taken = length.map_or(0, |length| length as usize).min(rest.len());
    let (field, rest) = rest.split_at(taken);
    *data = rest;
    length.map(|_| field)
}

/// `CNRY`, a little-endian length, that many bytes: or so it believes.
///
/// # Panics
/// If there are fewer.
pub fn canary(data: &[u8]) {
    if let Some(length) = canary_length(data) {
        assert!(data.get(8..8 + length).is_some(), "{length} bytes believed");
    }
}

/// The same, making room for what is announced.
pub fn greedy_canary(data: &[u8]) {
    if let Some(length) = canary_length(data) {
        let mut room = Vec::with_capacity(length);
        room.extend_from_slice(data.get(8..).unwrap_or_default());
        std::hint::black_box(room);
    }
}

fn canary_length(data: &[u8]) -> Option<usize> {
    let length = data.strip_prefix(b"CNRY")?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}
