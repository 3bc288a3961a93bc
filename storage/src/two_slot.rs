//! A small durable value in two files that both hold it. They are written one after the
//! other, each durable before the next, so a crash tears one at most, and rot in one leaves
//! the value itself: an older one would make what was written since look like a torn tail.
//! No rename, so no directory sync but the first.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_base::{Disk, DiskFile, OpenMode};

use crate::sidecar::{open, seal};

/// The files `<path>.0` and `<path>.1`.
pub(crate) struct TwoSlot {
    disk: Arc<dyn Disk>,
    /// Opened when used: thousands of logs have one each, and rarely use it.
    path: String,
    /// Number of the last value stored.
    number: u64,
}

/// A stored value with the number that tells the newer, when a crash came between the two.
#[derive(serde::Deserialize, Serialize)]
struct Numbered<T> {
    number: u64,
    value: T,
}

/// What was found.
pub(crate) enum Found<T> {
    /// Nothing was ever stored (or the very first store was torn).
    Nothing,
    /// The newest intact value.
    Value(T),
    /// Both slots hold something and neither is intact.
    Corrupt,
}

impl TwoSlot {
    /// Opens or makes the files and finds the newest value, durable in both on return: who
    /// wrote it may not have lived to sync it, and what follows from it must not outlast it.
    /// Or its fsync failed: then it reads well, the next fsync says that all is well, and it
    /// is not on the disk unless it is written again (S-41). The caller syncs the directory.
    pub(crate) async fn open<T: DeserializeOwned>(
        disk: &Arc<dyn Disk>,
        path: &str,
    ) -> io::Result<(TwoSlot, Found<T>)> {
        let files = open_slots(disk, path).await?;
        let stored = read::<T>(&files).await?;
        let (number, found) = match stored.newest {
            Some((found, bytes)) => {
                for (slot, file) in files.iter().enumerate() {
                    if slot == 0 && stored.agree {
                        // The other was begun when this one was durable.
                    } else if weir_base::mutant!(CacheIsDisk) {
                        file.sync_data().await?;
                    } else {
                        file.write_at_and_sync(0, vec![bytes.clone()]).await?;
                    }
                }
                (found.number, Found::Value(found.value))
            }
            None if stored.bad == 2 => (0, Found::Corrupt),
            None => (0, Found::Nothing),
        };
        let slots = TwoSlot {
            disk: disk.clone(),
            path: path.to_owned(),
            number,
        };
        Ok((slots, found))
    }

    /// Stores `value`, durable in both files on return. After an error the value before it is
    /// still there, or this one.
    pub(crate) async fn store<T: Serialize>(&mut self, value: T) -> io::Result<()> {
        let number = self.number + 1;
        let bytes = seal(&Numbered { number, value })?;
        for path in paths(&self.path) {
            let file = self.disk.open(&path, OpenMode::Existing).await?;
            file.write_at_and_sync(0, vec![bytes.clone()]).await?;
        }
        self.number = number;
        Ok(())
    }

    /// The newest value stored.
    pub(crate) async fn load<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let files = open_slots(&self.disk, &self.path).await?;
        let stored = read(&files).await?;
        Ok(stored.newest.map(|(found, _)| found.value))
    }
}

fn paths(path: &str) -> [String; 2] {
    [format!("{path}.0"), format!("{path}.1")]
}

async fn open_slots(disk: &Arc<dyn Disk>, path: &str) -> io::Result<[Arc<dyn DiskFile>; 2]> {
    let [first, second] = paths(path);
    Ok([
        disk.open(&first, OpenMode::Create).await?,
        disk.open(&second, OpenMode::Create).await?,
    ])
}

/// What the two files hold.
struct Stored<T> {
    /// The newest intact value, and the bytes that it was read from.
    newest: Option<(Numbered<T>, Bytes)>,
    /// Both files hold it.
    agree: bool,
    /// Files that hold something that is not intact.
    bad: usize,
}

async fn read<T: DeserializeOwned>(files: &[Arc<dyn DiskFile>; 2]) -> io::Result<Stored<T>> {
    let mut stored = Stored {
        newest: None,
        agree: false,
        bad: 0,
    };
    for file in files {
        let size = usize::try_from(file.size().await?).unwrap_or(usize::MAX);
        let bytes = file.read_at(0, size).await?;
        let Some(found) = open::<Numbered<T>>(&bytes) else {
            stored.bad += usize::from(!bytes.is_empty());
            continue;
        };
        let before = stored.newest.as_ref().map_or(0, |(held, _)| held.number);
        stored.agree |= found.number == before;
        if found.number > before {
            stored.newest = Some((found, bytes));
        }
    }
    Ok(stored)
}
