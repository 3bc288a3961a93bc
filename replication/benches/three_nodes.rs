//! Throughput and latency of acknowledged appends: three nodes in one process, real disk,
//! QUIC over loopback. Prints one line a setting; compare lines of one machine only.
//!
//! `cargo bench -p weir-replication`, with `WEIR_BENCH_SECONDS` a setting (default 3).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first error"
)]

#[path = "../tests/real/cluster.rs"]
mod cluster;

use std::collections::VecDeque;
use std::time::Duration;

use cluster::Cluster;
use weir_base::batch::BatchBuilder;
use weir_base::image::{Durability, FlushMode, ReplicationMode};
use weir_base::{Clock, Monotonic, RecordBatch, Timestamp};
use weir_os::OsClock;
use weir_replication::AckLevel;

struct Setting {
    partitions: u32,
    in_flight: usize,
    batch_bytes: usize,
    durability: Durability,
}

fn batch(bytes: usize) -> RecordBatch {
    BatchBuilder::new(Timestamp(1))
        .record(None, Some(&vec![7; bytes]))
        .build()
}

/// One producer a partition, `in_flight` batches each; latencies in microseconds.
async fn produce(
    handle: weir_replication::PartitionHandle,
    setting: &Setting,
    clock: &OsClock,
    until: Monotonic,
) -> Vec<u64> {
    let batch = batch(setting.batch_bytes);
    let mut latencies = vec![];
    let mut calls = VecDeque::new();
    while clock.now() < until {
        while calls.len() < setting.in_flight {
            let wait = Duration::from_secs(30);
            calls.push_back((
                clock.now(),
                handle.append(batch.clone(), AckLevel::All, wait),
            ));
        }
        if let Some((began, call)) = calls.pop_front() {
            call.await.unwrap();
            let took = clock.now().since(began).as_micros();
            latencies.push(u64::try_from(took).unwrap());
        }
    }
    latencies
}

async fn run(setting: Setting) {
    let seconds = std::env::var("WEIR_BENCH_SECONDS").map_or(3, |s| s.parse().unwrap());
    let cluster = Cluster::start(setting.partitions, setting.durability).await;
    let clock = OsClock::new();
    let handles: Vec<_> = (0..setting.partitions).map(|n| cluster.led(n)).collect();
    for handle in &handles {
        handle.views().wait_for(|view| view.is_ready).await.unwrap();
    }
    let until = clock.now() + Duration::from_secs(seconds);
    let mut producers = vec![];
    for handle in handles {
        producers.push(produce(handle, &setting, &clock, until));
    }
    let mut latencies = vec![];
    for one in join(producers).await {
        latencies.extend(one);
    }
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000];
    let rate = latencies.len() as u64 / seconds;
    let bytes = rate * setting.batch_bytes as u64;
    println!(
        "{:?} flush, {:?} replication, {:3} partitions x {:3} in flight x {:6} B: {rate:7} batches/s, {:4} MB/s, p50 {:6} us, p99 {:6} us",
        setting.durability.flush,
        setting.durability.replication,
        setting.partitions,
        setting.in_flight,
        setting.batch_bytes,
        bytes / 1_000_000,
        at(500),
        at(990),
    );
}

/// Polls all to the end, in one task.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|f| Some(Box::pin(f))).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut done) {
            if let Some(polled) = future
                && let std::task::Poll::Ready(ready) = polled.as_mut().poll(cx)
            {
                *output = Some(ready);
                *future = None;
            }
        }
        if running.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let sync = Durability::default();
    let written = Durability {
        flush: FlushMode::Async,
        ..sync
    };
    let alone = Durability {
        flush: FlushMode::Async,
        replication: ReplicationMode::Async,
    };
    for (durability, partitions, in_flight, batch_bytes) in [
        (sync, 1, 1, 1_000),
        (sync, 1, 64, 1_000),
        (sync, 12, 5, 16_000),
        (sync, 120, 5, 1_000),
        (sync, 12, 5, 128_000),
        (written, 1, 1, 1_000),
        (written, 12, 5, 16_000),
        (alone, 12, 5, 16_000),
    ] {
        runtime.block_on(run(Setting {
            partitions,
            in_flight,
            batch_bytes,
            durability,
        }));
    }
}
