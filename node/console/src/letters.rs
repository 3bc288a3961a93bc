//! `/v1/dlq`: dead letters, and the replays that move them back.
//!
//! Letters are what their partition's log holds less what was moved back. A replay is a job
//! of the partition's queue: it is begun and changed here, and goes on whoever asks.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use weir_api::console::{
    BeginReplay, ChangeReplay, DeadLettersView, Done, LettersWanted, RecordView, ReplayLine,
    ReplayStepView,
};
use weir_api::log::OffsetQuery;
use weir_api::queues::{
    EntryNumber, QueueCommand, QueueReply, ReplayChange, ReplayCommand, ReplayFilter, ReplayReport,
    ReplayView, StartReplay,
};
use weir_api::{Api, QueueApi};
use weir_base::{Offset, Timestamp, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;
use crate::queues::{LINES_MAX, Limit, ask, here, led, view};
use crate::reading;
use crate::routes::{Answer, Body, Shared};

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

pub(crate) async fn letters(
    State(state): Shared,
    Path((topic, partition, offset)): Path<(String, u32, u64)>,
    Query(Limit { limit }): Query<Limit>,
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
        let left: Vec<Offset> = left.take(limit - views.len()).collect();
        let found = reading::records(&state, api, at, left, |record| record.map(view)).await?;
        views.extend(found.into_iter().flatten());
        next = to;
    }
    Ok(Json(views))
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

/// Removes all records of the partitions that this node leads; for dead letters only.
pub(crate) async fn purge(State(state): Shared, Path(topic): Path<String>) -> Answer<Done> {
    let api = state.api()?;
    if !topic.starts_with("dlq.") {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "no_dead_letters",
            format!("topic '{topic}' holds no dead letters"),
            "name a topic that begins with 'dlq.'",
        ));
    }
    let mut removed = 0;
    for (_, at) in led(api, Some(&topic))? {
        let (start, _) = ends(&state, api, at).await?;
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
        let now = state.within(api.log.delete_records(at, None)).await??;
        let letters = now.0.saturating_sub(start.0);
        removed += letters.saturating_sub(report.moved_back);
    }
    tracing::warn!(%topic, removed, "an operator removed dead letters");
    Ok(Json(Done {
        message: format!("{removed} dead letters removed"),
        id: None,
    }))
}

fn the_one(at: TopicPartition, report: &ReplayReport) -> Result<ReplayLine, Failure> {
    let line = report.replays.first().map(|replay| line(at, replay));
    line.ok_or_else(Failure::not_ready)
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
