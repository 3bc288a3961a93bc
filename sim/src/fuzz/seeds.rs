//! Where a corpus begins: inputs made by the code that writes each format.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FetchRequest, ProduceRequest, RequestHeader, TopicName,
    fetch_request,
};
use kafka_protocol::protocol::{
    Decodable, Encodable, Request, StrBytes, decode_request_header_from_buffer,
};
use weir_base::batch::{BatchBuilder, Compression, compress};
use weir_base::image::{Endpoint, FlushMode};
use weir_base::{
    LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, RecordBatch, Timestamp, TopicId,
    TopicPartition, Uuid,
};
use weir_metadata::command::{
    Command, IsrProposal, PartitionChange, Proposal, Registration, StartKind,
};
use weir_storage::contract;

use super::{kafka, peers, storage, world};

/// An input: its target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All inputs that are made here.
#[must_use]
pub fn made() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes| seeds.push((target, name.to_owned(), bytes));
    for (name, batch) in batches() {
        add("batch", name, batch.to_bytes().to_vec());
    }
    for (name, batch) in compressed() {
        add("batch", name, batch.to_bytes().to_vec());
    }
    let all: Vec<RecordBatch> = batches().into_iter().map(|(_, batch)| batch).collect();
    let together = all.iter().flat_map(RecordBatch::to_bytes).collect();
    add("batch", "several", together);
    let few = || (1..4).map(contract::batch).collect::<Vec<_>>();
    for (name, batches) in [("plain", few()), ("mixed", all)] {
        let segment = storage::written(FlushMode::Async, batches.clone());
        add("segment_recovery", name, segment);
        add(
            "wal_recovery",
            name,
            storage::written(FlushMode::Sync, batches),
        );
    }
    let [follower, leader] = peers::conversation();
    add("peer_frame", "follower", follower);
    add("peer_frame", "leader", leader);
    for (name, items) in proposals() {
        let proposal = Proposal { items };
        let bytes = postcard::to_stdvec(&proposal).unwrap_or_default();
        add("metadata_command", name, bytes);
    }
    add("kafka_session", "waiting-fetches", waiting_fetches());
    add("kafka_session", "every-version", every_version());
    add("canary", "honest", b"CNRY\x04\0\0\0four".to_vec());
    add("greedy_canary", "honest", b"CNRY\x04\0\0\0four".to_vec());
    seeds
}

fn batches() -> Vec<(&'static str, RecordBatch)> {
    let at = Timestamp(1_767_225_600_000);
    let headers = BatchBuilder::new(at)
        .record_with_headers(Some(b"key"), Some(b"value"), &[("h", b"1"), ("i", b"")])
        .record(None, None)
        .build();
    let appended = contract::batch(2)
        .with_log_append_time(at)
        .stamped(Offset(1 << 40), LeaderEpoch(9));
    vec![
        ("plain", contract::batch(3)),
        ("headers", headers),
        ("produced", contract::produced(7, 0, 0, 4)),
        ("appended", appended),
    ]
}

/// The same records under every codec, in every form that clients write.
fn compressed() -> Vec<(&'static str, RecordBatch)> {
    let plain = contract::batch(20);
    let packed = |codec| {
        let body = compress(plain.body(), codec).unwrap_or_default();
        plain
            .with_records(body, 20, codec)
            .unwrap_or_else(|_| plain.clone())
    };
    let raw = packed(Compression::Snappy);
    let length = u32::try_from(raw.body().len()).unwrap_or(0);
    let framed = [
        &b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..],
        &length.to_be_bytes(),
        raw.body(),
    ];
    let framed = raw.with_records(framed.concat().into(), 20, Compression::Snappy);
    vec![
        ("gzip", packed(Compression::Gzip)),
        ("lz4", packed(Compression::Lz4)),
        ("zstd", packed(Compression::Zstd)),
        ("snappy-framed", framed.unwrap_or_else(|_| raw.clone())),
        ("snappy", raw),
    ]
}

fn proposals() -> Vec<(&'static str, Vec<Vec<Command>>)> {
    let topic = Uuid([4; 16]);
    let at = TopicPartition::new(topic, 0);
    let nodes = [1, 2, 3].map(NodeId);
    let endpoint = Endpoint {
        host: "host".to_owned(),
        port: 9092,
    };
    let register = |id: NodeId| {
        Command::RegisterNode(Registration {
            id,
            name: format!("node-{id}"),
            storage: Uuid([u8::try_from(id.0).unwrap_or(0); 16]),
            peer_address: "host:1".to_owned(),
            endpoints: BTreeMap::from([("kafka".to_owned(), endpoint.clone())]),
            rack: None,
            start: StartKind::Clean,
        })
    };
    let create = Command::CreateTopic {
        id: topic,
        name: "events".to_owned(),
        internal: false,
        configs: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
        replicas: vec![nodes.to_vec(), vec![NodeId(2), NodeId(3), NodeId(1)]],
    };
    let unfence = |id: NodeId| Command::UnfenceNode {
        id,
        epoch: NodeEpoch(1),
    };
    let mut cluster = vec![vec![Command::FormCluster {
        cluster_id: Uuid([1; 16]),
    }]];
    cluster.extend(nodes.map(|id| vec![register(id)]));
    cluster.extend(nodes.map(|id| vec![unfence(id)]));
    cluster.push(vec![create]);
    let mut changes = cluster.clone();
    let partition_epoch = PartitionEpoch(1);
    changes.extend([
        vec![Command::AlterPartition(IsrProposal {
            at,
            leader: NodeId(1),
            node_epoch: NodeEpoch(1),
            leader_epoch: LeaderEpoch(1),
            partition_epoch,
            isr: vec![(NodeId(1), NodeEpoch(1)), (NodeId(2), NodeEpoch(1))],
        })],
        vec![Command::ChangePartition(PartitionChange {
            at,
            partition_epoch,
            leader: Some(NodeId(2)),
            elect: true,
            isr: nodes.to_vec(),
            elr: vec![],
            last_known_elr: vec![],
        })],
        vec![Command::StartReassignment {
            at,
            partition_epoch,
            target: vec![NodeId(3), NodeId(1)],
        }],
        vec![Command::CreatePartitions {
            id: topic,
            from: 2,
            replicas: vec![nodes.to_vec()],
        }],
        vec![Command::SetTopicConfigs {
            id: topic,
            configs: BTreeMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]),
        }],
        vec![Command::AllocateProducerIds { count: 1000 }],
        vec![Command::FenceNode {
            id: NodeId(3),
            epoch: NodeEpoch(1),
        }],
        vec![Command::PutDocument {
            key: "room/key".to_owned(),
            expected: None,
            value: vec![1, 2, 3],
        }],
        vec![Command::DeleteTopic { id: topic }],
    ]);
    vec![("cluster", cluster), ("changes", changes)]
}

/// A request as a frame.
fn encode<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let api = ApiKey::try_from(R::KEY).expect("the crate knows its own requests");
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("fuzz")));
    let mut frame = Vec::new();
    header
        .encode(&mut frame, api.request_header_version(version))
        .and_then(|()| request.encode(&mut frame, version))
        .expect("seeds are well formed");
    framed(&frame)
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), frame].concat()
}

/// More fetches than a connection may have under way, none of which gets what it wants
/// before the client is gone.
fn waiting_fetches() -> Vec<u8> {
    let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = fetch_request::FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("captured")))
        .with_partitions(vec![partition]);
    let fetch = FetchRequest::default()
        .with_max_wait_ms(i32::MAX)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic]);
    encode(4, &fetch).repeat(65)
}

/// An empty body in every version of every request there is.
fn every_version() -> Vec<u8> {
    let mut data = encode(3, &ApiVersionsRequest::default());
    for key in 0..100 {
        let Ok(api) = ApiKey::try_from(key) else {
            continue;
        };
        let range = api.valid_versions();
        for version in [range.min, range.max] {
            let header = RequestHeader::default()
                .with_request_api_key(key)
                .with_request_api_version(version);
            let mut frame = Vec::new();
            let header = header.encode(&mut frame, api.request_header_version(version));
            if header.is_ok() {
                frame.extend_from_slice(&[0; 64]);
                data.extend_from_slice(&framed(&frame));
            }
        }
    }
    data
}

/// A capture of a client, with the topic id that [`kafka::kafka_session`] has in place
/// of the one it was captured with.
#[must_use]
pub fn with_topic_id(capture: &[u8]) -> Vec<u8> {
    static ID: Mutex<Option<TopicId>> = Mutex::new(None);
    world::run(|world| async move {
        let (_, id) = kafka::broker(&world.env("node")).await;
        *ID.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    });
    let id = ID.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut data, mut rest) = (Vec::new(), capture);
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (frame, behind) = behind.split_at(length.min(behind.len()));
        let mut frame = frame.to_vec();
        if let Some((sent, id)) = sent_topic_id(&frame).zip(*id) {
            let place = frame.windows(16).position(|window| window == sent);
            if let Some(at) = place {
                frame[at..at + 16].copy_from_slice(&id.0);
            }
        }
        data.extend_from_slice(&framed(&frame));
        rest = behind;
    }
    data
}

fn sent_topic_id(frame: &[u8]) -> Option<[u8; 16]> {
    let mut body = Bytes::copy_from_slice(frame);
    let header = decode_request_header_from_buffer(&mut body).ok()?;
    let version = header.request_api_version;
    if version < 13 {
        return None;
    }
    let id = if header.request_api_key == ApiKey::Produce as i16 {
        let request = ProduceRequest::decode(&mut body, version).ok()?;
        request.topic_data.first()?.topic_id
    } else if header.request_api_key == ApiKey::Fetch as i16 {
        FetchRequest::decode(&mut body, version)
            .ok()?
            .topics
            .first()?
            .topic_id
    } else {
        return None;
    };
    Some(*id.as_bytes())
}
