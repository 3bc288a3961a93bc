//! The write-ahead log's files while they are made ready: what a crash and a full disk do.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{env, partition};
use weir_base::image::FlushMode;
use weir_base::{Disk, Entropy, Env, FaultClass, LeaderEpoch, OpenMode, Timestamp};
use weir_storage::contract::batch;
use weir_storage::{
    Crash, LogConfig, LogError, PartitionLog, RecoveredTail, SimDisk, SimFaults, StartKind,
    Storage, StorageOptions,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const FILE_BYTES: usize = 256 * 1024;

fn disk(seed: u8) -> SimDisk {
    SimDisk::new(&Entropy::from_seed([seed; 32]))
}

fn world(disk: &SimDisk) -> Env {
    let mut env = env(Arc::new(disk.handle(None)), 1);
    env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
    env
}

async fn open(env: Env) -> Storage {
    let options = StorageOptions {
        wal_file_bytes: FILE_BYTES as u64,
        wal_files_max: 4,
        checkpoint_bytes: 1 << 30,
        tail_cache_bytes: 0,
        reserve_bytes: 0,
        ..StorageOptions::default()
    };
    Storage::open(env, options).await.unwrap()
}

async fn log(storage: &Storage) -> (Arc<dyn PartitionLog>, RecoveredTail) {
    let opened = storage.open_log(partition(0), LogConfig::default());
    let (log, report) = opened.await.unwrap();
    (log, report.tail)
}

async fn append(log: &dyn PartitionLog) -> Result<(), LogError> {
    let batches = vec![batch(3)];
    log.append_as_leader(LeaderEpoch(1), NOW, batches, FlushMode::Sync)
        .await
        .map(drop)
}

/// Waits until all is durable, or the disk is gone.
async fn settle(log: &dyn PartitionLog, storage: &Storage) {
    let mut positions = log.positions();
    let mut failure = storage.failure();
    tokio::select! {
        biased;
        _ = failure.wait_for(Option::is_some) => {}
        _ = positions.wait_for(|position| position.durable_end == position.end) => {}
    }
}

/// The length of a file.
async fn bytes_in(disk: &SimDisk, path: &str) -> u64 {
    let file = disk.handle(None).open(path, OpenMode::Existing).await;
    file.unwrap().size().await.unwrap()
}

/// At any operation of the disk while the second file is filled: what the crash leaves of
/// its zeros is no record, torn or whole, and the acknowledged batch is there.
#[tokio::test(start_paused = true)]
async fn a_crash_while_a_file_is_filled_leaves_a_clean_end() {
    let mut in_the_midst = 0;
    for seed in 0..8 {
        for after in 0..16 {
            let disk = disk(seed);
            let env = world(&disk);
            let storage = open(env.clone()).await;
            let (first, _) = log(&storage).await;
            disk.set_faults(SimFaults {
                latency_max: Duration::from_millis(2),
                ..SimFaults::default()
            });
            disk.crash_after(after, Crash::PowerLoss);
            append(&*first).await.ok();
            settle(&*first, &storage).await;
            env.sleep(Duration::from_millis(20)).await;
            let told = first.position().durable_end;
            in_the_midst += u64::from(told.0 == 3 && disk.crashes() == 1);
            drop((first, storage));
            disk.call_off_crash();
            disk.set_faults(SimFaults::default());
            disk.crash(Crash::PowerLoss);

            let storage = open(world(&disk)).await;
            let (second, tail) = log(&storage).await;
            assert!(second.position().end >= told, "seed {seed} after {after}");
            if told.0 == 3 {
                assert_eq!(
                    storage.start_kind(),
                    StartKind::Unclean,
                    "seed {seed} after {after}: nothing was written behind what was told"
                );
                assert_eq!(tail, RecoveredTail::Clean, "seed {seed} after {after}");
            }
            append(&*second).await.unwrap();
            settle(&*second, &storage).await;
            assert_eq!(
                second.position().durable_end,
                second.position().end,
                "seed {seed} after {after}"
            );
        }
    }
    assert!(in_the_midst > 8, "{in_the_midst} crashes behind the commit");
}

/// A disk without room for a further file of the log, nor for the checkpoint that would free
/// one: appends are refused in a way that invites another try, and taken again when there
/// is room, without a restart. What was taken before is there.
#[tokio::test(start_paused = true)]
async fn a_disk_too_full_to_prepare_a_file_refuses_until_there_is_room() {
    let disk = disk(1);
    let env = world(&disk);
    let storage = open(env.clone()).await;
    let (first, _) = log(&storage).await;
    append(&*first).await.unwrap();
    settle(&*first, &storage).await;
    disk.set_faults(SimFaults {
        capacity_bytes: Some(disk.used_bytes()),
        ..SimFaults::default()
    });
    let mut taken = 1;
    let error = loop {
        match append(&*first).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        // Each in a block of its own.
        env.sleep(Duration::from_millis(1)).await;
        assert!(taken < 1000, "the log has room for 126 blocks");
    };
    assert!(matches!(error, LogError::DiskFull), "{error}");
    assert_eq!(error.class(), FaultClass::Retry);
    assert!(taken > 100, "{taken}");
    env.sleep(Duration::from_secs(30)).await;
    let still = append(&*first).await.unwrap_err();
    assert!(matches!(still, LogError::DiskFull), "{still}");
    assert!(storage.health().await.failure.is_none());

    disk.set_faults(SimFaults::default());
    env.sleep(Duration::from_secs(2)).await;
    append(&*first).await.unwrap();
    settle(&*first, &storage).await;
    let end = first.position().durable_end;
    assert_eq!(end.0, 3 * (taken + 1));
    drop((first, storage));
    disk.crash(Crash::PowerLoss);
    let storage = open(world(&disk)).await;
    assert_eq!(log(&storage).await.0.position().end, end);
}

/// Groups fill files to the brim, one that is larger than a file has one for itself, and all
/// of it is read back, in order.
#[tokio::test(start_paused = true)]
async fn groups_of_any_size_find_their_file() {
    let disk = disk(2);
    let storage = open(world(&disk)).await;
    let (first, _) = log(&storage).await;
    let value = |bytes: usize| {
        let value = vec![7; bytes];
        weir_base::batch::BatchBuilder::new(NOW)
            .record(None, Some(&value))
            .build()
    };
    let sizes = [
        1000,
        FILE_BYTES - 9000,
        100,
        100_000,
        2 * FILE_BYTES,
        5,
        70_000,
    ];
    for bytes in sizes {
        let batches = vec![value(bytes)];
        let appended = first.append_as_leader(LeaderEpoch(1), NOW, batches, FlushMode::Sync);
        appended.await.unwrap();
        settle(&*first, &storage).await;
    }
    assert_eq!(first.position().durable_end.0, sizes.len() as u64);
    let longest = disk
        .files()
        .into_iter()
        .filter(|path| path.ends_with(".wal"));
    let mut grown = 0;
    for path in longest {
        grown += u64::from(bytes_in(&disk, &path).await > FILE_BYTES as u64);
    }
    assert_eq!(grown, 1, "one file grew for the group that no file holds");
    drop((first, storage));
    disk.crash(Crash::PowerLoss);
    let storage = open(world(&disk)).await;
    assert_eq!(storage.start_kind(), StartKind::Unclean);
    assert_eq!(log(&storage).await.0.position().end.0, sizes.len() as u64);
}
