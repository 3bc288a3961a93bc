//! Reading single records of a partition held here, by offset.

use std::collections::BTreeMap;

use weir_api::records;
use weir_base::batch::Record;
use weir_base::{Offset, RecordBatch, Timestamp};
use weir_queue::QueueRecord;
use weir_queue::trace::{Fact, Subject, Trace};
use weir_replication::{PartitionHandle, ReadError};

/// Bytes read for a record that is asked for, with what lies behind it.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of logs that one call reads before it gives what it has.
const CALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a journal that are read at once, and at all, for one story.
const STORY_READ_BYTES: usize = 1024 * 1024;
const STORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By offset; what is not here does not exist (any more), if it is below `end`.
    pub(crate) records: BTreeMap<Offset, Record>,
    /// Everything asked for below it was looked for.
    pub(crate) end: Option<Offset>,
}

/// Why nothing can be told of a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// The log is not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch does not open.
    #[error("batch at or after {near}: {source}")]
    Batch {
        /// Where.
        near: Offset,
        /// Why.
        source: weir_base::BatchError,
    },
}

/// Reads committed records, also on followers. Neighbours cost one read together.
pub(crate) async fn find(
    partition: &PartitionHandle,
    offsets: &[Offset],
) -> Result<Found, FindError> {
    let mut wanted: Vec<Offset> = offsets.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = Found::default();
    let (mut at, mut bytes) = (0, 0);
    while let Some(from) = wanted.get(at).copied() {
        if bytes >= CALL_BYTES_MAX {
            found.end = Some(from);
            return Ok(found);
        }
        let view = partition.view();
        if from < view.log_start || from >= view.high_watermark {
            at += 1;
            continue;
        }
        let fetched = match partition.read(from, READ_BYTES).await {
            Ok(fetched) => fetched,
            // Retention was faster.
            Err(ReadError::OutOfRange { .. }) => {
                at += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        bytes += fetched.chunk.bytes.max(1);
        let end = fetched.chunk.end.max(from + 1);
        let here = wanted.get(at..).unwrap_or_default();
        let here: Vec<Offset> = here.iter().copied().take_while(|o| *o < end).collect();
        at += here.len();
        for batch in batches(fetched.chunk.chunks, from)? {
            let holds =
                |offset: &Offset| (batch.base_offset()..batch.end_offset()).contains(offset);
            if batch.header().attributes.is_control() || !here.iter().any(holds) {
                continue;
            }
            let asked = open_if(&batch, |offset| here.binary_search(&offset).is_ok())?;
            let asked = asked.into_iter().map(|record| (record.offset, record));
            found.records.extend(asked);
        }
    }
    Ok(found)
}

/// What a journal tells of one subject. A record that does not decode is passed over: the
/// machine would not run on it.
pub(crate) async fn story(
    journal: &PartitionHandle,
    subject: Subject,
) -> Result<Vec<(Timestamp, Fact)>, FindError> {
    let (mut trace, mut story) = (Trace::new(subject), Vec::new());
    let (mut next, mut bytes) = (journal.view().log_start, 0);
    while next < journal.view().high_watermark && bytes < STORY_BYTES_MAX {
        let fetched = match journal.read(next, STORY_READ_BYTES).await {
            Ok(fetched) => fetched,
            // Retention was faster.
            Err(ReadError::OutOfRange { start, .. }) if start > next => {
                next = start;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        bytes += fetched.chunk.bytes.max(1);
        let end = fetched.chunk.end.max(next + 1);
        for batch in batches(fetched.chunk.chunks, next)? {
            if batch.header().attributes.is_control() {
                continue;
            }
            for record in open(&batch)? {
                let decoded = QueueRecord::decode(record.key.as_deref(), record.value.as_deref());
                let facts = decoded.map(|decoded| trace.read(&decoded));
                let facts = facts.unwrap_or_default().into_iter();
                story.extend(facts.map(|fact| (record.timestamp, fact)));
            }
        }
        next = end;
    }
    Ok(story)
}

/// The batches of a chunk that was read at `near`.
pub(crate) fn batches(
    mut chunks: Vec<bytes::Bytes>,
    near: Offset,
) -> Result<Vec<RecordBatch>, FindError> {
    let bytes = if chunks.len() == 1 {
        chunks.pop().unwrap_or_default()
    } else {
        chunks.concat().into()
    };
    RecordBatch::parse_all(bytes).map_err(|source| FindError::Batch { near, source })
}

/// The records of a batch.
pub(crate) fn open(batch: &RecordBatch) -> Result<Vec<Record>, FindError> {
    open_if(batch, |_| true)
}

/// Those records of a batch that are wanted.
pub(crate) fn open_if(
    batch: &RecordBatch,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<Record>, FindError> {
    let near = batch.base_offset();
    records::open_if(batch, wanted).map_err(|source| FindError::Batch { near, source })
}
