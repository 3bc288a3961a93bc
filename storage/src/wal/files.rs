//! The write-ahead log's files: which are in use, which are free, and their recycling.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use weir_base::{Disk, DiskFile, Entropy, Env, OpenMode, Uuid};

use super::record::{BLOCK_BYTES, FileHead};
use crate::StorageOptions;
use crate::health::is_full;

/// The directory of the files.
pub(crate) const WAL_DIRECTORY: &str = "wal";
/// Bytes of zeros written at a time to a new file.
const FILL_BYTES: usize = 1024 * 1024;

/// A file ready for use.
#[derive(Clone)]
pub(crate) struct WalFile {
    pub(crate) file: Arc<dyn DiskFile>,
    /// Of the records written to it now.
    pub(crate) salt: u32,
    /// Its blocks were written before, so that a commit overwrites them. Of merely reserved
    /// ones it changes the file's metadata, which takes twice as long.
    is_written: bool,
}

/// The file set.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    entropy: Entropy,
    storage: Uuid,
    pub(crate) file_bytes: u64,
    files_max: usize,
    state: Mutex<State>,
    /// A file was released.
    pub(crate) released: Notify,
    /// A file was begun: time to prepare the next.
    pub(crate) begun: Notify,
}

struct State {
    used: VecDeque<(u64, WalFile)>,
    free: Vec<WalFile>,
    next_number: u64,
    next_name: u64,
    /// Files there are, and files being made.
    total: usize,
}

impl Files {
    /// Takes over what replay found, all of it free.
    pub(crate) fn new(
        env: &Env,
        storage: Uuid,
        options: &StorageOptions,
        found: &[(String, Arc<dyn DiskFile>)],
        next_number: u64,
    ) -> Files {
        let names = found.iter().filter_map(|(path, _)| {
            let name = path.rsplit('/').next()?.strip_suffix(".wal")?;
            name.parse::<u64>().ok()
        });
        Files {
            disk: env.disk.clone(),
            entropy: env.entropy.fork("wal"),
            storage,
            file_bytes: options.wal_file_bytes.next_multiple_of(BLOCK_BYTES as u64),
            files_max: options.wal_files_max,
            state: Mutex::new(State {
                used: VecDeque::new(),
                free: found
                    .iter()
                    .map(|(_, file)| WalFile {
                        file: file.clone(),
                        salt: 0,
                        // Most were; one that was not is so once it was used.
                        is_written: true,
                    })
                    .collect(),
                next_number,
                next_name: names.max().map_or(1, |last| last + 1),
                total: found.len(),
            }),
            released: Notify::new(),
            begun: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files in use.
    pub(crate) fn used(&self) -> usize {
        self.state().used.len()
    }

    /// Whether a checkpoint should free some now.
    pub(crate) fn want_checkpoint(&self) -> bool {
        self.used() > self.files_max / 2
    }

    /// Whether there are as many as there may be.
    pub(crate) fn at_limit(&self) -> bool {
        self.state().total >= self.files_max
    }

    /// Number of the next file to be begun.
    pub(crate) fn next_number(&self) -> u64 {
        self.state().next_number
    }

    /// Number of the file in use; all lower ones may go after a checkpoint that begins now.
    pub(crate) fn current_number(&self) -> u64 {
        let state = self.state();
        state
            .used
            .back()
            .map_or(state.next_number, |(number, _)| *number)
    }

    /// Frees the files below `number`, which is durably noted as the first to replay.
    pub(crate) fn release_below(&self, number: u64) {
        let mut state = self.state();
        while state.used.front().is_some_and(|(first, _)| *first < number) {
            if let Some((_, mut file)) = state.used.pop_front() {
                file.is_written = true;
                state.free.push(file);
            }
        }
        drop(state);
        self.released.notify_one();
    }

    /// Begins the next file, whose first record is `first_lsn`. `None` if none is free
    /// and none can be made, for want of space or because the limit is reached.
    pub(crate) async fn begin(&self, first_lsn: u64) -> io::Result<Option<WalFile>> {
        let free = self.state().free.pop();
        let mut file = match free {
            Some(file) => file,
            None => match self.make(false).await? {
                Some(file) => file,
                None => return Ok(None),
            },
        };
        file.salt = u32::try_from(self.entropy.below(1 << 32)).unwrap_or(0);
        let number = {
            // In use from the moment it has a number: a checkpoint that begins now must
            // not take it for one of before.
            let mut state = self.state();
            let number = state.next_number;
            state.next_number += 1;
            state.used.push_back((number, file.clone()));
            number
        };
        let head = FileHead {
            salt: file.salt,
            number,
            first_lsn,
            storage: self.storage,
        };
        // Durable with the first group, by the same fsync.
        file.file.write_at(0, vec![head.encode()]).await?;
        self.begun.notify_one();
        Ok(Some(file))
    }

    /// Sees to it that a written file is free: fills one that was merely reserved, or makes
    /// one. A disk too full for that is no failure: it leaves what there is.
    pub(crate) async fn prepare(&self) -> io::Result<()> {
        let reserved = {
            let mut state = self.state();
            if state.free.iter().any(|file| file.is_written) {
                return Ok(());
            }
            state.free.pop()
        };
        let prepared = match reserved {
            Some(mut file) => {
                match self.fill(&file.file).await {
                    Ok(()) => file.is_written = true,
                    Err(error) if is_full(&error) => {}
                    Err(error) => return Err(error),
                }
                Some(file)
            }
            None => self.make(true).await?,
        };
        if let Some(file) = prepared {
            self.state().free.push(file);
            // The committer may have found none meanwhile.
            self.released.notify_one();
        }
        Ok(())
    }

    /// Makes a free file, merely reserved.
    pub(crate) async fn add_free(&self) -> io::Result<()> {
        if let Some(file) = self.make(false).await? {
            self.state().free.push(file);
        }
        Ok(())
    }

    /// Makes a file, unless there are as many as there may be or the disk is full.
    async fn make(&self, fill: bool) -> io::Result<Option<WalFile>> {
        let name = {
            let mut state = self.state();
            if state.total >= self.files_max {
                return Ok(None);
            }
            state.total += 1;
            state.next_name += 1;
            state.next_name - 1
        };
        let made = self.make_named(name, fill).await;
        if !matches!(made, Ok(Some(_))) {
            self.state().total -= 1;
        }
        made
    }

    async fn make_named(&self, name: u64, fill: bool) -> io::Result<Option<WalFile>> {
        let path = format!("{WAL_DIRECTORY}/{name:08}.wal");
        let file = self.disk.open(&path, OpenMode::Create).await?;
        let reserved = async {
            file.allocate(self.file_bytes).await?;
            if fill {
                self.fill(&file).await?;
            }
            self.disk.sync_directory(WAL_DIRECTORY).await
        };
        match reserved.await {
            Ok(()) => Ok(Some(WalFile {
                file,
                salt: 0,
                is_written: fill,
            })),
            Err(error) if is_full(&error) => {
                self.disk.remove_file(&path).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn fill(&self, file: &Arc<dyn DiskFile>) -> io::Result<()> {
        let zeros = Bytes::from(vec![0; FILL_BYTES]);
        let mut position = 0;
        while position < self.file_bytes {
            let left = usize::try_from(self.file_bytes - position).unwrap_or(FILL_BYTES);
            let piece = zeros.slice(..left.min(FILL_BYTES));
            position += piece.len() as u64;
            // Synced piece by piece: commits wait behind little.
            file.write_at_and_sync(position - piece.len() as u64, vec![piece])
                .await?;
        }
        Ok(())
    }
}
