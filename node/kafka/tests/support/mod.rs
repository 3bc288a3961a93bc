//! A front over a fake broker, and a client made of the crate's encodings.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "test support: each test uses its part, and a failure is a failed test"
)]

pub mod env;

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_api::fake::FakeBroker;
use weir_api::{FrontContext, NewTopic};
use weir_base::batch::BatchBuilder;
use weir_base::{ByteStream, Env, RecordBatch, Timestamp, TopicId};
use weir_kafka::{KafkaFront, KafkaOptions};

/// Runs a test on a runtime of its own, and fails it if it hangs.
#[expect(clippy::disallowed_methods, reason = "a test that hangs must fail")]
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), test).await };
    runtime.block_on(limited).expect("test finished in time")
}

pub struct Fixture {
    pub env: Env,
    pub broker: FakeBroker,
    pub front: KafkaFront,
}

impl Fixture {
    pub async fn start() -> Fixture {
        Self::with(KafkaOptions::default()).await
    }

    pub async fn with(options: KafkaOptions) -> Fixture {
        let env = env::env();
        let broker = FakeBroker::new(&env);
        let options = KafkaOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            ..options
        };
        let context = FrontContext {
            env: env.clone(),
            api: broker.api(),
        };
        let front = KafkaFront::start(context, options).await.unwrap();
        broker.advertise("kafka", "127.0.0.1", front.local_address().port());
        Fixture { env, broker, front }
    }

    pub async fn client(&self) -> Client {
        let stream = self.env.net.connect(self.front.local_address()).await;
        Client {
            stream: stream.unwrap(),
            correlation: 0,
        }
    }

    pub async fn topic(&self, name: &str, partitions: u32) -> TopicId {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            ..NewTopic::default()
        };
        let admin = self.broker.api().admin;
        admin
            .create_topic(topic, false, Duration::from_secs(1))
            .await
            .unwrap()
    }

    pub fn now(&self) -> Timestamp {
        self.env.clock.wall()
    }

    pub fn batch(&self, values: &[&str]) -> RecordBatch {
        let builder = BatchBuilder::new(self.now());
        let add = |b: BatchBuilder, v: &&str| b.record(Some(b"key"), Some(v.as_bytes()));
        values.iter().fold(builder, add).build()
    }
}

pub struct Client {
    pub stream: Box<dyn ByteStream>,
    pub correlation: i32,
}

/// A request as bytes, length prefix included.
pub fn encode<R: Request>(correlation: i32, version: i16, request: &R) -> Bytes {
    let api = ApiKey::try_from(R::KEY).unwrap();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("test-client")));
    let mut frame = BytesMut::new();
    header
        .encode(&mut frame, api.request_header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    let mut out = BytesMut::from(&i32::try_from(frame.len()).unwrap().to_be_bytes()[..]);
    out.extend_from_slice(&frame);
    out.freeze()
}

impl Client {
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        let bytes = encode(self.correlation, version, request);
        self.stream.write_all(&bytes).await.unwrap();
        self.correlation
    }

    /// The next response frame; `None` if the connection was closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.unwrap();
        Some(frame.into())
    }

    pub async fn receive<R: Decodable + HeaderVersion>(&mut self, version: i16) -> (i32, R) {
        let mut frame = self.frame().await.expect("a response");
        let header = ResponseHeader::decode(&mut frame, R::header_version(version)).unwrap();
        let response = R::decode(&mut frame, version).unwrap();
        assert_eq!(frame.remaining(), 0, "bytes behind the response");
        (header.correlation_id, response)
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (correlation, response) = self.receive::<R::Response>(version).await;
        assert_eq!(correlation, sent);
        response
    }
}

pub fn name<T: From<StrBytes>>(value: &str) -> T {
    StrBytes::from_string(value.to_owned()).into()
}
