//! One message, any client: which headers of a record carry what a queue needs.
//!
//! The value is the body, untouched. The record's key is the message group if there is
//! one, else the first of the message's keys. A record that a Kafka client wrote has none
//! of the headers below: its properties are its UTF-8 headers, its id is its place.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::batch::{BatchBuilder, Record, RecordHeader};
use weir_base::{Offset, Timestamp};

use crate::ids::KeyHash;
use crate::message::{MessageFacts, Needs};
use crate::options::DELAY_MAX;
use crate::record::DeadLetter;
use crate::replay::LetterFacts;

/// What all names of headers of the broker's own begin with; no user property may.
pub const RESERVED_PREFIX: &str = "weir.";
/// The message's id, text.
pub const HEADER_ID: &str = "weir.id";
/// Its tag, text.
pub const HEADER_TAG: &str = "weir.tag";
/// Its keys, text, separated by spaces.
pub const HEADER_KEYS: &str = "weir.keys";
/// Its message group, text.
pub const HEADER_GROUP: &str = "weir.group";
/// When the producer made it, milliseconds since 1970 in decimal.
pub const HEADER_BORN_AT: &str = "weir.born.at";
/// Where the producer runs, text.
pub const HEADER_BORN_HOST: &str = "weir.born.host";
/// Trace context (W3C traceparent), text.
pub const HEADER_TRACE: &str = "weir.trace";
/// When it is to be delivered, milliseconds since 1970 in decimal. Kafka clients may set it.
pub const HEADER_DELIVER_AT: &str = "weir.deliver.at";
/// After which delay it is to be delivered, milliseconds in decimal. Kafka clients may set it.
pub const HEADER_DELIVER_AFTER: &str = "weir.deliver.after";
/// What the names of both begin with.
pub const DELIVER_PREFIX: &[u8] = b"weir.deliver.";
/// Version of what the record's key names, a decimal number. Kafka clients may set it.
pub const HEADER_VERSION: &str = "weir.version";
/// How the body is encoded if it is not plain, text (`gzip`).
pub const HEADER_ENCODING: &str = "weir.encoding";
/// The one group that the message is for, text: dead letters that were replayed have it.
/// Other groups of queues pass it over; who reads the log sees it all the same.
pub const HEADER_ONLY: &str = "weir.replay.group";
/// The dead letter that a replayed message was: `<topic>-<partition>-<offset>`.
pub const HEADER_REPLAYED: &str = "weir.replay.letter";
/// Headers of dead letters.
pub const DLQ_PREFIX: &str = "weir.dlq.";

/// A record to be: what the journal keeps of a message until it is appended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Record key.
    pub key: Option<Bytes>,
    /// Record value.
    pub value: Option<Bytes>,
    /// Record headers in order; names as they came, values may be null.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A payload that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("payload does not decode: {0}")]
pub struct PayloadError(String);

impl Payload {
    /// Of a record, as it is.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.clone(), header.value.clone()))
                .collect(),
        }
    }

    /// The journal's form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Serializing plain bytes into memory cannot fail.
        postcard::to_stdvec(self)
            .map(Bytes::from)
            .unwrap_or_default()
    }

    /// Reads the journal's form.
    ///
    /// # Errors
    /// [`PayloadError`]: not written by this version or an older one.
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        postcard::from_bytes(bytes).map_err(|error| PayloadError(error.to_string()))
    }

    /// Adds it to a batch.
    #[must_use]
    pub fn append_to(&self, batch: BatchBuilder) -> BatchBuilder {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (&**name, value.as_deref()));
        batch.record_with_raw_headers(self.key.as_deref(), self.value.as_deref(), headers)
    }

    /// Bytes of the record batch that it would be alone in.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.append_to(BatchBuilder::new(Timestamp(0))).size()
    }

    /// Sets a header, in place of all of that name.
    pub fn set_header(&mut self, name: &str, value: &str) {
        self.headers.retain(|(key, _)| **key != *name.as_bytes());
        let (name, value) = (name.to_owned(), value.to_owned());
        self.headers.push((name.into(), Some(value.into())));
    }

    /// Takes out all headers whose names begin so.
    pub fn remove_headers(&mut self, prefix: &str) {
        self.headers
            .retain(|(key, _)| !key.starts_with(prefix.as_bytes()));
    }
}

/// A message as queue clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its id: `weir.id`, or `<partition>-<offset>` of a record without.
    pub id: Arc<str>,
    /// Body.
    pub body: Bytes,
    /// Tag.
    pub tag: Option<Arc<str>>,
    /// Keys.
    pub keys: Vec<Arc<str>>,
    /// Message group.
    pub group: Option<Arc<str>>,
    /// When it was made.
    pub born_at: Option<Timestamp>,
    /// Where it was made.
    pub born_host: Option<Arc<str>>,
    /// Trace context.
    pub trace: Option<Arc<str>>,
    /// When it is, or was, to be delivered.
    pub deliver_at: Option<Timestamp>,
    /// Version of what its key names.
    pub version: Option<u64>,
    /// How the body is encoded.
    pub encoding: Option<Arc<str>>,
    /// User properties, in order, names unique.
    pub properties: Vec<(Arc<str>, Arc<str>)>,
}

impl Message {
    /// Reads a record of partition `partition`. Headers that are no text are not shown.
    #[must_use]
    pub fn from_record(partition: u32, record: &Record) -> Self {
        let mut message = Self::from_payload(&Payload::of(record));
        if message.id.is_empty() {
            message.id = format!("{partition}-{}", record.offset).into();
        }
        message.born_at.get_or_insert(record.timestamp);
        message
    }

    /// Reads what the journal keeps; the id is empty if it has none.
    #[must_use]
    pub fn from_payload(payload: &Payload) -> Self {
        let mut message = Self {
            body: payload.value.clone().unwrap_or_default(),
            ..Self::default()
        };
        for (name, value) in &payload.headers {
            let value = value.as_deref().unwrap_or_default();
            let (Some(name), Some(value)) = (text(name), text(value)) else {
                continue;
            };
            message.take_header(name, value);
        }
        if message.keys.is_empty() && message.group.is_none() {
            let key = payload.key.as_deref().and_then(text);
            message.keys.extend(key.map(Arc::from));
        }
        message
    }

    fn take_header(&mut self, name: &str, value: &str) {
        let some = || Some(Arc::from(value));
        match name {
            HEADER_ID => self.id = value.into(),
            HEADER_TAG => self.tag = some(),
            HEADER_KEYS => self.keys = value.split_whitespace().map(Arc::from).collect(),
            HEADER_GROUP => self.group = some(),
            HEADER_BORN_AT => self.born_at = value.parse().ok().map(Timestamp),
            HEADER_BORN_HOST => self.born_host = some(),
            HEADER_TRACE => self.trace = some(),
            HEADER_DELIVER_AT => self.deliver_at = value.parse().ok().map(Timestamp),
            HEADER_VERSION => self.version = value.parse().ok(),
            HEADER_ENCODING => self.encoding = some(),
            // The names of tomorrow's broker are not the user's.
            name if name.starts_with(RESERVED_PREFIX) && !name.starts_with(DLQ_PREFIX) => {}
            name => {
                self.properties.retain(|(known, _)| **known != *name);
                self.properties.push((name.into(), value.into()));
            }
        }
    }

    /// The record that says all this. Properties under names of the broker's are left
    /// out: check with [`is_property_name`] first.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let key = self.group.as_ref().or_else(|| self.keys.first());
        let mut payload = Payload {
            key: key.map(|key| bytes(key)),
            value: Some(self.body.clone()),
            headers: Vec::new(),
        };
        let mut put = |name: &str, value: &str| {
            let (name, value) = (bytes(name), bytes(value));
            payload.headers.push((name, Some(value)));
        };
        if !self.id.is_empty() {
            put(HEADER_ID, &self.id);
        }
        for (name, value) in [
            (HEADER_TAG, &self.tag),
            (HEADER_GROUP, &self.group),
            (HEADER_BORN_HOST, &self.born_host),
            (HEADER_TRACE, &self.trace),
            (HEADER_ENCODING, &self.encoding),
        ] {
            if let Some(value) = value {
                put(name, value);
            }
        }
        if !self.keys.is_empty() {
            put(HEADER_KEYS, &self.keys.join(" "));
        }
        for (name, time) in [
            (HEADER_BORN_AT, self.born_at),
            (HEADER_DELIVER_AT, self.deliver_at),
        ] {
            if let Some(time) = time {
                put(name, &time.0.to_string());
            }
        }
        if let Some(version) = self.version {
            put(HEADER_VERSION, &version.to_string());
        }
        for (name, value) in &self.properties {
            if is_property_name(name) {
                put(name, value);
            }
        }
        payload
    }
}

/// Whether a user property may have this name: not empty, and not one of the broker's.
#[must_use]
pub fn is_property_name(name: &str) -> bool {
    !name.is_empty() && (!name.starts_with(RESERVED_PREFIX) || name.starts_with(DLQ_PREFIX))
}

/// A time of delivery that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeliveryTimeError {
    /// It is no number.
    #[error("header {name} is '{value}', not a number of milliseconds")]
    NoNumber {
        /// Which header.
        name: &'static str,
        /// The beginning of what it says.
        value: String,
    },
    /// It is too far ahead.
    #[error("header {name} asks for delivery {days} days ahead, at most {max} are possible")]
    TooLong {
        /// Which header.
        name: &'static str,
        /// How far, in whole days.
        days: i64,
        /// The limit, in whole days.
        max: u64,
    },
}

/// Holds what a producer asks for against what can be kept: a number, and a delay of at most
/// [`DELAY_MAX`] from `now` on.
///
/// # Errors
/// [`DeliveryTimeError`], naming the header.
pub fn check_delivery_time(
    headers: &[RecordHeader],
    now: Timestamp,
) -> Result<(), DeliveryTimeError> {
    const DAY_MS: i64 = 24 * 3_600_000;
    for (name, from) in [(HEADER_DELIVER_AT, now.0), (HEADER_DELIVER_AFTER, 0)] {
        let header = headers
            .iter()
            .find(|header| *header.key == *name.as_bytes());
        let Some(header) = header else { continue };
        let value = text(header.value.as_deref().unwrap_or_default()).unwrap_or_default();
        let Ok(number) = value.trim().parse::<i64>() else {
            let value = value.chars().take(32).collect();
            return Err(DeliveryTimeError::NoNumber { name, value });
        };
        let ahead = number.saturating_sub(from);
        let max = DELAY_MAX.as_millis();
        if u128::try_from(ahead).is_ok_and(|ahead| ahead > max) {
            let (days, max) = (ahead / DAY_MS, DELAY_MAX.as_secs() / (24 * 3_600));
            return Err(DeliveryTimeError::TooLong { name, days, max });
        }
    }
    Ok(())
}

/// When a record asks to be delivered: `weir.deliver.at`, or `weir.deliver.after` counted
/// from `now`; `None` if it asks for nothing that can be read.
#[must_use]
pub fn delivery_time(headers: &[RecordHeader], now: Timestamp) -> Option<Timestamp> {
    let number = |name: &str| -> Option<i64> {
        let header = headers
            .iter()
            .find(|header| *header.key == *name.as_bytes())?;
        text(header.value.as_deref()?)?.trim().parse().ok()
    };
    let at = number(HEADER_DELIVER_AT).map(Timestamp);
    at.or_else(|| {
        Some(Timestamp(
            now.0.saturating_add(number(HEADER_DELIVER_AFTER)?),
        ))
    })
}

impl MessageFacts {
    /// The same of a record that a queue sent: its time has come.
    #[must_use]
    pub fn sent_by_queue(mut self) -> Self {
        self.not_before = None;
        self
    }

    /// What a machine is told of a record.
    #[must_use]
    pub fn of(record: &Record, needs: Needs) -> Self {
        let mut bytes = len(record.key.as_ref()) + len(record.value.as_ref());
        let (mut key, mut version, mut tag, mut only) = (None, None, None, None);
        let mut is_delayed = false;
        let mut properties: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for header in &record.headers {
            bytes += header.key.len() + len(header.value.as_ref());
            let value = header.value.as_deref().unwrap_or_default();
            match &*header.key {
                name if *name == *HEADER_GROUP.as_bytes() => key = Some(KeyHash::of(value)),
                name if *name == *HEADER_VERSION.as_bytes() => {
                    version = text(value).and_then(|value| value.parse().ok());
                }
                name if name.starts_with(DELIVER_PREFIX) => is_delayed = true,
                name if *name == *HEADER_ONLY.as_bytes() => only = Some(KeyHash::of(value)),
                name if needs.tag && *name == *HEADER_TAG.as_bytes() => {
                    tag = text(value).map(Arc::from);
                }
                name if needs.properties && !name.starts_with(RESERVED_PREFIX.as_bytes()) => {
                    if let (Some(name), Some(value)) = (text(name), text(value)) {
                        properties.push((name.into(), value.into()));
                    }
                }
                _ => {}
            }
        }
        let key = key.or_else(|| record.key.as_deref().map(KeyHash::of));
        Self {
            offset: record.offset,
            stored_at: record.timestamp,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            key,
            version: version.filter(|_| key.is_some()),
            tag,
            properties,
            not_before: is_delayed
                .then(|| delivery_time(&record.headers, record.timestamp))
                .flatten(),
            only,
            letter: needs.letter.then(|| Box::new(LetterFacts::of(record))),
        }
    }
}

/// What a dead letter says of itself, beside its own headers.
#[must_use]
pub fn dead_letter_headers(
    facts: &DeadLetter,
    topic: &str,
    partition: u32,
    offset: Offset,
) -> Vec<(&'static str, String)> {
    let attempts = &facts.attempts;
    let last = attempts.history.last();
    let cause = last.map_or("unknown", |end| end.cause.name());
    let cause = match &attempts.note {
        Some(note) => format!("{cause}: {note}"),
        None => cause.to_owned(),
    };
    let history: Vec<String> = attempts
        .history
        .iter()
        .map(|end| format!("{}@{}", end.cause.name(), end.at.0))
        .collect();
    vec![
        ("weir.dlq.cause", cause),
        ("weir.dlq.attempts", attempts.ended.to_string()),
        ("weir.dlq.origin.topic", topic.to_owned()),
        ("weir.dlq.origin.partition", partition.to_string()),
        ("weir.dlq.origin.offset", offset.to_string()),
        ("weir.dlq.group", facts.group.to_string()),
        ("weir.dlq.first.failed", attempts.first_at.0.to_string()),
        ("weir.dlq.history", history.join(",")),
    ]
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn len(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests;
