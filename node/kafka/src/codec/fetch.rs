//! The fetch response, encoded by hand: every field into one buffer, while payload
//! chunks are put between its slices as they are and never copied.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use weir_base::Uuid;

use super::{put_length, put_uvarint};

/// A topic as the version names it: by name up to 12, by id since.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(StrBytes),
    Id(Uuid),
}

/// What one partition answers.
#[derive(Debug, Default)]
pub(crate) struct PartitionAnswer {
    pub(crate) index: i32,
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// Epoch and end offset where the client's log parts from this one.
    pub(crate) diverging: Option<(i32, i64)>,
    /// Leader id and epoch, told with errors that mean "elsewhere".
    pub(crate) leader: Option<(i32, i32)>,
    pub(crate) records: Vec<Bytes>,
}

/// A node named in [`PartitionAnswer::leader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaderEndpoint {
    pub(crate) node: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A whole response.
#[derive(Debug, Default)]
pub(crate) struct FetchAnswer {
    pub(crate) error: i16,
    pub(crate) session: i32,
    /// Neighbours of one topic are written as one topic.
    pub(crate) partitions: Vec<(TopicKey, PartitionAnswer)>,
    pub(crate) endpoints: Vec<LeaderEndpoint>,
}

/// Bytes of a partition beside its records, about: sizes the buffer.
const PARTITION_BYTES: usize = 64;

impl FetchAnswer {
    /// The response's pieces in order, length prefix included.
    pub(crate) fn encode(self, correlation: i32, version: i16) -> Vec<Bytes> {
        let mut out = Out {
            bytes: BytesMut::with_capacity(64 + self.partitions.len() * PARTITION_BYTES),
            version,
            flexible: version >= 12,
            pieces: Vec::new(),
        };
        out.bytes.put_i32(0);
        out.bytes.put_i32(correlation);
        out.no_tags();
        out.bytes.put_i32(0); // throttle time
        if version >= 7 {
            out.bytes.put_i16(self.error);
            out.bytes.put_i32(self.session);
        }
        let mut groups = Vec::new();
        let mut previous: Option<&TopicKey> = None;
        for (topic, _) in &self.partitions {
            match groups.last_mut() {
                Some(count) if previous == Some(topic) => *count += 1,
                _ => groups.push(1usize),
            }
            previous = Some(topic);
        }
        out.count(groups.len());
        let mut partitions = self.partitions.into_iter();
        for count in groups {
            for at in 0..count {
                let Some((topic, partition)) = partitions.next() else {
                    break;
                };
                if at == 0 {
                    out.topic(&topic);
                    out.count(count);
                }
                out.partition(partition);
            }
            out.no_tags();
        }
        out.endpoints(&self.endpoints);
        out.finish()
    }
}

struct Out {
    bytes: BytesMut,
    version: i16,
    flexible: bool,
    /// Payload, and how many of `bytes` come before it.
    pieces: Vec<(usize, Vec<Bytes>)>,
}

impl Out {
    fn topic(&mut self, topic: &TopicKey) {
        match topic {
            TopicKey::Id(id) => self.bytes.put_slice(&id.0),
            TopicKey::Name(name) => self.string(name),
        }
    }

    fn partition(&mut self, partition: PartitionAnswer) {
        self.bytes.put_i32(partition.index);
        self.bytes.put_i16(partition.error);
        self.bytes.put_i64(partition.high_watermark);
        // Without transactions everything committed is stable.
        self.bytes.put_i64(partition.high_watermark);
        if self.version >= 5 {
            self.bytes.put_i64(partition.log_start);
        }
        self.count(0); // aborted transactions
        if self.version >= 11 {
            self.bytes.put_i32(-1); // preferred read replica
        }
        self.records(partition.records);
        if self.flexible {
            self.partition_tags(partition.diverging, partition.leader);
        }
    }

    fn records(&mut self, chunks: Vec<Bytes>) {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        if self.flexible {
            put_uvarint(&mut self.bytes, wire(length) + 1);
        } else {
            self.bytes.put_u32(wire(length));
        }
        if length > 0 {
            self.pieces.push((self.bytes.len(), chunks));
        }
    }

    fn partition_tags(&mut self, diverging: Option<(i32, i64)>, leader: Option<(i32, i32)>) {
        put_uvarint(
            &mut self.bytes,
            u32::from(diverging.is_some()) + u32::from(leader.is_some()),
        );
        if let Some((epoch, end)) = diverging {
            self.bytes.put_slice(&[0, 4 + 8 + 1]);
            self.bytes.put_i32(epoch);
            self.bytes.put_i64(end);
            self.no_tags();
        }
        if let Some((node, epoch)) = leader {
            self.bytes.put_slice(&[1, 4 + 4 + 1]);
            self.bytes.put_i32(node);
            self.bytes.put_i32(epoch);
            self.no_tags();
        }
    }

    /// The end of the response: its tagged fields.
    fn endpoints(&mut self, endpoints: &[LeaderEndpoint]) {
        if self.version < 16 || endpoints.is_empty() {
            self.no_tags();
            return;
        }
        self.bytes.put_slice(&[1, 0]);
        let mut section = Out {
            bytes: BytesMut::new(),
            version: self.version,
            flexible: true,
            pieces: Vec::new(),
        };
        section.count(endpoints.len());
        for endpoint in endpoints {
            section.bytes.put_i32(endpoint.node);
            section.string(&endpoint.host);
            section.bytes.put_i32(i32::from(endpoint.port));
            section.bytes.put_u8(0); // no rack
            section.no_tags();
        }
        put_uvarint(&mut self.bytes, wire(section.bytes.len()));
        self.bytes.put_slice(&section.bytes);
    }

    fn string(&mut self, value: &str) {
        if self.flexible {
            put_uvarint(&mut self.bytes, wire(value.len()) + 1);
        } else {
            // Longer ones are no topic names or hosts, and were never accepted.
            self.bytes.put_u16(u16::try_from(value.len()).unwrap_or(0));
        }
        self.bytes.put_slice(value.as_bytes());
    }

    fn count(&mut self, count: usize) {
        if self.flexible {
            put_uvarint(&mut self.bytes, wire(count) + 1);
        } else {
            self.bytes.put_u32(wire(count));
        }
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.bytes.put_u8(0);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        let payload = self.pieces.iter().flat_map(|(_, chunks)| chunks);
        let payload: usize = payload.map(Bytes::len).sum();
        put_length(&mut self.bytes, payload);
        let fields = self.bytes.freeze();
        let chunks = self.pieces.iter().map(|(_, chunks)| chunks.len() + 1);
        let mut out = Vec::with_capacity(chunks.sum::<usize>() + 1);
        let mut from = 0;
        for (to, chunks) in self.pieces {
            out.push(fields.slice(from..to));
            out.extend(chunks);
            from = to;
        }
        out.push(fields.slice(from..));
        out
    }
}

/// A length for the wire; responses stay far below 2 GiB by the fetch limits.
fn wire(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    fn answer(version: i16) -> FetchAnswer {
        let topic = |n: u8| {
            if version >= 13 {
                TopicKey::Id(Uuid([n; 16]))
            } else {
                TopicKey::Name(StrBytes::from_string(format!("topic-{n}")))
            }
        };
        let data = PartitionAnswer {
            index: 3,
            high_watermark: 40,
            log_start: 2,
            records: vec![Bytes::from_static(b"head"), Bytes::from_static(b"body")],
            ..PartitionAnswer::default()
        };
        let empty = PartitionAnswer {
            index: 4,
            ..PartitionAnswer::default()
        };
        let failed = PartitionAnswer {
            index: 5,
            error: 6,
            high_watermark: -1,
            log_start: -1,
            diverging: Some((7, 8)),
            leader: Some((2, 9)),
            records: Vec::new(),
        };
        FetchAnswer {
            error: 0,
            session: 11,
            partitions: vec![(topic(1), data), (topic(1), empty), (topic(2), failed)],
            endpoints: vec![LeaderEndpoint {
                node: 2,
                host: "elsewhere".to_owned(),
                port: 9093,
            }],
        }
    }

    #[test]
    fn every_version_is_what_the_crate_decodes() {
        for version in 4..=17 {
            let pieces = answer(version).encode(77, version);
            let mut bytes = Bytes::from(pieces.concat());
            assert_eq!(bytes.get_i32(), i32::try_from(bytes.len()).unwrap());
            assert_eq!(bytes.get_i32(), 77);
            if version >= 12 {
                assert_eq!(bytes.get_u8(), 0);
            }
            let response = FetchResponse::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "version {version}");
            if version >= 7 {
                assert_eq!(response.session_id, 11);
            }
            let [first, second] = &response.responses[..] else {
                panic!("two topics, version {version}");
            };
            if version >= 13 {
                assert_eq!(first.topic_id.as_bytes(), &[1; 16]);
            } else {
                assert_eq!(first.topic.as_str(), "topic-1");
            }
            let data = &first.partitions[0];
            assert_eq!(data.records.as_deref(), Some(&b"headbody"[..]));
            assert_eq!((data.partition_index, data.high_watermark), (3, 40));
            assert_eq!(data.last_stable_offset, 40);
            assert_eq!(first.partitions[1].records.as_deref(), Some(&b""[..]));
            let failed = &second.partitions[0];
            assert_eq!((failed.partition_index, failed.error_code), (5, 6));
            if version >= 12 {
                assert_eq!(failed.diverging_epoch.epoch, 7);
                assert_eq!(failed.diverging_epoch.end_offset, 8);
                assert_eq!(failed.current_leader.leader_id.0, 2);
                assert_eq!(failed.current_leader.leader_epoch, 9);
            }
            assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
        }
    }

    #[test]
    fn payload_is_not_copied() {
        let payload = Bytes::from(vec![1; 100]);
        let partition = PartitionAnswer {
            records: vec![payload.clone()],
            ..PartitionAnswer::default()
        };
        let answer = FetchAnswer {
            partitions: vec![(TopicKey::Id(Uuid::ZERO), partition)],
            ..FetchAnswer::default()
        };
        let pieces = answer.encode(1, 17);
        assert!(
            pieces
                .iter()
                .any(|piece| piece.as_ptr() == payload.as_ptr())
        );
    }
}
