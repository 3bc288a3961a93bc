//! Whether the machine rebooted since this node last ran: `metadata/boot`.
//!
//! Under the same boot id the page cache outlived the process, so nothing that was
//! written is lost, even if it was not flushed (reliability 8).

use std::io;

use bytes::Bytes;
use weir_base::{Disk, OpenMode};

use super::NodeFacts;
use crate::command::StartKind;

const PATH: &str = "metadata/boot";
/// Longest boot id that is read.
const BYTES_MAX: usize = 256;

/// Reads the last boot id, writes this one, and says how the node started.
pub(super) async fn start_kind(disk: &dyn Disk, me: &NodeFacts) -> io::Result<StartKind> {
    disk.create_directory_all("metadata").await?;
    disk.sync_directory("").await?;
    let last = match disk.open(PATH, OpenMode::Existing).await {
        Ok(file) => Some(file.read_at(0, BYTES_MAX).await?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let is_same = last.as_ref().is_some_and(|id| id == me.boot_id.as_bytes());
    if !is_same {
        let temporary = format!("{PATH}.tmp");
        let file = disk.open(&temporary, OpenMode::Create).await?;
        file.truncate(0).await?;
        let id = Bytes::copy_from_slice(me.boot_id.as_bytes());
        file.write_at(0, vec![id]).await?;
        file.sync_data().await?;
        disk.rename(&temporary, PATH).await?;
        disk.sync_directory("metadata").await?;
    }
    Ok(match me.start_kind {
        StartKind::Unclean if is_same && !me.boot_id.is_empty() => StartKind::SameBoot,
        kind @ (StartKind::Clean | StartKind::SameBoot | StartKind::Unclean) => kind,
    })
}
