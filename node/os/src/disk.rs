//! The real disk: files under one data directory, served by a few threads.
//!
//! An operation is queued when it is called and answers through a oneshot channel: one
//! hop to a thread and one back. Threads are few and have small stacks, so that an idle
//! node stays small. The queue is bounded; when it is full the caller runs the operation
//! itself, which slows down exactly those that ask for too much. Nothing is retried: an
//! error goes to the caller, who decides (S-41). A crash loses what the kernel loses.
//!
//! Called by `weir-storage` and `weir-metadata` through the `Disk` seam.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::{Buf, Bytes};
use rustix::fs::FallocateFlags;
use tokio::sync::oneshot;
use weir_base::{BoxFuture, Disk, DiskFile, OpenMode};

/// Threads of one data directory: enough to overlap a commit's fsync with reads and
/// page-cache writes.
const THREADS: usize = 4;
/// Bytes of one thread's stack; the operations below need a few KiB.
const STACK_BYTES: usize = 128 * 1024;
/// Operations that may wait for a thread before callers run them themselves.
const QUEUE_MAX: usize = 1024;
/// The most pieces the kernel takes in one vectored write (`IOV_MAX`).
const CHUNKS_PER_WRITE_MAX: usize = 1024;

/// A data directory.
pub struct OsDisk {
    root: PathBuf,
    pool: Arc<Pool>,
}

impl OsDisk {
    /// Serves the directory `root`, making it if need be.
    ///
    /// # Errors
    /// The directory cannot be made, or no thread can be started.
    pub fn open(root: impl AsRef<Path>) -> io::Result<OsDisk> {
        fs::create_dir_all(&root)?;
        Ok(OsDisk {
            root: root.as_ref().to_path_buf(),
            pool: Arc::new(Pool::start()?),
        })
    }

    fn run<T: Send + 'static>(
        &self,
        path: &str,
        operation: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let path = self.path(path);
        self.pool.run(move || operation(&path?))
    }

    /// The path below the root; refuses to leave it.
    fn path(&self, path: &str) -> io::Result<PathBuf> {
        let inside = path.is_empty()
            || path
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..");
        if inside {
            return Ok(self.root.join(path));
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path:?} is no path below a data directory"),
        ))
    }
}

impl Disk for OsDisk {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        let pool = self.pool.clone();
        self.run(path, move |path| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(mode == OpenMode::Create)
                .create_new(mode == OpenMode::CreateNew)
                .truncate(false)
                .open(path)?;
            Ok(Arc::new(OsFile {
                file: Arc::new(file),
                pool,
            }) as Arc<dyn DiskFile>)
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        let to = self.path(to);
        self.run(from, move |from| fs::rename(from, to?))
    }

    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(path, |path| fs::remove_file(path))
    }

    fn remove_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(path, |path| fs::remove_dir_all(path))
    }

    fn create_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(path, |path| fs::create_dir_all(path))
    }

    fn list(&self, path: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        self.run(path, |path| {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                // Names that are not UTF-8 are none of ours.
                if let Ok(mut name) = entry.file_name().into_string() {
                    if entry.file_type()?.is_dir() {
                        name.push('/');
                    }
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        })
    }

    fn sync_directory(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.run(path, |path| File::open(path)?.sync_all())
    }

    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        self.run("", |root| {
            let stat = rustix::fs::statvfs(root)?;
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
        })
    }

    fn boot_id(&self) -> String {
        // Without it every restart counts as one after a power loss, the safe side.
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    }
}

struct OsFile {
    file: Arc<File>,
    pool: Arc<Pool>,
}

impl OsFile {
    fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let file = self.file.clone();
        self.pool.run(move || operation(&file))
    }
}

impl DiskFile for OsFile {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        self.run(move |file| write_all(file, offset, chunks))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.run(move |file| read_up_to(file, offset, len))
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.run(move |file| {
            write_all(file, offset, chunks)?;
            Ok(rustix::fs::fdatasync(file)?)
        })
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        self.run(|file| Ok(rustix::fs::fdatasync(file)?))
    }

    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.run(move |file| allocate(file, len))
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.run(move |file| file.set_len(len))
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        self.run(|file| Ok(file.metadata()?.len()))
    }
}

fn write_all(file: &File, mut offset: u64, chunks: Vec<Bytes>) -> io::Result<()> {
    let mut rest: VecDeque<Bytes> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
    while !rest.is_empty() {
        let slices: Vec<IoSlice<'_>> = rest
            .iter()
            .take(CHUNKS_PER_WRITE_MAX)
            .map(|chunk| IoSlice::new(chunk))
            .collect();
        let written = match rustix::io::pwritev(file, &slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        offset += written as u64;
        drop_front(&mut rest, written);
    }
    Ok(())
}

fn drop_front(chunks: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(first) = chunks.front_mut() {
        if first.len() > bytes {
            first.advance(bytes);
            return;
        }
        bytes -= first.len();
        chunks.pop_front();
    }
}

fn read_up_to(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    // Never allocates more than the file can fill, whatever was asked for.
    let there = file.metadata()?.len().saturating_sub(offset);
    let len = len.min(usize::try_from(there).unwrap_or(usize::MAX));
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

fn allocate(file: &File, len: u64) -> io::Result<()> {
    let size = file.metadata()?.len();
    if size >= len {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), size, len - size) {
        // A file system without it: the length alone, as sparse.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(len),
        other => Ok(other?),
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads. Dropping it lets them finish what is queued and joins none: a write in
/// flight must not be cut short, nor hold up the node's exit.
struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn start() -> io::Result<Pool> {
        let shared = Arc::new(Shared::default());
        for index in 0..THREADS {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("weir-disk-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || serve(&shared))?;
        }
        Ok(Pool { shared })
    }

    fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move || {
            // The caller may have stopped waiting; the operation took effect all the same.
            reply.send(operation()).ok();
        });
        self.submit(job);
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the disk thread panicked")))
        })
    }

    fn submit(&self, job: Job) {
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= QUEUE_MAX {
            drop(queue);
            job();
            return;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.wake.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

fn serve(shared: &Shared) {
    loop {
        let mut queue = shared.lock();
        let job = loop {
            if let Some(job) = queue.jobs.pop_front() {
                break job;
            }
            if queue.closed {
                return;
            }
            queue = shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        disk.create_directory_all("a/b").await.unwrap();
        let file = disk.open("a/b/f", OpenMode::CreateNew).await.unwrap();
        let many: Vec<Bytes> = (0..3000u16)
            .map(|n| n.to_be_bytes().to_vec().into())
            .collect();
        file.allocate(1 << 16).await.unwrap();
        file.write_at_and_sync(7, many.clone()).await.unwrap();
        let back = file.read_at(7, 6000).await.unwrap();
        assert_eq!(back[..], many.concat()[..]);
        assert_eq!(file.size().await.unwrap(), 1 << 16);
        assert_eq!(file.read_at(65_530, 100).await.unwrap()[..], [0; 6]);
        file.truncate(9).await.unwrap();
        assert_eq!(file.read_at(0, 100).await.unwrap().len(), 9);
        disk.rename("a/b/f", "a/g").await.unwrap();
        disk.sync_directory("a").await.unwrap();
        assert_eq!(disk.list("a").await.unwrap(), ["b/", "g"]);
        let missing = disk.open("a/b/f", OpenMode::Existing).await.err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let (free, total) = disk.space().await.unwrap();
        assert!(free > 0 && free <= total);
    }

    #[tokio::test]
    async fn paths_stay_below_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        for path in ["../x", "/etc/x", "a//b", "a/./b"] {
            let error = disk.open(path, OpenMode::Create).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
