//! `/v1/queues/{topic}/find`, `/kept` and `/story`: messages by id, key, place or where they
//! came from, in the log and in the journal, and what befell them.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use serde::Deserialize;
use weir_api::console::{
    FoundMessage, FoundMessages, KeptMessage, KeptMessages, LookedThrough, StoryLine,
};
use weir_api::queues::envelope::HEADER_REPLAYED;
use weir_api::queues::trace::{Fact, Subject};
use weir_api::queues::{Destination, EntryNumber, LetterFacts, Message};
use weir_api::{Api, QueueCallError};
use weir_base::batch::Record;
use weir_base::{Offset, Timestamp, TopicPartition};

use crate::failure::Failure;
use crate::letters::ends;
use crate::queues::{LINES_MAX, here, led};
use crate::routes::{Answer, Shared};
use crate::{ConsoleState, reading};

/// Offsets of one partition that one request looks through, the newest first.
const LOOKED_THROUGH: u64 = 100_000;
/// Delayed, half and undeliverable messages of one partition whose stories one request tells.
const KEPT_MAX: usize = 100;

/// Which messages: by exactly one of the first five.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    id: Option<String>,
    key: Option<String>,
    /// An id or a key.
    name: Option<String>,
    /// `partition-offset`.
    place: Option<String>,
    /// Those that were made from this one, `topic-partition-offset`: its dead letter, or
    /// what a dead letter was replayed as.
    source: Option<String>,
    /// Only of this partition.
    partition: Option<u32>,
    /// Only before this offset.
    before: Option<u64>,
}

pub(crate) async fn find(
    State(state): Shared,
    Path(topic): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer<FoundMessages> {
    let named = [&wanted.id, &wanted.key, &wanted.name, &wanted.place];
    let named = named.into_iter().chain([&wanted.source]);
    if named.filter(|name| name.is_some()).count() != 1 {
        return Err(Failure::bad_request(
            "name one of id, key, name, place, source",
        ));
    }
    let api = state.api()?;
    let mut found = FoundMessages::default();
    for (_, at) in led(api, Some(&topic))? {
        if wanted.partition.is_none_or(|only| only == at.index.0) {
            look_through(&state, api, at, &wanted, &mut found).await?;
        }
    }
    found.messages.sort();
    found.messages.dedup();
    Ok(Json(found))
}

/// Looks through the newest records of one partition, and at the one that an id names by
/// its place.
async fn look_through(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    wanted: &Wanted,
    found: &mut FoundMessages,
) -> Result<(), Failure> {
    let (start, end) = ends(state, api, at).await?;
    let named = [&wanted.place, &wanted.id, &wanted.name];
    let mut named = named.into_iter().flatten();
    if let Some((partition, offset)) = named.find_map(|name| place_of(name))
        && partition == at.index.0
    {
        let of = |record: Option<&Record>| wanted.of(at, record?);
        let record = reading::records(state, api, at, vec![offset], of).await?;
        found.messages.extend(record.into_iter().flatten());
    }
    if wanted.place.is_some() {
        return Ok(());
    }
    let end = Offset(wanted.before.map_or(end.0, |before| before.min(end.0)));
    let from = start.0.max(end.0.saturating_sub(LOOKED_THROUGH));
    let mut next = from;
    while next < end.0 {
        if found.messages.len() >= LINES_MAX {
            found.more = true;
            break;
        }
        let to = end.0.min(next.saturating_add(LINES_MAX as u64));
        let page = (next..to).map(Offset).collect();
        let records = state.within(api.queues.records(at, page)).await??;
        let looked_at = records.len() as u64;
        let records = records.iter().flatten();
        found
            .messages
            .extend(records.filter_map(|record| wanted.of(at, record)));
        // What is too much for one answer is left out of it.
        next += looked_at.max(1);
    }
    found.looked_through.push(LookedThrough {
        partition: at.index.0,
        start: start.0,
        from,
        end: end.0,
    });
    Ok(())
}

/// Reads `partition-offset`.
fn place_of(text: &str) -> Option<(u32, Offset)> {
    let (partition, offset) = text.split_once('-')?;
    Some((partition.parse().ok()?, Offset(offset.parse().ok()?)))
}

impl Wanted {
    fn of(&self, at: TopicPartition, record: &Record) -> Option<FoundMessage> {
        let message = Message::from_record(at.index.0, record);
        let keys = message.group.iter().chain(&message.keys);
        let mut keys: Vec<String> = keys.map(ToString::to_string).collect();
        let key = record.key.as_deref().map(String::from_utf8_lossy);
        keys.extend(key.map(|key| key.into_owned()));
        keys.dedup();
        let mut headers = record.headers.iter();
        let replayed = headers.find(|header| *header.key == *HEADER_REPLAYED.as_bytes());
        let letter = replayed.and_then(|header| header.value.as_deref());
        let replayed_from = letter.map(|letter| String::from_utf8_lossy(letter).into_owned());
        let origin = origin(record);
        let is_id = |id: &Option<String>| id.as_ref().is_some_and(|id| **id == *message.id);
        let is_key = |key: &Option<String>| key.as_ref().is_some_and(|key| keys.contains(key));
        let comes_from = |from: &Option<String>| self.source.is_some() && *from == self.source;
        let is_wanted = is_id(&self.id)
            || is_key(&self.key)
            || is_id(&self.name)
            || is_key(&self.name)
            || self.place.is_some()
            || comes_from(&replayed_from)
            || comes_from(&origin);
        is_wanted.then(|| FoundMessage {
            partition: at.index.0,
            offset: record.offset.0,
            at: record.timestamp.0,
            id: message.id.to_string(),
            keys,
            replayed_from,
            origin,
        })
    }
}

/// What a dead letter was, as `topic-partition-offset`.
fn origin(record: &Record) -> Option<String> {
    let target = LetterFacts::of(record).origin?;
    let name = b"weir.dlq.origin.offset";
    let mut headers = record.headers.iter();
    let offset = headers.find(|header| *header.key == *name)?;
    let offset = std::str::from_utf8(offset.value.as_deref()?).ok()?;
    Some(format!("{}-{}-{offset}", target.topic, target.partition))
}

/// By id or key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Name {
    name: String,
}

pub(crate) async fn kept(
    State(state): Shared,
    Path(topic): Path<String>,
    Query(Name { name }): Query<Name>,
) -> Answer<KeptMessages> {
    let api = state.api()?;
    let mut kept = KeptMessages::default();
    for (topic, at) in led(api, Some(&topic))? {
        let subject = Subject::Named(name.as_str().into());
        let facts = told(&state, api, at, subject).await?;
        let mut numbers: Vec<EntryNumber> = facts
            .into_iter()
            .filter_map(|(_, fact)| {
                if let Fact::Entry(number) = fact {
                    Some(number)
                } else {
                    None
                }
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        kept.more |= numbers.len() > KEPT_MAX;
        for number in numbers.into_iter().take(KEPT_MAX) {
            let facts = told(&state, api, at, Subject::Entry(number)).await?;
            kept.messages.push(KeptMessage {
                partition: at.index.0,
                number: number.0,
                story: lines(&topic, at, facts),
            });
        }
    }
    Ok(Json(kept))
}

pub(crate) async fn story(
    State(state): Shared,
    Path((topic, partition, offset)): Path<(String, u32, u64)>,
    uri: Uri,
) -> Answer<Vec<StoryLine>> {
    let api = state.api()?;
    let at = here(api, &topic, partition, &uri)?;
    let facts = told(&state, api, at, Subject::Message(Offset(offset))).await?;
    Ok(Json(lines(&topic, at, facts)))
}

/// What the journal tells; nothing where there is none.
async fn told(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    subject: Subject,
) -> Result<Vec<(Timestamp, Fact)>, Failure> {
    match state.within(api.queues.story(at, subject)).await? {
        Ok(facts) => Ok(facts),
        Err(QueueCallError::NoQueue) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn lines(topic: &str, own: TopicPartition, facts: Vec<(Timestamp, Fact)>) -> Vec<StoryLine> {
    let place = |to: &Destination| match to {
        Destination::Here | Destination::Copies => format!("{topic}-{}", own.index.0),
        Destination::There(to) => format!("{}-{}", to.topic, to.partition),
    };
    let line = |(at, fact): (Timestamp, Fact)| StoryLine {
        at: at.0,
        what: fact.to_string(),
        until: fact.until().map(|until| until.0),
        to: fact.destination().map(place),
    };
    facts.into_iter().map(line).collect()
}
