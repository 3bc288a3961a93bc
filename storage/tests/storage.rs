//! The data directory: identity, starts, removal, and many logs sharing one commit.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{env, partition};
use weir_base::image::FlushMode;
use weir_base::{Clock, Entropy, LeaderEpoch, Offset, Timestamp};
use weir_storage::contract::batch;
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
