//! The records of a stored batch, whatever its compression.
//!
//! Batches are stored as they were sent. Who needs single records, as queues do, opens
//! them here: bounded, since a few bytes can claim to be gigabytes.

use crate::queues::copies;
use weir_base::batch::{Compression, Record, decompress, read_records_if};
use weir_base::limits::BATCH_BYTES_CEILING;
use weir_base::{BatchError, Offset, RecordBatch};

/// The records of `batch`.
///
/// # Errors
/// If it does not open to at most 64 MiB, or does not parse.
pub fn open(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    open_if(batch, |_| true)
}

/// Those messages in `batch` that are wanted, as queues deliver them: its records, or, in a
/// control batch, what its records are [copies] of.
///
/// # Errors
/// As `open`.
pub fn messages_if(
    batch: &RecordBatch,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<Record>, BatchError> {
    let records = open_if(batch, wanted)?;
    if !batch.header().attributes.is_control() {
        return Ok(records);
    }
    Ok(records.iter().filter_map(copies::message_of_copy).collect())
}

/// Those records of `batch` that are wanted, by offset: a few of many cost little, unless
/// the batch is compressed.
///
/// # Errors
/// As `open`; what is malformed within a record that nobody wants is not seen.
pub fn open_if(
    batch: &RecordBatch,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<Record>, BatchError> {
    if batch.header().attributes.compression() == Compression::None {
        return read_records_if(batch.header(), batch.body(), wanted);
    }
    let limit = usize::try_from(BATCH_BYTES_CEILING).unwrap_or(usize::MAX);
    read_records_if(batch.header(), &decompress(batch, limit)?, wanted)
}
