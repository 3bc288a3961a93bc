//! Produce, fetch and what they need, in every version, over loopback TCP.

mod support;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use support::{Client, Fixture, name, run};
use weir_base::batch::BatchBuilder;
use weir_base::{NodeId, ProducerEpoch, ProducerId, RecordBatch, TopicId};

fn produce(version: i16, topic: &str, id: TopicId, records: Option<Bytes>) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(records);
    let mut data = TopicProduceData::default().with_partition_data(vec![partition]);
    if version >= 13 {
        data.topic_id = uuid::Uuid::from_bytes(id.0);
    } else {
        data.name = name(topic);
    }
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(5000)
        .with_topic_data(vec![data])
}

fn fetch(version: i16, topic: &str, id: TopicId, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let mut data = FetchTopic::default().with_partitions(vec![partition]);
    if version >= 13 {
        data.topic_id = uuid::Uuid::from_bytes(id.0);
    } else {
        data.topic = name(topic);
    }
    let mut request = FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![data]);
    if version >= 7 {
        request.session_epoch = -1;
    }
    request
}

async fn produce_code(client: &mut Client, version: i16, request: &ProduceRequest) -> (i16, i64) {
    let response = client.call(version, request).await;
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

#[test]
fn what_is_produced_in_any_version_is_fetched_in_any_version() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let mut produced = Vec::new();
        for version in 3..=13 {
            let batch = fixture.batch(&["one", "two"]);
            let request = produce(version, "t", id, Some(batch.to_bytes()));
            let base = i64::try_from(produced.len() * 2).unwrap();
            assert_eq!(
                produce_code(&mut client, version, &request).await,
                (0, base)
            );
            produced.push(batch);
        }
        for version in 4..=17 {
            let response = client.call(version, &fetch(version, "t", id, 0)).await;
            assert_eq!(response.error_code, 0);
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, 0);
            assert_eq!(partition.high_watermark, 22);
            let records = partition.records.clone().unwrap();
            let batches = RecordBatch::parse_all(records).unwrap();
            assert_eq!(batches.len(), produced.len());
            for (fetched, sent) in batches.iter().zip(&produced) {
                fetched.verify().unwrap();
                assert_eq!(fetched.body(), sent.body());
            }
        }
    });
}

#[test]
fn api_versions_answers_every_version_even_unknown_ones() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        for version in 0..=4 {
            let mut request = ApiVersionsRequest::default();
            if version >= 3 {
                request.client_software_name = name("test");
                request.client_software_version = name("1");
            }
            let response = client.call(version, &request).await;
            assert_eq!(response.error_code, 0);
            let produce = response.api_keys.iter().find(|k| k.api_key == 0).unwrap();
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
        }
        // Version 99 with an unparsable body.
        let frame = [&[0u8, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0][..], b"??"].concat();
        let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
        use tokio::io::AsyncWriteExt;
        client
            .stream
            .write_all(&[&length[..], &frame].concat())
            .await
            .unwrap();
        let (correlation, response) = client.receive::<ApiVersionsResponse>(0).await;
        assert_eq!(correlation, 5);
        assert_eq!(response.error_code, 35);
        assert!(response.api_keys.iter().any(|key| key.api_key == 18));
    });
}

#[test]
fn metadata_creates_topics_and_names_this_node_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        for version in 0..=13 {
            let topic = format!("made-by-{version}");
            let wanted = MetadataRequestTopic::default().with_name(Some(name(&topic)));
            let request = MetadataRequest::default()
                .with_topics(Some(vec![wanted]))
                .with_allow_auto_topic_creation(true);
            let response = client.call(version, &request).await;
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(response.brokers[0].node_id.0, 1);
            let made = &response.topics[0];
            assert_eq!(made.error_code, 0, "version {version}");
            assert_eq!(made.partitions[0].leader_id.0, 1);
            if version >= 2 {
                assert_eq!(response.cluster_id.unwrap().len(), 22);
            }
            if version >= 12 {
                let by_id = MetadataRequestTopic::default()
                    .with_topic_id(made.topic_id)
                    .with_name(None);
                let request = MetadataRequest::default().with_topics(Some(vec![by_id]));
                let response = client.call(version, &request).await;
                assert_eq!(
                    response.topics[0].name.as_deref().map(|n| n.as_str()),
                    Some(topic.as_str())
                );
            }
        }
        let all = MetadataRequest::default().with_topics(None);
        assert_eq!(client.call(9, &all).await.topics.len(), 14);
        let none = MetadataRequest::default().with_topics(Some(Vec::new()));
        assert_eq!(client.call(9, &none).await.topics.len(), 0);
        assert_eq!(client.call(0, &none).await.topics.len(), 14);
        let bad = MetadataRequestTopic::default().with_name(Some(name("no good")));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![bad]))
            .with_allow_auto_topic_creation(true);
        assert_eq!(client.call(9, &request).await.topics[0].error_code, 17);
    });
}

#[test]
fn corrupt_batches_are_refused_and_nothing_is_stored() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let good = fixture.batch(&["a", "b"]).to_bytes();
        let flip = |at: usize| {
            let mut bytes = good.to_vec();
            bytes[at] ^= 0x01;
            Some(Bytes::from(bytes))
        };
        let two = Some(Bytes::from([&good[..], &good[..]].concat()));
        let cases = [
            (flip(17), ResponseError::CorruptMessage), // checksum
            (flip(good.len() - 1), ResponseError::CorruptMessage), // payload
            (flip(11), ResponseError::CorruptMessage), // length
            (flip(60), ResponseError::CorruptMessage), // count
            (
                Some(good.slice(..good.len() - 3)),
                ResponseError::CorruptMessage,
            ),
            (Some(good.slice(..20)), ResponseError::CorruptMessage),
            (flip(16), ResponseError::InvalidRecord), // magic
            (two, ResponseError::InvalidRecord),
            (None, ResponseError::InvalidRecord),
            (Some(Bytes::new()), ResponseError::InvalidRecord),
        ];
        for (at, (records, error)) in cases.into_iter().enumerate() {
            let request = produce(9, "t", id, records);
            let code = produce_code(&mut client, 9, &request).await.0;
            assert_eq!(code, error.code(), "case {at}");
        }
        let response = client.call(12, &fetch(12, "t", id, 0)).await;
        assert_eq!(response.responses[0].partitions[0].high_watermark, 0);
    });
}

#[test]
fn a_node_that_does_not_lead_says_who_does() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let endpoint = weir_base::image::Endpoint {
            host: "other".to_owned(),
            port: 19092,
        };
        let endpoints = [("kafka".to_owned(), endpoint)].into();
        fixture.broker.add_node(NodeId(2), endpoints);
        fixture.broker.set_leader("t", 0, Some(NodeId(2)));
        let mut client = fixture.client().await;
        let records = Some(fixture.batch(&["a"]).to_bytes());
        for version in 3..=13 {
            let response = client
                .call(version, &produce(version, "t", id, records.clone()))
                .await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 6);
            if version >= 10 {
                assert_eq!(partition.current_leader.leader_id.0, 2);
                assert_eq!(partition.current_leader.leader_epoch, 2);
                assert_eq!(response.node_endpoints[0].host.as_str(), "other");
            }
        }
        for version in 4..=17 {
            let response = client.call(version, &fetch(version, "t", id, 0)).await;
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, 6);
            if version >= 12 {
                assert_eq!(partition.current_leader.leader_id.0, 2);
            }
            assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
        }
    });
}

#[test]
fn offsets_are_listed_in_every_version() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        for _ in 0..3 {
            let records = Some(fixture.batch(&["a", "b"]).to_bytes());
            produce_code(&mut client, 9, &produce(9, "t", id, records)).await;
        }
        for version in 1..=10 {
            for (timestamp, offset) in [(-1, 6), (-2, 0), (0, 0), (i64::MAX, -1)] {
                let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
                let topic = ListOffsetsTopic::default()
                    .with_name(name("t"))
                    .with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default().with_topics(vec![topic]);
                let response = client.call(version, &request).await;
                let partition = &response.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.offset), (0, offset));
            }
        }
    });
}

/// While transactions are refused, all that is committed is stable: a reader of committed
/// records alone sees, and is told, the same as any other.
#[test]
fn reading_committed_reads_up_to_the_high_watermark() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let records = fixture.batch(&["a", "b", "c"]).to_bytes();
        produce_code(&mut client, 9, &produce(9, "t", id, Some(records.clone()))).await;
        for version in 4..=17 {
            let request = fetch(version, "t", id, 0).with_isolation_level(1);
            let response = client.call(version, &request).await;
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, 0);
            assert_eq!(partition.high_watermark, 3, "version {version}");
            assert_eq!(partition.last_stable_offset, 3, "version {version}");
            assert!(
                partition
                    .aborted_transactions
                    .as_ref()
                    .is_none_or(Vec::is_empty)
            );
            assert_eq!(
                partition.records.as_ref().map(Bytes::len),
                Some(records.len())
            );
        }
        for version in 2..=10 {
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let topic = ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default()
                .with_isolation_level(1)
                .with_topics(vec![topic]);
            let response = client.call(version, &request).await;
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.offset), (0, 3));
        }
    });
}

#[test]
fn a_client_cannot_write_under_an_id_of_the_brokers_own() {
    run(async {
        let fixture = Fixture::start().await;
        let id = fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let own = ProducerId(ProducerId::JOURNALS_FROM);
        let batch = BatchBuilder::new(fixture.now())
            .producer(own, ProducerEpoch(0), 7)
            .record(None, Some(b"v"))
            .build();
        let request = produce(9, "t", id, Some(batch.to_bytes()));
        let code = produce_code(&mut client, 9, &request).await.0;
        assert_eq!(code, ResponseError::InvalidRecord.code());
        let response = client.call(12, &fetch(12, "t", id, 0)).await;
        assert_eq!(response.responses[0].partitions[0].high_watermark, 0);
    });
}

#[test]
fn producer_ids_differ_and_transactions_are_refused() {
    run(async {
        let fixture = Fixture::start().await;
        let mut client = fixture.client().await;
        let mut seen = Vec::new();
        let plain = InitProducerIdRequest::default().with_transactional_id(None);
        for version in 0..=5 {
            let response = client.call(version, &plain).await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(!seen.contains(&response.producer_id));
            seen.push(response.producer_id);
            let transactional =
                InitProducerIdRequest::default().with_transactional_id(Some(name("tx")));
            assert_eq!(client.call(version, &transactional).await.error_code, 42);
        }
    });
}
