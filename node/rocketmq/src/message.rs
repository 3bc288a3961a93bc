//! A message in RocketMQ's words and in Weir's: the envelope of `weir-queue` is what
//! both meet in, so that every other client reads it too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use weir_api::queues;
use weir_base::Timestamp;

use crate::names;
use crate::proto::{
    DeadLetterQueue, Digest, DigestType, Encoding, Message, MessageType, Resource,
    SystemProperties, WireTimestamp,
};

/// How the envelope says that a body is compressed.
const GZIP: &str = "gzip";
/// The properties of a dead letter that RocketMQ shows apart.
const DLQ_TOPIC: &str = "weir.dlq.origin.topic";

/// What is stored of a message that was checked. `remote` stands in for a client that
/// does not say where it is.
pub(crate) fn stored(message: Message, remote: SocketAddr) -> queues::Message {
    let system = message.system_properties.unwrap_or_default();
    let encoding = match system.body_encoding() {
        Encoding::Gzip => Some(GZIP.into()),
        Encoding::Unspecified | Encoding::Identity => None,
    };
    let host = match system.born_host.is_empty() {
        true => remote.ip().to_string(),
        false => system.born_host,
    };
    let properties = message.user_properties.into_iter();
    queues::Message {
        id: system.message_id.into(),
        body: message.body,
        tag: system.tag.map(Arc::from),
        keys: system.keys.into_iter().map(Arc::from).collect(),
        group: system.message_group.map(Arc::from),
        born_at: system.born_timestamp.map(WireTimestamp::to_timestamp),
        born_host: Some(host.into()),
        trace: system.trace_context.map(Arc::from),
        deliver_at: system.delivery_timestamp.map(WireTimestamp::to_timestamp),
        version: None,
        encoding,
        properties: properties.map(|(k, v)| (k.into(), v.into())).collect(),
    }
}

/// A message as clients get it. What only a delivery knows (its place, its attempt, its
/// receipt) is the caller's to add.
pub(crate) fn shown(
    topic: Option<Resource>,
    stored_at: Option<Timestamp>,
    message: queues::Message,
) -> Message {
    let dead_letter_queue = dead_letter_queue(&message);
    let message_type = match (&message.group, message.deliver_at) {
        (Some(_), _) => MessageType::Fifo,
        (None, Some(_)) => MessageType::Delay,
        (None, None) => MessageType::Normal,
    };
    let encoding = match message.encoding.as_deref() {
        Some(GZIP) => Encoding::Gzip,
        Some(_) | None => Encoding::Identity,
    };
    let system = SystemProperties {
        tag: message.tag.map(|tag| tag.to_string()),
        keys: message.keys.iter().map(ToString::to_string).collect(),
        message_id: message.id.to_string(),
        body_digest: Some(body_digest(&message.body)),
        body_encoding: encoding.into(),
        message_type: message_type.into(),
        born_timestamp: message.born_at.map(WireTimestamp::from),
        born_host: message.born_host.unwrap_or_default().to_string(),
        store_timestamp: stored_at.map(WireTimestamp::from),
        delivery_timestamp: message.deliver_at.map(WireTimestamp::from),
        message_group: message.group.map(|group| group.to_string()),
        trace_context: message.trace.map(|trace| trace.to_string()),
        dead_letter_queue,
        ..SystemProperties::default()
    };
    let properties = message.properties.into_iter();
    let user_properties: BTreeMap<_, _> = properties
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    Message {
        topic,
        user_properties,
        system_properties: Some(system),
        body: message.body,
    }
}

/// A half message, as its producer is asked about it. Go's client reads a queue offset.
pub(crate) fn half(topic: Resource, message: queues::Message) -> Message {
    let mut half = shown(Some(topic), None, message);
    let system = half.system_properties.get_or_insert_default();
    system.message_type = MessageType::Transaction.into();
    system.queue_offset = Some(0);
    half
}

/// Where a dead letter came from.
fn dead_letter_queue(message: &queues::Message) -> Option<DeadLetterQueue> {
    let mut properties = message.properties.iter();
    let (_, topic) = properties.find(|(name, _)| **name == *DLQ_TOPIC)?;
    Some(DeadLetterQueue {
        topic: names::shown(topic),
        message_id: message.id.to_string(),
    })
}

/// SHA-1, since it is the only digest whose spelling all clients agree on: of CRC-32, one
/// wants leading zeros, one does not, and one wants decimal digits.
fn body_digest(body: &[u8]) -> Digest {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, body);
    let digits = digest
        .as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    Digest {
        r#type: DigestType::Sha1.into(),
        checksum: digits.map(|digit| digit.to_ascii_uppercase()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_published_one() {
        let digest = body_digest(b"abc");
        assert_eq!(digest.checksum, "A9993E364706816ABA3E25717850C26C9CD0D89D");
        assert_eq!(digest.r#type, i32::from(DigestType::Sha1));
    }
}
