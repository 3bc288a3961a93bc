//! `/v1/queues`: what lists covers the partitions that this node leads, what names one
//! partition is answered by its leader.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use serde::Deserialize;
use weir_api::console::{
    DecideHalf, DelayedLine, DelaysView, Done, HalfView, QueueLine, QueueSettingsView,
    QueueStoreLine, RecordView, SendOn, StandingView, UndeliverableLine,
};
use weir_api::log::OffsetQuery;
use weir_api::queues::{
    Cancelled, Decision, DecisionSource, Destination, EntryNumber, GroupView, HalfHandle, Message,
    OnFull, Payload, QueueCommand, QueueMeasure, QueueReply, ScheduleHandle, Standing, Target,
};
use weir_api::{Api, QueueCallError};
use weir_base::batch::Record;
use weir_base::{Offset, TopicPartition};

use crate::failure::Failure;
use crate::listed::Listed;
use crate::reading;
use crate::routes::{Answer, Body, Shared};
use crate::{ConsoleState, admin_address};

/// Lines of one partition in one answer.
pub(crate) const LINES_MAX: usize = 1_000;
/// Bytes of a value that are shown.
const VALUE_BYTES_MAX: usize = 1_024;

/// The partitions of `topic` that this node leads; of all topics without one.
pub(crate) fn led(
    api: &Api,
    topic: Option<&str>,
) -> Result<Vec<(String, TopicPartition)>, Failure> {
    let image = api.cluster.image();
    if let Some(name) = topic
        && !image.topics.contains_key(name)
    {
        return Err(Failure::unknown_topic(name));
    }
    let me = Some(api.cluster.node());
    let topics = image.topics.values();
    let wanted = topics.filter(|record| topic.map_or(!record.internal, |t| *record.name == *t));
    let partitions = wanted.flat_map(|topic| {
        let led = (0..).zip(&topic.partitions);
        let led = led.filter(move |(_, record)| record.leader == me);
        led.map(|(index, _)| (topic.name.to_string(), TopicPartition::new(topic.id, index)))
    });
    Ok(partitions.collect())
}

/// What a partition's queue says; `None` if it has none.
pub(crate) async fn ask(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    command: QueueCommand,
) -> Result<Option<QueueReply>, Failure> {
    match state.within(api.queues.call(at, command)).await? {
        Ok(reply) => Ok(Some(reply)),
        Err(QueueCallError::NoQueue) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same for a list of all that this node leads. One that it does not serve after all is
/// none of them: the image may be behind, and goes on to name a node whose copy is bad if
/// that is the last. What the others have is to be seen then, too.
async fn ask_listed(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    command: QueueCommand,
) -> Result<Option<QueueReply>, Failure> {
    match state.within(api.queues.call(at, command)).await? {
        Ok(reply) => Ok(Some(reply)),
        Err(QueueCallError::NoQueue | QueueCallError::NotLeader(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A partition of a topic, if this node leads it; else who does.
pub(crate) fn here(
    api: &Api,
    topic: &str,
    partition: u32,
    uri: &Uri,
) -> Result<TopicPartition, Failure> {
    let image = api.cluster.image();
    let record = image.topics.get(topic);
    let record = record.ok_or_else(|| Failure::unknown_topic(topic))?;
    let at = TopicPartition::new(record.id, partition);
    let known = image
        .partition(at)
        .ok_or_else(|| Failure::from(weir_api::ReadError::UnknownPartition))?;
    match known.leader {
        Some(leader) if leader == api.cluster.node() => Ok(at),
        Some(leader) => Err(Failure::elsewhere(
            uri.path(),
            leader,
            admin_address(api, leader),
        )),
        None => Err(QueueCallError::NotAvailable.into()),
    }
}

pub(crate) async fn list(State(state): Shared) -> Result<Listed<QueueLine>, Failure> {
    let api = state.api()?;
    let mut listed = Listed::new();
    for (topic, at) in led(api, None)? {
        if listed.is_late() {
            listed.pass(&topic, at, "not_asked");
            continue;
        }
        let lines = groups_of(&state, api, &topic, at).await;
        listed.take(&topic, at, lines);
    }
    Ok(listed)
}

/// The groups of one partition.
async fn groups_of(
    state: &ConsoleState,
    api: &Api,
    topic: &str,
    at: TopicPartition,
) -> Result<Vec<QueueLine>, Failure> {
    let groups = ask_listed(state, api, at, QueueCommand::ListGroups).await?;
    let Some(QueueReply::ListGroups(groups)) = groups else {
        return Ok(Vec::new());
    };
    let end = state.within(api.log.offset(at, OffsetQuery::Latest, None));
    let end = end.await?.ok().and_then(|found| found.offset);
    let end = end.unwrap_or_default().0;
    let oldest = oldest(state, api, at, end, &groups).await?;
    let limit = topic_limit(api, at);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let groups = groups.into_iter().zip(oldest);
    let lines = groups.map(|(group, oldest)| QueueLine {
        topic: topic.to_owned(),
        partition: at.index.0,
        group: group.group.to_string(),
        cursor: group.cursor.0,
        end,
        lag: end.saturating_sub(group.cursor.0 + group.finished_above),
        ready: count(group.ready),
        in_flight: count(group.in_flight),
        retrying: count(group.retrying),
        waiting: count(group.waiting),
        acked: group.counts.acked,
        dead_lettered: group.counts.dead_lettered,
        node: api.cluster.node().0,
        oldest,
        capacity: capacity(&group, &limit).0,
        on_full: capacity(&group, &limit).1,
        settings: QueueSettingsView::of(&group.group, &group.settings),
        expires_at: group.expires_at.map(|at| at.0),
    });
    Ok(lines.collect())
}

/// When the oldest message that is not final for each group was stored.
async fn oldest(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    end: u64,
    groups: &[GroupView],
) -> Result<Vec<Option<i64>>, Failure> {
    let mut wanted: Vec<Offset> = groups.iter().map(|group| group.cursor).collect();
    wanted.retain(|cursor| cursor.0 < end);
    wanted.sort_unstable();
    wanted.dedup();
    let time = |record: Option<&Record>| record.map(|record| (record.offset, record.timestamp.0));
    let found = reading::records(state, api, at, wanted, time).await?;
    let at_of = |group: &GroupView| {
        let mut times = found.iter().flatten();
        let (_, time) = times.find(|(offset, _)| *offset == group.cursor)?;
        Some(*time)
    };
    Ok(groups.iter().map(at_of).collect())
}

/// The topic's limit, and what happens above it.
fn topic_limit(api: &Api, at: TopicPartition) -> (Option<u64>, String) {
    let image = api.cluster.image();
    let config = |key: &str| Some(image.topic(at.topic)?.configs.get(key)?.clone());
    let messages_max = config("weir.queue.capacity").and_then(|text| text.parse().ok());
    let on_full = config("weir.queue.on.full").unwrap_or_else(|| "reject".to_owned());
    (messages_max, on_full)
}

/// The limit of a group: its own or the topic's.
fn capacity(group: &GroupView, limit: &(Option<u64>, String)) -> (Option<u64>, String) {
    let Some(own) = &group.settings.capacity else {
        return limit.clone();
    };
    let on_full = match &own.on_full {
        OnFull::Reject => "reject",
        OnFull::DropOldest => "drop-oldest",
        OnFull::Redirect(_) => "redirect",
    };
    (Some(own.messages_max), on_full.to_owned())
}

/// What queues keep beside their groups, where that is anything.
pub(crate) async fn watch(State(state): Shared) -> Result<Listed<QueueStoreLine>, Failure> {
    let api = state.api()?;
    let mut listed = Listed::new();
    for (topic, at) in led(api, None)? {
        if listed.is_late() {
            listed.pass(&topic, at, "not_asked");
            continue;
        }
        let measured = ask_listed(&state, api, at, QueueCommand::Measure).await;
        let lines = measured.map(|measured| match measured {
            Some(QueueReply::Measure(measure)) => store_line(&topic, at, &measure),
            Some(_) | None => Vec::new(),
        });
        listed.take(&topic, at, lines);
    }
    Ok(listed)
}

/// What one partition keeps, if that is anything.
fn store_line(topic: &str, at: TopicPartition, measure: &QueueMeasure) -> Vec<QueueStoreLine> {
    let line = QueueStoreLine {
        topic: topic.to_owned(),
        partition: at.index.0,
        delayed: measure.scheduled,
        halves: measure.halves,
        halves_parked: measure.halves_parked,
        outgoing: measure.outgoing,
        undeliverable: measure.aside,
        delays: DelaysView {
            kept: measure.delays.kept,
            released: measure.delays.released,
            cancelled: measure.delays.cancelled,
            releasing: measure.releasing,
        },
    };
    let kept = [line.delayed, line.halves, line.outgoing, line.undeliverable];
    let is_any = line.delays.kept > 0 || kept.iter().any(|kept| *kept > 0);
    is_any.then_some(line).into_iter().collect()
}

pub(crate) async fn undeliverable(
    State(state): Shared,
    Path(topic): Path<String>,
) -> Answer<Vec<UndeliverableLine>> {
    let api = state.api()?;
    let mut lines = Vec::new();
    for (_, at) in led(api, Some(&topic))? {
        let command = QueueCommand::ListAside {
            after: None,
            limit: LINES_MAX,
        };
        let Some(QueueReply::ListAside(listed)) = ask(&state, api, at, command).await? else {
            continue;
        };
        let places = listed.iter().map(|line| line.payload_at).collect();
        let ids = ids(&state, api, at, places).await?;
        let pairs = listed.into_iter().zip(ids);
        lines.extend(pairs.map(|(line, id)| UndeliverableLine {
            partition: at.index.0,
            number: line.number.0,
            at: line.at.0,
            to: match line.destination {
                Destination::Here | Destination::Copies => format!("{topic}-{}", at.index.0),
                Destination::There(to) => format!("{}-{}", to.topic, to.partition),
            },
            reason: line.reason.to_string(),
            id,
        }));
    }
    Ok(Json(lines))
}

pub(crate) async fn send_on(
    State(state): Shared,
    Path((topic, partition)): Path<(String, u32)>,
    uri: Uri,
    Body(wish): Body<SendOn>,
) -> Answer<Done> {
    let api = state.api()?;
    let at = here(api, &topic, partition, &uri)?;
    let command = QueueCommand::SendAside {
        numbers: wish.numbers.into_iter().map(EntryNumber).collect(),
        to: wish.to.map(|topic| Target {
            topic: topic.into(),
            partition: 0,
        }),
    };
    let Some(QueueReply::SendAside(sent)) = ask(&state, api, at, command).await? else {
        return Err(QueueCallError::NoQueue.into());
    };
    let sent = sent?;
    tracing::warn!(%topic, partition, sent, "an operator sent messages on");
    Ok(Json(Done {
        message: format!("{sent} messages sent on"),
        id: None,
    }))
}

pub(crate) async fn delayed(
    State(state): Shared,
    Path(topic): Path<String>,
) -> Answer<Vec<DelayedLine>> {
    let api = state.api()?;
    let mut lines = Vec::new();
    for (_, at) in led(api, Some(&topic))? {
        let command = QueueCommand::ListScheduled {
            after: None,
            limit: LINES_MAX,
        };
        let Some(QueueReply::ListScheduled(listed)) = ask(&state, api, at, command).await? else {
            continue;
        };
        let places = listed.iter().map(|line| line.payload_at).collect();
        let ids = ids(&state, api, at, places).await?;
        let pairs = listed.into_iter().zip(ids);
        lines.extend(pairs.map(|(line, id)| DelayedLine {
            deliver_at: line.handle.deliver_at.0,
            partition: at.index.0,
            handle: line.handle.to_string(),
            id,
        }));
    }
    lines.sort();
    Ok(Json(lines))
}

/// The message ids of what the journal keeps at `places`.
async fn ids(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    places: Vec<Offset>,
) -> Result<Vec<String>, Failure> {
    let id = |kept: Option<Payload>| {
        let id = kept.map(|kept| Message::from_payload(&kept).id.to_string());
        id.unwrap_or_default()
    };
    let kept = |places| api.queues.kept(at, places);
    reading::all(state, places, kept, id).await
}

pub(crate) async fn cancel(
    State(state): Shared,
    Path((topic, handle)): Path<(String, String)>,
    uri: Uri,
) -> Answer<Done> {
    let api = state.api()?;
    let parsed = ScheduleHandle::parse(&handle);
    let parsed = parsed.ok_or_else(|| Failure::bad_request("this is no handle"))?;
    let at = here(api, &topic, parsed.partition, &uri)?;
    let cancelled = state.within(api.queues.cancel(at, parsed)).await??;
    let message = match cancelled {
        Cancelled::Cancelled => "cancelled",
        Cancelled::AlreadyFired => "already fired",
        Cancelled::Unknown => "unknown: due or cancelled longer ago than is remembered",
    };
    Ok(Json(Done {
        message: message.to_owned(),
        id: None,
    }))
}

/// Which half messages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Halves {
    #[serde(default)]
    parked: bool,
}

pub(crate) async fn halves(
    State(state): Shared,
    Path(topic): Path<String>,
    Query(Halves { parked }): Query<Halves>,
) -> Answer<Vec<HalfView>> {
    let api = state.api()?;
    let mut lines = Vec::new();
    for (_, at) in led(api, Some(&topic))? {
        let command = QueueCommand::ListHalf {
            after: None,
            limit: LINES_MAX,
            parked,
        };
        let Some(QueueReply::ListHalf(listed)) = ask(&state, api, at, command).await? else {
            continue;
        };
        let places = listed.iter().map(|line| line.payload_at).collect();
        let ids = ids(&state, api, at, places).await?;
        let pairs = listed.into_iter().zip(ids);
        lines.extend(pairs.map(|(line, id)| HalfView {
            prepared_at: line.prepared_at.0,
            partition: at.index.0,
            handle: line.handle.to_string(),
            id,
            producers: line.producers.to_string(),
            checks: u32::from(line.checks),
            parked: line.parked,
        }));
    }
    lines.sort();
    Ok(Json(lines))
}

pub(crate) async fn decide(
    State(state): Shared,
    Path((topic, handle)): Path<(String, String)>,
    uri: Uri,
    Body(wish): Body<DecideHalf>,
) -> Answer<Done> {
    let api = state.api()?;
    let parsed = HalfHandle::parse(&handle);
    let parsed = parsed.ok_or_else(|| Failure::bad_request("this is no handle"))?;
    let at = here(api, &topic, parsed.partition, &uri)?;
    let (decision, word) = if wish.commit {
        (Decision::Commit, "committed")
    } else {
        (Decision::Rollback, "rolled back")
    };
    let source = DecisionSource::Operator;
    state
        .within(api.queues.resolve(at, parsed, decision, source))
        .await??;
    tracing::warn!(%topic, %handle, word, "an operator decided on a half message");
    Ok(Json(Done {
        message: word.to_owned(),
        id: None,
    }))
}

pub(crate) async fn trace(
    State(state): Shared,
    Path((topic, partition, offset)): Path<(String, u32, u64)>,
    uri: Uri,
) -> Answer<Vec<StandingView>> {
    let api = state.api()?;
    let at = here(api, &topic, partition, &uri)?;
    let command = QueueCommand::TraceOf {
        offset: Offset(offset),
    };
    let Some(QueueReply::TraceOf(standings)) = ask(&state, api, at, command).await? else {
        return Err(QueueCallError::NoQueue.into());
    };
    let views = standings.into_iter().map(|(group, standing)| {
        let mut view = StandingView {
            group: group.to_string(),
            standing: String::new(),
            ended: Vec::new(),
            member: None,
            until: None,
        };
        let word = match standing {
            Standing::NotReached => "not-reached",
            Standing::Final => "final",
            Standing::Ready => "ready",
            Standing::Queued => "queued",
            Standing::InFlight { member, until, .. } => {
                view.member = Some(member.to_string());
                view.until = Some(until.0);
                "in-flight"
            }
            Standing::Retrying(attempts) => {
                view.until = Some(attempts.next_at.0);
                let ends = attempts.history.iter();
                let ends = ends.map(|end| (end.cause.name().to_owned(), end.at.0));
                view.ended = ends.collect();
                "retrying"
            }
        };
        word.clone_into(&mut view.standing);
        view
    });
    Ok(Json(views.collect()))
}

/// How many records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    limit: Option<u64>,
}

pub(crate) async fn records(
    State(state): Shared,
    Path((topic, partition, offset)): Path<(String, u32, u64)>,
    Query(Limit { limit }): Query<Limit>,
    uri: Uri,
) -> Answer<Vec<RecordView>> {
    let api = state.api()?;
    let at = here(api, &topic, partition, &uri)?;
    let limit = limit.unwrap_or(20).min(LINES_MAX as u64);
    let offsets = (offset..offset.saturating_add(limit)).map(Offset).collect();
    let views = reading::records(&state, api, at, offsets, |record| record.map(view)).await?;
    Ok(Json(views.into_iter().flatten().collect()))
}

/// A record, as people read it.
pub(crate) fn view(record: &Record) -> RecordView {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = record.value.as_deref().unwrap_or_default();
    let shown = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
    let headers = record.headers.iter().map(|header| {
        let value = header.value.as_deref().unwrap_or_default();
        (text(&header.key), text(value))
    });
    RecordView {
        offset: record.offset.0,
        at: record.timestamp.0,
        key: record.key.as_deref().map(text),
        headers: headers.collect(),
        bytes: value.len() as u64,
        value: text(shown),
    }
}
