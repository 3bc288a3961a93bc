//! A machine without a disk.

use std::io;
use std::sync::Arc;

use weir_base::{BoxFuture, Disk, DiskFile, OpenMode};
use weir_sim::cluster::MachineDisk;

/// Nothing here needs a disk.
pub(crate) struct NoDisk;

fn none<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
}

impl MachineDisk for NoDisk {
    fn on_kill(&self) {}
    fn on_power_loss(&self) {}
}

impl Disk for NoDisk {
    fn open(&self, _: &str, _: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        none()
    }
    fn rename(&self, _: &str, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn remove_file(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn remove_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn list(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        none()
    }
    fn sync_directory(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        none()
    }
    fn boot_id(&self) -> String {
        String::new()
    }
}
