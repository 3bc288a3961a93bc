//! The whole path on a real disk and real links: what the toys leave out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

#[path = "real/cluster.rs"]
mod cluster;

use std::time::Duration;

use cluster::Cluster;
use weir_base::batch::BatchBuilder;
use weir_base::image::Durability;
use weir_base::{Offset, Timestamp};
use weir_replication::AckLevel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_reach_every_replica_byte_for_byte() {
    let cluster = Cluster::start(3, Durability::default()).await;
    for n in 0..3 {
        let handle = cluster.led(n);
        let mut views = handle.views();
        views.wait_for(|view| view.is_ready).await.unwrap();
        let value = vec![7; 3_000];
        let calls: Vec<_> = (0..200)
            .map(|_| {
                let batch = BatchBuilder::new(Timestamp(1))
                    .record(Some(b"key"), Some(&value))
                    .build();
                handle.append(batch, AckLevel::All, Duration::from_secs(30))
            })
            .collect();
        for (at, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap().base, Offset(at));
        }
        let mut copies = vec![];
        for replica in cluster.replicas(n).into_values() {
            let mut views = replica.views();
            let all = views.wait_for(|view| view.high_watermark == Offset(200));
            let view = all.await.unwrap().clone();
            assert_eq!(view.durable_end, Offset(200));
            let fetched = replica.read(Offset(0), 1 << 20).await.unwrap();
            assert_eq!(fetched.chunk.end, Offset(200));
            copies.push(fetched.chunk.chunks.concat());
        }
        assert_eq!(copies[0], copies[1]);
        assert_eq!(copies[0], copies[2]);
    }
}
