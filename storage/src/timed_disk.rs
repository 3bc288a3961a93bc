//! A disk whose fsyncs and writes count in the health of a data directory.
//!
//! For those who write beside the logs: the metadata group's log is no partition's, and
//! the disk it waits for is the same (S-47). Passes everything on as it is. `Storage`
//! gives it out; nothing of it outlives a crash.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use weir_base::{BoxFuture, CacheHint, Clock, Disk, DiskFile, OpenMode};

use crate::health::Health;

/// The disk.
pub(crate) struct TimedDisk {
    disk: Arc<dyn Disk>,
    times: Times,
}

#[derive(Clone)]
struct Times {
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
}

impl Times {
    /// Times an fsync that was asked for just now.
    fn sync(
        &self,
        operation: BoxFuture<'static, io::Result<()>>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let running = self.health.begins(self.clock.now());
        let clock = self.clock.clone();
        Box::pin(async move {
            let result = operation.await;
            running.synced(clock.now(), result.is_ok());
            result
        })
    }

    /// Times a write that was asked for just now.
    fn write(
        &self,
        operation: BoxFuture<'static, io::Result<()>>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let running = self.health.begins(self.clock.now());
        Box::pin(async move {
            let result = operation.await;
            drop(running);
            result
        })
    }
}

impl TimedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, health: Arc<Health>) -> Self {
        let times = Times { clock, health };
        Self { disk, times }
    }
}

impl Disk for TimedDisk {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        let opening = self.disk.open(path, mode);
        let times = self.times.clone();
        Box::pin(async move {
            let file = opening.await?;
            Ok(Arc::new(TimedFile { file, times }) as Arc<dyn DiskFile>)
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.disk.remove_file(path)
    }

    fn remove_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.disk.remove_directory_all(path)
    }

    fn create_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.disk.create_directory_all(path)
    }

    fn list(&self, path: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        self.disk.list(path)
    }

    fn sync_directory(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.times.sync(self.disk.sync_directory(path))
    }

    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        self.disk.space()
    }

    fn boot_id(&self) -> String {
        self.disk.boot_id()
    }
}

struct TimedFile {
    file: Arc<dyn DiskFile>,
    times: Times,
}

impl DiskFile for TimedFile {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        self.times.write(self.file.write_at(offset, chunks))
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.file.read_at(offset, len)
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.times.sync(self.file.write_at_and_sync(offset, chunks))
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        self.times.sync(self.file.sync_data())
    }

    fn write_back(&self, offset: u64, len: u64, hint: CacheHint) -> BoxFuture<'static, ()> {
        self.file.write_back(offset, len, hint)
    }

    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.file.truncate(len)
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        self.file.size()
    }
}
