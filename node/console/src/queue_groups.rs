//! `/v1/queues/{topic}/groups/{group}`: what operators set about one queue group, on the
//! partitions that this node leads. Partition by partition: what fails half way is said,
//! and setting the same again finishes it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use weir_api::Api;
use weir_api::console::{AlterQueueGroup, AlteredQueueGroup};
use weir_api::log::OffsetQuery;
use weir_api::queues::{Backoff, GroupSettings, QueueCommand, QueueReply, Rate};
use weir_base::{Offset, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;
use crate::queues::{ask, led};
use crate::routes::{Answer, Body, Shared};

pub(crate) async fn alter(
    State(state): Shared,
    Path((topic, group)): Path<(String, String)>,
    Body(wish): Body<AlterQueueGroup>,
) -> Answer<AlteredQueueGroup> {
    let api = state.api()?;
    let led = led(api, Some(&topic))?;
    for (_, at) in &led {
        set(&state, api, *at, &group, &wish).await?;
    }
    tracing::info!(%topic, %group, ?wish, "an operator set a queue group");
    Ok(Json(AlteredQueueGroup {
        partitions: led.len(),
    }))
}

async fn set(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    group: &str,
    wish: &AlterQueueGroup,
) -> Result<(), Failure> {
    let group: Arc<str> = group.into();
    let describe = QueueCommand::Describe {
        group: Arc::clone(&group),
    };
    let mut settings = match ask(state, api, at, describe).await? {
        Some(QueueReply::Describe(Ok(view))) => view.settings,
        Some(_) | None => GroupSettings::default(),
    };
    if let Some(attempts) = wish.attempts {
        settings.attempts_max = attempts;
    }
    if let Some(backoff) = &wish.backoff {
        let steps = backoff.iter().copied().map(Duration::from_millis);
        settings.backoff = Backoff::List(steps.collect());
    }
    if let Some(fifo) = wish.fifo {
        settings.fifo = fifo;
    }
    if let Some(rate) = wish.rate {
        settings.pacing.rate = match rate {
            0 => Rate::Unlimited,
            rate => Rate::Topic(rate),
        };
    }
    let start = match wish.from_start {
        true => Offset::ZERO,
        false => {
            let end = api.log.offset(at, OffsetQuery::Latest, None);
            state.within(end).await??.offset.unwrap_or_default()
        }
    };
    let made = api.queues.ensure_group(at, group, settings, start, true);
    state.within(made).await??;
    Ok(())
}
