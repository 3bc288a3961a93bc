//! Topics on which a message is stored once (`weir.dedup`): by its id or its business key.
//!
//! Who sends again gets the first one's answer. The queue decides, and remembers in the same
//! batch of records that keeps the message, so every such message goes through it, plain ones
//! too, which are due at once; and repeats must meet, so that the partition follows from the
//! id (or from the message group), and the message is carried to its leader. The queue releases
//! plain messages in the order in which it took them. The offset is not known when the answer
//! leaves: -1.

use std::sync::Arc;

use weir_api::image::TopicRecord;
use weir_api::queues::{Dedup, Payload, Prepare, Prepared, Schedule, Scheduled};
use weir_base::{Timestamp, TopicPartition};

use super::batches::APPEND_MAX;
use super::checks::Kind;
use super::{place, queue, recall_message, settled};
use crate::context::Call;
use crate::errors::Refusal;
use crate::proto::{SendResultEntry, SystemProperties, WireDuration};

use super::topics::{self, Once};

/// Where offsets are told that are not known yet.
const NOT_KNOWN: i64 = -1;

/// What a message is known by, and where it goes.
pub(super) struct Known {
    at: TopicPartition,
    /// None: it only keeps its place among others of its message group.
    dedup: Option<Dedup>,
}

/// How `topic` knows the message again, if it does. What goes through the queue can be passed
/// by what does not, so that all of a message group goes the same way.
pub(super) fn known(topic: &TopicRecord, system: &SystemProperties) -> Option<Known> {
    let (once, window) = topics::once(topic)?;
    let group = system.message_group.as_deref();
    let id = Arc::from(system.message_id.as_str());
    let compared = match once {
        Once::Id => Some(("id", system.message_id.as_str(), None)),
        Once::Key => {
            let key = system.keys.first();
            key.map(|key| ("key", key.as_str(), Some(id)))
        }
    };
    let Some((kind, text, told)) = compared else {
        return group.map(|group| Known {
            at: place::of_once(topic, Some(group), &[]),
            dedup: None,
        });
    };
    Some(Known {
        at: place::of_once(topic, group, text.as_bytes()),
        dedup: Some(Dedup {
            id: format!("{kind}:{text}").into(),
            window,
            told,
        }),
    })
}

/// Keeps a message, or finds that it was kept; fills in its result.
pub(super) async fn store(
    call: &Call,
    topic: &TopicRecord,
    (kind, known): (Kind, Known),
    (system, payload): (&SystemProperties, &Payload),
    entry: &mut SendResultEntry,
) {
    entry.offset = NOT_KNOWN;
    let told = match kind {
        // Due before all that has a time: in the order in which they come.
        Kind::Normal | Kind::Fifo => {
            let kept = schedule(call, known, Timestamp(0), payload).await;
            settled(entry, kept).and_then(|kept| match kept {
                Scheduled::Kept(_) => None,
                Scheduled::Duplicate { told, .. } => told,
            })
        }
        Kind::Delay(due) => {
            let kept = schedule(call, known, due, payload).await;
            let (handle, told) = match settled(entry, kept) {
                Some(Scheduled::Kept(handle)) => (Some(handle), None),
                Some(Scheduled::Duplicate { handle, told }) => (handle, told),
                None => (None, None),
            };
            let id = told.as_deref().unwrap_or(&entry.message_id);
            entry.recall_handle = handle
                .map(|handle| recall_message::handle_text(handle, id))
                .unwrap_or_default();
            told
        }
        Kind::Transaction => {
            let kept = prepare(call, topic, known, system, payload).await;
            settled(entry, kept).and_then(|kept| {
                entry.transaction_id = kept.handle().to_string();
                match kept {
                    Prepared::Kept(_) => None,
                    Prepared::Duplicate { told, .. } => told,
                }
            })
        }
    };
    if let Some(first) = told {
        entry.message_id = first.to_string();
    }
}

async fn schedule(
    call: &Call,
    known: Known,
    deliver_at: Timestamp,
    payload: &Payload,
) -> Result<Scheduled, Refusal> {
    let (queues, payload) = (&call.shared.api.queues, payload.encode());
    let schedule = || {
        let schedule = Schedule {
            deliver_at,
            payload: payload.clone(),
            dedup: known.dedup.clone(),
            room: None,
        };
        let left = call.remaining(APPEND_MAX) * 9 / 10;
        queues.schedule_forwarded(known.at, schedule, left)
    };
    queue::patiently(call, APPEND_MAX, schedule).await
}

async fn prepare(
    call: &Call,
    topic: &TopicRecord,
    known: Known,
    system: &SystemProperties,
    payload: &Payload,
) -> Result<Prepared, Refusal> {
    let (queues, payload) = (&call.shared.api.queues, payload.encode());
    let check_after = system.orphaned_transaction_recovery_duration;
    let prepare = || {
        let prepare = Prepare {
            payload: payload.clone(),
            producers: Arc::clone(&topic.name),
            check_after: check_after.and_then(WireDuration::to_duration),
            dedup: known.dedup.clone(),
            room: None,
        };
        let left = call.remaining(APPEND_MAX) * 9 / 10;
        queues.prepare_forwarded(known.at, prepare, left)
    };
    queue::patiently(call, APPEND_MAX, prepare).await
}
