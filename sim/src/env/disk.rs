//! The simulated disk with every change on record: two runs that are equal on the wire
//! and differ on disk are not equal.
//!
//! Where a process is to be killed at something that it writes, this is where it is seen
//! (`tripwire.rs`). The faults themselves are [`weir_storage::SimDisk`]'s; its header is their model.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use weir_base::{BoxFuture, Disk, DiskFile, NodeId, OpenMode};

use super::tripwire::{Tripwire, Verdict};
use crate::trace::Trace;

/// Where the files of write-ahead logs are.
const WAL: &str = "wal/";

/// Records what a node does to its disk, and does it.
pub struct TracedDisk {
    node: NodeId,
    trace: Trace,
    wire: Tripwire,
    disk: Arc<dyn Disk>,
}

impl TracedDisk {
    /// `node`'s `disk`, on record in `trace` and behind `wire`.
    #[must_use]
    pub fn new(node: NodeId, trace: Trace, wire: Tripwire, disk: Arc<dyn Disk>) -> Self {
        Self {
            node,
            trace,
            wire,
            disk,
        }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(&self.node, what);
    }
}

impl Disk for TracedDisk {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        let (node, trace, path) = (self.node, self.trace.clone(), path.to_owned());
        let wire = path.starts_with(WAL).then(|| self.wire.clone());
        let opening = self.disk.open(&path, mode);
        Box::pin(async move {
            let file = opening.await;
            let told = file.as_ref().map(|_| ()).map_err(io::Error::kind);
            trace.note(&node, format_args!("open {path} {mode:?} {told:?}"));
            Ok(Arc::new(TracedFile {
                node,
                trace,
                path,
                wire,
                file: file?,
            }) as Arc<dyn DiskFile>)
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("rename {from} {to}"));
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("remove {path}"));
        self.disk.remove_file(path)
    }

    fn remove_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("remove directory {path}"));
        self.disk.remove_directory_all(path)
    }

    fn create_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("create directory {path}"));
        self.disk.create_directory_all(path)
    }

    fn list(&self, path: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        self.disk.list(path)
    }

    fn sync_directory(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("sync directory {path}"));
        self.disk.sync_directory(path)
    }

    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        self.disk.space()
    }

    fn boot_id(&self) -> String {
        self.disk.boot_id()
    }
}

struct TracedFile {
    node: NodeId,
    trace: Trace,
    path: String,
    /// Of a write-ahead log's.
    wire: Option<Tripwire>,
    file: Arc<dyn DiskFile>,
}

impl TracedFile {
    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace
            .note(&self.node, format_args!("{what} {}", self.path));
    }

    fn note_write(&self, verb: &str, offset: u64, chunks: &[Bytes]) {
        let what = format_args!("{verb} {} at {offset}", self.path);
        self.trace.note_bytes(&self.node, what, chunks);
    }
}

impl DiskFile for TracedFile {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        self.note_write("write", offset, &chunks);
        self.file.write_at(offset, chunks)
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let wire = self.wire.as_ref();
        let verdict = wire.map_or(Verdict::Go, |wire| wire.on_write(self.node, &chunks));
        if verdict == Verdict::Withhold {
            return Box::pin(std::future::pending());
        }
        self.note_write("write and sync", offset, &chunks);
        let writing = self.file.write_at_and_sync(offset, chunks);
        match verdict {
            Verdict::Go | Verdict::Withhold => writing,
            Verdict::Mute => Box::pin(async move {
                drop(writing.await);
                std::future::pending().await
            }),
        }
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.file.read_at(offset, len)
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("sync"));
        self.file.sync_data()
    }

    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("allocate {len}"));
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.note(format_args!("truncate to {len}"));
        self.file.truncate(len)
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        self.file.size()
    }
}
