//! Files of a data directory, as a restart finds them.

use bytes::Bytes;
use weir_base::image::FlushMode;
use weir_base::{
    Disk, LeaderEpoch, Offset, OpenMode, RecordBatch, Timestamp, TopicPartition, Uuid,
};
use weir_storage::{Crash, LogConfig, LogError, PartitionLog, Storage, StorageOptions, contract};

use super::world::{self, World};

pub(super) const AT: TopicPartition = TopicPartition {
    topic: Uuid([9; 16]),
    index: weir_base::PartitionIndex(0),
};
const NOW: Timestamp = Timestamp(1_767_225_600_000);

/// The only segment of a log that was empty at the last checkpoint.
///
/// # Panics
/// If recovery fails other than by calling the log corrupt, if what it found cannot be
/// read, or if the next recovery finds something else.
pub fn segment_recovery(data: &[u8]) {
    world::run(|world| async move { recovery(&world, &segment_path(), data).await });
}

/// The file that the write-ahead log of such a directory uses first.
///
/// # Panics
/// As [`segment_recovery`].
pub fn wal_recovery(data: &[u8]) {
    world::run(|world| async move { recovery(&world, WAL_PATH, data).await });
}

const WAL_PATH: &str = "wal/00000002.wal";

fn segment_path() -> String {
    format!("logs/{AT}/{:020}.segment", 0)
}

async fn recovery(world: &World, path: &str, data: &[u8]) {
    let storage = open(world, "first").await;
    let made = storage.open_log(AT, LogConfig::default()).await;
    assert!(made.is_ok_and(|(_, report)| report.created));
    drop(storage);
    world.disk().crash(Crash::Process);
    write(world, path, data).await.expect("the disk is sound");
    let found = visit(world, "second", false).await;
    world.disk().crash(Crash::PowerLoss);
    let again = visit(world, "third", true).await;
    assert_eq!(found, again, "what was recovered is recovered again");
}

async fn write(world: &World, path: &str, data: &[u8]) -> std::io::Result<()> {
    let file = world
        .disk()
        .handle(None)
        .open(path, OpenMode::Existing)
        .await?;
    file.truncate(0).await?;
    let data = Bytes::copy_from_slice(data);
    file.write_at_and_sync(0, vec![data]).await
}

async fn read(world: &World, path: &str) -> std::io::Result<Vec<u8>> {
    let file = world
        .disk()
        .handle(None)
        .open(path, OpenMode::Existing)
        .await?;
    let size = usize::try_from(file.size().await?).unwrap_or(usize::MAX);
    let mut bytes = file.read_at(0, size).await?.to_vec();
    let used = bytes.iter().rposition(|byte| *byte != 0);
    bytes.truncate(used.map_or(0, |last| last + 1));
    Ok(bytes)
}

async fn open(world: &World, process: &str) -> Storage {
    let options = StorageOptions {
        wal_file_bytes: 64 * 1024,
        wal_files_max: 3,
        tail_cache_bytes: 0,
        reserve_bytes: 0,
        ..StorageOptions::default()
    };
    let opened = Storage::open(world.env(process), options).await;
    opened.expect("only a log can be corrupt")
}

/// The log's batches back to back, as the next process finds them; `None` if it must be
/// repaired from a peer. If asked to, appends one behind them.
async fn visit(world: &World, process: &str, append: bool) -> Option<Vec<u8>> {
    let storage = open(world, process).await;
    let (log, report) = match storage.open_log(AT, LogConfig::default()).await {
        Ok(opened) => opened,
        Err(LogError::Corrupt { .. }) => return None,
        Err(other) => panic!("recovery: {other}"),
    };
    let position = log.position();
    assert!(position.start <= position.end);
    assert_eq!(
        (position.durable_end, position.end),
        (report.end, report.end)
    );
    let bytes = content(&*log).await;
    log.end_of_epoch(position.last_epoch);
    log.producers();
    let newest = log.newest_timestamp().map_or(NOW, |(_, at)| at);
    for at in [Timestamp(i64::MIN), newest] {
        // Records are first looked into here: a batch whose checksum holds may have bad ones.
        drop(log.offset_at_time(at, position.end).await);
    }
    if append {
        grow(&*log, FlushMode::Sync, contract::batch(2)).await;
        let grown = log.read(position.end, log.position().end, 1).await;
        assert!(grown.is_ok_and(|chunk| chunk.end == position.end + 2));
    }
    Some(bytes)
}

async fn grow(log: &dyn PartitionLog, flush: FlushMode, batch: RecordBatch) {
    let epoch = log.position().last_epoch.max(LeaderEpoch(1));
    let appended = log.append_as_leader(epoch, NOW, vec![batch], flush).await;
    assert!(appended.is_ok(), "{appended:?}");
    let mut positions = log.positions();
    let durable = positions.wait_for(|position| position.durable_end == position.end);
    assert!(durable.await.is_ok());
}

async fn content(log: &dyn PartitionLog) -> Vec<u8> {
    let position = log.position();
    let mut bytes = Vec::new();
    let mut from = position.start;
    while from < position.end {
        let chunk = log.read(from, position.end, 1 << 20).await;
        let chunk = chunk.expect("what was recovered can be read");
        assert!(chunk.end > from, "reading gets on");
        let chunk_bytes = Bytes::from(chunk.chunks.concat());
        let batches = RecordBatch::parse_all(chunk_bytes.clone());
        for batch in batches.expect("a chunk is whole batches") {
            assert_eq!(batch.base_offset(), from, "no gaps");
            from = batch.end_offset();
        }
        assert_eq!(from, chunk.end);
        bytes.extend_from_slice(&chunk_bytes);
    }
    bytes
}

/// The file that a log with some batches leaves, without the zeros behind it: its
/// segment, or the write-ahead log.
pub(super) fn written(flush: FlushMode, batches: Vec<RecordBatch>) -> Vec<u8> {
    let (sender, receiver) = std::sync::mpsc::channel();
    world::run(|world| async move {
        let storage = open(&world, "first").await;
        let opened = storage.open_log(AT, LogConfig::default()).await;
        let (log, _) = opened.expect("a log is made");
        for batch in batches {
            grow(&*log, flush, batch).await;
        }
        let path = match flush {
            FlushMode::Sync => WAL_PATH.to_owned(),
            FlushMode::Async => segment_path(),
        };
        assert!(log.position().end > Offset::ZERO);
        let bytes = read(&world, &path).await.expect("the file is there");
        sender.send(bytes).ok();
    });
    receiver.recv().unwrap_or_default()
}
