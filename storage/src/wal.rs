//! The node's write-ahead log: one file set for the batches of all logs, in both flush
//! modes. Sync flush commits at once, async flush within an interval or a few bytes.
//!
//! ```text
//!  submit -> queue -> group commit: one write, one fdatasync -> on_committed per log
//!  file:  head block | group | group | ...    groups begin at 4 KiB boundaries
//! ```
//! Owns the queue, the files and their recycling. Upholds I12: what it reported as
//! committed is found by [`replay`] after any crash, until a checkpoint made the segments
//! hold it. Files are reserved once and recycled, so that a commit overwrites blocks
//! that exist. Logs submit; `Storage` runs the commit and checkpoint tasks. Appends wait
//! in [`Wal::reserve`] when too much is queued.

pub(crate) mod checkpoint;
pub(crate) mod files;
pub(crate) mod group_commit;
pub(crate) mod record;
pub(crate) mod replay;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use weir_base::image::FlushMode;
use weir_base::{Monotonic, Offset, TopicPartition};

use crate::StorageOptions;
use crate::log::LogError;
use crate::segment::frame::Frame;

pub(crate) use files::Files;

/// Unit of the queue's byte budget, since a semaphore counts in `u32`.
const PERMIT_BYTES: usize = 1024;

/// Whom a commit is told.
pub(crate) trait CommitSink: Send + Sync {
    /// All that was submitted up to `end` in the log's `version` is durable.
    fn on_committed(&self, end: Offset, version: u64);
}

/// One batch, framed: head and batch head, and the body where it lies.
#[derive(Clone)]
pub(crate) struct Framed {
    pub(crate) frame: Frame,
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
}

/// One append of one log.
pub(crate) struct Submission {
    pub(crate) partition: TopicPartition,
    pub(crate) batches: Vec<Framed>,
    /// Whether somebody waits for it, or it may wait for company.
    pub(crate) flush: FlushMode,
    pub(crate) end: Offset,
    pub(crate) version: u64,
    pub(crate) sink: Arc<dyn CommitSink>,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Submission {
    /// Bytes it takes in the log.
    pub(crate) fn size(&self) -> usize {
        let one = |framed: &Framed| record::RECORD_HEAD_BYTES + framed.frame.size();
        self.batches.iter().map(one).sum()
    }
}

/// Submissions that await their commit, in the order of their numbers.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Submission)>,
    next_lsn: u64,
    /// Of all that wait.
    bytes: usize,
    /// One of them is of a sync-flush append.
    urgent: bool,
    /// When the first of the async-flush appends among them must be committed.
    deadline: Option<Monotonic>,
}

/// When the next group is to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    At(Monotonic),
    /// Nothing waits.
    Never,
}

/// The write-ahead log.
pub(crate) struct Wal {
    queue: Mutex<Queue>,
    submitted: Notify,
    budget: Arc<Semaphore>,
    budget_permits: u32,
    async_flush_interval: Duration,
    async_flush_bytes: usize,
    pub(crate) files: Files,
    /// No file is free and the disk has no room for another.
    full: AtomicBool,
}

impl Wal {
    pub(crate) fn new(options: &StorageOptions, files: Files, first_lsn: u64) -> Wal {
        let permits = options.wal_queue_bytes.div_ceil(PERMIT_BYTES);
        let budget_permits = u32::try_from(permits).unwrap_or(u32::MAX);
        Wal {
            queue: Mutex::new(Queue {
                next_lsn: first_lsn,
                ..Queue::default()
            }),
            submitted: Notify::new(),
            budget: Arc::new(Semaphore::new(budget_permits as usize)),
            budget_permits,
            async_flush_interval: options.async_flush_interval,
            async_flush_bytes: usize::try_from(options.async_flush_bytes).unwrap_or(usize::MAX),
            files,
            full: AtomicBool::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room for `bytes`.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, LogError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(LogError::DiskFull);
        }
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        self.budget
            .clone()
            .acquire_many_owned(permits.min(self.budget_permits))
            .await
            .map_err(|_| LogError::Closed)
    }

    /// Queues an append. Never waits.
    pub(crate) fn submit(&self, submission: Submission, now: Monotonic) {
        let mut queue = self.queue();
        let lsn = queue.next_lsn;
        queue.next_lsn += submission.batches.len() as u64;
        queue.bytes += submission.size();
        let mut wake = queue.bytes >= self.async_flush_bytes;
        match submission.flush {
            FlushMode::Sync => {
                queue.urgent = true;
                wake = true;
            }
            FlushMode::Async => {
                wake |= queue.deadline.is_none();
                queue
                    .deadline
                    .get_or_insert(now + self.async_flush_interval);
            }
        }
        queue.waiting.push_back((lsn, submission));
        drop(queue);
        if wake {
            self.submitted.notify_one();
        }
    }

    /// When the next group is due: at once for sync flush or many bytes, else within the
    /// interval.
    pub(crate) fn due(&self, now: Monotonic) -> Due {
        let queue = self.queue();
        match queue.deadline {
            _ if queue.waiting.is_empty() => Due::Never,
            _ if queue.urgent || queue.bytes >= self.async_flush_bytes => Due::Now,
            Some(deadline) if deadline > now => Due::At(deadline),
            Some(_) => Due::Now,
            None => Due::Never,
        }
    }

    /// The number of the first record that waits, and the bytes of its submission.
    pub(crate) fn first(&self) -> Option<(u64, usize)> {
        let queue = self.queue();
        let (lsn, submission) = queue.waiting.front()?;
        Some((*lsn, submission.size()))
    }

    /// Takes what waits, in order, up to `bytes_max`; if `or_one`, at least one submission
    /// whatever its size.
    pub(crate) fn take_group(&self, bytes_max: usize, or_one: bool) -> Vec<(u64, Submission)> {
        let mut queue = self.queue();
        let mut bytes = 0;
        let mut count = 0;
        for (_, submission) in &queue.waiting {
            let size = submission.size();
            if bytes + size > bytes_max && !(or_one && count == 0) {
                break;
            }
            bytes += size;
            count += 1;
        }
        queue.bytes -= bytes;
        let group = queue.waiting.drain(..count).collect();
        // What is left was due already.
        if queue.waiting.is_empty() {
            queue.urgent = false;
            queue.deadline = None;
        }
        group
    }

    /// The number the next record will have: all submitted so far have lower ones.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.queue().next_lsn
    }

    /// Ends all waiting: the data directory failed or closes.
    pub(crate) fn close(&self) {
        self.budget.close();
        self.queue().waiting.clear();
        self.files.released.notify_one();
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }
}
