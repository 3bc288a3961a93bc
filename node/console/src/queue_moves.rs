//! `/v1/queues/{topic}/groups/{group}`: groups deleted and moved, partition by partition of
//! those that this node leads. One that fails does not keep the others from being done;
//! doing it again finishes it.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use weir_api::Api;
use weir_api::console::{QueueStep, SeekQueueGroup};
use weir_api::queues::{GroupView, QueueCommand, QueueError, QueueReply};
use weir_base::{Offset, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;
use crate::letters::ends;
use crate::queues::{ask, led};
use crate::routes::{Answer, Body, Shared};

/// Whether consumers are no reason to refuse.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Force {
    #[serde(default)]
    force: bool,
}

pub(crate) async fn delete(
    State(state): Shared,
    Path((topic, group)): Path<(String, String)>,
    Query(Force { force }): Query<Force>,
) -> Answer<Vec<QueueStep>> {
    let api = state.api()?;
    let led = led(api, Some(&topic))?;
    for (_, at) in &led {
        let view = describe(&state, api, *at, &group).await?;
        // They would make it anew, at the end: what waits for them would be passed over.
        if !force && view.is_some_and(|view| view.members > 0) {
            return Err(Failure::new(
                StatusCode::CONFLICT,
                "group_in_use",
                format!("group '{group}' has consumers on {topic}-{}", at.index.0),
                "stop them first, or insist with --force: they would make it anew, at the end",
            ));
        }
    }
    let mut steps = Vec::new();
    for (_, at) in led {
        let command = QueueCommand::DeleteGroup {
            group: group.as_str().into(),
        };
        let step = QueueStep {
            partition: at.index.0,
            ..QueueStep::default()
        };
        let done = match ask(&state, api, at, command).await {
            Ok(Some(QueueReply::DeleteGroup(done))) => done.map_err(Failure::from),
            Ok(Some(_) | None) => Err(absent(&group)),
            Err(failure) => Err(failure),
        };
        steps.push(ended(step, done, "done"));
    }
    tracing::warn!(%topic, %group, ?steps, "an operator deleted a queue group");
    Ok(Json(steps))
}

pub(crate) async fn seek(
    State(state): Shared,
    Path((topic, group)): Path<(String, String)>,
    Body(wish): Body<SeekQueueGroup>,
) -> Answer<Vec<QueueStep>> {
    let api = state.api()?;
    let mut steps = Vec::new();
    for (_, at) in led(api, Some(&topic))? {
        let Some(to) = wish.offsets.get(&at.index.0) else {
            continue;
        };
        let mut step = QueueStep {
            partition: at.index.0,
            to: Some(*to),
            ..QueueStep::default()
        };
        let done = seek_one(&state, api, at, &group, (wish.dry_run, &mut step)).await;
        let word = if wish.dry_run { "checked" } else { "done" };
        steps.push(ended(step, done, word));
    }
    if !wish.dry_run {
        tracing::warn!(%topic, %group, ?steps, "an operator moved a queue group");
    }
    Ok(Json(steps))
}

async fn seek_one(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    group: &str,
    (dry_run, step): (bool, &mut QueueStep),
) -> Result<(), Failure> {
    let view = describe(state, api, at, group).await?;
    let view = view.ok_or_else(|| absent(group))?;
    step.from = Some(view.cursor.0);
    let (start, end) = ends(state, api, at).await?;
    let to = Offset(step.to.unwrap_or_default());
    if !(start..=end).contains(&to) {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "out_of_range",
            format!("offset {to} is outside {start}..={end}"),
            "choose an offset in range",
        ));
    }
    step.lag = Some(end.0 - to.0);
    if !dry_run {
        let sought = api.queues.seek(at, group.into(), to);
        state.within(sought).await??;
    }
    Ok(())
}

/// The group on one partition, if it is there.
async fn describe(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    group: &str,
) -> Result<Option<GroupView>, Failure> {
    let command = QueueCommand::Describe {
        group: group.into(),
    };
    Ok(match ask(state, api, at, command).await? {
        Some(QueueReply::Describe(Ok(view))) => Some(view),
        Some(_) | None => None,
    })
}

/// The queue machine's own word.
fn absent(group: &str) -> Failure {
    QueueError::NoSuchGroup(group.into()).into()
}

fn ended(mut step: QueueStep, done: Result<(), Failure>, word: &str) -> QueueStep {
    step.outcome = match done {
        Ok(()) => word.to_owned(),
        Err(failure) if failure.problem.error == "unknown_group" => "absent".to_owned(),
        Err(failure) => {
            let problem = failure.problem;
            step.why = format!("{}; {}", problem.message, problem.remedy);
            "failed".to_owned()
        }
    };
    step
}
