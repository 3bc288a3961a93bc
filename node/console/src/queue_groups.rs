//! `/v1/queues/{topic}/groups/{group}`: what operators set about one queue group, on the
//! partitions that this node leads. Partition by partition: what fails half way is said,
//! and setting the same again finishes it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use weir_api::console::{AlterQueueGroup, AlteredQueueGroup, parse_on_full, parse_target};
use weir_api::log::OffsetQuery;
use weir_api::queues::{
    Capacity, GroupSettings, OnFull, QueueCommand, QueueError, QueueReply, Rate,
};
use weir_api::{Api, QueueCallError};
use weir_base::{Offset, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;
use crate::queues::led;
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
    check_share(&wish, partitions)?;
    // What is refused for one partition is so before anything is done.
    let mut wanted = Vec::with_capacity(led.len());
    for (_, at) in &led {
        let mut settings = in_force(&state, api, *at, &group).await?;
        change(&wish, (partitions, at.index.0), &mut settings)?;
        settings.validate().map_err(QueueError::from)?;
        wanted.push((*at, settings));
    }
    for (at, settings) in wanted {
        set(&state, api, at, &group, (settings, wish.from_start)).await?;
    }
    tracing::info!(%topic, %group, ?wish, "an operator set a queue group");
    Ok(Json(AlteredQueueGroup {
        partitions: led.len(),
    }))
}

/// A limit of all partitions together must leave something for each. A rate is shared by the
/// queues themselves.
fn check_share(wish: &AlterQueueGroup, partitions: u32) -> Result<(), Failure> {
    match wish.concurrency {
        Some(most) if most != 0 && most < partitions => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "concurrency_too_low",
            format!("concurrency {most} is less than one for each of {partitions} partitions"),
            "choose a higher concurrency, or a topic of fewer partitions",
        )),
        Some(_) | None => Ok(()),
    }
}

/// The group's settings on a partition, or those of one that is to be made.
async fn in_force(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    group: &str,
) -> Result<GroupSettings, Failure> {
    let describe = QueueCommand::Describe {
        group: group.into(),
    };
    // Before its journal is there, a queue has no groups.
    let described = state.queue_call(|| {
        let called = api.queues.call(at, describe.clone());
        Box::pin(async move {
            match called.await {
                Err(QueueCallError::NoQueue) => Ok(None),
                reply => reply.map(Some),
            }
        })
    });
    Ok(match described.await? {
        Some(QueueReply::Describe(Ok(view))) => view.settings,
        Some(_) | None => GroupSettings::default(),
    })
}

/// Changes what is wished of the settings on partition `index`.
fn change(
    wish: &AlterQueueGroup,
    (partitions, index): (u32, u32),
    settings: &mut GroupSettings,
) -> Result<(), Failure> {
    let share = |whole| share(whole, partitions, index);
    let (defaults, duration) = (GroupSettings::default(), Duration::from_millis);
    settings.attempts_max = wish.attempts.unwrap_or(settings.attempts_max);
    if let Some(backoff) = &wish.backoff {
        settings.backoff = backoff.into();
    }
    settings.fifo = wish.fifo.unwrap_or(settings.fifo);
    settings.invisible = wish.lease.map_or(settings.invisible, duration);
    let pacing = &mut settings.pacing;
    pacing.rate = match wish.rate {
        None => pacing.rate,
        Some(0) => Rate::Unlimited,
        Some(rate) => Rate::Topic(rate),
    };
    pacing.concurrency = wish.concurrency.map_or(pacing.concurrency, share);
    if let Some(most) = wish.key_concurrency {
        pacing.key_concurrency = (most != 0).then_some(most);
    }
    if let Some(target) = &wish.dead_letter {
        settings.dead_letter = match target.as_str() {
            "" => defaults.dead_letter,
            text => Some(parse_target(text).ok_or_else(|| {
                refused(format!(
                    "dead_letter {text:?} is not TOPIC or TOPIC:PARTITION"
                ))
            })?),
        };
    }
    change_capacity(wish, settings)?;
    if let Some(broadcast) = &wish.broadcast {
        settings.broadcast = (!broadcast.is_empty()).then(|| broadcast.as_str().into());
    }
    settings.versioned = wish.versioned.unwrap_or(settings.versioned);
    if let Some(expires) = wish.expires {
        settings.expires_after = (expires != 0).then(|| duration(expires));
    }
    Ok(())
}

fn change_capacity(wish: &AlterQueueGroup, settings: &mut GroupSettings) -> Result<(), Failure> {
    let on_full = wish.on_full.as_deref().map(|text| {
        parse_on_full(text).ok_or_else(|| {
            refused(format!(
                "on_full {text:?} is none of reject, drop-oldest, redirect:TOPIC, redirect:TOPIC:PARTITION"
            ))
        })
    });
    let on_full = on_full.transpose()?;
    let old = settings.capacity.take();
    let own = old.as_ref().map(|own| own.messages_max);
    let messages_max = wish.capacity.or(own);
    let messages_max = messages_max.filter(|max| *max != 0);
    if messages_max.is_none() && on_full.is_some() {
        return Err(refused(
            "on_full is for a group with a capacity of its own, which this one has not".to_owned(),
        ));
    }
    settings.capacity = messages_max.map(|messages_max| Capacity {
        messages_max,
        on_full: on_full
            .or_else(|| old.map(|own| own.on_full))
            .unwrap_or(OnFull::Reject),
    });
    Ok(())
}

fn refused(message: String) -> Failure {
    let remedy = "`weir queue set --help` says what can be set";
    Failure::new(StatusCode::BAD_REQUEST, "refused", message, remedy)
}

async fn set(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    group: &str,
    (settings, from_start): (GroupSettings, bool),
) -> Result<(), Failure> {
    let start = match from_start {
        true => Offset::ZERO,
        false => {
            let end = api.log.offset(at, OffsetQuery::Latest, None);
            state.within(end).await??.offset.unwrap_or_default()
        }
    };
    let set = || {
        let settings = settings.clone();
        api.queues
            .ensure_group(at, group.into(), settings, start, true)
    };
    state.queue_call(set).await?;
    Ok(())
}

/// What one partition delivers of a group's limit, 0 of which is none; the shares add up.
fn share(whole: u32, partitions: u32, index: u32) -> Option<u32> {
    let partitions = partitions.max(1);
    let more = u32::from(index < whole % partitions);
    (whole != 0).then_some(whole / partitions + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_whole() {
        let shares: Vec<u32> = (0..3).filter_map(|index| share(1_000, 3, index)).collect();
        assert_eq!(shares, [334, 333, 333]);
        assert_eq!(share(0, 3, 0), None);
    }
}
