//! The produce request, decoded by hand: it is the hot path and may be large. Record
//! batches stay slices of the request frame.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;
use weir_base::Uuid;

use super::{get_uvarint, skip_tags};

/// A produce request, versions 3 to 13.
#[derive(Debug)]
pub(crate) struct Produce {
    pub(crate) transactional_id: Option<StrBytes>,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Vec<ProduceTopic>,
}

/// One topic's part.
#[derive(Debug)]
pub(crate) struct ProduceTopic {
    /// Before version 13; empty since.
    pub(crate) name: StrBytes,
    /// Since version 13; zero before.
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<ProducePartition>,
}

/// One partition's part.
#[derive(Debug)]
pub(crate) struct ProducePartition {
    pub(crate) index: i32,
    pub(crate) records: Option<Bytes>,
}

/// Least bytes of a topic and of a partition: what bounds the counts.
const TOPIC_BYTES_MIN: usize = 3;
const PARTITION_BYTES_MIN: usize = 5;

impl Produce {
    /// `None` if malformed.
    pub(crate) fn decode(body: Bytes, version: i16) -> Option<Produce> {
        let mut body = Body {
            bytes: body,
            flexible: version >= 9,
        };
        let transactional_id = body.nullable_string()?;
        let acks = body.bytes.try_get_i16().ok()?;
        let timeout_ms = body.bytes.try_get_i32().ok()?;
        let count = body.count(TOPIC_BYTES_MIN)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(body.topic(version)?);
        }
        body.end_of_struct()?;
        Some(Produce {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }
}

struct Body {
    bytes: Bytes,
    flexible: bool,
}

impl Body {
    fn topic(&mut self, version: i16) -> Option<ProduceTopic> {
        let (mut name, mut id) = (StrBytes::new(), Uuid::ZERO);
        if version >= 13 {
            if self.bytes.len() < id.0.len() {
                return None;
            }
            self.bytes.copy_to_slice(&mut id.0);
        } else {
            name = self.nullable_string()??;
        }
        let count = self.count(PARTITION_BYTES_MIN)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            let index = self.bytes.try_get_i32().ok()?;
            let records = self.nullable_bytes()?;
            self.end_of_struct()?;
            partitions.push(ProducePartition { index, records });
        }
        self.end_of_struct()?;
        Some(ProduceTopic {
            name,
            id,
            partitions,
        })
    }

    /// An array's count, if as many elements can be there.
    fn count(&mut self, element_bytes_min: usize) -> Option<usize> {
        let count = if self.flexible {
            usize::try_from(get_uvarint(&mut self.bytes)?.checked_sub(1)?).ok()?
        } else {
            usize::try_from(self.bytes.try_get_i32().ok()?).ok()?
        };
        (count <= self.bytes.len() / element_bytes_min).then_some(count)
    }

    #[expect(
        clippy::option_option,
        reason = "malformed and null are different things"
    )]
    fn nullable_string(&mut self) -> Option<Option<StrBytes>> {
        let length = if self.flexible {
            i64::from(get_uvarint(&mut self.bytes)?) - 1
        } else {
            i64::from(self.bytes.try_get_i16().ok()?)
        };
        match self.take(length)? {
            None => Some(None),
            Some(bytes) => StrBytes::from_utf8(bytes).ok().map(Some),
        }
    }

    #[expect(
        clippy::option_option,
        reason = "malformed and null are different things"
    )]
    fn nullable_bytes(&mut self) -> Option<Option<Bytes>> {
        let length = if self.flexible {
            i64::from(get_uvarint(&mut self.bytes)?) - 1
        } else {
            i64::from(self.bytes.try_get_i32().ok()?)
        };
        self.take(length)
    }

    #[expect(
        clippy::option_option,
        reason = "malformed and null are different things"
    )]
    fn take(&mut self, length: i64) -> Option<Option<Bytes>> {
        if length == -1 {
            return Some(None);
        }
        let length = usize::try_from(length).ok()?;
        (length <= self.bytes.len()).then(|| Some(self.bytes.split_to(length)))
    }

    fn end_of_struct(&mut self) -> Option<()> {
        if self.flexible {
            skip_tags(&mut self.bytes)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_version_decodes_as_the_crate_encodes_it() {
        for version in 3..=13 {
            let id = [9u8; 16];
            let partition = PartitionProduceData::default()
                .with_index(4)
                .with_records(Some(Bytes::from_static(b"records")));
            let null = PartitionProduceData::default()
                .with_index(5)
                .with_records(None);
            let mut topic = TopicProduceData::default().with_partition_data(vec![partition, null]);
            topic = if version >= 13 {
                topic.with_topic_id(uuid::Uuid::from_bytes(id))
            } else {
                topic.with_name(StrBytes::from_static_str("t").into())
            };
            let request = ProduceRequest::default()
                .with_acks(-1)
                .with_timeout_ms(77)
                .with_transactional_id(Some(StrBytes::from_static_str("tx").into()))
                .with_topic_data(vec![topic]);
            let mut bytes = BytesMut::new();
            request.encode(&mut bytes, version).unwrap();
            let bytes = bytes.freeze();
            let decoded = Produce::decode(bytes.clone(), version).unwrap();
            assert_eq!(decoded.transactional_id.as_deref(), Some("tx"));
            assert_eq!((decoded.acks, decoded.timeout_ms), (-1, 77));
            let topic = &decoded.topics[0];
            assert_eq!(topic.name.as_str(), if version >= 13 { "" } else { "t" });
            assert_eq!(topic.id.0 == id, version >= 13);
            assert_eq!(topic.partitions[0].index, 4);
            assert_eq!(
                topic.partitions[0].records.as_deref(),
                Some(&b"records"[..])
            );
            assert_eq!(topic.partitions[1].records, None);
            for length in 0..bytes.len() {
                assert!(Produce::decode(bytes.slice(..length), version).is_none());
            }
        }
    }
}
