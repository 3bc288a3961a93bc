//! How often the hot paths ask for memory: a number to notice when it grows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kafka_protocol::messages::{FetchRequest, ProduceRequest, fetch_request, produce_request};
use kafka_protocol::protocol::StrBytes;
use weir_api::AdminApi as _;

use super::tests::{Fixture, valid};
use super::*;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Gone while a thread ends: such allocations are nobody's.
        let _gone = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the cheapest of several runs, so that growing containers do not count.
fn allocations(fixture: &Fixture, frame: &Bytes) -> u64 {
    let runs = (0..20).map(|_| {
        let before = COUNT.get();
        fixture.feed_bytes(frame.clone()).unwrap();
        COUNT.get() - before
    });
    runs.min().unwrap()
}

#[test]
fn produce_and_fetch_allocate_little() {
    let fixture = Fixture::new();
    let topic = weir_api::NewTopic {
        name: "t".to_owned(),
        ..weir_api::NewTopic::default()
    };
    let second = std::time::Duration::from_secs(1);
    drop(fixture.broker.create_topic(topic, false, second));
    let name = || StrBytes::from_static_str("t");
    let value = vec![7; 1024];
    let now = fixture.shared.api.cluster.now();
    let records = (0..16).fold(weir_base::batch::BatchBuilder::new(now), |batch, _| {
        batch.record(Some(b"key"), Some(&value))
    });
    let partition = produce_request::PartitionProduceData::default()
        .with_records(Some(records.build().to_bytes()));
    let data = produce_request::TopicProduceData::default()
        .with_name(name().into())
        .with_partition_data(vec![partition]);
    let produce = ProduceRequest::default()
        .with_acks(-1)
        .with_topic_data(vec![data]);
    let produced = allocations(&fixture, &valid(9, &produce).into());
    assert!(
        fixture.shared.api.log.replica_sizes()[0].1 > 16 * 1024,
        "stored"
    );
    let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1);
    let data = fetch_request::FetchTopic::default()
        .with_topic(name().into())
        .with_partitions(vec![partition]);
    let fetch = FetchRequest::default()
        .with_session_epoch(-1)
        .with_max_bytes(1)
        .with_topics(vec![data]);
    let fetched = allocations(&fixture, &valid(12, &fetch).into());
    println!("produce: {produced} allocations, fetch: {fetched}");
    // The fake broker's own among them.
    assert!(produced <= 16, "{produced}");
    assert!(fetched <= 20, "{fetched}");
}
