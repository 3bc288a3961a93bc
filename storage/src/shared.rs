//! What all logs of one data directory share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use weir_base::{Env, TopicPartition};

use crate::StorageOptions;
use crate::cache::TailCache;
use crate::health::Health;
use crate::log::disk::DiskLog;
use crate::wal::Wal;
use crate::write_back::WriteBack;

/// Shared by `Storage`, its tasks and every log.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) options: StorageOptions,
    pub(crate) health: Arc<Health>,
    pub(crate) wal: Arc<Wal>,
    pub(crate) cache: TailCache,
    pub(crate) write_back: Arc<WriteBack>,
    /// Logs with a checkpoint due.
    dirty: Mutex<BTreeMap<TopicPartition, Weak<DiskLog>>>,
    appended: AtomicU64,
    /// A checkpoint is wanted.
    pub(crate) checkpoint: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(
        env: Env,
        options: StorageOptions,
        health: Arc<Health>,
        wal: Arc<Wal>,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            env,
            options,
            health,
            wal,
            cache: TailCache::new(options.tail_cache_bytes),
            write_back: Arc::default(),
            dirty: Mutex::default(),
            appended: AtomicU64::new(0),
            checkpoint: Arc::new(Notify::new()),
        })
    }

    /// Counts bytes towards the next checkpoint.
    pub(crate) fn appended(&self, bytes: u64) {
        let before = self.appended.fetch_add(bytes, Ordering::Relaxed);
        let limit = self.options.checkpoint_bytes;
        if before < limit && before + bytes >= limit {
            self.checkpoint.notify_one();
        }
    }

    /// Notes that `log` has a checkpoint due.
    pub(crate) fn dirty(&self, log: &Arc<DiskLog>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        dirty.insert(log.partition, Arc::downgrade(log));
    }

    /// Takes the logs with a checkpoint due, and counts bytes from zero again.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<DiskLog>> {
        self.appended.store(0, Ordering::Relaxed);
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *dirty)
            .into_values()
            .filter_map(|log| log.upgrade())
            .collect()
    }
}
