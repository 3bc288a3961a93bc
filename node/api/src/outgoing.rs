//! From what a queue's journal says is to be sent, to the records to be appended.

use weir_base::Offset;

use crate::queues::envelope::{DLQ_PREFIX, HEADER_ONLY, HEADER_REPLAYED, dead_letter_headers};
use crate::queues::{OutgoingMessage, Payload, QueueRecord};

/// The payload that a journal record keeps of a delayed or half message.
#[must_use]
pub fn kept_payload(record: &QueueRecord) -> Option<Payload> {
    Payload::decode(record.payload()?).ok()
}

/// Where the messages of an outgoing batch come from.
pub trait OutgoingSources {
    /// What the journal keeps at a place: it was promised, so it is there.
    fn kept(&self, at: Offset) -> Option<Payload>;

    /// The partition's record at an offset, as far as retention left it.
    fn stored(&self, at: Offset) -> Option<Payload>;

    /// The partition's topic and index, for dead letters to tell.
    fn origin(&self) -> (&str, u32);
}

/// What one outgoing message is to be appended as; `None` if its payload is not to be had.
/// A dead letter whose record retention took is told of all the same, without body, and so
/// is one that is replayed.
#[must_use]
pub fn outgoing_payload(
    message: &OutgoingMessage,
    sources: &impl OutgoingSources,
) -> Option<Payload> {
    match message {
        OutgoingMessage::Released { payload_at, .. }
        | OutgoingMessage::Committed { payload_at, .. }
        | OutgoingMessage::Aside { payload_at, .. } => sources.kept(*payload_at),
        OutgoingMessage::DeadLetter { offset, facts } => {
            let mut payload = sources.stored(*offset).unwrap_or_default();
            payload.remove_headers(DLQ_PREFIX);
            let (topic, partition) = sources.origin();
            for (name, value) in dead_letter_headers(facts, topic, partition, *offset) {
                payload.set_header(name, &value);
            }
            Some(payload)
        }
        OutgoingMessage::Forwarded { offset } => {
            let mut payload = sources.stored(*offset).unwrap_or_default();
            payload.remove_headers(DLQ_PREFIX);
            Some(payload)
        }
        OutgoingMessage::Replayed { offset, group } => {
            let mut payload = sources.stored(*offset).unwrap_or_default();
            payload.remove_headers(DLQ_PREFIX);
            let (topic, partition) = sources.origin();
            let letter = format!("{topic}-{partition}-{offset}");
            payload.set_header(HEADER_REPLAYED, &letter);
            payload.remove_headers(HEADER_ONLY);
            if let Some(group) = group {
                payload.set_header(HEADER_ONLY, group);
            }
            Some(payload)
        }
    }
}
