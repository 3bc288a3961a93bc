//! Reads back what the write-ahead log holds after a restart.
//!
//! Yields, for each log, the frames that may be missing from its segments, latest
//! history only: a frame at an offset voids what came before it at or above that offset.
//! Deciding what to do with them is recovery's business (`log/recover.rs`).
//!
//! A bad record ends its group. Groups behind it are still read: had the bad one been
//! durable once, the log it belongs to finds a gap below what a later frame knew to be
//! durable, and says so.
//!
//! Not every log has a later frame to say so, so a record that was written and is gone is
//! reported by itself ([`Replay::is_damaged`]). Numbers are without gaps, hence:
//! - a record is missing before one that is there: it was durable, one group at a time;
//! - what follows the last one was to be the next ([`was_written`]): a torn group, or the
//!   last durable one gone bad;
//! - else the log ends where its last fsync ended, and whatever a segment has beyond it
//!   was never acknowledged under sync flush.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use weir_base::{Disk, DiskFile, Offset, OpenMode, TopicPartition, Uuid};

use super::record::{BLOCK_BYTES, FileHead, RECORD_HEAD_BYTES, Record, was_written};
use crate::segment::frame::Frame;

/// A frame in the write-ahead log.
#[derive(Clone)]
pub(crate) struct WalFrame {
    pub(crate) lsn: u64,
    pub(crate) frame: Frame,
    file: Arc<dyn DiskFile>,
    position: u64,
}

impl WalFrame {
    /// Its bytes, as a segment wants them.
    pub(crate) async fn bytes(&self) -> io::Result<Bytes> {
        self.file.read_at(self.position, self.frame.size()).await
    }
}

/// The frames of one log by base offset.
pub(crate) type LogFrames = BTreeMap<Offset, WalFrame>;

/// All that was found.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) logs: BTreeMap<TopicPartition, LogFrames>,
    /// Files found, by path; all may be recycled once the logs are recovered.
    pub(crate) files: Vec<(String, Arc<dyn DiskFile>)>,
    /// The highest file number seen.
    pub(crate) last_number: u64,
    /// Bytes of records read.
    pub(crate) bytes: u64,
    /// A record was written and does not read back.
    pub(crate) is_damaged: bool,
}

/// Reads the files in `directory` that belong to `storage` and are numbered at least
/// `first_number`: lower ones were released by a checkpoint.
pub(crate) async fn replay(
    disk: &Arc<dyn Disk>,
    directory: &str,
    storage: Uuid,
    first_number: u64,
) -> io::Result<Replay> {
    let mut found = Replay::default();
    let mut live = BTreeMap::new();
    for name in disk.list(directory).await? {
        if !name.ends_with(".wal") {
            continue;
        }
        let path = format!("{directory}/{name}");
        let file = disk.open(&path, OpenMode::Existing).await?;
        let block = file.read_at(0, BLOCK_BYTES).await?;
        let head = FileHead::decode(&block);
        // A head lies in one sector: it is the old one, the new one, or rotten.
        found.is_damaged |= head.is_none() && block.iter().any(|byte| *byte != 0);
        if let Some(head) = head.filter(|head| head.storage == storage) {
            found.last_number = found.last_number.max(head.number);
            if head.number >= first_number {
                live.insert(head.number, (head, file.clone()));
            }
        }
        found.files.push((path, file));
    }
    let mut next_lsn = None;
    for (head, file) in live.into_values() {
        found.is_damaged |= next_lsn.is_some_and(|next| next < head.first_lsn);
        let next_lsn = next_lsn.insert(next_lsn.unwrap_or(0).max(head.first_lsn));
        read_file(&file, head.salt, next_lsn, &mut found).await?;
    }
    Ok(found)
}

async fn read_file(
    file: &Arc<dyn DiskFile>,
    salt: u32,
    next_lsn: &mut u64,
    found: &mut Replay,
) -> io::Result<()> {
    let size = usize::try_from(file.size().await?).unwrap_or(usize::MAX);
    let bytes = file.read_at(0, size).await?;
    let mut position = BLOCK_BYTES;
    let mut end = position;
    while position < bytes.len() {
        let record = Record::decode(&bytes.slice(position..), salt);
        // Lower numbers are what the file held before it was recycled.
        let Some(record) = record.filter(|record| record.lsn >= *next_lsn) else {
            position = (position + 1).next_multiple_of(BLOCK_BYTES);
            continue;
        };
        found.is_damaged |= record.lsn > *next_lsn;
        *next_lsn = record.lsn + 1;
        found.bytes += record.size() as u64;
        let frames = found.logs.entry(record.partition).or_default();
        frames.split_off(&record.frame.base);
        frames.insert(
            record.frame.base,
            WalFrame {
                lsn: record.lsn,
                frame: record.frame,
                file: file.clone(),
                position: (position + RECORD_HEAD_BYTES) as u64,
            },
        );
        position += record.size();
        end = position;
    }
    // The next record would follow in the same group, or begin the next one.
    for next in [end, end.next_multiple_of(BLOCK_BYTES)] {
        let left = bytes.get(next..).unwrap_or_default();
        found.is_damaged |= was_written(left, salt, *next_lsn);
    }
    Ok(())
}
