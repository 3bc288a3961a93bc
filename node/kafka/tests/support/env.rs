//! The machine's clock, sockets and tasks with fixed entropy and no disk.

use std::io;
use std::sync::Arc;

use weir_base::{BoxFuture, Disk, DiskFile, Entropy, Env, OpenMode, Tasks};
use weir_os::{OsClock, OsNet, OsSpawner};

/// An environment for fronts, which keep nothing on disk.
pub(crate) fn env() -> Env {
    Env {
        clock: Arc::new(OsClock::new()),
        entropy: Entropy::from_seed([7; 32]),
        disk: Arc::new(NoDisk),
        net: Arc::new(OsNet),
        tasks: Tasks::new(Arc::new(OsSpawner::aborting())),
    }
}

struct NoDisk;

fn unsupported<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
}

impl Disk for NoDisk {
    fn open(&self, _: &str, _: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        unsupported()
    }
    fn rename(&self, _: &str, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn remove_file(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn remove_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn list(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        unsupported()
    }
    fn sync_directory(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        unsupported()
    }
    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        unsupported()
    }
    fn boot_id(&self) -> String {
        "test".to_owned()
    }
}
