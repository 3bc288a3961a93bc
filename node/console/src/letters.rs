//! `/v1/dlq`: dead letters, and the replays that move them back.
//!
//! Letters are what their partition's log holds less what was moved back. A replay is a job
//! of the partition's queue: it is begun and changed here, and goes on whoever asks.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use serde::Deserialize;
use weir_api::console::{
    BeginReplay, ChangeReplay, DeadLettersView, Done, LettersWanted, RecordView, ReplayLine,
    ReplayStepView,
};
use weir_api::log::OffsetQuery;
use weir_api::queues::{
    EntryNumber, LetterFacts, QueueCommand, QueueReply, ReplayChange, ReplayCommand, ReplayFilter,
    ReplayReport, ReplayView, StartReplay,
};
use weir_api::{Api, QueueApi};
use weir_base::batch::Record;
use weir_base::{Offset, Timestamp, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;
use crate::queues::{LINES_MAX, ask, here, led, view};
use crate::reading;
use crate::routes::{Answer, Body, Shared};

/// Letters that one request looks at before it removes them.
const PURGE_MAX: u64 = 100_000;

/// First retained offset and high watermark.
pub(crate) async fn ends(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
) -> Result<(Offset, Offset), Failure> {
    let [start, end] = [OffsetQuery::Earliest, OffsetQuery::Latest]
        .map(|query| state.within(api.log.offset(at, query, None)));
    let (start, end) = (start.await??.offset, end.await??.offset);
    Ok((start.unwrap_or_default(), end.unwrap_or_default()))
}

/// What is told of replays; nothing where none was ever begun.
async fn report(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    start: Offset,
    of: Vec<Offset>,
) -> Result<ReplayReport, Failure> {
    let command = QueueCommand::Replay(ReplayCommand::List { start, of });
    match ask(state, api, at, command).await? {
        Some(QueueReply::Replay(report)) => Ok(report?),
        _ => Ok(ReplayReport::default()),
    }
}

pub(crate) async fn show(
    State(state): Shared,
    Path(topic): Path<String>,
) -> Answer<Vec<DeadLettersView>> {
    let api = state.api()?;
    let mut views = Vec::new();
    for (topic, at) in led(api, Some(&topic))? {
        let (start, end) = ends(&state, api, at).await?;
        let report = report(&state, api, at, start, Vec::new()).await?;
        let held = end.0.saturating_sub(start.0);
        let replays = report.replays.iter().map(|replay| line(at, replay));
        views.push(DeadLettersView {
            topic,
            partition: at.index.0,
            start: start.0,
            end: end.0,
            letters: held.saturating_sub(report.moved_back),
            on_the_way: report.on_the_way,
            replays: replays.collect(),
        });
    }
    Ok(Json(views))
}

/// Which letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    limit: Option<u64>,
    /// Of this group alone.
    group: Option<String>,
}

pub(crate) async fn letters(
    State(state): Shared,
    Path((topic, partition, offset)): Path<(String, u32, u64)>,
    Query(Which { limit, group }): Query<Which>,
    uri: Uri,
) -> Answer<Vec<RecordView>> {
    let api = state.api()?;
    let at = here(api, &topic, partition, &uri)?;
    let limit = usize::try_from(limit.unwrap_or(20)).unwrap_or(LINES_MAX);
    let limit = limit.min(LINES_MAX);
    let (start, end) = ends(&state, api, at).await?;
    let mut next = start.0.max(offset);
    let mut views = Vec::new();
    while next < end.0 && views.len() < limit {
        let to = end.0.min(next.saturating_add(LINES_MAX as u64));
        let page: Vec<Offset> = (next..to).map(Offset).collect();
        let moved = report(&state, api, at, start, page.clone()).await?.among;
        let left = page
            .into_iter()
            .filter(|at| moved.binary_search(at).is_err());
        let mut left: Vec<Offset> = left.collect();
        if group.is_none() {
            left.truncate(limit - views.len());
        }
        let show = |record: Option<&Record>| {
            let of = |record: &&Record| group.as_ref().is_none_or(|group| is_of(record, group));
            record.filter(of).map(view)
        };
        let found = reading::records(&state, api, at, left, show).await?;
        views.extend(found.into_iter().flatten());
        next = to;
    }
    views.truncate(limit);
    Ok(Json(views))
}

/// Whether a record is a dead letter of the group.
fn is_of(record: &Record, group: &str) -> bool {
    LetterFacts::of(record).group.as_deref() == Some(group)
}

pub(crate) async fn begin(
    State(state): Shared,
    Path(topic): Path<String>,
    uri: Uri,
    Body(wish): Body<BeginReplay>,
) -> Answer<ReplayLine> {
    let api = state.api()?;
    let at = here(api, &topic, wish.partition, &uri)?;
    let (begin, end) = ends(&state, api, at).await?;
    let text = |text: Option<String>| text.map(Into::into);
    let LettersWanted {
        since,
        until,
        cause,
        key,
        tag,
        group,
    } = wish.filter;
    let by = wish.by;
    let start = StartReplay {
        begin,
        end,
        filter: ReplayFilter {
            since: since.map(Timestamp),
            until: until.map(Timestamp),
            cause: text(cause),
            key: text(key),
            tag: text(tag),
            group: text(group),
        },
        rate: wish.rate,
        dry_run: wish.dry_run,
        by: by.as_str().into(),
    };
    let queues: &dyn QueueApi = &*api.queues;
    let begun = queues.replay(at, ReplayCommand::Start(start));
    let line = the_one(at, &state.within(begun).await??)?;
    tracing::warn!(%topic, replay = line.replay, %by, "an operator replays dead letters");
    Ok(Json(line))
}

pub(crate) async fn change(
    State(state): Shared,
    Path((topic, partition, replay, word)): Path<(String, u32, u64, String)>,
    uri: Uri,
    Body(wish): Body<ChangeReplay>,
) -> Answer<ReplayLine> {
    let api = state.api()?;
    let change = match word.as_str() {
        "pause" => ReplayChange::Pause,
        "resume" => ReplayChange::Resume,
        "cancel" => ReplayChange::Cancel,
        _ => return Err(Failure::bad_request("say pause, resume or cancel")),
    };
    let at = here(api, &topic, partition, &uri)?;
    let by = wish.by;
    let command = ReplayCommand::Change {
        replay: EntryNumber(replay),
        change,
        by: by.as_str().into(),
    };
    let queues: &dyn QueueApi = &*api.queues;
    let changed = state.within(queues.replay(at, command)).await??;
    tracing::warn!(%topic, replay, %word, %by, "an operator changed a replay");
    Ok(Json(the_one(at, &changed)?))
}

/// Whose letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purge {
    /// The group, and nothing where anything else is among its letters; needed where the topic's
    /// name does not say that it is for dead letters.
    group: Option<String>,
    /// Of this partition alone.
    partition: Option<u32>,
}

/// Removes all records of the partitions that this node leads; for dead letters only.
pub(crate) async fn purge(
    State(state): Shared,
    Path(topic): Path<String>,
    Query(Purge { group, partition }): Query<Purge>,
) -> Answer<Done> {
    let api = state.api()?;
    if !topic.starts_with("dlq.") && group.is_none() {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "no_dead_letters",
            format!("topic '{topic}' holds no dead letters"),
            "name a topic that begins with 'dlq.', or the group whose letters it holds",
        ));
    }
    let (mut removed, mut left) = (0, 0);
    let led = led(api, Some(&topic))?.into_iter();
    for (_, at) in led.filter(|(_, at)| partition.is_none_or(|wanted| wanted == at.index.0)) {
        let (start, end) = ends(&state, api, at).await?;
        let report = report(&state, api, at, start, Vec::new()).await?;
        let mut open = report.replays.iter();
        // What is on its way is read from here.
        if report.on_the_way > 0 || open.any(|view| !view.replay.state.is_over()) {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "replay_under_way",
                format!("letters of '{topic}' are being moved back"),
                "`weir dlq replays` shows how far it is; `weir dlq cancel` ends it",
            ));
        }
        let before = match &group {
            Some(group) => {
                let to = end.min(start + PURGE_MAX);
                check_all_of(&state, api, (&topic, at), (start, to), group).await?;
                Some(to)
            }
            None => None,
        };
        let now = state.within(api.log.delete_records(at, before)).await??;
        let letters = now.0.saturating_sub(start.0);
        removed += letters.saturating_sub(report.moved_back);
        left += end.0.saturating_sub(now.0);
    }
    tracing::warn!(%topic, removed, left, "an operator removed dead letters");
    let message = match left {
        0 => format!("{removed} dead letters removed"),
        left => format!("{removed} dead letters removed, {left} are left: purge again"),
    };
    Ok(Json(Done { message, id: None }))
}

/// Refuses to take for a group's letters what is none.
async fn check_all_of(
    state: &ConsoleState,
    api: &Api,
    (topic, at): (&str, TopicPartition),
    (start, end): (Offset, Offset),
    group: &str,
) -> Result<(), Failure> {
    let mut next = start;
    while next < end {
        let to = end.min(next + LINES_MAX as u64);
        let page = (next.0..to.0).map(Offset).collect();
        let other = |record: Option<&Record>| {
            let other = record.filter(|record| !is_of(record, group));
            other.map(|record| record.offset)
        };
        let others = reading::records(state, api, at, page, other).await?;
        if let Some(other) = others.into_iter().flatten().next() {
            let index = at.index.0;
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "not_of_the_group",
                format!(
                    "{topic}-{index} holds at offset {other} what is no dead letter of group '{group}'"
                ),
                "only all of a partition can be removed: `weir dlq replay` moves the letters of one group alone",
            ));
        }
        next = to;
    }
    Ok(())
}

fn the_one(at: TopicPartition, report: &ReplayReport) -> Result<ReplayLine, Failure> {
    let line = report.replays.first().map(|replay| line(at, replay));
    line.ok_or_else(|| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no_replay",
            "the replay is not in the answer; it may have changed all the same",
            "look at `weir dlq replays`",
        )
    })
}

fn line(at: TopicPartition, view: &ReplayView) -> ReplayLine {
    let replay = &view.replay;
    let filter = &replay.filter;
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let steps = replay.audit.iter().map(|step| ReplayStepView {
        at: step.at.0,
        by: step.by.to_string(),
        state: step.state.name().to_owned(),
        moved: step.moved,
    });
    ReplayLine {
        replay: view.number.0,
        partition: at.index.0,
        state: replay.state.name().to_owned(),
        dry_run: replay.dry_run,
        rate: replay.rate,
        filter: LettersWanted {
            since: filter.since.map(|at| at.0),
            until: filter.until.map(|at| at.0),
            cause: text(&filter.cause),
            key: text(&filter.key),
            tag: text(&filter.tag),
            group: text(&filter.group),
        },
        begin: replay.begin.0,
        position: replay.position.0,
        end: replay.end.0,
        moved: replay.moved,
        passed_over: replay.passed_over,
        homeless: replay.homeless,
        audit: steps.collect(),
    }
}
