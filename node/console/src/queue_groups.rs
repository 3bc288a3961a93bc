//! `/v1/queues/{topic}/groups/{group}`: what operators set about one queue group, on the
//! partitions that this node leads. Partition by partition: what fails half way is said,
//! and setting the same again finishes it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use weir_api::Api;
use weir_api::console::{AlterQueueGroup, AlteredQueueGroup};
use weir_api::log::OffsetQuery;
use weir_api::queues::{Backoff, GroupSettings, QueueCommand, QueueReply};
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
    let image = api.cluster.image();
    let partitions = image.topics.get(topic.as_str());
    let partitions = partitions.map_or(1, |record| record.partitions.len());
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    if let Some(rate) = wish.rate
        && rate != 0
        && rate < partitions
    {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "rate_too_low",
            format!(
                "a rate of {rate} a second is less than one for each of {partitions} partitions"
            ),
            "choose a higher rate, or a topic of fewer partitions",
        ));
    }
    for (_, at) in &led {
        set(&state, api, (*at, partitions), &group, &wish).await?;
    }
    tracing::info!(%topic, %group, ?wish, "an operator set a queue group");
    Ok(Json(AlteredQueueGroup {
        partitions: led.len(),
    }))
}

async fn set(
    state: &ConsoleState,
    api: &Api,
    (at, partitions): (TopicPartition, u32),
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
        settings.pacing.rate = share(rate, partitions, at.index.0);
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

/// What one partition delivers of a group's rate; the shares add up to it.
fn share(rate: u32, partitions: u32, index: u32) -> Option<u32> {
    let partitions = partitions.max(1);
    let more = u32::from(index < rate % partitions);
    (rate != 0).then_some(rate / partitions + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_rate() {
        let shares: Vec<u32> = (0..3).filter_map(|index| share(1_000, 3, index)).collect();
        assert_eq!(shares, [334, 333, 333]);
        assert_eq!(share(0, 3, 0), None);
    }
}
