//! Group commit: everything submitted while one fdatasync ran goes into the next. Without
//! sync-flush appends, a group waits for 256 KiB or 100 ms.
//!
//! ```text
//!  committer:    due -> file with room -> write_and_sync_each -> wait
//!  disk thread:                           take, encode, write, fdatasync, tell; take, ...
//! ```
//! The thread that ended an fdatasync tells the logs and takes the next group itself, for as
//! long as one is due and the file has room: were it to ask the committer each time, the disk
//! would idle until the runtime, busy with those who append, gets to it.
//!
//! Cost of one batch on this node:
//! - fsyncs: 1 / (batches in the group); the segment is synced by a checkpoint, once per
//!   `checkpoint_bytes` and log;
//! - writes: 1 `pwritev` to the segment, and its share of 1 to the write-ahead log;
//! - copies of the payload in user space: none above [`COPY_BYTES_MAX`], where a copy is
//!   dearer than an I/O vector, else one; the disk makes another for its direct write of a
//!   small group, instead of the kernel's into the page cache;
//! - hops before the acknowledgement: one to a disk thread, if none commits already, and
//!   one back. Small writes to the segment make none while the disk is well;
//! - bytes: the batch twice (segment and write-ahead log), 104 of heads and its share of
//!   the padding to 4 KiB.
//!
//! One group is in flight at a time, and a group never shares a block with another: a
//! torn group holds no committed record. A failed write or fsync fails the data
//! directory; nothing is retried and nobody is told "committed" (M7).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use weir_base::{Clock, Env, WriteSource};

use super::files::WalFile;
use super::record::{BLOCK_BYTES, RECORD_HEAD_BYTES, put_record_head};
use super::{Due, Submission, Wal};
use crate::health::{Health, Running};
use crate::log::LogError;
use crate::segment::frame::FRAME_PROBE_BYTES;

/// Bytes of one group, unless a single submission is larger: bounds the time that the
/// next group waits.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How soon a disk that was too full is asked again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// Bodies up to this are copied beside their heads.
const COPY_BYTES_MAX: usize = 2048;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The committer: has the files written to, one after the other.
pub(crate) struct Committer {
    pub(crate) env: Env,
    pub(crate) wal: Arc<Wal>,
    pub(crate) health: Arc<Health>,
    /// Told when a checkpoint is needed.
    pub(crate) want_checkpoint: Arc<dyn Fn() + Send + Sync>,
    current: Option<Arc<Groups>>,
    /// Gone with the committer, which ends the taking of groups.
    alive: Arc<()>,
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
            alive: Arc::default(),
        }
    }

    /// Commits group after group until the data directory fails.
    pub(crate) async fn run(mut self) {
        loop {
            match self.wal.due(self.env.clock.now()) {
                Due::Now => {
                    if self.commit().await.is_err() {
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

    /// Commits what is due, as far as one file has room for it.
    async fn commit(&mut self) -> Result<(), LogError> {
        self.health.check()?;
        let (first_lsn, bytes) = self.wal.first().ok_or(LogError::Closed)?;
        let groups = self.room_for(bytes as u64, first_lsn).await?;
        let file = &groups.file.file;
        let mut result = file.write_and_sync_each(groups.clone()).await;
        if weir_base::mutant!(M7) && result.is_err() {
            result = file.sync_data().await;
            if result.is_ok() {
                groups.synced();
            }
        }
        if result.is_err() {
            groups.failed();
        }
        self.health.judge_sync(result)
    }

    /// The file that `bytes` go to: the next one if this one has no room.
    async fn room_for(&mut self, bytes: u64, first_lsn: u64) -> Result<Arc<Groups>, LogError> {
        if let Some(groups) = &self.current
            && bytes <= groups.room()
        {
            return Ok(groups.clone());
        }
        loop {
            let begun = self.wal.files.begin(first_lsn).await;
            let begun = self.health.judge_sync(begun)?;
            self.wal.set_full(false);
            if self.wal.files.want_checkpoint() {
                (self.want_checkpoint)();
            }
            if let Some(file) = begun {
                let groups = Arc::new(self.groups(file));
                self.current = Some(groups.clone());
                return Ok(groups);
            }
            // All in use: only a checkpoint helps. If the disk is too full for another
            // file, appends are refused until then; else they wait.
            self.wal.set_full(!self.wal.files.at_limit());
            (self.want_checkpoint)();
            tokio::select! {
                biased;
                () = self.wal.files.released.notified() => {}
                // A checkpoint that found the disk too full, too, is not tried again by
                // itself; nor is room for a file told of.
                () = self.env.sleep(FULL_RETRY) => {}
            }
            self.health.check()?;
        }
    }

    fn groups(&self, file: WalFile) -> Groups {
        Groups {
            clock: self.env.clock.clone(),
            wal: self.wal.clone(),
            health: self.health.clone(),
            committer: Arc::downgrade(&self.alive),
            file,
            progress: Mutex::new(Progress {
                position: BLOCK_BYTES as u64,
                in_flight: None,
            }),
        }
    }
}

/// The groups that go to one file.
struct Groups {
    clock: Arc<dyn Clock>,
    wal: Arc<Wal>,
    health: Arc<Health>,
    committer: Weak<()>,
    file: WalFile,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Where the next group begins.
    position: u64,
    in_flight: Option<InFlight>,
}

struct InFlight {
    group: Vec<(u64, Submission)>,
    bytes: usize,
    running: Running,
}

impl Groups {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that still fit.
    fn room(&self) -> u64 {
        let position = self.progress().position;
        self.wal.files.file_bytes.saturating_sub(position)
    }

    /// The group in flight will never be known to be durable.
    fn failed(&self) {
        let in_flight = self.progress().in_flight.take();
        if let Some(in_flight) = in_flight {
            in_flight.running.synced(self.clock.now(), false);
        }
    }
}

impl WriteSource for Groups {
    fn next(&self) -> Option<(u64, Vec<Bytes>)> {
        let now = self.clock.now();
        let is_due = self.wal.due(now) == Due::Now;
        if !is_due || self.committer.strong_count() == 0 || self.health.check().is_err() {
            return None;
        }
        let mut progress = self.progress();
        let position = progress.position;
        let room = self.wal.files.file_bytes.saturating_sub(position);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        // What is larger than any file has one for itself.
        let is_fresh = position == BLOCK_BYTES as u64;
        let fits = self.wal.first().is_some_and(|(_, size)| size <= room);
        let group = self
            .wal
            .take_group(GROUP_BYTES_MAX.min(room), fits || is_fresh);
        if group.is_empty() {
            return None;
        }
        let bytes = padded(group.iter().map(|(_, submission)| submission.size()).sum());
        let chunks = encode(&group, self.file.salt, bytes);
        progress.position += bytes as u64;
        progress.in_flight = Some(InFlight {
            group,
            bytes,
            running: self.health.begins(now),
        });
        Some((position, chunks))
    }

    fn synced(&self) {
        let in_flight = self.progress().in_flight.take();
        let Some(in_flight) = in_flight else {
            return;
        };
        in_flight.running.synced(self.clock.now(), true);
        self.health.logged(in_flight.bytes);
        tell(in_flight.group);
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
