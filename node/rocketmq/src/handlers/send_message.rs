//! SendMessage: messages of one topic, checked together, stored partition by partition.
//!
//! Nothing is done before every message passed its checks. Messages of one partition
//! become one record batch, so that they are stored together or not at all. An append
//! whose outcome is unknown is answered as an error that clients repeat: they may then
//! be there twice, under one id.

mod batches;
mod checks;
mod once;
mod place;

use std::sync::Arc;
use std::time::Duration;

use weir_api::image::TopicRecord;
use weir_api::queues::{HalfHandle, Payload, Prepare, Schedule, ScheduleHandle, Scheduled};
use weir_api::{AppendError, Appended};
use weir_base::Timestamp;

use super::{queue, recall_message, topics};
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::message;
use crate::names;
use crate::proto::{
    Code, Message, SendMessageRequest, SendMessageResponse, SendResultEntry, WireDuration,
};
use batches::Batches;
use checks::Kind;

/// Messages of one request.
const MESSAGES_MAX: usize = 1024;

pub(crate) async fn handle(
    call: Call,
    request: SendMessageRequest,
) -> Result<SendMessageResponse, Refusal> {
    let name = one_topic(&request.messages)?;
    let image = topics::find_or_make(&call.shared, &name).await?;
    let topic = topics::find(&image, &name).ok_or_else(|| topics::not_found(&name))?;
    let (now, accepted) = (call.shared.api.cluster.now(), topics::accepted(topic));
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in request.messages {
        let kind = checks::check(&call.shared.options, accepted, now, &message)?;
        messages.push((kind, message));
    }
    let entries = store(&call, topic, now, messages).await;
    let statuses = entries.iter().filter_map(|entry| entry.status.as_ref());
    Ok(SendMessageResponse {
        status: Some(errors::overall(statuses)),
        entries,
    })
}

/// The topic that all messages name.
fn one_topic(messages: &[Message]) -> Result<String, Refusal> {
    let corrupted = |why: String| Err(Refusal::new(Code::MessageCorrupted, why));
    let Some(first) = messages.first() else {
        return corrupted("the request holds no message".to_owned());
    };
    if messages.len() > MESSAGES_MAX {
        let count = messages.len();
        return corrupted(format!(
            "{count} messages in one request, at most {MESSAGES_MAX} are accepted"
        ));
    }
    if messages.iter().any(|message| message.topic != first.topic) {
        return corrupted("the messages of one request must have one topic".to_owned());
    }
    names::topic(first.topic.as_ref())
}

/// Stores messages; one result each, in order.
async fn store(
    call: &Call,
    topic: &Arc<TopicRecord>,
    now: Timestamp,
    messages: Vec<(Kind, Message)>,
) -> Vec<SendResultEntry> {
    let mut entries = Vec::with_capacity(messages.len());
    let mut batches = Batches::new(topic, now);
    for (kind, message) in messages {
        let system = message.system_properties.as_ref();
        let mut entry = SendResultEntry {
            message_id: system.map(|s| s.message_id.clone()).unwrap_or_default(),
            ..SendResultEntry::default()
        };
        if let Some(system) = system
            && let Some(known) = once::known(topic, system)
        {
            let system = system.clone();
            let payload = message::stored(message, call.remote).payload();
            let sent = (&system, &payload);
            once::store(call, topic, (kind, known), sent, &mut entry).await;
            entries.push(entry);
            continue;
        }
        let group = system.and_then(|system| system.message_group.as_deref());
        let queue_id = system.map_or(0, |system| system.queue_id);
        let partition = place::partition(call, topic, group, queue_id);
        let check_after = system.and_then(|s| s.orphaned_transaction_recovery_duration);
        let check_after = check_after.and_then(WireDuration::to_duration);
        let payload = message::stored(message, call.remote).payload();
        match kind {
            Kind::Normal | Kind::Fifo => batches.add(partition, entries.len(), &payload),
            Kind::Delay(due) => {
                let kept = keep(call, topic, queue_id, due, &payload).await;
                let handle = settled(&mut entry, kept);
                entry.recall_handle = handle
                    .map(|handle| recall_message::handle_text(handle, &entry.message_id))
                    .unwrap_or_default();
            }
            Kind::Transaction => {
                let prepared = prepare(call, topic, queue_id, check_after, &payload).await;
                let handle = settled(&mut entry, prepared);
                entry.transaction_id = handle.map(|h| h.to_string()).unwrap_or_default();
            }
        }
        entries.push(entry);
    }
    for (places, appending) in batches.append(call) {
        let appended = appending.await;
        for (nth, place) in (0..).zip(places) {
            if let Some(entry) = entries.get_mut(place) {
                fill_in(entry, &appended, nth);
            }
        }
    }
    entries
}

/// Keeps a delayed message until it is due.
async fn keep(
    call: &Call,
    topic: &TopicRecord,
    queue_id: i32,
    due: Timestamp,
    payload: &Payload,
) -> Result<ScheduleHandle, Refusal> {
    let payload = payload.encode();
    let queues = &call.shared.api.queues;
    let schedule = || {
        let schedule = Schedule {
            deliver_at: due,
            payload: payload.clone(),
            dedup: None,
            room: None,
        };
        queues.schedule(place::now(call, topic, queue_id), schedule)
    };
    match queue::patiently(call, batches::APPEND_MAX, schedule).await? {
        Scheduled::Kept(handle) => Ok(handle),
        Scheduled::Duplicate { .. } => Err(Refusal::new(
            Code::InternalServerError,
            "a message without a deduplication id was taken for a duplicate",
        )),
    }
}

/// Keeps a half message until it is decided on. Whoever sends to the topic can be asked.
async fn prepare(
    call: &Call,
    topic: &TopicRecord,
    queue_id: i32,
    check_after: Option<Duration>,
    payload: &Payload,
) -> Result<HalfHandle, Refusal> {
    let payload = payload.encode();
    let queues = &call.shared.api.queues;
    let prepare = || {
        let prepare = Prepare {
            payload: payload.clone(),
            producers: Arc::clone(&topic.name),
            check_after,
            room: None,
            dedup: None,
        };
        queues.prepare(place::now(call, topic, queue_id), prepare)
    };
    queue::patiently(call, batches::APPEND_MAX, prepare).await
}

/// Sets the status of a message's result; gives what it was kept under.
fn settled<T>(entry: &mut SendResultEntry, kept: Result<T, Refusal>) -> Option<T> {
    match kept {
        Ok(handle) => {
            entry.status = Some(ok());
            Some(handle)
        }
        Err(refusal) => {
            entry.status = Some(refusal.into());
            None
        }
    }
}

/// Fills in the result of a message that was the `nth` of its batch.
fn fill_in(entry: &mut SendResultEntry, appended: &Result<Appended, AppendError>, nth: u64) {
    match appended {
        Ok(appended) => {
            entry.status = Some(ok());
            entry.offset = (appended.base + nth).to_wire();
        }
        Err(error) => entry.status = Some(errors::append(error).into()),
    }
}
