//! The one piece of member metadata the coordinator looks into: which topics a member
//! with protocol type `consumer` subscribes to.
//!
//! Kafka's ConsumerProtocolSubscription, any version: `i16` version, then an array of
//! topic names (`i32` count, each an `i16` length and bytes). What follows is left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type of consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics in a consumer's metadata; `None` if it is not in Kafka's format (Streams
/// and home-made assignors may put anything there).
#[must_use]
pub fn subscribed_topics(mut metadata: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let version = i16::from_be_bytes(take(&mut metadata)?);
    if version < 0 {
        return None;
    }
    let count = u32::try_from(i32::from_be_bytes(take(&mut metadata)?)).ok()?;
    let mut topics = BTreeSet::new();
    // A lying count ends at the end of the bytes; nothing is allocated ahead.
    for _ in 0..count {
        let length = usize::try_from(i16::from_be_bytes(take(&mut metadata)?)).ok()?;
        let (name, rest) = metadata.split_at_checked(length)?;
        topics.insert(Arc::from(std::str::from_utf8(name).ok()?));
        metadata = rest;
    }
    Some(topics)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_and_garbage_is_not_believed() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c'];
        bytes.extend([0, 0, 0, 0]);
        let topics = subscribed_topics(&bytes).unwrap();
        assert_eq!(topics.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "bc"]);
        for len in 0..13 {
            assert_eq!(subscribed_topics(&bytes[..len]), None, "{len}");
        }
        assert_eq!(
            subscribed_topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]),
            None
        );
        assert_eq!(subscribed_topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }
}
