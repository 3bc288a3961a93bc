//! The data directory: identity, starts, removal, and many logs sharing one commit.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use support::{env, partition};
use weir_base::batch::{BatchBuilder, Record};
use weir_base::image::FlushMode;
use weir_base::{Clock, Entropy, LeaderEpoch, Offset, Timestamp};
use weir_storage::contract::{batch, batches_of};
use weir_storage::{
    Crash, LogConfig, LogError, PartitionLog, SimDisk, SimFaults, StartKind, Storage,
    StorageOptions,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const ALL: Offset = Offset(u64::MAX);

fn options() -> StorageOptions {
    StorageOptions {
        wal_file_bytes: 64 * 1024,
        wal_files_max: 3,
        checkpoint_bytes: 64 * 1024,
        tail_cache_bytes: 0,
        reserve_bytes: 0,
        ..StorageOptions::default()
    }
}

fn disk() -> SimDisk {
    SimDisk::new(&Entropy::from_seed([5; 32]))
}

async fn open(disk: &SimDisk) -> Storage {
    let mut env = env(Arc::new(disk.handle(None)), 1);
    env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
    Storage::open(env, options()).await.unwrap()
}

async fn append(log: &dyn PartitionLog, records: usize, flush: FlushMode) {
    log.append_as_leader(LeaderEpoch(1), NOW, vec![batch(records)], flush)
        .await
        .unwrap();
}

async fn durable(log: &dyn PartitionLog) {
    let mut positions = log.positions();
    let done = positions.wait_for(|position| position.durable_end == position.end);
    done.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_directory_knows_itself_and_how_it_was_left() {
    let disk = disk();
    let storage = open(&disk).await;
    let identity = storage.identity();
    assert_eq!(storage.start_kind(), StartKind::Fresh);
    storage.shutdown_clean().await.unwrap();
    drop(storage);
    for (crash, kind) in [
        (Crash::Process, StartKind::Clean),
        (Crash::Process, StartKind::ProcessCrash),
        (Crash::PowerLoss, StartKind::Unclean),
    ] {
        disk.crash(crash);
        let storage = open(&disk).await;
        assert_eq!((storage.start_kind(), storage.identity()), (kind, identity));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_log_stays_away() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = storage
        .open_log(partition(0), LogConfig::default())
        .await
        .unwrap();
    append(&*log, 5, FlushMode::Sync).await;
    durable(&*log).await;
    assert_eq!(storage.list_logs().await.unwrap(), [partition(0)]);
    storage.remove_log(partition(0)).await.unwrap();
    storage.remove_log(partition(0)).await.unwrap();
    let closed = log.read(Offset(0), ALL, 100).await.unwrap_err();
    assert!(matches!(closed, LogError::Closed), "{closed}");
    // Made anew under the same name: the write-ahead log still has the old one's batches.
    let (log, report) = storage
        .open_log(partition(0), LogConfig::default())
        .await
        .unwrap();
    assert!(report.created);
    append(&*log, 2, FlushMode::Sync).await;
    durable(&*log).await;
    drop((log, storage));
    disk.crash(Crash::PowerLoss);
    let storage = open(&disk).await;
    let opened = storage.open_log(partition(0), LogConfig::default()).await;
    assert_eq!(opened.unwrap().1.end, Offset(2));
    let trash = |disk: &SimDisk| disk.files().iter().any(|path| path.starts_with("trash/"));
    assert!(trash(&disk), "deleted later, not now");
    let clock = support::TokioClock::start();
    for _ in 0..2 {
        let later = clock.now() + options().trash_retention + Duration::from_secs(1);
        clock.sleep_until(later).await;
    }
    assert!(!trash(&disk));
}

#[tokio::test(start_paused = true)]
async fn many_logs_share_a_commit_and_only_those_that_changed_are_woken() {
    const LOGS: u32 = 64;
    let disk = disk();
    let storage = open(&disk).await;
    let mut logs = Vec::new();
    for index in 0..=LOGS {
        let opened = storage.open_log(partition(index), LogConfig::default());
        logs.push(opened.await.unwrap().0);
    }
    let idle = logs.pop().unwrap();
    let mut idle_positions = idle.positions();
    idle_positions.borrow_and_update();
    disk.set_faults(SimFaults {
        latency_max: Duration::from_millis(2),
        ..SimFaults::default()
    });
    let before = storage.health().await.fsyncs;
    let mut tasks = tokio::task::JoinSet::new();
    for log in logs.clone() {
        tasks.spawn(async move {
            append(&*log, 1, FlushMode::Sync).await;
            durable(&*log).await;
        });
    }
    tasks.join_all().await;
    let fsyncs = storage.health().await.fsyncs - before;
    assert!(
        (1..u64::from(LOGS) / 4).contains(&fsyncs),
        "{fsyncs} fsyncs"
    );
    assert!(!idle_positions.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_restart_scans_what_a_checkpoint_left_however_long_the_log() {
    let disk = disk();
    let storage = open(&disk).await;
    let config = LogConfig {
        segment_bytes: 100_000,
        ..LogConfig::default()
    };
    let (log, _) = storage.open_log(partition(0), config).await.unwrap();
    for _ in 0..400 {
        append(&*log, 20, FlushMode::Sync).await;
        durable(&*log).await;
    }
    assert!(storage.health().await.wal_files_used <= 3);
    drop((log, storage));
    disk.crash(Crash::PowerLoss);
    let storage = open(&disk).await;
    let (log, report) = storage.open_log(partition(0), config).await.unwrap();
    assert_eq!(report.end, Offset(8000));
    // Three log files and the bytes of one checkpoint hold less than 130 batches.
    assert!(report.batches_scanned < 130, "{report:?}");
    let chunk = log.read(Offset(4010), ALL, 1).await.unwrap();
    assert_eq!((chunk.base, chunk.end), (Offset(4000), Offset(4020)));
}

#[tokio::test(start_paused = true)]
async fn an_async_append_is_flushed_by_itself_in_time() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = storage
        .open_log(partition(0), LogConfig::default())
        .await
        .unwrap();
    let clock = support::TokioClock::start();
    append(&*log, 1, FlushMode::Async).await;
    assert_eq!(log.position().durable_end, Offset(0));
    let began = clock.now();
    durable(&*log).await;
    let waited = clock.now().since(began);
    assert!(waited <= Duration::from_millis(101), "{waited:?}");
    // Many bytes do not wait for the interval.
    let began = clock.now();
    for _ in 0..30 {
        append(&*log, 100, FlushMode::Async).await;
    }
    let mut positions = log.positions();
    let some = positions.wait_for(|position| position.durable_end > Offset(1));
    some.await.unwrap();
    assert!(clock.now().since(began) < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn retention_frees_whole_segments() {
    let disk = disk();
    let storage = open(&disk).await;
    let config = LogConfig {
        segment_bytes: 3_000,
        retention_bytes: Some(5_000),
        retention: None,
        ..LogConfig::default()
    };
    let (log, _) = storage.open_log(partition(0), config).await.unwrap();
    for _ in 0..20 {
        append(&*log, 10, FlushMode::Sync).await;
    }
    durable(&*log).await;
    assert_eq!(storage.plan_retention(partition(0), Offset(5)), None);
    let start = storage.plan_retention(partition(0), Offset(200)).unwrap();
    let before = log.size_bytes();
    log.set_start(start).await.unwrap();
    assert!(log.size_bytes() < before && log.size_bytes() >= 5_000);
    assert_eq!(storage.plan_retention(partition(0), Offset(200)), None);
    drop((log, storage));
    disk.crash(Crash::PowerLoss);
    let storage = open(&disk).await;
    let (log, _) = storage.open_log(partition(0), config).await.unwrap();
    assert_eq!(
        (log.position().start, log.position().end),
        (start, Offset(200))
    );
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_the_latest_of_each_key_through_a_crash() {
    let disk = disk();
    let storage = open(&disk).await;
    let config = LogConfig {
        segment_bytes: 2_000,
        compact: true,
        retention: None,
        ..LogConfig::default()
    };
    let (log, _) = storage.open_log(partition(0), config).await.unwrap();
    for round in 0..60u32 {
        let key = [u8::try_from(round % 7).unwrap()];
        let value = round.to_be_bytes();
        let batch = BatchBuilder::new(NOW)
            .record(Some(&key), Some(&value))
            .record(None, Some(b"no key"))
            .build();
        log.append_as_leader(LeaderEpoch(1), NOW, vec![batch], FlushMode::Sync)
            .await
            .unwrap();
    }
    durable(&*log).await;
    let before = log.size_bytes();
    let report = storage.compact(partition(0), Offset(100)).await.unwrap();
    assert!(report.segments >= 3, "{report:?}");
    assert_eq!(log.size_bytes(), before - report.bytes_freed);
    let again = storage.compact(partition(0), Offset(100)).await.unwrap();
    assert_eq!(again.segments, 0);
    for _ in 0..2 {
        let (log, _) = storage_after_crash(&disk, config).await;
        let mut keyed = Vec::new();
        let mut unkeyed = 0;
        for record in records_of(&*log, Offset(120)).await {
            match record.key {
                Some(_) => keyed.push(record.offset.0),
                None => unkeyed += 1,
            }
        }
        assert_eq!(unkeyed, 60);
        // The last seven keyed records are the latest of each key.
        let latest: Vec<u64> = (53..60).map(|round| round * 2).collect();
        assert!(
            latest.iter().all(|offset| keyed.contains(offset)),
            "{keyed:?}"
        );
        assert!(keyed.len() < 30, "{keyed:?}");
    }
}

/// Rounds that know few keys change nothing of what the log says in the end, tombstones included,
/// wherever they stop.
#[tokio::test(start_paused = true)]
async fn compaction_ends_where_its_memory_does_and_goes_on_from_there() {
    let disk = disk();
    let storage = open(&disk).await;
    let config = LogConfig {
        segment_bytes: 2_000,
        compact: true,
        retention: None,
        tombstone_retention: Duration::ZERO,
        compaction_bytes_max: 120,
        ..LogConfig::default()
    };
    let (log, _) = storage.open_log(partition(0), config).await.unwrap();
    for round in 0..90u32 {
        let key = [u8::try_from(round % 7).unwrap()];
        let value = round.to_be_bytes();
        // Every third write deletes, so that old values of a deleted key lie before its tombstone.
        let value = (round % 3 > 0).then_some(&value[..]);
        let batch = BatchBuilder::new(NOW).record(Some(&key), value).build();
        log.append_as_leader(LeaderEpoch(1), NOW, vec![batch], FlushMode::Sync)
            .await
            .unwrap();
    }
    durable(&*log).await;
    let (before, _) = folded(&*log, 90).await;
    let (mut rounds, mut freed) = (0, 0);
    while rounds < 20 {
        let report = storage.compact(partition(0), Offset(90)).await.unwrap();
        let (now, _) = folded(&*log, 90).await;
        assert_eq!(now, before, "after {rounds} rounds");
        rounds += 1;
        freed += report.bytes_freed;
    }
    let (_, records) = folded(&*log, 90).await;
    assert!(freed > 0 && records < 60, "{records} records are left");
    let (log, _) = storage_after_crash(&disk, config).await;
    assert_eq!(folded(&*log, 90).await.0, before);
}

/// What each key says in the end, and how many records there are.
async fn folded(log: &dyn PartitionLog, end: u64) -> (BTreeMap<Vec<u8>, Vec<u8>>, usize) {
    let records = records_of(log, Offset(end)).await;
    let (mut state, count) = (BTreeMap::new(), records.len());
    for record in records {
        let key = record.key.unwrap().to_vec();
        match record.value {
            Some(value) => drop(state.insert(key, value.to_vec())),
            None => drop(state.remove(&key)),
        }
    }
    (state, count)
}

/// All records below `end`, of batches without gaps.
async fn records_of(log: &dyn PartitionLog, end: Offset) -> Vec<Record> {
    let (mut records, mut from) = (Vec::new(), Offset(0));
    while from < end {
        let chunk = log.read(from, ALL, 1 << 20).await.unwrap();
        for batch in batches_of(&chunk) {
            assert_eq!(batch.base_offset(), from, "no gaps");
            from = batch.end_offset();
            records.extend(batch.records().unwrap());
        }
    }
    records
}

async fn storage_after_crash(
    disk: &SimDisk,
    config: LogConfig,
) -> (Arc<dyn PartitionLog>, Storage) {
    disk.crash(Crash::PowerLoss);
    let storage = open(disk).await;
    let (log, _) = storage.open_log(partition(0), config).await.unwrap();
    (log, storage)
}
