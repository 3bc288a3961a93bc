//! What real clients sent, replayed byte for byte. Each file under `captures/` is one
//! connection of a client, the bytes it sent and nothing else; its name says which client
//! in which version did what to a topic named `captured`.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

mod support;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, ResponseKind};
use kafka_protocol::protocol::{Decodable, decode_request_header_from_buffer};
use support::{Client, Fixture, run};
use tokio::io::AsyncWriteExt;
use weir_base::RecordBatch;

/// The frames of a capture, without their length prefixes.
fn frames(mut bytes: Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while bytes.has_remaining() {
        let length = usize::try_from(bytes.get_i32()).unwrap();
        frames.push(bytes.split_to(length));
    }
    frames
}

fn captures() -> Vec<(String, Bytes)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap().into())
    };
    files.into_iter().map(read).collect()
}

/// Sends one frame and reads its answer; gives the records it made the broker store.
async fn replay(client: &mut Client, frame: Bytes) -> usize {
    let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
    client.stream.write_all(&length).await.unwrap();
    client.stream.write_all(&frame).await.unwrap();
    let mut body = frame;
    let header = decode_request_header_from_buffer(&mut body).unwrap();
    let api = ApiKey::try_from(header.request_api_key).unwrap();
    let version = header.request_api_version;
    let mut records = 0;
    if api == ApiKey::Produce {
        let request = ProduceRequest::decode(&mut body, version).unwrap();
        for partition in request.topic_data.iter().flat_map(|t| &t.partition_data) {
            let batch = RecordBatch::parse(partition.records.as_ref().unwrap()).unwrap();
            records += usize::try_from(batch.header().record_count).unwrap();
        }
        if request.acks == 0 {
            return records;
        }
    }
    let mut answer = client.frame().await.expect("an answer");
    // The correlation id leads every response header.
    assert_eq!(answer.clone().get_i32(), header.correlation_id);
    let flexible = api != ApiKey::ApiVersions && api.response_header_version(version) >= 1;
    answer.advance(if flexible { 5 } else { 4 });
    if api == ApiKey::Produce {
        let response = ProduceResponse::decode(&mut answer.clone(), version).unwrap();
        let mut partitions = response.responses.iter().flat_map(|t| &t.partition_responses);
        assert!(partitions.all(|partition| partition.error_code == 0));
    }
    ResponseKind::decode(api, &mut answer, version).unwrap();
    assert_eq!(answer.remaining(), 0, "bytes behind the response");
    records
}

#[test]
fn every_captured_request_is_answered_as_its_client_understands() {
    run(async {
        let captures = captures();
        assert!(captures.len() >= 10);
        for (name, bytes) in captures {
            let fixture = Fixture::start().await;
            let id = fixture.topic("captured", 1).await;
            let mut client = fixture.client().await;
            let mut records = 0;
            for frame in frames(bytes) {
                records += replay(&mut client, frame).await;
            }
            // acks=0: a request behind it on the same connection has the last word.
            client.stream.shutdown().await.unwrap();
            assert!(client.frame().await.is_none());
            let at = weir_base::TopicPartition::new(id, 0);
            let latest = weir_api::log::OffsetQuery::Latest;
            let log = fixture.broker.api().log;
            let end = log.offset(at, latest, None).await.unwrap().offset.unwrap();
            assert_eq!(end.0, records as u64, "{name}");
            assert_eq!(records > 0, name.contains("produce"), "{name}");
        }
    });
}
