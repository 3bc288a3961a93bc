//! The real disk: files under one data directory, served by a few threads.
//!
//! An operation is queued when it is called and answers through a oneshot channel: one
//! hop to a thread and one back (`pool.rs`). Two kinds are spared hops, since every append
//! and every commit is one of them: a small write into the page cache is run by its
//! caller while the disk is well, and a thread that commits takes group after group by
//! itself, past the page cache where that is possible (`direct.rs`). Nothing is retried:
//! an error goes to the caller, who decides (S-41). A crash loses what the kernel loses.
//!
//! Called by `weir-storage` and `weir-metadata` through the `Disk` seam.

mod direct;
mod pool;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use rustix::fs::{Advice, FallocateFlags};
use weir_base::{BoxFuture, CacheHint, Disk, DiskFile, OpenMode, WriteSource};

use direct::{AlignedBuffer, Direct};
use pool::{Pool, Weight};

/// Bytes of a write that its caller may run itself: a few microseconds of copying.
const SMALL_BYTES_MAX: usize = 16 * 1024;
/// The most pieces the kernel takes in one vectored write (`IOV_MAX`).
const CHUNKS_PER_WRITE_MAX: usize = 1024;
/// The page cache gives up whole folios only, which may be so many bytes.
const FOLIO_BYTES_MAX: u64 = 2 * 1024 * 1024;

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
        self.pool.run(Weight::Heavy, move || operation(&path?))
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
                opened: Arc::new(Opened::new(file)),
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
    opened: Arc<Opened>,
    pool: Arc<Pool>,
}

struct Opened {
    file: File,
    direct: Direct,
    /// Something was written since the last commit that was none.
    is_dirty: AtomicBool,
}

impl Opened {
    fn new(file: File) -> Opened {
        Opened {
            file,
            direct: Direct::new(),
            // By whoever had it open before.
            is_dirty: AtomicBool::new(true),
        }
    }

    fn change(&self, operation: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let result = operation(&self.file);
        // Not before: a commit that ends meanwhile need not have covered it.
        self.is_dirty.store(true, Ordering::Release);
        result
    }

    /// Writes, and makes durable what was written before as well.
    fn write_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
        buffer: &Mutex<AlignedBuffer>,
    ) -> io::Result<()> {
        let was_dirty = self.is_dirty.swap(false, Ordering::AcqRel);
        let is_durable = self.direct.write(&self.file, offset, &chunks, buffer)?;
        if !is_durable {
            write_all(&self.file, offset, chunks)?;
        }
        if was_dirty || !is_durable {
            rustix::fs::fdatasync(&self.file)?;
        }
        Ok(())
    }
}

impl OsFile {
    fn run<T: Send + 'static>(
        &self,
        weight: Weight,
        operation: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let opened = self.opened.clone();
        self.pool.run(weight, move || operation(&opened.file))
    }

    /// As [`OsFile::run`], for what a later commit has to make durable.
    fn change(
        &self,
        weight: Weight,
        operation: impl FnOnce(&File) -> io::Result<()> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<()>> {
        let opened = self.opened.clone();
        self.pool.run(weight, move || opened.change(operation))
    }
}

impl DiskFile for OsFile {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let is_small = chunks.iter().map(Bytes::len).sum::<usize>() <= SMALL_BYTES_MAX;
        let write = move |file: &File| write_all(file, offset, chunks);
        if is_small && let Some(_turn) = self.pool.turn() {
            return Box::pin(std::future::ready(self.opened.change(write)));
        }
        self.change(Weight::Light, write)
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.run(Weight::Light, move |file| read_up_to(file, offset, len))
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.change(Weight::Heavy, move |file| {
            write_all(file, offset, chunks)?;
            Ok(rustix::fs::fdatasync(file)?)
        })
    }

    fn write_and_sync_each<'a>(
        &'a self,
        source: Arc<dyn WriteSource>,
    ) -> BoxFuture<'a, io::Result<()>> {
        let (opened, pool) = (self.opened.clone(), self.pool.clone());
        // Never run by the caller: it may go on for as long as there is something to write.
        self.pool.run_queued(Weight::Light, move || {
            let next = || source.next();
            while let Some((offset, chunks)) = next().or_else(|| pool.linger(next)) {
                let _commit = pool.commit();
                opened.write_and_sync(offset, chunks, pool.buffer())?;
                source.synced();
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        self.run(Weight::Heavy, |file| Ok(rustix::fs::fdatasync(file)?))
    }

    fn write_back(&self, offset: u64, len: u64, hint: CacheHint) -> BoxFuture<'static, ()> {
        let done = self.run(Weight::Heavy, move |file| {
            write_back(file, offset, len);
            if hint == CacheHint::Drop {
                let begin = offset - offset % FOLIO_BYTES_MAX;
                let length = NonZeroU64::new(offset + len - begin);
                rustix::fs::fadvise(file, begin, length, Advice::DontNeed)?;
            }
            Ok(())
        });
        Box::pin(async move {
            done.await.ok();
        })
    }

    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.change(Weight::Heavy, move |file| allocate(file, len))
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.change(Weight::Heavy, move |file| file.set_len(len))
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        self.run(Weight::Light, |file| Ok(file.metadata()?.len()))
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

/// An error of the writing stays with the file, for its next fsync.
fn write_back(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    #[expect(unsafe_code, reason = "rustix has no sync_file_range")]
    // SAFETY: a call with plain numbers on a descriptor that `file` keeps open.
    unsafe {
        let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        libc::sync_file_range(file.as_raw_fd(), offset, len, flags);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use rustix::io::ReadWriteFlags;

    use super::*;

    /// Whether the page cache holds a block, if the file system tells.
    fn is_in_memory(path: &Path, offset: u64) -> Option<bool> {
        let file = File::open(path).unwrap();
        let mut block = [0; 4096];
        let slices = &mut [io::IoSliceMut::new(&mut block)];
        match rustix::io::preadv2(&file, slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(true),
            Err(rustix::io::Errno::AGAIN) => Some(false),
            Err(rustix::io::Errno::OPNOTSUPP) => None,
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn what_nobody_will_read_leaves_the_page_cache_and_others_stay() {
        const MIB: usize = 1024 * 1024;
        // Where the build is: the place for temporary files may be memory itself.
        let build = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(build.parent().unwrap()).unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        for hint in [CacheHint::Keep, CacheHint::Drop] {
            let name = format!("{hint:?}");
            let file = disk.open(&name, OpenMode::CreateNew).await.unwrap();
            for offset in (0..8 * MIB).step_by(MIB) {
                let bytes = Bytes::from(vec![7; MIB]);
                file.write_at(offset as u64, vec![bytes]).await.unwrap();
            }
            file.write_back(4 * MIB as u64, MIB as u64, hint).await;
            let path = directory.path().join(&name);
            let is_kept = hint == CacheHint::Keep;
            assert_ne!(is_in_memory(&path, 4 * MIB as u64), Some(!is_kept));
            assert_ne!(is_in_memory(&path, 7 * MIB as u64), Some(false), "others'");
            let back = file.read_at(0, 8 * MIB).await.unwrap();
            assert!(back.len() == 8 * MIB && back.iter().all(|byte| *byte == 7));
        }
    }

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

    /// Writes what it is given, one block each.
    struct Blocks(Mutex<Vec<u8>>, AtomicUsize);

    impl WriteSource for Blocks {
        fn next(&self) -> Option<(u64, Vec<Bytes>)> {
            let fill = self.0.lock().unwrap().pop()?;
            Some((u64::from(fill) * 4096, vec![vec![fill; 4096].into()]))
        }

        fn synced(&self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_takes_all_there_is_and_covers_what_was_written_before() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        let path = directory.path().join("f");
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .clone();
        let file = OsFile {
            opened: Arc::new(Opened::new(options.open(&path).unwrap())),
            pool: disk.pool.clone(),
        };
        let is_dirty = || file.opened.is_dirty.load(Ordering::Relaxed);
        assert!(is_dirty(), "whatever was written before it was opened");
        let blocks = Arc::new(Blocks(Mutex::new(vec![3, 2, 1]), AtomicUsize::new(0)));
        file.write_and_sync_each(blocks.clone()).await.unwrap();
        assert_eq!(blocks.1.load(Ordering::Relaxed), 3);
        assert!(!is_dirty());
        let expected: Vec<u8> = (0..4u8).flat_map(|fill| [fill; 4096]).collect();
        assert!(file.read_at(0, 5 * 4096).await.unwrap() == expected);
        for round in 0..4 {
            match round {
                0 => file.write_at(0, vec![Bytes::from_static(b"head")]).await,
                1 => {
                    file.write_at(0, vec![vec![1; SMALL_BYTES_MAX + 1].into()])
                        .await
                }
                2 => file.allocate(1 << 16).await,
                _ => file.truncate(1 << 15).await,
            }
            .unwrap();
            assert!(is_dirty(), "{round}");
            blocks.0.lock().unwrap().push(7);
            file.write_and_sync_each(blocks.clone()).await.unwrap();
            assert!(!is_dirty(), "{round}");
        }
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(directory.path()).unwrap();
        let path = directory.path().join("f");
        fs::write(&path, [0; 4096]).unwrap();
        let file = OsFile {
            // The kernel refuses to write to it.
            opened: Arc::new(Opened::new(File::open(&path).unwrap())),
            pool: disk.pool.clone(),
        };
        file.opened.direct.refuse();
        let blocks = Arc::new(Blocks(Mutex::new(vec![0, 0]), AtomicUsize::new(0)));
        file.write_and_sync_each(blocks.clone()).await.unwrap_err();
        assert_eq!(blocks.1.load(Ordering::Relaxed), 0);
        assert_eq!(
            blocks.0.lock().unwrap().len(),
            1,
            "nothing is taken behind it"
        );
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
