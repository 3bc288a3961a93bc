//! `/v1/queues/{topic}/find` and `/story`: messages by id or key, and what befell them.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use serde::Deserialize;
use weir_api::console::{FoundMessage, StoryLine};
use weir_api::log::OffsetQuery;
use weir_api::queues::Message;
use weir_api::queues::envelope::HEADER_REPLAYED;
use weir_api::queues::trace::Subject;
use weir_base::batch::Record;
use weir_base::{Offset, TopicPartition};

use crate::failure::Failure;
use crate::queues::{LINES_MAX, here, led};
use crate::routes::{Answer, Shared};

/// Offsets of one partition that are looked through, the newest first.
const LOOKED_THROUGH: u64 = 100_000;

/// Which messages: by id or by key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    id: Option<String>,
    key: Option<String>,
}

pub(crate) async fn find(
    State(state): Shared,
    Path(topic): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer<Vec<FoundMessage>> {
    if wanted.id.is_none() == wanted.key.is_none() {
        return Err(Failure::bad_request("name an id or a key"));
    }
    let api = state.api()?;
    let mut found = Vec::new();
    for (_, at) in led(api, Some(&topic))? {
        let [start, end] = [OffsetQuery::Earliest, OffsetQuery::Latest]
            .map(|query| state.within(api.log.offset(at, query, None)));
        let start = start.await??.offset.unwrap_or_default();
        let end = end.await??.offset.unwrap_or_default();
        let first = start.0.max(end.0.saturating_sub(LOOKED_THROUGH));
        let mut next = first;
        while next < end.0 && found.len() < LINES_MAX {
            let to = end.0.min(next.saturating_add(LINES_MAX as u64));
            let page = (next..to).map(Offset).collect();
            let records = state.within(api.queues.records(at, page)).await??;
            let looked_at = records.len() as u64;
            let records = records.iter().flatten();
            found.extend(records.filter_map(|record| wanted.of(at, record)));
            // What is too much for one answer is left out of it.
            next += looked_at.max(1);
        }
    }
    found.sort();
    Ok(Json(found))
}

impl Wanted {
    fn of(&self, at: TopicPartition, record: &Record) -> Option<FoundMessage> {
        let message = Message::from_record(at.index.0, record);
        let keys = message.group.iter().chain(&message.keys);
        let mut keys: Vec<String> = keys.map(ToString::to_string).collect();
        let key = record.key.as_deref().map(String::from_utf8_lossy);
        keys.extend(key.map(|key| key.into_owned()));
        keys.dedup();
        let is_id = self.id.as_ref().is_some_and(|id| **id == *message.id);
        let is_key = self.key.as_ref().is_some_and(|key| keys.contains(key));
        let mut headers = record.headers.iter();
        let replayed = headers.find(|header| *header.key == *HEADER_REPLAYED.as_bytes());
        let letter = replayed.and_then(|header| header.value.as_deref());
        (is_id || is_key).then(|| FoundMessage {
            partition: at.index.0,
            offset: record.offset.0,
            at: record.timestamp.0,
            id: message.id.to_string(),
            keys,
            replayed_from: letter.map(|letter| String::from_utf8_lossy(letter).into_owned()),
        })
    }
}

pub(crate) async fn story(
    State(state): Shared,
    Path((topic, partition, offset)): Path<(String, u32, u64)>,
    uri: Uri,
) -> Answer<Vec<StoryLine>> {
    let api = state.api()?;
    let at = here(api, &topic, partition, &uri)?;
    let subject = Subject::Message(Offset(offset));
    let story = state.within(api.queues.story(at, subject)).await??;
    let lines = story.into_iter().map(|(at, fact)| StoryLine {
        at: at.0,
        what: fact.to_string(),
    });
    Ok(Json(lines.collect()))
}
