//! A small Kafka client: one connection, one request at a time, every call with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, BrokerId, CreateTopicsRequest, FetchRequest, InitProducerIdRequest, MetadataRequest,
    MetadataResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    fetch_request::{FetchPartition, FetchTopic},
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_base::{ByteStream, Env, RecordBatch};

/// Largest answer this client takes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One connection to one node.
pub struct KafkaClient {
    env: Env,
    to: SocketAddr,
    stream: Box<dyn ByteStream>,
    correlation: i32,
    deadline: Duration,
}

/// What a produce request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Produced {
    /// Acknowledged at this offset.
    At(i64),
    /// Refused with this error code.
    Refused(i16),
}

/// What a fetch came to.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Kafka error code.
    pub error: i16,
    /// The high watermark told.
    pub high_watermark: i64,
    /// Batches.
    pub batches: Vec<RecordBatch>,
}

impl KafkaClient {
    /// Connects within `deadline`, which also bounds every call.
    ///
    /// # Errors
    /// If nothing answers there in time.
    pub async fn connect(env: &Env, to: SocketAddr, deadline: Duration) -> Result<KafkaClient> {
        let connected = env.timeout(deadline, env.net.connect(to)).await;
        let stream = connected.context("no connection in time")??;
        Ok(Self {
            env: env.clone(),
            to,
            stream,
            correlation: 0,
            deadline,
        })
    }

    /// Whom it talks to.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.to
    }

    /// One request and its response.
    ///
    /// # Errors
    /// If it does not come back whole in time: the outcome is unknown, and the
    /// connection must not be used again.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let deadline = self.deadline;
        let env = self.env.clone();
        env.timeout(deadline, self.call_unbounded(request, version))
            .await
            .ok_or_else(|| anyhow!("no answer within {deadline:?}"))?
    }

    async fn call_unbounded<R: Request>(&mut self, body: &R, version: i16) -> Result<R::Response> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("weir-sim")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let api = ApiKey::try_from(R::KEY).map_err(|()| anyhow!("unknown api {}", R::KEY))?;
        header.encode(&mut frame, api.request_header_version(version))?;
        body.encode(&mut frame, version)?;
        let size = i32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&frame).await?;
        self.stream.flush().await?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).await?;
        let size = usize::try_from(i32::from_be_bytes(size))?;
        if size > RESPONSE_BYTES_MAX {
            bail!("answer of {size} bytes");
        }
        let mut answer = vec![0; size];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut answer, header_version)?;
        if header.correlation_id != self.correlation {
            bail!(
                "answer {} to request {}",
                header.correlation_id,
                self.correlation
            );
        }
        let response = R::Response::decode(&mut answer, version)?;
        if answer.has_remaining() {
            bail!("{} bytes left over", answer.remaining());
        }
        Ok(response)
    }

    /// Makes a topic; "exists already" is as good as made. Gives the error code otherwise.
    ///
    /// # Errors
    /// As [`KafkaClient::call`].
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<i16> {
        let configs = configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(5_000);
        let response = self.call(&request, 5).await?;
        let result = response.topics.first().context("no topic in the answer")?;
        const TOPIC_ALREADY_EXISTS: i16 = 36;
        Ok(if result.error_code == TOPIC_ALREADY_EXISTS {
            0
        } else {
            result.error_code
        })
    }

    /// The cluster and one topic.
    ///
    /// # Errors
    /// As [`KafkaClient::call`].
    pub async fn metadata(&mut self, topic: &str) -> Result<MetadataResponse> {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.call(&request, 9).await
    }

    /// A new producer id and epoch.
    ///
    /// # Errors
    /// As [`KafkaClient::call`], or the error code as text.
    pub async fn new_producer(&mut self) -> Result<(i64, i16)> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000);
        let response = self.call(&request, 3).await?;
        if response.error_code != 0 {
            bail!("InitProducerId: error {}", response.error_code);
        }
        Ok((response.producer_id.0, response.producer_epoch))
    }

    /// Produces one batch with acks=all.
    ///
    /// # Errors
    /// As [`KafkaClient::call`]: unknown outcome.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &RecordBatch,
        timeout: Duration,
    ) -> Result<Produced> {
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch.to_bytes()));
        let topic = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(i32::try_from(timeout.as_millis())?)
            .with_topic_data(vec![topic]);
        let response = self.call(&request, 9).await?;
        let partitions = response.responses.first().map(|t| &t.partition_responses);
        let result = partitions
            .and_then(|p| p.first())
            .context("no partition in the answer")?;
        Ok(match result.error_code {
            0 => Produced::At(result.base_offset),
            error => Produced::Refused(error),
        })
    }

    /// Fetches what is there.
    ///
    /// # Errors
    /// As [`KafkaClient::call`], or if what came does not parse.
    pub async fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Fetched> {
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(8 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.call(&request, 11).await?;
        let partitions = response.responses.first().map(|t| &t.partitions);
        let result = partitions
            .and_then(|p| p.first())
            .context("no partition in the answer")?;
        Ok(Fetched {
            error: result.error_code,
            high_watermark: result.high_watermark,
            batches: whole_batches(result.records.clone().unwrap_or_default())?,
        })
    }
}

/// The whole batches of an answer whose last one may be cut.
fn whole_batches(mut bytes: Bytes) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        match RecordBatch::parse_prefix(&bytes) {
            Ok((batch, used)) => {
                batch.verify_checksum()?;
                bytes = bytes.slice(used..);
                batches.push(batch);
            }
            Err(weir_base::BatchError::Truncated { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(batches)
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
