//! SendMessage: messages of one topic, checked together, stored partition by partition.
//!
//! Nothing is done before every message passed its checks. Messages of one partition
//! become one record batch, so that they are stored together or not at all. An append
//! whose outcome is unknown is answered as an error that clients repeat: they may then
//! be there twice, under one id.

mod batches;
mod checks;
mod place;

use std::sync::Arc;

use weir_api::image::TopicRecord;
use weir_api::{AppendError, Appended};
use weir_base::Timestamp;

use super::topics;
use crate::context::Call;
use crate::errors::{self, Refusal, ok};
use crate::message;
use crate::names;
use crate::proto::{
    Code, Message, SendMessageRequest, SendMessageResponse, SendResultEntry, Status,
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
    Ok(SendMessageResponse {
        status: Some(overall(&entries)),
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

/// One status for all, or a word that there are several.
fn overall(entries: &[SendResultEntry]) -> Status {
    let mut statuses = entries.iter().filter_map(|entry| entry.status.as_ref());
    let first = statuses.next().cloned().unwrap_or_else(ok);
    if statuses.all(|status| status.code == first.code) {
        return first;
    }
    Status {
        code: Code::MultipleResults.into(),
        message: "each message has its own result".to_owned(),
    }
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
        let partition = place::partition(call, topic, system);
        let payload = message::stored(message, call.remote).payload();
        match kind {
            Kind::Normal | Kind::Fifo => batches.add(partition, entries.len(), &payload),
            Kind::Delay(_) | Kind::Transaction => {
                entry.status = Some(not_yet().into());
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

fn not_yet() -> Refusal {
    Refusal::new(
        Code::NotImplemented,
        "delayed and half messages are not served yet",
    )
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
