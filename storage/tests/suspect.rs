//! When a start must say that its logs may end too early, and when it need not.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::Arc;

use support::{env, partition};
use weir_base::image::FlushMode;
use weir_base::{Disk, Entropy, LeaderEpoch, Offset, OpenMode, Timestamp};
use weir_storage::contract::batch;
use weir_storage::{Crash, LogConfig, PartitionLog, SimDisk, StartKind, Storage, StorageOptions};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// The file of the write-ahead log that a fresh directory uses first.
const WAL: &str = "wal/00000002.wal";
/// A group takes one block here; the first lies behind the file's head.
const BLOCK: u64 = 4096;

fn disk(seed: u8) -> SimDisk {
    SimDisk::new(&Entropy::from_seed([seed; 32]))
}

async fn open(disk: &SimDisk) -> Storage {
    let mut env = env(Arc::new(disk.handle(None)), 1);
    env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
    let options = StorageOptions {
        wal_file_bytes: 256 * 1024,
        wal_files_max: 3,
        checkpoint_bytes: 1 << 30,
        tail_cache_bytes: 0,
        reserve_bytes: 0,
        ..StorageOptions::default()
    };
    Storage::open(env, options).await.unwrap()
}

async fn log_at(storage: &Storage, index: u32) -> Arc<dyn PartitionLog> {
    let opened = storage.open_log(partition(index), LogConfig::default());
    opened.await.unwrap().0
}

async fn append(log: &dyn PartitionLog) {
    log.append_as_leader(LeaderEpoch(1), NOW, vec![batch(3)], FlushMode::Sync)
        .await
        .unwrap();
}

async fn durable(log: &dyn PartitionLog) {
    let mut positions = log.positions();
    let done = positions.wait_for(|position| position.durable_end == position.end);
    done.await.unwrap();
}

/// One acknowledged batch in each of `logs`, one group each, and then power loss, after
/// which the segments hold nothing of them.
async fn written(disk: &SimDisk, logs: u32) {
    let storage = open(disk).await;
    for index in 0..logs {
        let log = log_at(&storage, index).await;
        append(&*log).await;
        durable(&*log).await;
    }
    drop(storage);
    disk.crash(Crash::PowerLoss);
    for index in 0..logs {
        let path = format!("logs/{}/{:020}.segment", partition(index), 0);
        let file = disk.handle(None).open(&path, OpenMode::Existing);
        let file = file.await.unwrap();
        file.truncate(64).await.unwrap();
        file.sync_data().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_group_that_rotted_makes_a_suspect_until_it_was_told() {
    // In the record's head, its number, its frame, the batch.
    for at in [2, 9, 60, 200] {
        let disk = disk(1);
        written(&disk, 1).await;
        disk.flip_bit(WAL, BLOCK + at, 3).unwrap();
        // The first start recycles the evidence, and may end before anybody heard.
        for crash in [Crash::Process, Crash::PowerLoss] {
            let storage = open(&disk).await;
            assert_eq!(storage.start_kind(), StartKind::TailSuspect, "byte {at}");
            assert_eq!(log_at(&storage, 0).await.position().end, Offset(0));
            drop(storage);
            disk.crash(crash);
        }
        let storage = open(&disk).await;
        assert_eq!(storage.start_kind(), StartKind::TailSuspect);
        storage.start_told().await.unwrap();
        storage.shutdown_clean().await.unwrap();
        drop(storage);
        disk.crash(Crash::Process);
        assert_eq!(open(&disk).await.start_kind(), StartKind::Clean);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_only_batch_in_the_midst_is_noticed() {
    let disk = disk(2);
    written(&disk, 2).await;
    disk.flip_bit(WAL, BLOCK + 200, 3).unwrap();
    let storage = open(&disk).await;
    assert_eq!(log_at(&storage, 0).await.position().end, Offset(0));
    assert_eq!(log_at(&storage, 1).await.position().end, Offset(3));
    assert_eq!(storage.start_kind(), StartKind::TailSuspect);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_rotted_hides_a_file_and_is_noticed() {
    let disk = disk(3);
    written(&disk, 1).await;
    disk.flip_bit(WAL, 20, 3).unwrap();
    assert_eq!(open(&disk).await.start_kind(), StartKind::TailSuspect);
}

/// Under load, at any operation of the disk: what was acknowledged is there, or the start
/// says that it may not be. A tail that only a segment has torn makes no suspect.
#[tokio::test(start_paused = true)]
async fn power_loss_under_load_loses_nothing_acknowledged_and_seldom_makes_a_suspect() {
    let mut kinds = [0, 0];
    for operations in 0..100 {
        let disk = disk(operations);
        let storage = open(&disk).await;
        let log = log_at(&storage, 0).await;
        disk.crash_after(u64::from(operations % 40), Crash::PowerLoss);
        let mut failure = storage.failure();
        let load = async {
            loop {
                let appended = log.append_as_leader(
                    LeaderEpoch(1),
                    NOW,
                    vec![batch(40), batch(40)],
                    FlushMode::Sync,
                );
                if appended.await.is_err() {
                    return;
                }
                durable(&*log).await;
            }
        };
        tokio::select! {
            biased;
            lost = failure.wait_for(Option::is_some) => drop(lost),
            () = load => {}
        }
        let acknowledged = log.position().durable_end;
        drop((log, storage));
        let storage = open(&disk).await;
        let log = log_at(&storage, 0).await;
        assert!(log.position().end >= acknowledged, "operation {operations}");
        match storage.start_kind() {
            StartKind::Unclean => kinds[0] += 1,
            StartKind::TailSuspect => kinds[1] += 1,
            other @ (StartKind::Fresh | StartKind::Clean | StartKind::ProcessCrash) => {
                panic!("{other:?}")
            }
        }
    }
    let [intact, suspect] = kinds;
    assert!(intact > 80 && suspect > 0, "{kinds:?}");
}

/// A power loss that nobody was told of is not outshone by the process crash after it.
#[tokio::test(start_paused = true)]
async fn the_worst_start_counts_until_it_was_told() {
    let disk = disk(5);
    drop(open(&disk).await);
    disk.crash(Crash::PowerLoss);
    assert_eq!(open(&disk).await.start_kind(), StartKind::Unclean);
    disk.crash(Crash::Process);
    let storage = open(&disk).await;
    assert_eq!(storage.start_kind(), StartKind::Unclean);
    storage.start_told().await.unwrap();
    drop(storage);
    disk.crash(Crash::Process);
    assert_eq!(open(&disk).await.start_kind(), StartKind::ProcessCrash);
}
