//! One data directory: its identity, its logs, its write-ahead log, its background work.
//!
//! ```text
//!  node.0 node.1              identity, last start, first log file to replay
//!  wal/00000001.wal ...       the write-ahead log
//!  logs/<topic>-<partition>/  state.0 state.1 <base>.segment <base>.segment.index ...
//!  trash/<time>-<topic>-<partition>/
//! ```
//! `open` replays the write-ahead log into the logs it concerns before anything else is
//! written; other logs are recovered when they are opened. Nothing is deleted because it
//! is not asked for: a removed log goes to the trash first (S-13). The node calls it;
//! replication and queues get `Arc<dyn PartitionLog>`.
//!
//! When a write or fsync fails, every call answers `DiskLost` from then on, and
//! [`Storage::failure`] tells those who wait on positions.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::{Disk, Env, Offset, Timestamp, TopicPartition, Uuid};

use crate::error::StorageError;
use crate::health::StorageCounters;
use crate::health::{Health, StorageHealth};
use crate::log::compact::CompactionReport;
use crate::log::disk::DiskLog;
use crate::log::recover::{self, RecoveryReport};
use crate::log::scrub::{ScrubStep, plan_pause};
use crate::log::{LogError, PartitionLog};
use crate::node_record::{NodeFile, NodeRecord, StartKind};
use crate::shared::Shared;
use crate::timed_disk::TimedDisk;
use crate::two_slot::{Found, TwoSlot};
use crate::wal::files::WAL_DIRECTORY;
use crate::wal::group_commit::Committer;
use crate::wal::replay::{LogFrames, Replay, replay};
use crate::wal::{Files, Wal, checkpoint};
use crate::{LogConfig, StorageOptions};

const LOGS_DIRECTORY: &str = "logs";
const TRASH_DIRECTORY: &str = "trash";
/// Bits of a record number below the session.
const SESSION_SHIFT: u32 = 40;
/// Files of the write-ahead log made at the start, so that a full disk finds two to swap.
const WAL_FILES_MIN: usize = 2;

/// An open data directory.
pub struct Storage {
    shared: Arc<Shared>,
    node: Arc<NodeFile>,
    logs: Mutex<BTreeMap<TopicPartition, Slot>>,
    /// Serialises opening and removing logs.
    changes: tokio::sync::Mutex<()>,
    tasks: Mutex<Vec<TaskHandle>>,
}

/// What is known of one log.
enum Slot {
    /// Recovered with the write-ahead log, not asked for yet.
    Recovered(Arc<DiskLog>, RecoveryReport),
    /// Recovery failed; the error goes to whoever opens it.
    Failed(LogError),
    Open(Arc<DiskLog>, RecoveryReport),
}

impl Storage {
    /// Opens the data directory of `env.disk`, making it if it is empty.
    ///
    /// # Errors
    /// `Io` if the disk fails, `IdentityCorrupt` if the directory's record is unreadable,
    /// `Options` if an option is out of bounds. A log that is corrupt is no error here.
    pub async fn open(env: Env, options: StorageOptions) -> Result<Storage, StorageError> {
        options.validate().map_err(StorageError::Options)?;
        let disk = env.disk.clone();
        for directory in [WAL_DIRECTORY, LOGS_DIRECTORY, TRASH_DIRECTORY] {
            disk.create_directory_all(directory).await?;
        }
        let node = open_node(&env).await?;
        // Files that the last process did not live to sync the names of are used again.
        disk.sync_directory(WAL_DIRECTORY).await?;
        let record = node.record();
        let first = record.wal_first_number;
        let found = replay(&disk, WAL_DIRECTORY, record.storage, first).await?;
        let next_number = first.max(found.last_number + 1);
        let files = Files::new(&env, record.storage, &options, &found.files, next_number);
        for _ in found.files.len()..WAL_FILES_MIN {
            files.add_free().await?;
        }
        let wal = Arc::new(Wal::new(&options, files, record.session << SESSION_SHIFT));
        let shared = Shared::new(env, options, Arc::new(Health::new()), wal);
        let storage = Storage {
            shared,
            node,
            logs: Mutex::default(),
            changes: tokio::sync::Mutex::new(()),
            tasks: Mutex::default(),
        };
        let is_damaged = found.is_damaged;
        storage.recover(found).await?;
        // All that the old files held is in segments now, durably, but for what was bad.
        let forget = |record: &mut NodeRecord| {
            record.wal_first_number = next_number;
            if is_damaged && record.untold == StartKind::Unclean {
                tracing::warn!("the write-ahead log holds a group that is torn or rotten");
                record.untold = StartKind::TailSuspect;
            }
        };
        storage.node.update(forget).await?;
        storage.start_tasks();
        Ok(storage)
    }

    async fn recover(&self, found: Replay) -> Result<(), StorageError> {
        let there = self.list_logs().await?;
        for (partition, frames) in found.logs {
            // Frames of a log that was removed concern nobody.
            if there.binary_search(&partition).is_err() {
                continue;
            }
            let slot = match self
                .recover_log(partition, LogConfig::default(), frames)
                .await
            {
                Ok((log, report)) => Slot::Recovered(log, report),
                Err(LogError::DiskLost(error)) => return Err(StorageError::Io(error)),
                Err(source @ LogError::DiskFull) => {
                    return Err(StorageError::Log { partition, source });
                }
                Err(other) => {
                    // The files that prove it are recycled from here on.
                    if let LogError::Corrupt { near, detail } = &other {
                        let directory = log_directory(partition);
                        let marked = recover::mark_corrupt(&self.shared, &directory, *near, detail);
                        match marked.await {
                            Err(LogError::DiskLost(error)) => {
                                return Err(StorageError::Io(error));
                            }
                            Err(source) => return Err(StorageError::Log { partition, source }),
                            Ok(()) => {}
                        }
                    }
                    Slot::Failed(other)
                }
            };
            self.logs().insert(partition, slot);
        }
        Ok(())
    }

    async fn recover_log(
        &self,
        partition: TopicPartition,
        config: LogConfig,
        frames: LogFrames,
    ) -> Result<(Arc<DiskLog>, RecoveryReport), LogError> {
        let directory = log_directory(partition);
        recover::open(self.shared.clone(), partition, directory, config, frames).await
    }

    fn start_tasks(&self) {
        let shared = &self.shared;
        let spawner = &shared.env.tasks;
        let wanted = shared.checkpoint.clone();
        let committer = Committer::new(
            shared.env.clone(),
            shared.wal.clone(),
            shared.health.clone(),
            Arc::new(move || wanted.notify_one()),
        );
        let tasks = vec![
            spawner.spawn_owned("wal-commit", committer.run()),
            spawner.spawn_owned(
                "storage-checkpoint",
                checkpoint::run(shared.clone(), self.node.clone()),
            ),
            spawner.spawn_owned("wal-prepare", prepare_wal(shared.clone())),
            spawner.spawn_owned("storage-write-back", shared.write_back.clone().run()),
            spawner.spawn_owned("storage-trash", empty_trash(shared.clone())),
        ];
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Slot>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name this directory got at its first start.
    #[must_use]
    pub fn identity(&self) -> Uuid {
        self.node.record().storage
    }

    /// How the previous process ended; or one before it, if that was worse and
    /// [`Storage::start_told`] was not called since.
    #[must_use]
    pub fn start_kind(&self) -> StartKind {
        self.node.record().untold
    }

    /// The cluster knows how this directory was started and what follows from it: later
    /// starts need not say it again.
    ///
    /// # Errors
    /// `DiskLost`.
    pub async fn start_told(&self) -> Result<(), LogError> {
        self.shared.health.check()?;
        let told = |record: &mut NodeRecord| record.untold = StartKind::Clean;
        self.shared.health.judge_sync(self.node.update(told).await)
    }

    /// Opens a log, making it if there is none. Opened twice, it is the same log; the
    /// report is that of its recovery.
    ///
    /// # Errors
    /// `Corrupt` if it must be repaired from a peer: remove it and fetch it anew.
    /// `DiskFull`, `DiskLost` as they say.
    pub async fn open_log(
        &self,
        partition: TopicPartition,
        config: LogConfig,
    ) -> Result<(Arc<dyn PartitionLog>, RecoveryReport), LogError> {
        let (log, report) = self.open_disk_log(partition, config).await?;
        Ok((log, report))
    }

    async fn open_disk_log(
        &self,
        partition: TopicPartition,
        config: LogConfig,
    ) -> Result<(Arc<DiskLog>, RecoveryReport), LogError> {
        let _change = self.changes.lock().await;
        self.shared.health.check()?;
        let known = match self.logs().get(&partition) {
            Some(Slot::Recovered(log, report) | Slot::Open(log, report)) => {
                Some((log.clone(), *report))
            }
            Some(Slot::Failed(error)) => return Err(error.clone()),
            None => None,
        };
        let (log, report) = match known {
            Some(known) => known,
            None => {
                self.recover_log(partition, config, LogFrames::new())
                    .await?
            }
        };
        log.set_config(config);
        self.logs()
            .insert(partition, Slot::Open(log.clone(), report));
        Ok((log, report))
    }

    fn open_one(&self, partition: TopicPartition) -> Option<Arc<DiskLog>> {
        match self.logs().get(&partition) {
            Some(Slot::Open(log, _) | Slot::Recovered(log, _)) => Some(log.clone()),
            Some(Slot::Failed(_)) | None => None,
        }
    }

    /// Changes the configuration of an open log; nothing happens if it is not open.
    pub fn set_config(&self, partition: TopicPartition, config: LogConfig) {
        if let Some(log) = self.open_one(partition) {
            log.set_config(config);
        }
    }

    /// Removes a log: its directory goes to the trash now and is deleted later. Those
    /// who hold it get `Closed`. Also removes one that is corrupt or was never opened.
    ///
    /// # Errors
    /// `DiskLost`.
    pub async fn remove_log(&self, partition: TopicPartition) -> Result<(), LogError> {
        let _change = self.changes.lock().await;
        self.shared.health.check()?;
        let removed = self.logs().remove(&partition);
        if let Some(Slot::Open(log, _) | Slot::Recovered(log, _)) = removed {
            log.close();
            // An operation under way must end before the directory moves.
            log.idle().await;
        }
        let disk = &self.shared.env.disk;
        let now = self.shared.env.clock.wall().0;
        let name = self.shared.env.entropy.fork("trash").uuid();
        let target = format!("{TRASH_DIRECTORY}/{now:020}-{name}-{partition}");
        let health = &self.shared.health;
        match disk.rename(&log_directory(partition), &target).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(health.fail(error)),
            Ok(()) => {}
        }
        for directory in [TRASH_DIRECTORY, LOGS_DIRECTORY] {
            health.judge_sync(disk.sync_directory(directory).await)?;
        }
        Ok(())
    }

    /// The logs on the disk, opened or not, in order.
    ///
    /// # Errors
    /// `Io`.
    pub async fn list_logs(&self) -> Result<Vec<TopicPartition>, StorageError> {
        let names = self.shared.env.disk.list(LOGS_DIRECTORY).await?;
        let mut logs: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
        logs.sort();
        Ok(logs)
    }

    /// The log start that retention asks for now, never above `below`; `None` if none, or
    /// if the log is not open. The caller passes it to `set_start` here and on followers.
    #[must_use]
    pub fn plan_retention(&self, partition: TopicPartition, below: Offset) -> Option<Offset> {
        let now = self.shared.env.clock.wall();
        self.open_one(partition)?.plan_retention(now, below)
    }

    /// Compacts a log if it is open, is to be compacted and has enough to gain: of every
    /// key, only the latest record below `below` stays. The caller bounds `below` by the
    /// last stable offset. Appends and reads go on meanwhile.
    ///
    /// # Errors
    /// `Corrupt` if a segment is bad, `DiskFull`, `DiskLost`.
    pub async fn compact(
        &self,
        partition: TopicPartition,
        below: Offset,
    ) -> Result<CompactionReport, LogError> {
        match self.open_one(partition) {
            Some(log) => log.compact(below).await,
            None => Ok(CompactionReport::default()),
        }
    }

    /// One step of a scrub of a log: reads and checks closed segments from `from` on.
    /// `None` if there are no more, or the log is not open.
    ///
    /// # Errors
    /// `Corrupt` if a segment is bad, `DiskLost`, `Closed`.
    pub async fn scrub(
        &self,
        partition: TopicPartition,
        from: Offset,
    ) -> Result<Option<ScrubStep>, LogError> {
        let Some(log) = self.open_one(partition) else {
            return Ok(None);
        };
        let Some((next, bytes)) = log.scrub(from).await? else {
            return Ok(None);
        };
        let options = &self.shared.options;
        let (period, rate) = (options.scrub_period, options.scrub_bytes_per_second);
        let pause = plan_pause(bytes, self.closed_bytes(), period, rate);
        Ok(Some(ScrubStep { next, pause }))
    }

    /// Bytes of closed segments of all open logs.
    fn closed_bytes(&self) -> u64 {
        let logs = self.logs();
        let bytes = logs.values().map(|slot| match slot {
            Slot::Open(log, _) | Slot::Recovered(log, _) => log.closed_bytes(),
            Slot::Failed(_) => 0,
        });
        bytes.sum()
    }

    /// Follows the failure of the data directory: `Some` once it failed, for ever.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<Arc<io::Error>>> {
        self.shared.health.watch()
    }

    /// How long the oldest fsync or append to a file lasts that is under way; zero if none
    /// is: a disk that nobody asks for anything does not stall. Asks the disk nothing, so
    /// that it can be told while the disk does.
    #[must_use]
    pub fn fsync_age(&self) -> Duration {
        let shared = &self.shared;
        shared.health.running_for(shared.env.clock.now())
    }

    /// 99th percentile of the fsyncs that ended within the last 5 s; `None` if none did.
    #[must_use]
    pub fn fsync_p99(&self) -> Option<Duration> {
        let shared = &self.shared;
        shared.health.p99(shared.env.clock.now())
    }

    /// This data directory's disk for another user of it, whose fsyncs and writes count
    /// in [`Storage::fsync_age`] and [`Storage::fsync_p99`] as the logs' own do. What
    /// fails is that user's to judge.
    #[must_use]
    pub fn timed_disk(&self) -> Arc<dyn Disk> {
        let shared = &self.shared;
        let env = &shared.env;
        Arc::new(TimedDisk::new(
            env.disk.clone(),
            env.clock.clone(),
            shared.health.clone(),
        ))
    }

    /// What a scrape reads, without asking the disk.
    #[must_use]
    pub fn counters(&self) -> StorageCounters {
        let shared = &self.shared;
        StorageCounters {
            wal_files_used: shared.wal.files.used() as u64,
            cache_bytes: shared.cache.bytes() as u64,
            ..shared.health.counters()
        }
    }

    /// Facts for the console.
    pub async fn health(&self) -> StorageHealth {
        let shared = &self.shared;
        let (free_bytes, total_bytes) = shared.env.disk.space().await.unwrap_or_default();
        StorageHealth {
            free_bytes,
            total_bytes,
            cache_bytes: shared.cache.bytes() as u64,
            wal_files_used: shared.wal.files.used() as u64,
            ..shared.health.facts(shared.env.clock.now())
        }
    }

    /// Makes a checkpoint now: before a planned stop, or to bound what a restart scans.
    ///
    /// # Errors
    /// `DiskFull` (logs stay as they are), `DiskLost`.
    pub async fn checkpoint(&self) -> Result<(), LogError> {
        checkpoint::checkpoint(&self.shared, &self.node).await
    }

    /// Closes all logs, makes everything durable and marks the shutdown clean. The caller
    /// has stopped all who write.
    ///
    /// # Errors
    /// `DiskFull` or `DiskLost`; the next start then counts as after a crash.
    pub async fn shutdown_clean(&self) -> Result<(), LogError> {
        let _change = self.changes.lock().await;
        let logs: Vec<Arc<DiskLog>> = {
            let slots = self.logs();
            slots
                .values()
                .filter_map(|slot| match slot {
                    Slot::Open(log, _) | Slot::Recovered(log, _) => Some(log.clone()),
                    Slot::Failed(_) => None,
                })
                .collect()
        };
        for log in &logs {
            log.prepare_shutdown().await?;
        }
        self.checkpoint().await?;
        for log in &logs {
            log.close();
            log.idle().await;
        }
        // Somebody who wrote all the same makes the next start replay.
        if logs.iter().all(|log| log.is_settled()) {
            let next = self.shared.wal.files.next_number();
            let stored = self.node.update(|record| {
                record.clean = true;
                record.wal_first_number = next;
            });
            self.shared.health.judge_sync(stored.await)?;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.clear();
        Ok(())
    }
}

fn log_directory(partition: TopicPartition) -> String {
    format!("{LOGS_DIRECTORY}/{partition}")
}

fn parse_name(name: &str) -> Option<TopicPartition> {
    let (topic, index) = name.strip_suffix('/')?.split_once('-')?;
    Some(TopicPartition::new(
        Uuid::parse(topic)?,
        index.parse().ok()?,
    ))
}

/// Reads or makes the directory's record, and notes this start in it.
async fn open_node(env: &Env) -> Result<Arc<NodeFile>, StorageError> {
    let disk: &Arc<dyn Disk> = &env.disk;
    let (slots, found) = TwoSlot::open::<NodeRecord>(disk, "node").await?;
    let record = match found {
        Found::Value(record) if record.is_known() => record,
        Found::Value(_) | Found::Corrupt => return Err(StorageError::IdentityCorrupt),
        Found::Nothing => NodeRecord::new(env.entropy.fork("storage-identity").uuid()),
    };
    // Also those of an earlier process that did not live to do it.
    disk.sync_directory("").await?;
    let boot_id = disk.boot_id();
    let start_kind = record.start_kind(&boot_id);
    let node = NodeFile::new(slots, record);
    node.update(|record| {
        record.session += 1;
        record.boot_id = boot_id;
        record.clean = false;
        record.untold = record.untold.max(start_kind);
    })
    .await?;
    Ok(Arc::new(node))
}

/// Prepares the next file of the write-ahead log whenever one was begun.
async fn prepare_wal(shared: Arc<Shared>) {
    loop {
        shared.wal.files.begun.notified().await;
        if let Err(error) = shared.wal.files.prepare().await {
            shared.health.fail(error);
            return;
        }
    }
}

/// Deletes what has been in the trash for long enough.
async fn empty_trash(shared: Arc<Shared>) {
    loop {
        let now = shared.env.clock.wall();
        for name in shared
            .env
            .disk
            .list(TRASH_DIRECTORY)
            .await
            .unwrap_or_default()
        {
            let thrown = name.split('-').next().and_then(|time| time.parse().ok());
            let keep = shared.options.trash_retention;
            if thrown.is_none_or(|thrown| Timestamp(thrown) + keep > now) {
                continue;
            }
            let path = format!("{TRASH_DIRECTORY}/{}", name.trim_end_matches('/'));
            if let Err(error) = shared.env.disk.remove_directory_all(&path).await {
                tracing::warn!(%path, %error, "trash not deleted");
            }
        }
        let pause = shared.options.trash_retention.max(Duration::from_secs(1));
        shared.env.sleep(pause).await;
    }
}
