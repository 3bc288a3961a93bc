//! A disk in memory that forgets what was not synced, when told to crash. A failed sync is
//! told once: what it was to cover can be read, and no later sync saves it (S-41).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use weir_base::{BoxFuture, Disk, DiskFile, OpenMode};

#[derive(Default, Clone)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Bytes of `now` that a sync is to save, and whether the length is to be, too.
    dirty: BTreeSet<usize>,
    resized: bool,
}

impl Content {
    fn resize(&mut self, len: usize) {
        self.dirty.retain(|at| *at < len);
        self.dirty.extend(self.now.len()..len);
        self.now.resize(len, 0);
        self.resized = true;
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.resized) {
            self.synced.resize(self.now.len(), 0);
        }
        for at in std::mem::take(&mut self.dirty) {
            if self.synced.len() <= at {
                self.synced.resize(at + 1, 0);
            }
            self.synced[at] = self.now[at];
        }
    }
}

type FileRef = Arc<Mutex<Content>>;

#[derive(Default)]
struct Tree {
    now: BTreeMap<String, FileRef>,
    synced: BTreeMap<String, FileRef>,
    fail_sync: bool,
    /// Syncs of names are those that a process did not live to make.
    lose_name_syncs: bool,
}

#[derive(Default, Clone)]
pub(crate) struct MemoryDisk(Arc<Mutex<Tree>>);

impl MemoryDisk {
    /// Power loss: back to what was synced, names and bytes.
    pub(crate) fn crash(&self) {
        let mut tree = self.0.lock().unwrap();
        tree.now = tree.synced.clone();
        for file in tree.now.values() {
            let mut content = file.lock().unwrap();
            content.now = content.synced.clone();
            content.dirty.clear();
            content.resized = false;
        }
    }

    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.0.lock().unwrap().fail_sync = fail;
    }

    pub(crate) fn lose_name_syncs(&self, lose: bool) {
        self.0.lock().unwrap().lose_name_syncs = lose;
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().now.keys().cloned().collect()
    }

    /// Changes bytes of a file behind everyone's back, durably.
    pub(crate) fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.0.lock().unwrap().now[path].clone();
        let mut content = file.lock().unwrap();
        change(&mut content.now);
        content.synced = content.now.clone();
        content.dirty.clear();
    }
}

fn done<T: Send + 'static>(result: io::Result<T>) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(std::future::ready(result))
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

struct MemoryFile(FileRef, Arc<Mutex<Tree>>);

impl Disk for MemoryDisk {
    fn open(
        &self,
        path: &str,
        mode: OpenMode,
    ) -> BoxFuture<'static, io::Result<Arc<dyn DiskFile>>> {
        let mut tree = self.0.lock().unwrap();
        let there = tree.now.get(path).cloned();
        let file = match (there, mode) {
            (Some(_), OpenMode::CreateNew) => {
                return done(Err(io::Error::from(io::ErrorKind::AlreadyExists)));
            }
            (Some(file), OpenMode::Existing | OpenMode::Create) => file,
            (None, OpenMode::Existing) => return done(Err(not_found())),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let file = FileRef::default();
                tree.now.insert(path.to_owned(), file.clone());
                file
            }
        };
        done(Ok(Arc::new(MemoryFile(file, self.0.clone()))))
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        let mut tree = self.0.lock().unwrap();
        let Some(file) = tree.now.remove(from) else {
            return done(Err(not_found()));
        };
        tree.now.insert(to.to_owned(), file);
        done(Ok(()))
    }

    fn remove_file(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        let removed = self.0.lock().unwrap().now.remove(path);
        done(removed.map(drop).ok_or_else(not_found))
    }

    fn remove_directory_all(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        let prefix = format!("{path}/");
        let mut tree = self.0.lock().unwrap();
        tree.now.retain(|name, _| !name.starts_with(&prefix));
        done(Ok(()))
    }

    fn create_directory_all(&self, _: &str) -> BoxFuture<'static, io::Result<()>> {
        done(Ok(()))
    }

    fn list(&self, path: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        let tree = self.0.lock().unwrap();
        let names = tree.now.keys().filter(|name| directory_of(name) == path);
        done(Ok(names
            .map(|name| name.rsplit('/').next().unwrap().to_owned())
            .collect()))
    }

    fn sync_directory(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        let mut tree = self.0.lock().unwrap();
        if tree.fail_sync {
            return done(Err(io::Error::other("injected")));
        }
        if tree.lose_name_syncs {
            return done(Ok(()));
        }
        tree.synced.retain(|name, _| directory_of(name) != path);
        let now: Vec<_> = tree
            .now
            .iter()
            .filter(|(name, _)| directory_of(name) == path)
            .map(|(name, file)| (name.clone(), file.clone()))
            .collect();
        tree.synced.extend(now);
        done(Ok(()))
    }

    fn space(&self) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        done(Ok((1 << 40, 1 << 40)))
    }

    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, chunks: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let mut content = self.0.lock().unwrap();
        let mut at = usize::try_from(offset).unwrap();
        for chunk in chunks {
            let end = at + chunk.len();
            if content.now.len() < end {
                content.resize(end);
            }
            content.now[at..end].copy_from_slice(&chunk);
            content.dirty.extend(at..end);
            at = end;
        }
        done(Ok(()))
    }

    fn write_at_and_sync(
        &self,
        offset: u64,
        chunks: Vec<Bytes>,
    ) -> BoxFuture<'static, io::Result<()>> {
        // Both complete when they are called.
        drop(self.write_at(offset, chunks));
        self.sync_data()
    }

    fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let content = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap().min(content.now.len());
        let end = (start + len).min(content.now.len());
        done(Ok(Bytes::copy_from_slice(&content.now[start..end])))
    }

    fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
        let mut content = self.0.lock().unwrap();
        if self.1.lock().unwrap().fail_sync {
            content.dirty.clear();
            content.resized = false;
            return done(Err(io::Error::other("injected")));
        }
        content.sync();
        done(Ok(()))
    }

    fn allocate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let mut content = self.0.lock().unwrap();
        let len = usize::try_from(len).unwrap();
        if content.now.len() < len {
            content.resize(len);
        }
        done(Ok(()))
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        let len = usize::try_from(len).unwrap();
        self.0.lock().unwrap().resize(len);
        done(Ok(()))
    }

    fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
        let len = self.0.lock().unwrap().now.len();
        done(Ok(u64::try_from(len).unwrap()))
    }
}
