//! Compressed batches: their records are looked at before anything is stored.

mod support;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use support::{Fixture, name, run};
use weir_api::NewTopic;
use weir_base::RecordBatch;
use weir_base::batch::{BatchBuilder, Compression, compress};
use weir_kafka::KafkaOptions;

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn packed(batch: &RecordBatch, codec: Compression, count: u32) -> RecordBatch {
    let body = compress(batch.body(), codec).expect("compresses");
    batch.with_records(body, count, codec).expect("fits")
}

fn produce(topic: &str, batch: &RecordBatch) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(batch.to_bytes()));
    let topic = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(5000)
        .with_topic_data(vec![topic])
}

#[test]
fn well_formed_ones_are_stored_as_sent_and_lying_ones_not_at_all() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let batch = fixture.batch(&["one", "two", "three"]);
        let mut next = 0;
        for codec in CODECS {
            let good = packed(&batch, codec, 3);
            // Three records as the head says, four in truth; and no records at all.
            let four = fixture.batch(&["1", "2", "3", "4"]);
            let lying = good.with_records(compress(four.body(), codec).unwrap(), 3, codec);
            let junk = good.with_records(Bytes::from_static(b"junk"), 3, codec);
            for bad in [lying.unwrap(), junk.unwrap()] {
                bad.verify().unwrap();
                let answer = client.call(9, &produce("t", &bad)).await;
                let answer = &answer.responses[0].partition_responses[0];
                assert_eq!(answer.error_code, ResponseError::CorruptMessage.code());
                assert!(answer.error_message.is_some());
            }
            let answer = client.call(9, &produce("t", &good)).await;
            let answer = &answer.responses[0].partition_responses[0];
            assert_eq!(
                (answer.error_code, answer.base_offset),
                (0, next),
                "{codec:?}"
            );
            next += 3;
        }
    });
}

#[test]
fn a_batch_that_expands_beyond_the_limit_is_too_large_and_the_limit_is_named() {
    run(async {
        let fixture = Fixture::with(KafkaOptions {
            decompressed_bytes_max: 1024 * 1024,
            ..KafkaOptions::default()
        })
        .await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        let zeros = vec![0; 1024 * 1024];
        let batch = BatchBuilder::new(fixture.now())
            .record(None, Some(&zeros))
            .build();
        for codec in CODECS {
            let answer = client
                .call(9, &produce("t", &packed(&batch, codec, 1)))
                .await;
            let answer = &answer.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, ResponseError::MessageTooLarge.code());
            let message = answer.error_message.as_ref().unwrap();
            assert!(message.contains("1048576 bytes"), "{message}");
        }
    });
}

#[test]
fn records_without_a_key_are_found_on_compacted_topics() {
    run(async {
        let fixture = Fixture::start().await;
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions: Some(1),
            configs: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
            ..NewTopic::default()
        };
        let admin = fixture.broker.api().admin;
        let wait = std::time::Duration::from_secs(1);
        admin.create_topic(topic, false, wait).await.unwrap();
        let mut client = fixture.client().await;
        let batch = |key| {
            BatchBuilder::new(fixture.now())
                .record(Some(b"k"), None)
                .record(key, Some(b"v"))
                .build()
        };
        for codec in CODECS {
            for (key, code) in [
                (None, ResponseError::InvalidRecord.code()),
                (Some(&b"k"[..]), 0),
            ] {
                let answer = client
                    .call(9, &produce("t", &packed(&batch(key), codec, 2)))
                    .await;
                let answer = &answer.responses[0].partition_responses[0];
                assert_eq!(answer.error_code, code, "{codec:?}");
            }
        }
    });
}

#[test]
fn pipelined_batches_keep_their_order_whatever_their_codec() {
    run(async {
        let fixture = Fixture::start().await;
        fixture.topic("t", 1).await;
        let mut client = fixture.client().await;
        // Large ones take several turns to look into; small plain ones behind them none.
        let large = vec![7; 2 * 1024 * 1024];
        let large = BatchBuilder::new(fixture.now())
            .record(None, Some(&large))
            .build();
        let small = fixture.batch(&["small"]);
        let mut sent = Vec::new();
        for codec in CODECS {
            for batch in [packed(&large, codec, 1), small.clone()] {
                sent.push(client.send(9, &produce("t", &batch)).await);
            }
        }
        for (offset, sent) in (0..).zip(sent) {
            let (correlation, answer) = client
                .receive::<kafka_protocol::messages::ProduceResponse>(9)
                .await;
            let answer = &answer.responses[0].partition_responses[0];
            assert_eq!((correlation, answer.error_code), (sent, 0));
            assert_eq!(answer.base_offset, offset);
        }
    });
}
