//! The group's log and vote on disk: one append-only file.
//!
//! Owns `metadata/log-N`. Votes, entries, truncations and purges are records of the
//! same file, so they are durable in the order they were made: a vote can never
//! overtake an entry, and vote and term are one record (S-42). All live entries are
//! also in memory, bounded by the snapshot policy.
//!
//! Must always hold: what a call reported as durable survives any crash (I12); after a
//! failed fsync nothing is written any more (S-41), openraft stops, and so does the
//! node. On crash: the file is read from its start, a torn tail is cut, and what was read
//! is written again and synced before anything builds on it;
//! bytes that rotted below the durable point refuse the start rather than vote with a
//! hole in memory (S-17). Called by openraft alone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use serde::{Deserialize, Serialize};
use weir_base::{Disk, DiskFile, OpenMode};

use super::frame;
use super::{Entry, LogId, TypeConfig};

const DIRECTORY: &str = "metadata";
/// A purge rewrites the file when it is larger than this and mostly dead.
const COMPACT_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Entries in one frame of a rewritten file.
const ENTRIES_PER_FRAME: usize = 256;

/// One record. Append-only: numbers are on disk.
#[derive(Serialize, Deserialize)]
enum Record {
    Vote(Vote<u64>),
    Entries(Vec<Entry>),
    /// Entries from this index on are gone.
    Truncate(u64),
    /// Entries up to this one are gone.
    Purge(LogId),
    Committed(LogId),
}

/// What the file says.
#[derive(Default, Clone)]
struct State {
    vote: Option<Vote<u64>>,
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    committed: Option<LogId>,
}

impl State {
    fn play(&mut self, record: Record) {
        match record {
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entries(entries) => self
                .entries
                .extend(entries.into_iter().map(|entry| (entry.log_id.index, entry))),
            Record::Truncate(from) => drop(self.entries.split_off(&from)),
            Record::Purge(to) => {
                self.entries = self.entries.split_off(&(to.index + 1));
                self.purged = Some(to);
            }
            Record::Committed(to) => self.committed = Some(to),
        }
    }
}

/// The open file.
struct Tail {
    file: Arc<dyn DiskFile>,
    /// N of its name.
    number: u64,
    sequence: u64,
    end: u64,
    synced: u64,
}

impl Tail {
    async fn write(&mut self, records: &[Record], sync: bool) -> io::Result<()> {
        let payload = postcard::to_stdvec(records).map_err(io::Error::other)?;
        let bytes = frame::encode(self.number, self.sequence, self.synced, &payload)
            .map_err(io::Error::other)?;
        let len = length(&bytes);
        self.file.write_at(self.end, vec![bytes]).await?;
        self.sequence += 1;
        self.end += len;
        if sync {
            self.file.sync_data().await?;
            self.synced = self.end;
        }
        Ok(())
    }
}

/// openraft's log storage.
pub(crate) struct LogStore {
    disk: Arc<dyn Disk>,
    state: Arc<Mutex<State>>,
    tail: Tail,
    /// A write failed: the bytes on disk may be anything, nothing may follow them.
    failed: bool,
}

/// Reads entries that are in memory.
#[derive(Clone)]
pub(crate) struct LogReader(Arc<Mutex<State>>);

impl LogStore {
    /// Reads the log, or begins an empty one.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` if bytes that were durable are bad.
    pub(crate) async fn open(disk: Arc<dyn Disk>) -> io::Result<Self> {
        disk.create_directory_all(DIRECTORY).await?;
        // A file that was renamed, and whose process did not live to sync the name, replaces
        // the old one from here on.
        for directory in ["", DIRECTORY] {
            disk.sync_directory(directory).await?;
        }
        let names = disk.list(DIRECTORY).await?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        let newest = numbers.pop();
        // What a rewrite left behind: unfinished new files and replaced old ones.
        for name in &names {
            if name.starts_with("log-") && number(name) != newest {
                disk.remove_file(&format!("{DIRECTORY}/{name}")).await?;
            }
        }
        let (state, tail) = match newest {
            Some(number) => read(&*disk, number).await?,
            None => {
                let state = State::default();
                let tail = create(&*disk, 1, &state).await?;
                (state, tail)
            }
        };
        Ok(Self {
            disk,
            state: Arc::new(Mutex::new(state)),
            tail,
            failed: false,
        })
    }

    /// The newest vote that was written.
    pub(crate) fn vote(&self) -> Option<Vote<u64>> {
        lock(&self.state).vote
    }

    async fn write(&mut self, records: Vec<Record>, sync: bool) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(
                "an earlier write of the metadata log failed",
            ));
        }
        // Set before the await: a write that was cancelled half-way counts as failed.
        self.failed = true;
        self.tail.write(&records, sync).await?;
        self.failed = false;
        let mut state = lock(&self.state);
        for record in records {
            state.play(record);
        }
        Ok(())
    }

    /// Replaces the file by one that holds only what is live.
    async fn compact(&mut self) -> io::Result<()> {
        let state = lock(&self.state).clone();
        self.failed = true;
        let old = self.tail.number;
        self.tail = create(&*self.disk, old + 1, &state).await?;
        self.disk.remove_file(&path(old)).await?;
        self.failed = false;
        Ok(())
    }
}

async fn read(disk: &dyn Disk, number: u64) -> io::Result<(State, Tail)> {
    let name = path(number);
    let bad = |detail: String| {
        let detail = format!(
            "{name}: {detail}. This voter must not vote with a damaged log: restore the disk, or \
             replace the node by one with a new node id"
        );
        io::Error::new(io::ErrorKind::InvalidData, detail)
    };
    let file = disk.open(&name, OpenMode::Existing).await?;
    let len = usize::try_from(file.size().await?).map_err(io::Error::other)?;
    let bytes = file.read_at(0, len).await?;
    let scan = frame::scan(number, &bytes).map_err(|e| bad(e.to_string()))?;
    let mut state = State::default();
    for payload in &scan.payloads {
        let records: Vec<Record> = postcard::from_bytes(payload)
            .map_err(|e| bad(format!("a good frame holds no records: {e}")))?;
        for record in records {
            state.play(record);
        }
    }
    let end = usize::try_from(scan.end).map_err(io::Error::other)?;
    if end < bytes.len() {
        file.truncate(scan.end).await?;
    }
    // What was read may not be durable yet: nothing may build on it before it is. If the
    // fsync of an earlier process failed, only writing it again makes it so.
    file.write_at(0, vec![bytes.slice(..end)]).await?;
    file.sync_data().await?;
    Ok((
        state,
        Tail {
            file,
            number,
            sequence: u64::try_from(scan.payloads.len()).map_err(io::Error::other)?,
            end: scan.end,
            synced: scan.end,
        },
    ))
}

/// Writes `state` as a new file that gets its name only when it is durable.
async fn create(disk: &dyn Disk, number: u64, state: &State) -> io::Result<Tail> {
    let temporary = format!("{}.tmp", path(number));
    let file = disk.open(&temporary, OpenMode::Create).await?;
    file.truncate(0).await?;
    let mut tail = Tail {
        file,
        number,
        sequence: 0,
        end: 0,
        synced: 0,
    };
    let mut head = Vec::new();
    head.extend(state.vote.map(Record::Vote));
    head.extend(state.purged.map(Record::Purge));
    head.extend(state.committed.map(Record::Committed));
    tail.write(&head, false).await?;
    let entries: Vec<Entry> = state.entries.values().cloned().collect();
    for chunk in entries.chunks(ENTRIES_PER_FRAME) {
        tail.write(&[Record::Entries(chunk.to_vec())], false)
            .await?;
    }
    tail.file.sync_data().await?;
    tail.synced = tail.end;
    // A last frame that vouches for all before it.
    tail.write(&[], true).await?;
    disk.rename(&temporary, &path(number)).await?;
    disk.sync_directory(DIRECTORY).await?;
    Ok(tail)
}

fn path(number: u64) -> String {
    format!("{DIRECTORY}/log-{number:016x}")
}

fn number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("log-")?, 16).ok()
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        Ok(lock(&self.0)
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        LogReader(self.state.clone())
            .try_get_log_entries(range)
            .await
    }
}

fn write_failed(error: &io::Error) -> StorageError<u64> {
    StorageError::from(StorageIOError::write_logs(error))
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let state = lock(&self.state);
        let last = state.entries.values().next_back().map(|e| e.log_id);
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: last.or(state.purged),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(self.state.clone())
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let sync = !weir_base::mutant!(M23);
        self.write(vec![Record::Vote(*vote)], sync)
            .await
            .map_err(|e| StorageError::from(StorageIOError::write_vote(&e)))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.vote())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError<u64>> {
        let Some(committed) = committed else {
            return Ok(());
        };
        // Not synced: it only saves waiting for the leader after a restart, and the
        // next append carries it to the disk.
        self.write(vec![Record::Committed(committed)], false)
            .await
            .map_err(|e| write_failed(&e))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError<u64>> {
        Ok(lock(&self.state).committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.write(vec![Record::Entries(entries)], true)
            .await
            .map_err(|e| write_failed(&e))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Truncate(log_id.index)], true)
            .await
            .map_err(|e| write_failed(&e))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError<u64>> {
        self.write(vec![Record::Purge(log_id)], false)
            .await
            .map_err(|e| write_failed(&e))?;
        if self.tail.end >= COMPACT_BYTES_MIN {
            self.compact().await.map_err(|e| write_failed(&e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
