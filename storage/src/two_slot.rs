//! A small durable value in two files written in turn: a write torn by a crash leaves
//! the value before it. No rename, so no directory sync but the first.

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
    /// Number of the last value stored; odd ones lie in slot 1.
    number: u64,
}

/// A stored value with the number that tells the newer.
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
    /// Opens or makes the files and finds the newest value, durable on return: who wrote it
    /// may not have lived to sync it, and what follows from it must not outlast it. Or its
    /// fsync failed: then it reads well, the next fsync says that all is well, and it is not
    /// on the disk unless it is written again (S-41). The caller syncs the directory.
    pub(crate) async fn open<T: DeserializeOwned>(
        disk: &Arc<dyn Disk>,
        path: &str,
    ) -> io::Result<(TwoSlot, Found<T>)> {
        let slots = open_slots(disk, path).await?;
        let (newest, bad) = read(&slots).await?;
        let (number, found) = match newest {
            Some((found, bytes)) => {
                let file = &slots[usize::from(found.number % 2 == 1)];
                if weir_base::mutant!(CacheIsDisk) {
                    file.sync_data().await?;
                } else {
                    file.write_at_and_sync(0, vec![bytes]).await?;
                }
                (found.number, Found::Value(found.value))
            }
            None if bad == 2 => (0, Found::Corrupt),
            None => (0, Found::Nothing),
        };
        let slots = TwoSlot {
            disk: disk.clone(),
            path: path.to_owned(),
            number,
        };
        Ok((slots, found))
    }

    /// Stores `value`, durable on return. After an error the value before it is still there.
    /// The first value is stored in both files: with one of them empty, rot in the other
    /// could not be told from a first store that was torn.
    pub(crate) async fn store<T: Serialize>(&mut self, value: T) -> io::Result<()> {
        if self.number == 0 {
            self.store_once(&value).await?;
        }
        self.store_once(&value).await
    }

    async fn store_once<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let number = self.number + 1;
        let bytes = seal(&Numbered { number, value })?;
        let path = format!("{}.{}", self.path, number % 2);
        let file = self.disk.open(&path, OpenMode::Existing).await?;
        file.write_at_and_sync(0, vec![bytes]).await?;
        self.number = number;
        Ok(())
    }

    /// The newest value stored.
    pub(crate) async fn load<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let slots = open_slots(&self.disk, &self.path).await?;
        let (newest, _) = read(&slots).await?;
        Ok(newest.map(|(found, _)| found.value))
    }
}

async fn open_slots(disk: &Arc<dyn Disk>, path: &str) -> io::Result<[Arc<dyn DiskFile>; 2]> {
    Ok([
        disk.open(&format!("{path}.0"), OpenMode::Create).await?,
        disk.open(&format!("{path}.1"), OpenMode::Create).await?,
    ])
}

/// The newest intact value with its slot's bytes, and how many slots hold something that is
/// not intact.
async fn read<T: DeserializeOwned>(
    slots: &[Arc<dyn DiskFile>; 2],
) -> io::Result<(Option<(Numbered<T>, Bytes)>, usize)> {
    let mut newest: Option<(Numbered<T>, Bytes)> = None;
    let mut bad = 0;
    for file in slots {
        let size = usize::try_from(file.size().await?).unwrap_or(usize::MAX);
        let bytes = file.read_at(0, size).await?;
        match open::<Numbered<T>>(&bytes) {
            Some(found) if newest.as_ref().is_none_or(|(n, _)| n.number < found.number) => {
                newest = Some((found, bytes));
            }
            Some(_) => {}
            None => bad += usize::from(!bytes.is_empty()),
        }
    }
    Ok((newest, bad))
}
