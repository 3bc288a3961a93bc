//! Where in a batch a time lies. Shared by every log, so that all answer alike.
//!
//! The records of a compressed batch cannot be seen from here. For such a batch the
//! answers are those of the whole batch, on the side that skips no record.

use weir_base::batch::Compression;
use weir_base::{BatchError, Offset, RecordBatch, Timestamp};

/// The first record of `batch` at or above `start` that is at or after `timestamp`.
///
/// # Errors
/// The records do not parse.
pub(crate) fn first_record_at(
    batch: &RecordBatch,
    timestamp: Timestamp,
    start: Offset,
) -> Result<Option<(Offset, Timestamp)>, BatchError> {
    let header = batch.header();
    if header.max_timestamp < timestamp {
        return Ok(None);
    }
    if header.attributes.compression() != Compression::None {
        return Ok(Some((header.base_offset.max(start), header.max_timestamp)));
    }
    let records = batch.records()?;
    Ok(records
        .iter()
        .find(|record| record.timestamp >= timestamp && record.offset >= start)
        .map(|record| (record.offset, record.timestamp)))
}

/// The batch's largest timestamp and the offset to report for it: the first if all
/// records share it, else the last (as Kafka's "shallow" answer does), since finding the
/// very record would mean to walk every batch that is appended.
pub(crate) fn newest_in(batch: &RecordBatch) -> (Offset, Timestamp) {
    let header = batch.header();
    let shared =
        header.attributes.is_log_append_time() || header.base_timestamp == header.max_timestamp;
    let offset = if shared {
        header.base_offset
    } else {
        header.base_offset + u64::from(header.last_offset_delta)
    };
    (offset, header.max_timestamp)
}

/// The later of two; the earlier offset if they tie.
pub(crate) fn newer(
    current: Option<(Offset, Timestamp)>,
    other: (Offset, Timestamp),
) -> (Offset, Timestamp) {
    current.filter(|held| held.1 >= other.1).unwrap_or(other)
}
