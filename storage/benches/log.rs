//! Appending, committing, reading and recovering on a real disk.
//!
//! `cargo bench -p weir-storage`; see the room's README for how to read it. The data lies
//! in a temporary directory: set `TMPDIR` to measure another file system.

#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::print_stdout, reason = "a bench prints what it found")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{env, partition};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weir_base::batch::BatchBuilder;
use weir_base::image::FlushMode;
use weir_base::{Disk, LeaderEpoch, Offset, OpenMode, RecordBatch, Timestamp, WriteSource};
use weir_os::disk::OsDisk;
use weir_storage::{LogConfig, PartitionLog, Storage, StorageOptions};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
}

fn batch(records: usize, value_bytes: usize) -> RecordBatch {
    let value = vec![7; value_bytes];
    (0..records)
        .fold(BatchBuilder::new(NOW), |b, _| b.record(None, Some(&value)))
        .build()
}

struct Node {
    _directory: TempDir,
    disk: Arc<OsDisk>,
    storage: Storage,
    logs: Vec<Arc<dyn PartitionLog>>,
}

async fn node(logs: u32, options: StorageOptions) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(OsDisk::open(directory.path()).unwrap());
    let storage = Storage::open(env(disk.clone(), 1), options).await.unwrap();
    let mut opened = Vec::new();
    for index in 0..logs {
        let log = storage.open_log(partition(index), LogConfig::default());
        opened.push(log.await.unwrap().0);
    }
    Node {
        _directory: directory,
        disk,
        storage,
        logs: opened,
    }
}

async fn append(log: &dyn PartitionLog, batch: RecordBatch, flush: FlushMode) {
    log.append_as_leader(LeaderEpoch(1), NOW, vec![batch], flush)
        .await
        .unwrap();
}

/// `rounds` durable appends by each of `logs` writers, and how long they took.
async fn commit(node: &Node, writers: usize, rounds: u64, batch: &RecordBatch) -> Duration {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for log in node.logs.iter().take(writers).cloned() {
        let batch = batch.clone();
        tasks.spawn(async move {
            let mut positions = log.positions();
            for _ in 0..rounds {
                append(&*log, batch.clone(), FlushMode::Sync).await;
                let end = log.position().end;
                let durable = positions.wait_for(|p| p.durable_end >= end).await;
                assert!(durable.is_ok());
            }
        });
    }
    tasks.join_all().await;
    began.elapsed()
}

fn group_commit(c: &mut Criterion) {
    let runtime = runtime();
    let node = runtime.block_on(node(64, StorageOptions::default()));
    let batch = batch(1, 1024);
    let mut group = c.benchmark_group("group_commit_1KiB");
    for writers in [1, 16, 64] {
        let mut elapsed = Duration::ZERO;
        let before = runtime.block_on(node.storage.health()).fsyncs;
        group.throughput(Throughput::Elements(writers as u64));
        group.bench_function(format!("{writers}_writers"), |b| {
            b.iter_custom(|rounds| {
                let took = runtime.block_on(commit(&node, writers, rounds, &batch));
                elapsed += took;
                took
            });
        });
        let health = runtime.block_on(node.storage.health());
        // To be held against the rate of `raw_write_and_fdatasync`.
        let rate = (health.fsyncs - before) as f64 / elapsed.as_secs_f64();
        let p99 = health.fsync_p99.unwrap_or_default();
        println!("{rate:.0} fsyncs/s, p99 {p99:?}");
    }
    group.finish();
}

/// One write to be committed.
struct One(Mutex<Option<(u64, Vec<Bytes>)>>);

impl WriteSource for One {
    fn next(&self) -> Option<(u64, Vec<Bytes>)> {
        self.0.lock().unwrap().take()
    }

    fn synced(&self) {}
}

/// What the disk itself does, through the same threads: the measure for the above.
fn raw_sync(c: &mut Criterion) {
    let runtime = runtime();
    let node = runtime.block_on(node(0, StorageOptions::default()));
    let file = runtime.block_on(async {
        let file = node.disk.open("raw", OpenMode::Create).await.unwrap();
        for mib in 0..16 {
            let zeros = vec![0; 1 << 20].into();
            file.write_at(mib << 20, vec![zeros]).await.unwrap();
        }
        file.sync_data().await.unwrap();
        file
    });
    let block = Bytes::from(vec![1; 4096]);
    let mut group = c.benchmark_group("raw_write_and_fdatasync");
    group.bench_function("4KiB", |b| {
        b.iter_custom(|rounds| {
            runtime.block_on(async {
                let began = Instant::now();
                for round in 0..rounds {
                    let at = (round % 4096) * 4096;
                    let one = One(Mutex::new(Some((at, vec![block.clone()]))));
                    file.write_and_sync_each(Arc::new(one)).await.unwrap();
                }
                began.elapsed()
            })
        });
    });
    group.finish();
}

fn append_async(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("append_async");
    for (name, records) in [("1KiB", 1), ("64KiB", 64), ("1MiB", 1024)] {
        let node = runtime.block_on(node(2, StorageOptions::default()));
        let batch = batch(records, 1024);
        group.throughput(Throughput::Bytes(batch.size() as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..rounds {
                        append(&*node.logs[0], batch.clone(), FlushMode::Async).await;
                    }
                    let took = began.elapsed();
                    // Old data goes, so that a long run does not fill the disk.
                    let end = node.logs[0].position().end;
                    node.logs[0].set_start(end).await.unwrap();
                    took
                })
            });
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("read_1MiB");
    for (name, tail_cache_bytes) in [("cached_tail", 256 << 20), ("from_segment", 0)] {
        let options = StorageOptions {
            tail_cache_bytes,
            ..StorageOptions::default()
        };
        let node = runtime.block_on(node(1, options));
        let batch = batch(64, 1024);
        runtime.block_on(async {
            for _ in 0..1024 {
                append(&*node.logs[0], batch.clone(), FlushMode::Async).await;
            }
        });
        let end = node.logs[0].position().end;
        group.throughput(Throughput::Bytes(1 << 20));
        group.bench_function(name, |b| {
            let mut from = Offset(0);
            b.iter(|| {
                let chunk = runtime.block_on(node.logs[0].read(from, end, 1 << 20));
                let next = chunk.unwrap().end;
                from = if next >= end { Offset(0) } else { next };
            });
        });
    }
    group.finish();
}

fn recover(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("recover");
    group.sample_size(10);
    group.bench_function("128MiB_behind_the_checkpoint", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                took += runtime.block_on(restart());
            }
            took
        });
    });
    group.finish();
}

/// Writes 128 MiB, drops the node without a word, and times the next start.
async fn restart() -> Duration {
    let Node {
        _directory,
        disk,
        storage,
        logs,
    } = node(1, StorageOptions::default()).await;
    let batch = batch(64, 1024);
    for _ in 0..2048 {
        append(&*logs[0], batch.clone(), FlushMode::Sync).await;
    }
    let mut positions = logs[0].positions();
    let durable = positions.wait_for(|p| p.durable_end == p.end).await;
    assert!(durable.is_ok());
    drop((durable, logs, storage));
    let began = Instant::now();
    let env = env(disk, 2);
    let storage = Storage::open(env, StorageOptions::default()).await.unwrap();
    let opened = storage.open_log(partition(0), LogConfig::default()).await;
    assert_eq!(opened.unwrap().1.end, Offset(2048 * 64));
    began.elapsed()
}

criterion_group!(benches, raw_sync, group_commit, append_async, read, recover);
criterion_main!(benches);
