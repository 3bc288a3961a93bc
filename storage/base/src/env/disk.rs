//! The disk under one data directory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::BoxFuture;

/// How [`Disk::open`] treats what is or is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading and writing; `NotFound` if it does not exist.
    Existing,
    /// For reading and writing; made empty if it does not exist.
    Create,
    /// As `Create`, but `AlreadyExists` if it exists.
    CreateNew,
}

/// Whether memory keeps what was written once the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheHint {
    /// Someone will read it soon.
    Keep,
    /// Nobody will: its place belongs to others.
    Drop,
}

/// A directory tree. Paths are relative to the data directory, `/`-separated,
/// without `.` or `..`. Every operation starts when it is called and takes
/// effect at the latest when its future completes; operations that were not
/// awaited have no order among them.
///
/// A new, renamed or removed name survives a power loss only after
/// [`Disk::sync_directory`] on its directory (S-40).
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &str, mode: OpenMode)
    -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>>;

    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>>;

    /// Removes a file. `NotFound` if it does not exist.
    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>>;

    /// Removes a directory and all below it. `NotFound` if it does not exist.
    fn remove_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>>;

    /// Makes a directory and its parents; done if it exists.
    fn create_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>>;

    /// Names in a directory, sorted; directories end in `/`. `NotFound` if it does not exist.
    fn list(&self, path: &str) -> BoxFuture<'static, io::Result<Vec<String>>>;

    /// Makes the names in a directory durable. The data directory itself is `""`.
    fn sync_directory(&self, path: &str) -> BoxFuture<'static, io::Result<()>>;

    /// Free and total bytes of the file system.
    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>>;

    /// Names the machine's boot: unchanged since a write means that the page cache
    /// holding it outlived the process (reliability: a process crash is no power loss).
    fn boot_id(&self) -> String;
}

/// What is to be written to a file next, write after write. Called from wherever the disk
/// does its work, so it must not wait.
pub trait WriteSource: Send + Sync {
    /// The next write, its offset and its bytes; `None` if there is none now.
    fn next(&self) -> Option<(u64, Vec<Bytes>)>;

    /// The write that [`WriteSource::next`] gave last is durable.
    fn synced(&self);
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes `chunks` one after the other from `offset` on, growing the file as needed.
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>>;

    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>>;

    /// [`DiskFile::write_at`], and then [`DiskFile::sync_data`], in one step: a commit
    /// then costs one hop to the disk's threads.
    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>>;

    /// Takes write after write from `source`, makes each durable and says so, and only then
    /// takes the next: what waits for its commit goes into the one that begins when the
    /// last one ends, without a hop between them. With a write, all becomes durable that
    /// was completed through this handle before. Ends when `source` has none, or with the
    /// error of a write, of which `source` is not told, and which is no better than one of
    /// [`DiskFile::sync_data`]. May begin only when it is polled; dropped, it may end the
    /// write that is under way, and take further ones.
    fn write_and_sync_each<'a>(
        &'a self,
        source: Arc<dyn WriteSource>,
    ) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            while let Some((offset, chunks)) = source.next() {
                self.write_at_and_sync(offset, chunks).await?;
                source.synced();
            }
            Ok(())
        })
    }

    /// Makes all completed writes durable. After an error nothing that was written
    /// since the last success may be trusted, and no retry helps (S-41).
    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>>;

    /// Brings to the disk what was written in these bytes, so that the next
    /// [`DiskFile::sync_data`] has less to do, and waits for it; then memory keeps it or not.
    /// A hint: nothing is durable by it, and what goes wrong is told by that sync.
    fn write_back(&self, offset: u64, len: u64, hint: CacheHint) -> BoxFuture<'static, ()> {
        let _ = (offset, len, hint);
        Box::pin(std::future::ready(()))
    }

    /// Reserves space so that the file is at least `len` bytes long; new bytes read as zero.
    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>>;

    /// Cuts or extends to `len` bytes. Durable after the next [`DiskFile::sync_data`].
    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>>;

    /// The length in bytes.
    fn size(&self) -> BoxFuture<'static, io::Result<u64>>;
}
