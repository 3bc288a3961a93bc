//! No frame, however hostile, panics or aborts the node.

use std::sync::OnceLock;
use std::task::{Context, Waker};

use kafka_protocol::messages::{
    FetchRequest, JoinGroupRequest, OffsetCommitRequest, ProduceRequest, RequestHeader,
    fetch_request, join_group_request, offset_commit_request, produce_request,
};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use proptest::prelude::*;
use weir_api::fake::FakeBroker;
use weir_base::Timestamp;
use weir_base::batch::BatchBuilder;

use super::*;
use crate::KafkaOptions;
use crate::codec::versions::SERVED;

#[path = "../../tests/support/env.rs"]
mod env;

/// A runtime for what handlers sleep on, and a broker for them to ask.
pub(super) struct Fixture {
    runtime: tokio::runtime::Runtime,
    pub(super) broker: FakeBroker,
    pub(super) shared: Arc<Shared>,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let env = runtime.block_on(async { env::env() });
        let broker = FakeBroker::new(&env);
        let options = KafkaOptions {
            auto_create_topics: false,
            ..KafkaOptions::default()
        };
        let shared = Arc::new(Shared::new(env, broker.api(), options));
        Fixture {
            runtime,
            broker,
            shared,
        }
    }

    /// Routes a frame and polls its handler once.
    pub(super) fn feed_bytes(&self, frame: Bytes) -> Result<(), CloseReason> {
        let _entered = self.runtime.enter();
        let remote = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut context = Context::from_waker(Waker::noop());
        let mut handling = match route(&self.shared, remote, frame)? {
            Started::Handling(handling) => handling,
            Started::Checking(mut checking) => match checking.as_mut().poll(&mut context) {
                std::task::Poll::Ready(handling) => handling,
                std::task::Poll::Pending => return Ok(()),
            },
        };
        match handling.as_mut().poll(&mut context) {
            std::task::Poll::Ready(reply) => reply.map(|_| ()),
            std::task::Poll::Pending => Ok(()),
        }
    }
}

fn feed(frame: Vec<u8>) -> Result<(), CloseReason> {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    let fixture = FIXTURE.get_or_init(Fixture::new);
    fixture.feed_bytes(frame.into())
}

fn header(api: i16, version: i16, flexible: bool) -> Vec<u8> {
    let mut frame = api.to_be_bytes().to_vec();
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 1, b'c']);
    if flexible {
        frame.push(0);
    }
    frame
}

#[test]
fn every_version_in_the_table_has_a_route() {
    for row in SERVED {
        for version in row.min..=row.max {
            let flexible = row.api.request_header_version(version) >= 2;
            match feed(header(row.api as i16, version, flexible)) {
                Err(CloseReason::UnknownApi(api)) => panic!("{api} has no route"),
                Err(CloseReason::Unencodable { detail, .. }) => panic!("{detail}"),
                Ok(()) | Err(_) => {}
            }
        }
    }
}

pub(super) fn valid<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let api = ApiKey::try_from(R::KEY).unwrap();
    let mut frame = Vec::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("client")))
        .encode(&mut frame, api.request_header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    frame
}

/// Valid frames with arrays within arrays, in old and new encodings.
fn corpus() -> Vec<Vec<u8>> {
    let name = StrBytes::from_static_str;
    let batch = BatchBuilder::new(Timestamp(1))
        .record(Some(b"k"), Some(b"v"))
        .build();
    let partition =
        produce_request::PartitionProduceData::default().with_records(Some(batch.to_bytes()));
    let topic = produce_request::TopicProduceData::default()
        .with_name(name("t").into())
        .with_partition_data(vec![partition]);
    let produce = ProduceRequest::default().with_topic_data(vec![topic]);
    let topic = fetch_request::FetchTopic::default()
        .with_topic(name("t").into())
        .with_partitions(vec![fetch_request::FetchPartition::default()]);
    let fetch = FetchRequest::default().with_topics(vec![topic]);
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(name("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    let join = JoinGroupRequest::default()
        .with_group_id(name("g").into())
        .with_protocols(vec![protocol]);
    let partition = offset_commit_request::OffsetCommitRequestPartition::default();
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name("t").into())
        .with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default().with_topics(vec![topic]);
    vec![
        valid(3, &produce),
        valid(9, &produce),
        valid(4, &fetch),
        valid(11, &fetch),
        valid(12, &fetch),
        valid(4, &join),
        valid(9, &join),
        valid(5, &commit),
        valid(9, &commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_bytes_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _reason = feed(frame);
    }

    #[test]
    fn random_bodies_of_every_api_never_panic(
        row in 0..SERVED.len(),
        version in 0i16..18,
        body in proptest::collection::vec(
            prop_oneof![5 => Just(0u8), 3 => 1u8..5, 1 => 0x80u8.., 1 => any::<u8>()],
            0..150,
        ),
    ) {
        let row = &SERVED[row];
        let version = row.min + version % (row.max - row.min + 1);
        let flexible = row.api.request_header_version(version) >= 2;
        let mut frame = header(row.api as i16, version, flexible);
        frame.extend_from_slice(&body);
        if let Err(CloseReason::Unencodable { detail, .. }) = feed(frame) {
            panic!("{:?} {version}: {detail}", row.api);
        }
    }

    #[test]
    fn mutated_frames_never_panic(
        which in 0usize..9,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        truncate: bool,
    ) {
        let mut frame = corpus().swap_remove(which);
        for (at, byte) in edits {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if truncate {
            frame.truncate(cut.index(frame.len()));
        }
        let _reason = feed(frame);
    }
}
