//! Copies: messages that are in the log as they were sent, once more for queues alone.
//!
//! A Kafka client's delayed message is a record of the log from the start, which who reads the
//! log sees at once. What is appended when it is due is a record of a control batch, which
//! Kafka clients pass over: its key is of a type that none of them knows (version 0, as all
//! of them read), its value the [`Payload`]. So nobody sees the message twice.

use bytes::Bytes;
use weir_base::batch::{BatchBuilder, Record, RecordHeader};

use crate::envelope::Payload;

/// Key of a control record: version 0, type "WD".
const COPY_KEY: [u8; 4] = [0, 0, b'W', b'D'];

/// Adds a copy to a batch, which must be a control batch.
#[must_use]
pub fn append_copy(payload: &Payload, batch: BatchBuilder) -> BatchBuilder {
    batch.record(Some(&COPY_KEY), Some(&payload.encode()))
}

/// The message that a record of a control batch is a copy of, at the copy's place and time;
/// `None` if it is none.
#[must_use]
pub fn message_of_copy(record: &Record) -> Option<Record> {
    let key = record.key.as_deref()?;
    let payload = (key == COPY_KEY).then_some(record.value.as_deref()?)?;
    let payload = Payload::decode(payload).ok()?;
    let header = |(key, value): (Bytes, Option<Bytes>)| RecordHeader { key, value };
    Some(Record {
        offset: record.offset,
        timestamp: record.timestamp,
        key: payload.key,
        value: payload.value,
        headers: payload.headers.into_iter().map(header).collect(),
    })
}
