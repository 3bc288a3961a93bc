//! A machine's `Durable` on the local disk, so that a restart replays only the rest.
//!
//! ```text
//! 0 magic 8 | 8 crc u32 | 12 kind length u32 | 16 kind | journal id 16 + 4
//!   | offset u64 | payload (postcard) to the end of the file
//! ```
//! The CRC-32C covers all behind it. An optimisation only: a file that is missing, torn,
//! of another kind or another journal is ignored, and the journal is replayed from its
//! start. Written beside the old one and renamed, so a crash leaves either.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_base::{Disk, Offset, OpenMode, TopicPartition};

const MAGIC: [u8; 8] = *b"WEIRSNP1";
const DIRECTORY: &str = "snapshots";

/// Names the files of one machine's snapshots.
#[derive(Debug, Clone)]
pub(super) struct SnapshotName {
    kind: &'static str,
    journal: TopicPartition,
}

impl SnapshotName {
    pub(super) fn new(kind: &'static str, journal: TopicPartition) -> Self {
        Self { kind, journal }
    }

    fn path(&self, ending: &str) -> String {
        format!("{DIRECTORY}/{}.{ending}", self.journal)
    }

    /// What the file must begin with, behind the checksum.
    fn label(&self) -> Vec<u8> {
        let length = u32::try_from(self.kind.len()).unwrap_or(u32::MAX);
        let mut label = length.to_be_bytes().to_vec();
        label.extend(self.kind.as_bytes());
        label.extend(self.journal.topic.0);
        label.extend(self.journal.index.0.to_be_bytes());
        label
    }

    /// The file's bytes for a state in which everything below `offset` is folded.
    pub(super) fn encode<D: Serialize>(&self, durable: &D, offset: Offset) -> Option<Bytes> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 4]);
        bytes.extend(self.label());
        bytes.extend(offset.0.to_be_bytes());
        let mut bytes = postcard::to_extend(durable, bytes).ok()?;
        let crc = crc32c::crc32c(&bytes[12..]).to_be_bytes();
        bytes[8..12].copy_from_slice(&crc);
        Some(bytes.into())
    }

    /// The state in `bytes`, if they are a whole snapshot of this machine and journal.
    pub(super) fn decode<D: DeserializeOwned>(&self, bytes: &[u8]) -> Option<(D, Offset)> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        if *magic != MAGIC || u32::from_be_bytes(*crc) != crc32c::crc32c(rest) {
            return None;
        }
        let (offset, payload) = rest
            .strip_prefix(&*self.label())?
            .split_first_chunk::<8>()?;
        let (durable, extra) = postcard::take_from_bytes(payload).ok()?;
        let offset = Offset(u64::from_be_bytes(*offset));
        extra.is_empty().then_some((durable, offset))
    }

    /// Reads the file; `None` if there is none to be used.
    pub(super) async fn read(self, disk: Arc<dyn Disk>, bytes_max: u64) -> Option<Bytes> {
        let read = async {
            let file = disk
                .open(&self.path("snapshot"), OpenMode::Existing)
                .await?;
            let size = file.size().await?;
            if size > bytes_max {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            let len = usize::try_from(size).map_err(io::Error::other)?;
            file.read_at(0, len).await
        };
        match read.await {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(journal = %self.journal, %error, "snapshot is not readable");
                None
            }
        }
    }

    /// Writes the file in place of an older one.
    pub(super) async fn write(self, disk: Arc<dyn Disk>, bytes: Bytes) {
        let written = async {
            let (new, place) = (self.path("new"), self.path("snapshot"));
            disk.create_directory_all(DIRECTORY).await?;
            let file = disk.open(&new, OpenMode::Create).await?;
            file.truncate(0).await?;
            file.write_at_and_sync(0, vec![bytes]).await?;
            disk.rename(&new, &place).await?;
            disk.sync_directory(DIRECTORY).await
        };
        if let Err(error) = written.await {
            // The journal holds everything; the next snapshot will be tried in its time.
            tracing::warn!(journal = %self.journal, %error, "snapshot was not written");
        }
    }

    /// Removes the file, if there is one.
    pub(super) async fn remove(self, disk: &dyn Disk) {
        match disk.remove_file(&self.path("snapshot")).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(journal = %self.journal, %error, "snapshot was not removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}
