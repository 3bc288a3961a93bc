//! Keeps what a fail-over under asynchronous replication cut from a log here, for whoever
//! wants it back: nothing that may have been acknowledged is lost silently.
//!
//! ```text
//! cut/<Unix ms>-<topic id>-<partition>-<first offset>.batches    record batches, back to back
//! ```
//! The newest [`FILES_MAX`] files stay. A crash before a file is synced loses it; the cut
//! itself is in the log of events all the same. Called by [`crate::agreement`].

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use weir_base::{Disk, Env, Offset, OpenMode, TopicPartition};

const DIRECTORY: &str = "cut";
/// Files kept, and files being written at once: each holds at most what may be
/// unreplicated of one partition.
const FILES_MAX: usize = 16;

/// Writes the files.
pub(crate) struct CutKeeper {
    env: Env,
    room: Arc<Semaphore>,
}

impl CutKeeper {
    pub(crate) fn new(env: Env) -> Self {
        Self {
            env,
            room: Arc::new(Semaphore::new(FILES_MAX)),
        }
    }

    /// Saves `batches` in a task. Does not wait: beyond [`FILES_MAX`] at once they are
    /// dropped, with an error line.
    pub(crate) fn save(&self, at: TopicPartition, from: Offset, batches: Vec<Bytes>) {
        if batches.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::error!(partition = %at, %from, "cut batches not saved: too many at once");
            return;
        };
        let written = self.env.clock.wall().0;
        let path = format!("{DIRECTORY}/{written:020}-{at}-{from}.batches");
        let disk = Arc::clone(&self.env.disk);
        self.env.tasks.spawn("save-cut", async move {
            match save(&*disk, &path, batches).await {
                Ok(()) => tracing::warn!(partition = %at, %from, path, "cut batches saved"),
                Err(error) => {
                    tracing::error!(partition = %at, %from, path, %error, "cut batches not saved");
                }
            }
            drop(permit);
        });
    }
}

async fn save(disk: &dyn Disk, path: &str, batches: Vec<Bytes>) -> io::Result<()> {
    disk.create_directory_all(DIRECTORY).await?;
    let file = disk.open(path, OpenMode::Create).await?;
    file.truncate(0).await?;
    file.write_at_and_sync(0, batches).await?;
    disk.sync_directory(DIRECTORY).await?;
    disk.sync_directory("").await?;
    // Names begin with the time, so the oldest come first.
    let names = disk.list(DIRECTORY).await?;
    for name in names.iter().rev().skip(FILES_MAX) {
        match disk.remove_file(&format!("{DIRECTORY}/{name}")).await {
            // Another one's task was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weir_base::Entropy;
    use weir_storage::SimDisk;

    use super::*;

    #[tokio::test]
    async fn the_newest_files_stay_whole() {
        let disk = SimDisk::new(&Entropy::from_seed([1; 32]));
        let name = |n: usize| format!("{DIRECTORY}/{n:020}-t-0-5.batches");
        for n in 0..20 {
            let batches = vec![Bytes::from_static(b"one"), Bytes::from(n.to_string())];
            save(&disk, &name(n), batches).await.unwrap();
        }
        let kept: Vec<String> = (4..20).map(name).collect();
        assert_eq!(disk.files(), kept);
        disk.crash(weir_storage::Crash::PowerLoss);
        let disk = disk.handle(None);
        let file = disk.open(&name(19), OpenMode::Existing).await.unwrap();
        assert_eq!(&file.read_at(0, 100).await.unwrap()[..], b"one19");
    }
}
