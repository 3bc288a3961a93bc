//! A disk in memory that fails on purpose, and always the same way for the same seed.
//!
//! What it may do is what a journalling file system on a disk with a volatile cache may:
//! - **power loss**: of every write not synced, any subset of its 512-byte sectors is kept
//!   (torn and reordered); of every change of length or name not synced, each is kept or
//!   lost by itself, a rename whole;
//! - **process crash**: everything written stays; open handles die;
//! - **failed fsync**: the error is told once, what was dirty will never be durable, and
//!   the next fsync says all is well (S-41);
//! - **bit rot**: bits flip under the reader, for good;
//! - **misdirected write**: the bytes land on other sectors of the file, or where an earlier
//!   write of it began and what reads it is likely to look, and the disk says that all is well;
//! - **full**: writing beyond the capacity fails and leaves nothing, freeing helps at once;
//! - **slow**: every operation takes a random time of the injected clock;
//! - **lying fsync**: it says that a file is durable and has it in its cache alone. The next
//!   sync that is none of these writes the whole cache. Names are not lied about: they are in
//!   the journal, which is written through.
//!
//! It never loses what was synced, never reorders around a sync, never invents bytes, unless
//! it is told to lie; what each part of a node outlives of all this is said where it is
//! injected (`sim/src/nemesis/disk.rs`).
//! The state outlives the processes that use it: give each a [`SimDisk::handle`], and end
//! it with [`SimDisk::crash`]. Used by this crate's tests and by `sim`.

mod content;
mod names;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use weir_base::{BoxFuture, Clock, Disk, DiskFile, Entropy, OpenMode};

use content::SimFile;
use names::Names;

/// Writes of a file whose places are remembered.
const BEGINS_MAX: usize = 32;

/// What may go wrong. Odds are "once in that many", 0 for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimFaults {
    /// An fsync fails.
    pub sync_failure_odds: u64,
    /// A write fails with an I/O error and leaves a part behind.
    pub write_failure_odds: u64,
    /// A read fails with an I/O error.
    pub read_failure_odds: u64,
    /// The longest an operation takes; zero for at once.
    pub latency_max: Duration,
    /// Bytes that files may take; `None` for no limit.
    pub capacity_bytes: Option<u64>,
    /// A write lands elsewhere in its file.
    pub misdirection_odds: u64,
    /// Syncs of files say that they are done and do nothing.
    pub syncs_lie: bool,
}

/// What kind of end a process, or the machine under it, comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The page cache lives on.
    Process,
    /// What was not synced may be lost.
    PowerLoss,
}

/// The disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    clock: Option<Arc<dyn Clock>>,
    /// Handles of a life that ended are dead.
    life: u64,
}

struct State {
    names: Names,
    files: BTreeMap<u64, SimFile>,
    next_file: u64,
    faults: SimFaults,
    entropy: Entropy,
    life: u64,
    boot: u64,
    syncs: u64,
    writes: u64,
    /// Reads that fail, by file.
    failing_reads: BTreeMap<String, u64>,
    /// Where the last writes of each file began.
    begins: BTreeMap<u64, VecDeque<u64>>,
    /// Operations left until a crash.
    crash_after: Option<(u64, Crash)>,
    /// Files with an fsync that failed in this life.
    failed_syncs: Vec<u64>,
    /// The cache holds what was said to be durable.
    has_lied: bool,
}

impl SimDisk {
    /// An empty disk whose faults follow from `entropy` alone.
    #[must_use]
    pub fn new(entropy: &Entropy) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(State {
                names: Names::default(),
                files: BTreeMap::new(),
                next_file: 1,
                faults: SimFaults::default(),
                entropy: entropy.fork("disk"),
                life: 1,
                boot: 1,
                syncs: 0,
                writes: 0,
                failing_reads: BTreeMap::new(),
                begins: BTreeMap::new(),
                crash_after: None,
                failed_syncs: Vec::new(),
                has_lied: false,
            })),
            clock: None,
            life: 1,
        }
    }

    /// The disk as the next process sees it; `clock` is what its latency is counted by.
    #[must_use]
    pub fn handle(&self, clock: Option<Arc<dyn Clock>>) -> SimDisk {
        SimDisk {
            state: self.state.clone(),
            clock,
            life: self.state().life,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the faults from now on.
    pub fn set_faults(&self, faults: SimFaults) {
        self.state().faults = faults;
    }

    /// Ends the process, or the machine: all handles die, and a power loss takes its share.
    pub fn crash(&self, crash: Crash) {
        self.state().crash(crash);
    }

    /// Crashes by itself instead of the operation after the next `operations`: a crash
    /// point in the midst of whatever runs then.
    pub fn crash_after(&self, operations: u64, crash: Crash) {
        self.state().crash_after = Some((operations, crash));
    }

    /// Calls a pending [`SimDisk::crash_after`] off.
    pub fn call_off_crash(&self) {
        self.state().crash_after = None;
    }

    /// Crashes so far.
    #[must_use]
    pub fn crashes(&self) -> u64 {
        self.state().life - 1
    }

    /// Flips one bit of a file, durably.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` beyond the file's end.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let id = state.names.file(path)?;
        state.file(id)?.flip_bit(offset, bit)
    }

    /// Empties the disk, as a replacement is. Call it when no process runs.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.crash(Crash::PowerLoss);
        state.names = Names::default();
        state.files.clear();
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn file_bytes(&self, path: &str) -> io::Result<u64> {
        let mut state = self.state();
        let id = state.names.file(path)?;
        Ok(state.file(id)?.len())
    }

    /// What a file holds now, whoever may read it; without the zeros at its end, which are
    /// reserved room for the most part.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn content(&self, path: &str) -> io::Result<Bytes> {
        let mut state = self.state();
        let id = state.names.file(path)?;
        let file = state.file(id)?;
        let mut bytes = file.read(0, usize::try_from(file.len()).unwrap_or(usize::MAX));
        let end = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(end.map_or(0, |last| last + 1));
        Ok(bytes)
    }

    /// Has the next `count` reads of a file fail with an I/O error that passes.
    pub fn fail_reads(&self, path: &str, count: u64) {
        self.state().failing_reads.insert(path.to_owned(), count);
    }

    /// Paths of all files there are, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.state().names.files()
    }

    /// Bytes that files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    /// Whether a process that lives was told that an fsync of a file below `directory`
    /// failed.
    #[must_use]
    pub fn has_failed_sync(&self, directory: &str) -> bool {
        let state = self.state();
        let is_below = |path: &String| path.starts_with(directory);
        let is_failed = |path: &String| {
            let id = state.names.file(path);
            id.is_ok_and(|id| state.failed_syncs.contains(&id))
        };
        !state.failed_syncs.is_empty()
            && state
                .names
                .files()
                .iter()
                .any(|path| is_below(path) && is_failed(path))
    }

    /// Fsyncs and writes so far: a crash point for tests that count.
    #[must_use]
    pub fn operations(&self) -> (u64, u64) {
        let state = self.state();
        (state.syncs, state.writes)
    }

    /// Runs an operation at once, and lets its caller wait as long as the disk is slow.
    fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> BoxFuture<'static, io::Result<T>> {
        let mut state = self.state();
        if state.life == self.life {
            state.count_operation();
        }
        if state.life != self.life {
            drop(state);
            return Box::pin(std::future::ready(Err(dead())));
        }
        let result = operation(&mut state);
        let latency = state.faults.latency_max.as_nanos();
        let latency = u64::try_from(latency).unwrap_or(u64::MAX);
        let wait = match &self.clock {
            Some(clock) if latency > 0 => {
                let nanos = state.entropy.below(latency);
                Some(clock.sleep_until(clock.now() + Duration::from_nanos(nanos)))
            }
            Some(_) | None => None,
        };
        drop(state);
        Box::pin(async move {
            if let Some(wait) = wait {
                wait.await;
            }
            result
        })
    }
}

fn dead() -> io::Error {
    io::Error::other("the process that opened this disk is gone")
}

impl State {
    /// Counts an operation of the living process, and crashes if it is due instead of it.
    fn count_operation(&mut self) {
        match self.crash_after {
            Some((0, crash)) => self.crash(crash),
            Some((left, crash)) => self.crash_after = Some((left - 1, crash)),
            None => {}
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.life += 1;
        self.crash_after = None;
        self.failed_syncs.clear();
        if crash == Crash::PowerLoss {
            self.boot += 1;
            self.names.power_loss(&self.entropy);
            for file in self.files.values_mut() {
                file.power_loss(&self.entropy);
            }
        }
        self.forget_unnamed();
    }

    fn file(&mut self, id: u64) -> io::Result<&mut SimFile> {
        self.files
            .get_mut(&id)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn used(&self) -> u64 {
        // A removed file takes nothing, even if a handle still reads it.
        let named = self.names.live_file_ids();
        let files = named.iter().filter_map(|id| self.files.get(id));
        files.map(SimFile::len).sum()
    }

    fn happens(&self, odds: u64) -> bool {
        odds > 0 && self.entropy.below(odds) == 0
    }

    /// Whether a read of `id` is one of those that were to fail.
    fn read_fails(&mut self, id: u64) -> bool {
        let names = &self.names;
        let left = self
            .failing_reads
            .iter_mut()
            .find(|(path, left)| **left > 0 && names.file(path).is_ok_and(|named| named == id));
        left.is_some_and(|(_, left)| {
            *left -= 1;
            true
        })
    }

    /// Fails if `id` may not grow to `len`.
    fn room(&mut self, id: u64, len: u64) -> io::Result<()> {
        let grows = len.saturating_sub(self.file(id)?.len());
        match self.faults.capacity_bytes {
            Some(capacity) if grows > 0 && self.used() + grows > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn forget_unnamed(&mut self) {
        let named = self.names.file_ids();
        self.files.retain(|id, _| named.contains(id));
        self.begins.retain(|id, _| named.contains(id));
    }

    fn write(&mut self, id: u64, offset: u64, chunks: &[Bytes]) -> io::Result<()> {
        self.writes += 1;
        let len: usize = chunks.iter().map(Bytes::len).sum();
        self.room(id, offset + len as u64)?;
        let fails = self.happens(self.faults.write_failure_odds);
        let kept = if fails {
            usize::try_from(self.entropy.below(len as u64)).unwrap_or(0)
        } else {
            len
        };
        let all = chunks.concat();
        let offset = self.landing(id, offset)?;
        self.file(id)?.write(offset, all.get(..kept).unwrap_or(&[]));
        if fails {
            return Err(io::Error::other("injected write error"));
        }
        Ok(())
    }

    /// Where a write to `offset` lands.
    fn landing(&mut self, id: u64, offset: u64) -> io::Result<u64> {
        let len = self.file(id)?.len();
        let sectors = len / content::SECTOR_BYTES as u64;
        if sectors > 0 && self.happens(self.faults.misdirection_odds) {
            let begins = self.begins.get(&id).into_iter().flatten().copied();
            let begins: Vec<u64> = begins.filter(|begin| *begin < len).collect();
            let known = begins.len() as u64;
            if known > 0 && self.entropy.below(2) == 0 {
                let chosen = usize::try_from(self.entropy.below(known)).unwrap_or(0);
                return Ok(begins[chosen]);
            }
            return Ok(self.entropy.below(sectors) * content::SECTOR_BYTES as u64);
        }
        let begins = self.begins.entry(id).or_default();
        begins.push_back(offset);
        if begins.len() > BEGINS_MAX {
            begins.pop_front();
        }
        Ok(offset)
    }

    fn sync(&mut self, id: u64) -> io::Result<()> {
        self.syncs += 1;
        let fails = self.happens(self.faults.sync_failure_odds);
        let lies = self.faults.syncs_lie;
        let file = self.file(id)?;
        if fails {
            file.fail_sync();
            self.failed_syncs.push(id);
            return Err(io::Error::other("injected fsync error"));
        }
        if lies {
            file.claim();
            self.has_lied = true;
            return Ok(());
        }
        file.sync();
        if std::mem::take(&mut self.has_lied) {
            self.files.values_mut().for_each(SimFile::settle);
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        let disk = self.clone();
        self.run(|state| {
            let id = match (state.names.file(path), mode) {
                (Ok(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
                (Ok(id), OpenMode::Existing | OpenMode::Create) => id,
                (Err(error), OpenMode::Existing) => return Err(error),
                (Err(_), OpenMode::Create | OpenMode::CreateNew) => {
                    let id = state.next_file;
                    state.names.create(path, id)?;
                    state.next_file += 1;
                    state.files.insert(id, SimFile::default());
                    id
                }
            };
            Ok(Arc::new(SimHandle { disk, id }) as Arc<dyn DiskFile>)
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(|state| state.names.rename(from, to))
    }

    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(|state| state.names.remove_file(path))
    }

    fn remove_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(|state| state.names.remove_directory_all(path))
    }

    fn create_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(|state| {
            state.names.create_directory_all(path);
            Ok(())
        })
    }

    fn list(&self, path: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        self.run(|state| state.names.list(path))
    }

    fn sync_directory(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(|state| {
            state.syncs += 1;
            state.names.sync(path)
        })
    }

    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        self.run(|state| {
            let total = state.faults.capacity_bytes.unwrap_or(1 << 50);
            Ok((total.saturating_sub(state.used()), total))
        })
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.state().boot)
    }
}

struct SimHandle {
    disk: SimDisk,
    id: u64,
}

impl DiskFile for SimHandle {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        self.disk.run(|state| state.write(self.id, offset, &chunks))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.disk.run(|state| {
            if state.happens(state.faults.read_failure_odds) || state.read_fails(self.id) {
                return Err(io::Error::other("injected read error"));
            }
            Ok(state.file(self.id)?.read(offset, len))
        })
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.disk.run(|state| {
            state.write(self.id, offset, &chunks)?;
            // Two operations: a process may end when it has written and not yet synced.
            state.count_operation();
            if state.life != self.disk.life {
                return Err(dead());
            }
            state.sync(self.id)
        })
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        self.disk.run(|state| state.sync(self.id))
    }

    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.disk.run(|state| {
            state.room(self.id, len)?;
            let file = state.file(self.id)?;
            if file.len() < len {
                file.set_len(len);
            }
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.disk.run(|state| {
            state.room(self.id, len)?;
            state.file(self.id)?.set_len(len);
            Ok(())
        })
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        self.disk.run(|state| Ok(state.file(self.id)?.len()))
    }
}

#[cfg(test)]
mod tests;
