//! Reading single records of a partition held here, by offset.
//!
//! A record that is not found is gone only if that is known: it is below the log's start, a
//! hole among what is committed, or above the end of a leader that knows all that was ever
//! committed. What lies above the watermark otherwise is not known yet: a new leader's
//! watermark lags behind what its predecessor committed, and who took that for the end would
//! write a dead letter without its body, or count a message as missing.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_api::records;
use weir_base::batch::Record;
use weir_base::{Env, Offset, RecordBatch, Timestamp};
use weir_queue::QueueRecord;
use weir_queue::trace::{Fact, Subject, Trace};
use weir_replication::{PartitionHandle, PartitionView, ReadError};

/// Bytes read for a record that is asked for, with what lies behind it.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of logs that one call reads before it gives what it has.
const CALL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long what is not known yet is waited for: a new leader knows within two round trips,
/// unless replicas are away.
const KNOWN_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a journal that are read at once, and at all, for one story.
const STORY_READ_BYTES: usize = 1024 * 1024;
const STORY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By offset; what is not here is gone, if it is below `end`.
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
    /// The record may be there: this replica does not know yet, or does not any more.
    #[error(
        "it is not known yet whether there is a record at {offset}: all below {committed} is committed"
    )]
    NotKnown {
        /// Which.
        offset: Offset,
        /// The high watermark here.
        committed: Offset,
    },
    /// A batch does not open.
    #[error("batch at or after {near}: {source}")]
    Batch {
        /// Where.
        near: Offset,
        /// Why.
        source: weir_base::BatchError,
    },
}

/// What a replica can say of an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is to be read, unless it is a hole.
    Committed,
    /// There is no record any more, or there never was.
    Gone,
    /// Another time, or another replica, will tell.
    NotKnown,
}

/// `is_sure`: whether who has this view leads, and knows all that was committed before.
fn standing(view: &PartitionView, is_sure: bool, offset: Offset) -> Standing {
    if offset < view.log_start {
        Standing::Gone
    } else if offset < view.high_watermark {
        Standing::Committed
    } else if is_sure && offset >= view.log_end {
        Standing::Gone
    } else {
        Standing::NotKnown
    }
}

/// The view, and whether it is that of a leader that knows all that was committed before.
fn sure_view(partition: &PartitionHandle) -> (PartitionView, bool) {
    let view = partition.view();
    // The question about the lease is put to the newest view, which may be of another epoch.
    let is_sure = view.is_ready
        && partition.may_answer()
        && partition.view().leader_epoch == view.leader_epoch;
    (view, is_sure)
}

/// As [`find`], but for a moment it waits for what is not known yet.
///
/// # Errors
/// Those of [`find`].
pub(crate) async fn find_known(
    env: &Env,
    partition: &PartitionHandle,
    offsets: &[Offset],
) -> Result<Found, FindError> {
    let until = env.clock.now() + KNOWN_WAIT;
    let mut views = partition.views();
    loop {
        views.mark_unchanged();
        let found = find(partition, offsets).await;
        let now = env.clock.now();
        if !matches!(found, Err(FindError::NotKnown { .. })) || now >= until {
            return found;
        }
        let moved = env.timeout(until.since(now), views.changed()).await;
        if !matches!(moved, Some(Ok(()))) {
            return find(partition, offsets).await;
        }
    }
}

/// Reads committed records, also on followers. Neighbours cost one read together.
///
/// # Errors
/// `NotKnown` if this replica cannot say of one of the offsets whether there is a record.
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
        let (view, is_sure) = sure_view(partition);
        let not_known = FindError::NotKnown {
            offset: from,
            committed: view.high_watermark,
        };
        match standing(&view, is_sure, from) {
            Standing::Committed => {}
            Standing::Gone => {
                at += 1;
                continue;
            }
            Standing::NotKnown => return Err(not_known),
        }
        let fetched = match partition.read(from, READ_BYTES).await {
            Ok(fetched) => fetched,
            // Retention was faster.
            Err(ReadError::OutOfRange { start, .. }) if start > from => {
                at += 1;
                continue;
            }
            // The replica lost its role meanwhile, and what it knew to be committed with it.
            Err(ReadError::OutOfRange { .. }) => return Err(not_known),
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
            if !here.iter().any(holds) {
                continue;
            }
            let asked = messages_if(&batch, |offset| here.binary_search(&offset).is_ok())?;
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

/// Those messages of a batch that are wanted, as queues deliver them.
pub(crate) fn messages_if(
    batch: &RecordBatch,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<Record>, FindError> {
    let near = batch.base_offset();
    records::messages_if(batch, wanted).map_err(|source| FindError::Batch { near, source })
}

/// Those records of a batch that are wanted.
pub(crate) fn open_if(
    batch: &RecordBatch,
    wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<Record>, FindError> {
    let near = batch.base_offset();
    records::open_if(batch, wanted).map_err(|source| FindError::Batch { near, source })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_base::{LeaderEpoch, PartitionEpoch};

    use super::*;

    /// Records 3 to 8, all below 6 committed as far as is known here.
    fn view() -> PartitionView {
        PartitionView {
            leader: None,
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(1),
            is_leader: true,
            is_ready: true,
            is_failed: false,
            high_watermark: Offset(6),
            log_start: Offset(3),
            log_end: Offset(9),
            durable_end: Offset(9),
            isr: Arc::default(),
            min_isr: 1,
        }
    }

    #[test]
    fn what_is_not_known_yet_is_not_gone() {
        let of = |is_sure, offset| standing(&view(), is_sure, Offset(offset));
        for is_sure in [false, true] {
            assert_eq!(of(is_sure, 2), Standing::Gone, "below the start");
            assert_eq!(of(is_sure, 3), Standing::Committed);
            assert_eq!(of(is_sure, 5), Standing::Committed);
            assert_eq!(of(is_sure, 6), Standing::NotKnown, "it may be committed");
            assert_eq!(of(is_sure, 8), Standing::NotKnown);
        }
        // A follower, or a leader that is not ready, may lack what others have.
        assert_eq!(of(false, 9), Standing::NotKnown);
        assert_eq!(of(true, 9), Standing::Gone, "cut, or never there");
    }
}
