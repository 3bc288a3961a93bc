//! openraft's state machine: committed entries into the image, images into snapshots.
//!
//! The image itself is in memory; what is durable is the snapshot. A snapshot is
//! durable before the log behind it is purged, and one that does not read back refuses
//! the start (S-17): a voter with a wrong image could elect the wrong leaders.

use std::io::{self, Cursor};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};
use serde::{Deserialize, Serialize};
use weir_base::{ClusterImage, Disk, OpenMode};

use super::{Applied, Entry, LogId, Node, TypeConfig, frame};
use crate::command::Proposal;
use crate::image_store::ImageStore;

const DIRECTORY: &str = "metadata";
/// The `file` of a snapshot's only frame.
const SNAPSHOT: u64 = u64::MAX;

type Membership = StoredMembership<u64, Node>;
type Meta = SnapshotMeta<u64, Node>;

/// What lies in a snapshot file.
#[derive(Clone, Serialize, Deserialize)]
struct Saved {
    meta: Meta,
    /// A postcard [`ClusterImage`].
    image: Bytes,
}

/// See the module.
pub(crate) struct StateMachine {
    disk: Arc<dyn Disk>,
    store: Arc<ImageStore>,
    applied: Option<LogId>,
    membership: Membership,
    current: Option<Saved>,
}

impl StateMachine {
    /// Reads the newest snapshot into `store`.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` if the snapshot is damaged.
    pub(crate) async fn open(disk: Arc<dyn Disk>, store: Arc<ImageStore>) -> io::Result<Self> {
        disk.create_directory_all(DIRECTORY).await?;
        let mut names = disk.list(DIRECTORY).await?;
        names.retain(|name| name.starts_with("snapshot-"));
        let complete: Vec<&String> = names.iter().filter(|n| !n.ends_with(".tmp")).collect();
        let newest = complete.last().map(|name| (*name).clone());
        let current = match &newest {
            Some(name) => Some(read(&*disk, name).await?),
            None => None,
        };
        for name in names.iter().filter(|name| Some(*name) != newest.as_ref()) {
            disk.remove_file(&format!("{DIRECTORY}/{name}")).await?;
        }
        let mut machine = Self {
            disk,
            store,
            applied: None,
            membership: Membership::default(),
            current: None,
        };
        if let Some(saved) = current {
            machine.take(saved)?;
        }
        Ok(machine)
    }

    /// Makes a saved image the present one.
    fn take(&mut self, saved: Saved) -> io::Result<()> {
        let image: ClusterImage = postcard::from_bytes(&saved.image).map_err(invalid)?;
        self.store.install(image);
        self.applied = saved.meta.last_log_id;
        self.membership = saved.meta.last_membership.clone();
        self.current = Some(saved);
        Ok(())
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn read(disk: &dyn Disk, name: &str) -> io::Result<Saved> {
    let path = format!("{DIRECTORY}/{name}");
    let file = disk.open(&path, OpenMode::Existing).await?;
    let len = usize::try_from(file.size().await?).map_err(io::Error::other)?;
    let bytes = file.read_at(0, len).await?;
    let damaged = |detail: String| {
        let detail = format!(
            "{path} is damaged: {detail}. Restore the disk, or replace the node by one with a \
             new node id"
        );
        io::Error::new(io::ErrorKind::InvalidData, detail)
    };
    let scan = frame::scan(SNAPSHOT, &bytes).map_err(|e| damaged(e.to_string()))?;
    let payload = scan.payloads.first().cloned().unwrap_or_default();
    postcard::from_bytes(&payload).map_err(|e| damaged(e.to_string()))
}

/// Writes a snapshot; durable under its name on return, older ones gone.
async fn save(disk: &dyn Disk, saved: &Saved) -> io::Result<()> {
    let index = saved.meta.last_log_id.map_or(0, |id| id.index);
    let name = format!("snapshot-{index:016x}");
    let temporary = format!("{DIRECTORY}/{name}.tmp");
    let payload = postcard::to_stdvec(saved).map_err(io::Error::other)?;
    let bytes = frame::encode(SNAPSHOT, 0, 0, &payload).map_err(io::Error::other)?;
    let file = disk.open(&temporary, OpenMode::Create).await?;
    file.truncate(0).await?;
    file.write_at(0, vec![bytes]).await?;
    file.sync_data().await?;
    disk.rename(&temporary, &format!("{DIRECTORY}/{name}"))
        .await?;
    disk.sync_directory(DIRECTORY).await?;
    // Only older ones: a builder may end after a newer snapshot was installed.
    for old in disk.list(DIRECTORY).await? {
        if old.starts_with("snapshot-") && old < name && !old.ends_with(".tmp") {
            disk.remove_file(&format!("{DIRECTORY}/{old}")).await?;
        }
    }
    Ok(())
}

fn write_failed(error: &io::Error) -> StorageError<u64> {
    StorageError::from(StorageIOError::write_snapshot(None, error))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError<u64>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let empty = Proposal::default();
        let entries: Vec<Entry> = entries.into_iter().collect();
        for entry in &entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                self.membership = Membership::new(Some(entry.log_id), membership.clone());
            }
        }
        let proposals = entries.iter().map(|entry| match &entry.payload {
            EntryPayload::Normal(proposal) => (entry.log_id.index, proposal),
            EntryPayload::Blank | EntryPayload::Membership(_) => (entry.log_id.index, &empty),
        });
        let results = self.store.apply_all(proposals);
        Ok(results.into_iter().map(Applied).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            disk: self.disk.clone(),
            meta: Meta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
                snapshot_id: self
                    .applied
                    .map_or_else(String::new, |id| format!("{}-{}", id.leader_id, id.index)),
            },
            image: self.store.image(),
        }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let saved = Saved {
            meta: meta.clone(),
            image: Bytes::from(snapshot.into_inner()),
        };
        save(&*self.disk, &saved)
            .await
            .map_err(|e| write_failed(&e))?;
        self.take(saved).map_err(|e| {
            StorageError::from(StorageIOError::read_snapshot(Some(meta.signature()), &e))
        })
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        if let Some(saved) = newest(&*self.disk)
            .await
            .map_err(|e| StorageError::from(StorageIOError::read_snapshot(None, &e)))?
        {
            self.current = Some(saved);
        }
        Ok(self.current.as_ref().map(|saved| Snapshot {
            meta: saved.meta.clone(),
            snapshot: Box::new(Cursor::new(saved.image.to_vec())),
        }))
    }
}

/// The newest snapshot on disk: a builder may have written it since.
async fn newest(disk: &dyn Disk) -> io::Result<Option<Saved>> {
    let names = disk.list(DIRECTORY).await?;
    let newest = names
        .iter()
        .rfind(|n| n.starts_with("snapshot-") && !n.ends_with(".tmp"));
    match newest {
        Some(name) => read(disk, name).await.map(Some),
        None => Ok(None),
    }
}

/// Builds one snapshot of the image as it was when the builder was made.
pub(crate) struct Builder {
    disk: Arc<dyn Disk>,
    meta: Meta,
    image: Arc<ClusterImage>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let image =
            postcard::to_stdvec(&*self.image).map_err(|e| write_failed(&io::Error::other(e)))?;
        let saved = Saved {
            meta: self.meta.clone(),
            image: Bytes::from(image),
        };
        save(&*self.disk, &saved)
            .await
            .map_err(|e| write_failed(&e))?;
        Ok(Snapshot {
            meta: saved.meta,
            snapshot: Box::new(Cursor::new(saved.image.to_vec())),
        })
    }
}
