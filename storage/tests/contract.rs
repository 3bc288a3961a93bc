//! The contract suite on every log there is.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::Arc;

use support::{env, partition};
use weir_base::{Disk, Entropy};
use weir_os::disk::OsDisk;
use weir_storage::contract::{LOGS_WANTED, check_all};
use weir_storage::{LogConfig, MemLog, PartitionLog, SimDisk, Storage, StorageOptions};

/// Small files, so that the checks cross their ends.
fn options(tail_cache_bytes: usize) -> StorageOptions {
    StorageOptions {
        wal_file_bytes: 64 * 1024,
        wal_files_max: 3,
        checkpoint_bytes: 64 * 1024,
        tail_cache_bytes,
        reserve_bytes: 0,
        ..StorageOptions::default()
    }
}

async fn check_disk_logs(disk: Arc<dyn Disk>, options: StorageOptions, segment_bytes: u64) {
    let storage = Storage::open(env(disk, 1), options).await.unwrap();
    let config = LogConfig {
        segment_bytes,
        ..LogConfig::default()
    };
    let mut logs = Vec::new();
    for index in 0..LOGS_WANTED {
        let partition = partition(u32::try_from(index).unwrap());
        let (log, report) = storage.open_log(partition, config).await.unwrap();
        assert!(report.created);
        logs.push(log);
    }
    check_all(logs).await;
    storage.shutdown_clean().await.unwrap();
}

#[tokio::test]
async fn the_log_in_memory() {
    let log = || Arc::new(MemLog::new()) as Arc<dyn PartitionLog>;
    check_all((0..LOGS_WANTED).map(|_| log()).collect()).await;
}

#[tokio::test]
async fn the_disk_log_on_files() {
    for (cache, segment_bytes) in [(1 << 20, 1 << 20), (0, 1 << 20), (0, 300)] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(OsDisk::open(directory.path()).unwrap());
        check_disk_logs(disk, options(cache), segment_bytes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_disk_log_on_a_simulated_disk() {
    for (cache, segment_bytes) in [(1 << 20, 1 << 20), (0, 1 << 20), (0, 300)] {
        let disk = SimDisk::new(&Entropy::from_seed([1; 32]));
        check_disk_logs(Arc::new(disk), options(cache), segment_bytes).await;
    }
}
