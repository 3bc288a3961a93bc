//! Small files beside a segment that can be rebuilt or done without: checked by length
//! and CRC, and simply not there if anything is wrong with them.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_base::{Disk, OpenMode};

use crate::segment::frame::u32_at;

const HEAD_BYTES: usize = 12;
const MAGIC: u32 = u32::from_le_bytes(*b"WRS1");
/// The largest that is read back.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Writes `value` to `path`.
pub(crate) async fn store(
    disk: &Arc<dyn Disk>,
    path: &str,
    value: &impl Serialize,
) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Create).await?;
    file.write_at(0, vec![seal(value)?]).await
}

/// Writes `value` to `path`, durable on return but for its name.
pub(crate) async fn store_durably(
    disk: &Arc<dyn Disk>,
    path: &str,
    value: &impl Serialize,
) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Create).await?;
    file.write_at_and_sync(0, vec![seal(value)?]).await
}

/// What [`store`] wrote to `path`, if it is there and whole.
pub(crate) async fn load<T: DeserializeOwned>(disk: &Arc<dyn Disk>, path: &str) -> Option<T> {
    let file = disk.open(path, OpenMode::Existing).await.ok()?;
    let size = usize::try_from(file.size().await.ok()?).ok()?;
    let bytes = file.read_at(0, size.min(BYTES_MAX)).await.ok()?;
    open(&bytes)
}

/// `value` with its length and checksum in front.
pub(crate) fn seal(value: &impl Serialize) -> io::Result<Bytes> {
    let mut bytes = postcard::to_extend(value, vec![0; HEAD_BYTES]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - HEAD_BYTES).map_err(io::Error::other)?;
    let crc = crc32c::crc32c(&bytes[HEAD_BYTES..]);
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes.into())
}

/// The value that [`seal`] made `bytes` of; bytes behind it do not matter.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let head = bytes.get(..HEAD_BYTES)?;
    let length = u32_at(head, 4) as usize;
    let payload = bytes.get(HEAD_BYTES..)?.get(..length)?;
    let intact = u32_at(head, 0) == MAGIC && u32_at(head, 8) == crc32c::crc32c(payload);
    intact.then(|| postcard::from_bytes(payload).ok())?
}
