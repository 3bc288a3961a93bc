//! Group commit: everything submitted while one fdatasync ran goes into the next. Without
//! sync-flush appends, a group waits for 256 KiB or 100 ms.
//!
//! Cost of one batch on this node:
//! - fsyncs: 1 / (batches in the group); the segment is synced by a checkpoint, once per
//!   `checkpoint_bytes` and log;
//! - writes: 1 `pwritev` to the segment, and its share of 1 to the write-ahead log;
//! - copies of the payload in user space: none above [`COPY_BYTES_MAX`], where a copy is
//!   dearer than an I/O vector, else one;
//! - hops to a disk thread before the acknowledgement: one for the segment, and one for
//!   the group's write and fdatasync together;
//! - bytes: the batch twice (segment and write-ahead log), 104 of heads and its share of
//!   the padding to 4 KiB.
//!
//! One group is in flight at a time, and a group never shares a block with another: a
//! torn group holds no committed record. A failed write or fsync fails the data
//! directory; nothing is retried and nobody is told "committed" (M7).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_base::Env;

use super::files::WalFile;
use super::record::{BLOCK_BYTES, RECORD_HEAD_BYTES, put_record_head};
use super::{Due, Submission, Wal};
use crate::health::Health;
use crate::log::LogError;
use crate::segment::frame::FRAME_PROBE_BYTES;

/// Bytes of one group, unless a single submission is larger: bounds the time that the
/// next group waits.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bodies up to this are copied beside their heads.
const COPY_BYTES_MAX: usize = 2048;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The committer: the only writer of the files.
pub(crate) struct Committer {
    pub(crate) env: Env,
    pub(crate) wal: Arc<Wal>,
    pub(crate) health: Arc<Health>,
    /// Told when a checkpoint is needed.
    pub(crate) want_checkpoint: Arc<dyn Fn() + Send + Sync>,
    current: Option<(WalFile, u64)>,
}

impl Committer {
    pub(crate) fn new(
        env: Env,
        wal: Arc<Wal>,
        health: Arc<Health>,
        want_checkpoint: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            env,
            wal,
            health,
            want_checkpoint,
            current: None,
        }
    }

    /// Commits group after group until the data directory fails.
    pub(crate) async fn run(mut self) {
        loop {
            match self.wal.due(self.env.clock.now()) {
                Due::Now => {
                    let group = self.wal.take_group(GROUP_BYTES_MAX);
                    if self.commit(group).await.is_err() {
                        self.wal.close();
                        return;
                    }
                }
                Due::Never => self.wal.submitted.notified().await,
                Due::At(deadline) => {
                    let sleep = self.env.clock.sleep_until(deadline);
                    tokio::select! {
                        biased;
                        () = self.wal.submitted.notified() => {}
                        () = sleep => {}
                    }
                }
            }
        }
    }

    async fn commit(&mut self, group: Vec<(u64, Submission)>) -> Result<(), LogError> {
        self.health.check()?;
        let first_lsn = group.first().map_or(0, |(lsn, _)| *lsn);
        let bytes = padded(group.iter().map(|(_, submission)| submission.size()).sum());
        let (file, position) = self.room_for(bytes as u64, first_lsn).await?;
        let chunks = encode(&group, file.salt, bytes);
        let running = self.health.begins(self.env.clock.now());
        let mut result = file.file.write_at_and_sync(position, chunks).await;
        if weir_base::mutant!(M7) && result.is_err() {
            result = file.file.sync_data().await;
        }
        running.synced(self.env.clock.now(), result.is_ok());
        self.health.judge_sync(result)?;
        self.health.logged(bytes);
        self.current = Some((file, position + bytes as u64));
        tell(group);
        Ok(())
    }

    /// A place for `bytes`, in the next file if this one has no room.
    async fn room_for(&mut self, bytes: u64, first_lsn: u64) -> Result<(WalFile, u64), LogError> {
        if let Some((file, position)) = &self.current
            && position + bytes <= self.wal.files.file_bytes
        {
            return Ok((file.clone(), *position));
        }
        loop {
            let begun = self.wal.files.begin(first_lsn).await;
            let begun = self.health.judge_sync(begun)?;
            self.wal.set_full(false);
            if self.wal.files.want_checkpoint() {
                (self.want_checkpoint)();
            }
            if let Some(file) = begun {
                return Ok((file, BLOCK_BYTES as u64));
            }
            // All in use: only a checkpoint helps. If the disk is too full for another
            // file, appends are refused until then; else they wait.
            self.wal.set_full(!self.wal.files.at_limit());
            (self.want_checkpoint)();
            self.wal.files.released.notified().await;
            self.health.check()?;
        }
    }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// The group's records, padded to `bytes`.
fn encode(group: &[(u64, Submission)], salt: u32, bytes: usize) -> Vec<Bytes> {
    let batches: usize = group.iter().map(|(_, s)| s.batches.len()).sum();
    let mut heads = BytesMut::with_capacity(batches * (RECORD_HEAD_BYTES + FRAME_PROBE_BYTES + 40));
    let mut chunks = Vec::with_capacity(2 * batches + 2);
    let mut used = 0;
    for (lsn, submission) in group {
        for (lsn, framed) in (*lsn..).zip(&submission.batches) {
            put_record_head(salt, lsn, submission.partition, &framed.frame, &mut heads);
            heads.extend_from_slice(&framed.head);
            if framed.body.len() <= COPY_BYTES_MAX {
                heads.extend_from_slice(&framed.body);
            } else {
                chunks.push(heads.split().freeze());
                chunks.push(framed.body.clone());
            }
        }
        used += submission.size();
    }
    chunks.push(heads.freeze());
    chunks.push(Bytes::from_static(&ZEROS).slice(..bytes - used));
    chunks
}

/// Tells each log once, how far it is durable: its last submission says it all.
fn tell(group: Vec<(u64, Submission)>) {
    let mut last = std::collections::BTreeMap::new();
    for (_, submission) in group {
        let Submission {
            partition,
            end,
            version,
            sink,
            permit,
            ..
        } = submission;
        drop(permit);
        last.insert(partition, (end, version, sink));
    }
    for (end, version, sink) in last.into_values() {
        sink.on_committed(end, version);
    }
}
