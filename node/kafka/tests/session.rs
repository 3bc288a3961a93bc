//! What one connection promises: order, bounds, and a clean end.

mod support;

use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, list_offsets_request,
};
use support::{Client, Fixture, encode, name, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_api::Front;
use weir_base::batch::BatchBuilder;
use weir_base::{NodeId, ProducerEpoch, ProducerId};
use weir_kafka::KafkaOptions;

fn produce(acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(name("t"))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(20_000)
        .with_topic_data(vec![topic])
}

fn fetch(session: i32, epoch: i32, wait: i32, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(index, offset)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default()
        .with_topic(name("t"))
        .with_partitions(partitions.collect());
    FetchRequest::default()
        .with_session_id(session)
        .with_session_epoch(epoch)
        .with_max_wait_ms(wait)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(if topic.partitions.is_empty() {
            vec![]
        } else {
            vec![topic]
        })
}

async fn end(client: &mut Client) -> i64 {
    let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
    let topic = list_offsets_request::ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    client.call(5, &request).await.topics[0].partitions[0].offset
}

#[test]
fn a_waiting_fetch_holds_back_responses_but_not_requests() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let records = fixture.batch(&["a"]).to_bytes();
        let waiting = client.send(11, &fetch(0, -1, 20_000, &[(0, 0)])).await;
        let produced = client.send(9, &produce(-1, records)).await;
        let metadata = client
            .send(9, &MetadataRequest::default().with_topics(None))
            .await;
        // Had the produce waited for the fetch, the fetch would answer without data.
        let (first, fetched) = client.receive::<FetchResponse>(11).await;
        assert_eq!(first, waiting);
        assert_eq!(fetched.responses[0].partitions[0].high_watermark, 1);
        assert_eq!(client.receive::<ProduceResponse>(9).await.0, produced);
        assert_eq!(client.receive::<MetadataResponse>(9).await.0, metadata);
    });
}

#[test]
fn pipelined_produces_are_appended_and_answered_in_request_order() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        fixture.broker.hold_acks(true);
        let mut client = fixture.client().await;
        let mut sent = Vec::new();
        for sequence in 0..40 {
            let batch = BatchBuilder::new(fixture.now())
                .producer(ProducerId(1), ProducerEpoch(0), sequence)
                .record(None, Some(b"x"))
                .build();
            sent.push(client.send(9, &produce(-1, batch.to_bytes())).await);
        }
        let mut other = fixture.client().await;
        while end(&mut other).await < 40 {}
        fixture.broker.hold_acks(false);
        for (offset, correlation) in (0..).zip(sent) {
            let (answered, response) = client.receive::<ProduceResponse>(9).await;
            assert_eq!(answered, correlation);
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (0, offset));
        }
    });
}

#[test]
fn no_more_than_the_bound_is_under_way_on_one_connection() {
    run(async {
        let options = KafkaOptions {
            in_flight_max: 2,
            ..KafkaOptions::default()
        };
        let fixture = Fixture::with(options).await;
        fixture.topic("t", 1).await;
        fixture.broker.hold_acks(true);
        let mut client = fixture.client().await;
        for _ in 0..5 {
            let records = fixture.batch(&["a"]).to_bytes();
            client.send(9, &produce(-1, records)).await;
        }
        let mut other = fixture.client().await;
        while end(&mut other).await < 2 {}
        for _ in 0..20 {
            assert_eq!(end(&mut other).await, 2);
        }
        fixture.broker.hold_acks(false);
        for offset in 0..5 {
            let response = client.receive::<ProduceResponse>(9).await.1;
            assert_eq!(
                response.responses[0].partition_responses[0].base_offset,
                offset
            );
        }
    });
}

#[test]
fn unacknowledged_produces_have_no_response_and_close_on_failure() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        for _ in 0..3 {
            let records = fixture.batch(&["a"]).to_bytes();
            client.send(9, &produce(0, records)).await;
        }
        assert_eq!(end(&mut client).await, 3);
        fixture.broker.set_leader("t", 0, Some(NodeId(7)));
        let records = fixture.batch(&["a"]).to_bytes();
        client.send(9, &produce(0, records)).await;
        assert!(client.frame().await.is_none());
    });
}

#[test]
fn acks_other_than_three_are_refused() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let records = fixture.batch(&["a"]).to_bytes();
        let response = client.call(9, &produce(2, records)).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
    });
}

#[test]
fn what_cannot_be_answered_closes_after_what_can() {
    let header = |key: i16, version: i16| {
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 9, 0xff, 0xff]);
        frame
    };
    let framed = |frame: Vec<u8>| {
        let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
        [&length[..], &frame].concat()
    };
    let bad: Vec<Vec<u8>> = vec![
        framed(header(4, 0)),                // a broker's own api
        framed(header(999, 0)),              // no api
        framed(header(0, 2)),                // a produce version long gone
        framed(header(3, 99)),               // a version to come
        framed(header(3, 1)),                // no body
        framed(vec![0, 3]),                  // no header
        [&[0x7f][..], &[0xff; 40]].concat(), // 100 MiB and more
        (-1i32).to_be_bytes().to_vec(),      // negative length
        framed([header(3, 1), vec![0x7f, 0xff, 0xff, 0xff]].concat()), // 2^31 topics
    ];
    run(async {
        let fixture = Fixture::start().await;
        for (at, bytes) in bad.into_iter().enumerate() {
            let mut client = fixture.client().await;
            client.send(0, &ApiVersionsRequest::default()).await;
            client.stream.write_all(&bytes).await.unwrap();
            let (_, answered) = client.receive::<ApiVersionsResponse>(0).await;
            assert_eq!(answered.error_code, 0);
            assert!(client.frame().await.is_none(), "case {at}");
        }
    });
}

#[test]
fn a_client_that_goes_away_takes_its_waiting_requests_with_it() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        client.send(11, &fetch(0, -1, 20_000, &[(0, 0)])).await;
        client.stream.shutdown().await.unwrap();
        assert!(client.frame().await.is_none());
        while fixture.front.connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn it_is_noticed_also_while_no_further_request_may_start() {
    run(async {
        let fixture = Fixture::with(KafkaOptions {
            in_flight_max: 1,
            ..KafkaOptions::default()
        })
        .await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        client.send(11, &fetch(0, -1, 20_000, &[(0, 0)])).await;
        client.stream.shutdown().await.unwrap();
        assert!(client.frame().await.is_none());
        while fixture.front.connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn draining_answers_what_is_under_way_and_closes() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        fixture.broker.hold_acks(true);
        let mut client = fixture.client().await;
        let mut other = fixture.client().await;
        let records = fixture.batch(&["a"]).to_bytes();
        client.send(9, &produce(-1, records)).await;
        while end(&mut other).await < 1 {}
        let release = async {
            // The idle connection closes at once: the drain has begun.
            assert!(other.frame().await.is_none());
            fixture.broker.hold_acks(false);
            let response = client.receive::<ProduceResponse>(9).await.1;
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
            assert!(client.frame().await.is_none());
        };
        tokio::join!(fixture.front.drain(), release);
        assert_eq!(fixture.front.connections(), 0);
    });
}

#[test]
fn a_drain_ends_after_its_grace_whatever_waits() {
    run(async {
        let mut options = KafkaOptions::default();
        options.wire.drain_grace = Duration::from_millis(20);
        let fixture = Fixture::with(options).await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        client.send(11, &fetch(0, -1, 25_000, &[(0, 0)])).await;
        assert_eq!(end(&mut fixture.client().await).await, 0);
        fixture.front.drain().await;
        assert!(client.frame().await.is_none());
    });
}

#[test]
fn idle_connections_and_those_over_the_budget_are_closed() {
    run(async {
        let mut options = KafkaOptions {
            idle_close: Duration::from_millis(30),
            ..KafkaOptions::default()
        };
        options.wire.connections_max = 1;
        let fixture = Fixture::with(options).await;
        let mut first = fixture.client().await;
        first.call(0, &ApiVersionsRequest::default()).await;
        let mut second = fixture.client().await;
        assert!(second.frame().await.is_none());
        assert!(first.frame().await.is_none());
    });
}

#[test]
fn large_requests_and_responses_pass_unharmed() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let value = vec![7u8; 3 << 20];
        let batch = BatchBuilder::new(fixture.now())
            .record(None, Some(&value))
            .build();
        let response = client.call(9, &produce(-1, batch.to_bytes())).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        // The first batch comes whole, however little was asked for.
        let mut request = fetch(0, -1, 0, &[(0, 0)]);
        request.max_bytes = 1;
        let response = client.call(11, &request).await;
        let records = response.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(&records[61..], &batch.body()[..]);
        let large = BatchBuilder::new(fixture.now())
            .record(None, Some(&vec![7u8; 5 << 20]))
            .build();
        let response = client.call(9, &produce(-1, large.to_bytes())).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 10);
    });
}

#[test]
fn requests_may_arrive_byte_by_byte() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        let bytes = encode(3, 9, &MetadataRequest::default().with_topics(None));
        for byte in &bytes {
            client.stream.write_u8(*byte).await.unwrap();
            client.stream.flush().await.unwrap();
        }
        assert_eq!(client.receive::<MetadataResponse>(9).await.0, 3);
        let mut rest = [0; 1];
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.stream.read(&mut rest).await.unwrap(), 0);
    });
}

#[test]
fn fetch_sessions_send_changes_only() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 3).await;
        let mut client = fixture.client().await;
        let full = client
            .call(11, &fetch(0, 0, 0, &[(0, 0), (1, 0), (2, 0)]))
            .await;
        assert_ne!(full.session_id, 0);
        assert_eq!(full.responses[0].partitions.len(), 3);
        let id = full.session_id;
        // The first incremental answer tells of all, since nothing was remembered yet.
        client.call(11, &fetch(id, 1, 0, &[])).await;
        let quiet = client.call(11, &fetch(id, 2, 0, &[])).await;
        assert_eq!((quiet.session_id, quiet.responses.len()), (id, 0));
        client
            .call(9, &produce(-1, fixture.batch(&["a"]).to_bytes()))
            .await;
        let news = client.call(11, &fetch(id, 3, 0, &[])).await;
        assert_eq!(news.responses.len(), 1);
        assert_eq!(news.responses[0].partitions.len(), 1);
        assert!(
            news.responses[0].partitions[0]
                .records
                .as_ref()
                .unwrap()
                .has_remaining()
        );
        let moved = client.call(11, &fetch(id, 4, 0, &[(0, 1)])).await;
        assert_eq!(moved.responses.len(), 0);
        let forgotten = ForgottenTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![0]);
        let request = fetch(id, 5, 0, &[]).with_forgotten_topics_data(vec![forgotten]);
        client.call(11, &request).await;
        client
            .call(9, &produce(-1, fixture.batch(&["b"]).to_bytes()))
            .await;
        let news = client.call(11, &fetch(id, 6, 0, &[])).await;
        assert_eq!(news.responses.len(), 0);
        assert_eq!(client.call(11, &fetch(id, 6, 0, &[])).await.error_code, 71);
        assert_eq!(
            client.call(11, &fetch(id + 1, 1, 0, &[])).await.error_code,
            70
        );
        client.call(11, &fetch(id, -1, 0, &[])).await;
        assert_eq!(client.call(11, &fetch(id, 7, 0, &[])).await.error_code, 70);
    });
}
