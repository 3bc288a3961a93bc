//! The records of a stored batch, whatever its compression.

use weir_base::batch::{Compression, Record};
use weir_base::{BatchError, RecordBatch};

/// The records of `batch`.
///
/// # Errors
/// If it is compressed by a codec that is not read here, or does not parse.
pub fn open(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    let attributes = batch.header().attributes;
    match attributes.compression() {
        Compression::None => batch.records(),
        Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
            Err(BatchError::Codec {
                codec: attributes.codec(),
            })
        }
    }
}
