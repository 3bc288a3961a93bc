//! Messages on their way into record batches: one a partition, more where the topic's
//! limit asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_api::image::TopicRecord;
use weir_api::queues::Payload;
use weir_api::{Acks, AppendError, Appended};
use weir_base::batch::BatchBuilder;
use weir_base::{BoxFuture, RecordBatch, Timestamp, TopicPartition};

use super::topics;
use crate::context::Call;

/// How long an append may take for a client that does not say how long it waits.
pub(super) const APPEND_MAX: Duration = Duration::from_secs(30);
/// More than the lengths and deltas of a record and of one header take.
const OVERHEAD: usize = 32;

/// The outcome of a batch, once it is known.
pub(super) type Appending = BoxFuture<'static, Result<Appended, AppendError>>;

/// The batches of one request. A message is known by its place in the request.
pub(super) struct Batches<'a> {
    topic: &'a Arc<TopicRecord>,
    now: Timestamp,
    bytes_max: usize,
    open: BTreeMap<u32, (Vec<usize>, BatchBuilder)>,
    /// In the order to append them.
    full: Vec<(u32, Vec<usize>, RecordBatch)>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(topic: &'a Arc<TopicRecord>, now: Timestamp) -> Self {
        Self {
            topic,
            now,
            bytes_max: topics::batch_bytes_max(topic),
            open: BTreeMap::new(),
            full: Vec::new(),
        }
    }

    /// Adds a message. One that is too large for the topic is alone in its batch, which
    /// is refused as such.
    pub(super) fn add(&mut self, partition: u32, place: usize, payload: &Payload) {
        let fresh = || (Vec::new(), BatchBuilder::new(self.now));
        let (mut places, mut builder) = self.open.remove(&partition).unwrap_or_else(fresh);
        if !places.is_empty() && builder.size() + size(payload) > self.bytes_max {
            self.full.push((partition, places, builder.build()));
            (places, builder) = fresh();
        }
        places.push(place);
        self.open
            .insert(partition, (places, payload.append_to(builder)));
    }

    /// Appends all; gives the places of each batch's messages with its outcome.
    pub(super) fn append(self, call: &Call) -> Vec<(Vec<usize>, Appending)> {
        let open = self.open.into_iter();
        let open = open.map(|(partition, (places, builder))| (partition, places, builder.build()));
        // A tenth of the time is for the answer's way back.
        let timeout = call.remaining(APPEND_MAX) * 9 / 10;
        let batches = self.full.into_iter().chain(open);
        let appending = batches.map(|(partition, places, batch)| {
            let to = TopicPartition::new(self.topic.id, partition);
            let log = &call.shared.api.log;
            (places, log.append_forwarded(to, batch, Acks::All, timeout))
        });
        appending.collect()
    }
}

/// At least what a message takes in a batch.
fn size(payload: &Payload) -> usize {
    let headers = payload.headers.iter();
    let headers = headers.map(|(name, value)| name.len() + length(value.as_ref()) + OVERHEAD);
    let record = length(payload.key.as_ref()) + length(payload.value.as_ref()) + OVERHEAD;
    record + headers.sum::<usize>()
}

fn length(bytes: Option<&bytes::Bytes>) -> usize {
    bytes.map_or(0, bytes::Bytes::len)
}
