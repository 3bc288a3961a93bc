//! `/v1/queues/{topic}/books/{group}`: what was produced, how it ended and what is pending,
//! by hour, so that it adds up.
//!
//! What was produced is told by the log's time index, what became of it by the group's
//! ledger, which is kept as messages become final: nothing is scanned. An hour begins at the
//! first record of its time or later. The ledger goes by each message's own time, so where
//! times are out of order the two may differ by some for an hour, never in sum.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use weir_api::Api;
use weir_api::console::{BooksView, GapLine, LedgerLine};
use weir_api::log::OffsetQuery;
use weir_api::queues::{Books, Counts, GAPS_MAX, QueueCommand, QueueReply};
use weir_base::{Offset, Timestamp, TopicPartition};

use crate::ConsoleState;
use crate::failure::Failure;
use crate::letters::ends;
use crate::queues::{ask, led};
use crate::routes::{Answer, Shared};

const HOUR: i64 = 3_600_000;
/// Hours of one partition that are looked up; the ledger reaches back as far.
const HOURS_MAX: usize = 2_160;

/// From when.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Since {
    #[serde(default)]
    since_hour: u32,
}

pub(crate) async fn show(
    State(state): Shared,
    Path((topic, group)): Path<(String, String)>,
    Query(Since { since_hour }): Query<Since>,
) -> Answer<Vec<BooksView>> {
    let api = state.api()?;
    let mut views = Vec::new();
    for (_, at) in led(api, Some(&topic))? {
        views.extend(books(&state, api, at, &group, since_hour).await?);
    }
    Ok(Json(views))
}

/// The books of one partition; none where the group is not.
async fn books(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    group: &str,
    since_hour: u32,
) -> Result<Option<BooksView>, Failure> {
    let (log_start, _) = ends(state, api, at).await?;
    let mut hours = hours(state, api, at, since_hour).await?;
    if let Some((_, from)) = hours.first_mut().filter(|_| since_hour == 0) {
        *from = log_start;
    }
    let below = [log_start].into_iter();
    let below: Vec<Offset> = below.chain(hours.iter().map(|(_, from)| *from)).collect();
    let ledger = QueueCommand::Ledger {
        group: group.into(),
        below,
    };
    // Not every partition has every group.
    let Some(QueueReply::Ledger(Ok(ledger))) = ask(state, api, at, ledger).await? else {
        return Ok(None);
    };
    let gaps = QueueCommand::Gaps {
        group: group.into(),
    };
    let gaps = match ask(state, api, at, gaps).await? {
        Some(QueueReply::Gaps(Ok(gaps))) => gaps,
        Some(_) | None => Vec::new(),
    };
    // Read last: whatever is final is below it.
    let (_, end) = ends(state, api, at).await?;
    let produced = end.0.saturating_sub(ledger.start.0);
    let counted: i64 = ledger.hours.iter().map(|(_, counts)| counts.total()).sum();
    let removed = log_start.0.saturating_sub(ledger.start.0);
    let removed_final = ledger.finished_below.first().copied().unwrap_or(0);
    Ok(Some(BooksView {
        partition: at.index.0,
        produced,
        pending: produced.saturating_sub(ledger.finished),
        hours: lines(at.index.0, &hours, &ledger, end, since_hour),
        gaps_more: gaps.len() >= GAPS_MAX,
        gaps: gaps
            .into_iter()
            .map(|(from, offsets)| GapLine {
                partition: at.index.0,
                from: from.0,
                offsets,
            })
            .collect(),
        removed: removed.saturating_sub(removed_final),
        unaccounted: ledger.finished.cast_signed() - counted,
    }))
}

/// Hours that the log has records of, each with its first offset.
async fn hours(
    state: &ConsoleState,
    api: &Api,
    at: TopicPartition,
    since_hour: u32,
) -> Result<Vec<(u32, Offset)>, Failure> {
    let mut hours = Vec::new();
    let mut from = match since_hour {
        0 => Timestamp(i64::MIN),
        hour => Timestamp(i64::from(hour) * HOUR),
    };
    while hours.len() < HOURS_MAX {
        let found = api.log.offset(at, OffsetQuery::AtTime(from), None);
        let found = state.within(found).await??;
        let (Some(offset), Some(time)) = (found.offset, found.timestamp) else {
            break;
        };
        let hour = u32::try_from(time.0.div_euclid(HOUR)).unwrap_or(0);
        hours.push((hour, offset));
        from = Timestamp((i64::from(hour) + 1) * HOUR);
    }
    Ok(hours)
}

/// A line for every hour of the log or the ledger. `books` were asked for the log's start
/// and the hours' first offsets.
fn lines(
    partition: u32,
    hours: &[(u32, Offset)],
    books: &Books,
    end: Offset,
    since_hour: u32,
) -> Vec<LedgerLine> {
    let line = |(hour, counts): (u32, Counts)| LedgerLine {
        hour,
        partition,
        produced: None,
        acked: counts.acked,
        dead_lettered: counts.dead_lettered,
        forwarded: counts.forwarded,
        filtered: counts.filtered,
        superseded: counts.superseded,
        dropped: counts.dropped,
        missing: counts.missing,
        no_message: counts.no_message,
        delayed: counts.delayed,
        sought: counts.sought,
        pending: None,
        other_hour: None,
    };
    let mut lines: BTreeMap<u32, (LedgerLine, i64)> = books
        .hours
        .iter()
        .map(|(hour, counts)| (*hour, (line((*hour, *counts)), counts.total())))
        .collect();
    // The last hour goes on to the end of the log.
    let next = hours.iter().skip(1).map(|(_, offset)| *offset).chain([end]);
    let finished = books.finished_below.iter().skip(1).copied();
    let finished: Vec<u64> = finished.chain([books.finished]).collect();
    let spans = hours.iter().zip(next).zip(finished.windows(2));
    for (((hour, from), to), finished) in spans {
        let (line, _) = lines
            .entry(*hour)
            .or_insert_with(|| (line((*hour, Counts::default())), 0));
        let produced = to.0.saturating_sub(from.0.max(books.start.0));
        let finished = finished[1].saturating_sub(finished[0]);
        line.produced = Some(produced);
        line.pending = Some(produced.saturating_sub(finished));
    }
    let first = hours.first().map_or(u32::MAX, |(hour, _)| *hour);
    let lines = lines.into_iter().filter(|(hour, _)| *hour >= since_hour);
    let lines = lines.map(|(hour, (mut line, counted))| {
        if hour >= first || since_hour > 0 {
            // No record of this hour is in the log, but something is accounted for under it.
            let produced = *line.produced.get_or_insert(0);
            let pending = *line.pending.get_or_insert(0);
            line.other_hour = Some(produced.cast_signed() - pending.cast_signed() - counted);
        }
        line
    });
    // An hour before the group began has nothing of it.
    let is_empty = |line: &LedgerLine| {
        let nothing = LedgerLine {
            hour: line.hour,
            partition,
            produced: Some(0),
            pending: Some(0),
            other_hour: Some(0),
            ..LedgerLine::default()
        };
        *line == nothing
    };
    lines.filter(|line| !is_empty(line)).collect()
}
