//! `weir reconcile`: every message of a topic accounted for, by hour and group.
//!
//! In each line what was produced is acknowledged, dead, moved, left out, missing or pending,
//! or accounted for under another hour; a gap is named by its offsets and fails the command.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use weir_api::console::{BooksView, GapLine, LedgerLine, QueueLine, QueueStoreLine};

use super::{of_all, point_in_time, refused};
use crate::client::segment;
use crate::table::{Table, or_dash};
use crate::{Session, time};

const HOUR: i64 = 3_600_000;

/// For `weir reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// Only this group
    #[arg(long)]
    pub group: Option<String>,
    /// Only messages stored from this time on, such as 2026-11-21T16:00:00Z
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub since: Option<i64>,
}

/// What became of the messages of one hour, for one group.
#[derive(Debug, Serialize)]
struct Reconciled {
    group: String,
    /// When the hour began.
    at: i64,
    #[serde(flatten)]
    counts: LedgerLine,
}

/// The whole answer.
#[derive(Debug, Default, Serialize)]
struct Reconciliation {
    topic: String,
    hours: Vec<Reconciled>,
    /// Not final yet, by group.
    pending: BTreeMap<String, u64>,
    /// Offsets at which no record was found, by group, whenever they were stored.
    gaps: BTreeMap<String, Vec<GapLine>>,
    /// What is wrong beside them, for people.
    amiss: Vec<String>,
    /// Acknowledged to their producers and not in the log: delayed, half, on their way.
    kept: Vec<QueueStoreLine>,
}

impl Reconciliation {
    /// Takes in what one group's partitions tell.
    fn add(&mut self, group: &str, books: Vec<BooksView>) {
        for view in books {
            let place = format!("{}-{} of {group}", self.topic, view.partition);
            *self.pending.entry(group.to_owned()).or_default() += view.pending;
            self.hours
                .extend(view.hours.into_iter().map(|counts| Reconciled {
                    group: group.to_owned(),
                    at: i64::from(counts.hour) * HOUR,
                    counts,
                }));
            if view.gaps_more {
                let named = view.gaps.len();
                self.amiss.push(format!(
                    "{place}: only the first {named} gaps are named, MISSING counts all"
                ));
            }
            if view.removed > 0 {
                self.amiss.push(format!(
                    "{place}: {} messages were removed from the log before they were settled",
                    view.removed
                ));
            }
            if view.unaccounted != 0 {
                self.amiss.push(format!(
                    "{place}: the ledger is {} off what is final",
                    view.unaccounted
                ));
            }
            if !view.gaps.is_empty() {
                let gaps = self.gaps.entry(group.to_owned()).or_default();
                gaps.extend(view.gaps);
            }
        }
    }

    /// Every delayed message that was kept is in the log, taken back, or still kept.
    fn check_delays(&mut self) {
        for line in &self.kept {
            let delays = &line.delays;
            let counted = delays.released + delays.cancelled + delays.releasing + line.delayed;
            if delays.kept != counted {
                self.amiss.push(format!(
                    "{}-{}: {} delayed messages were kept, {counted} are accounted for",
                    self.topic, line.partition, delays.kept
                ));
            }
        }
    }

    fn is_whole(&self) -> bool {
        let missing = self.hours.iter().any(|line| line.counts.missing > 0);
        self.gaps.is_empty() && self.amiss.is_empty() && !missing
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&[
            "HOUR",
            "GROUP",
            "PARTITION",
            "PRODUCED",
            "ACKED",
            "DEAD",
            "FORWARDED",
            "FILTERED",
            "SUPERSEDED",
            "DROPPED",
            "MISSING",
            "NO-MESSAGE",
            "DELAYED",
            "SOUGHT",
            "PENDING",
            "OTHER-HOUR",
        ]);
        for line in &self.hours {
            let counts = &line.counts;
            let mut cells = vec![
                time::show(line.at),
                line.group.clone(),
                counts.partition.to_string(),
                or_dash(counts.produced),
            ];
            let ended = [
                counts.acked,
                counts.dead_lettered,
                counts.forwarded,
                counts.filtered,
                counts.superseded,
                counts.dropped,
                counts.missing,
                counts.no_message,
                counts.delayed,
            ];
            cells.extend(ended.map(|number| number.to_string()));
            cells.push(counts.sought.to_string());
            cells.push(or_dash(counts.pending));
            cells.push(or_dash(counts.other_hour));
            table.row(cells);
        }
        table.print(out)?;
        for (group, pending) in &self.pending {
            writeln!(out, "pending for {group}: {pending}")?;
        }
        for line in &self.kept {
            writeln!(
                out,
                "not in the log of partition {}: {} delayed, {} half messages, {} on their way, {} undeliverable",
                line.partition, line.delayed, line.halves, line.outgoing, line.undeliverable
            )?;
        }
        for line in self.kept.iter().filter(|line| line.delays.kept > 0) {
            let delays = &line.delays;
            writeln!(
                out,
                "delayed on partition {}: {} kept = {} released + {} cancelled + {} on their way + {} waiting",
                line.partition,
                delays.kept,
                delays.released,
                delays.cancelled,
                delays.releasing,
                line.delayed
            )?;
        }
        for (group, gaps) in &self.gaps {
            for gap in gaps {
                let last = gap.from + gap.offsets.saturating_sub(1);
                writeln!(
                    out,
                    "missing for {group}: partition {}, offsets {} to {last}",
                    gap.partition, gap.from
                )?;
            }
        }
        self.amiss
            .iter()
            .try_for_each(|what| writeln!(out, "{what}"))
    }
}

pub(crate) fn run(args: &ReconcileArgs, session: &mut Session<'_>) -> Result<()> {
    let lines: Vec<QueueLine> = of_all(&session.client, "/v1/queues")?;
    let is_wanted = |line: &&QueueLine| {
        line.topic == args.topic && args.group.as_ref().is_none_or(|group| *group == line.group)
    };
    let mut groups: Vec<&String> = lines
        .iter()
        .filter(is_wanted)
        .map(|line| &line.group)
        .collect();
    groups.sort();
    groups.dedup();
    if groups.is_empty() {
        let what = format!("topic '{}' has no such queue group", args.topic);
        return Err(refused("unknown_group", what));
    }
    let since_hour = args.since.map_or(0, |at| at.max(0) / HOUR);
    let mut all = Reconciliation {
        topic: args.topic.clone(),
        ..Reconciliation::default()
    };
    for group in groups {
        let (topic, name) = (segment(&args.topic), segment(group));
        let path = format!("/v1/queues/{topic}/books/{name}?since_hour={since_hour}");
        all.add(group, of_all(&session.client, &path)?);
    }
    all.kept = of_all(&session.client, "/v1/queues-watch")?;
    all.kept.retain(|line| line.topic == args.topic);
    all.check_delays();
    session.show(&all, Reconciliation::print)?;
    if !all.is_whole() {
        bail!(
            "not every message of topic '{}' is accounted for",
            args.topic
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_api::console::DelaysView;

    #[test]
    fn more_gaps_than_are_remembered_are_said_to_be() {
        let gap = |from| GapLine {
            partition: 2,
            from,
            offsets: 1,
        };
        let mut all = Reconciliation {
            topic: "jobs".to_owned(),
            ..Reconciliation::default()
        };
        assert!(all.is_whole());
        let books = BooksView {
            partition: 2,
            gaps: (0..1_024).map(|n| gap(n * 2)).collect(),
            gaps_more: true,
            removed: 5,
            unaccounted: -1,
            ..BooksView::default()
        };
        all.add("g", vec![books]);
        all.kept.push(QueueStoreLine {
            topic: "jobs".to_owned(),
            partition: 2,
            delayed: 3,
            halves: 0,
            halves_parked: 0,
            outgoing: 0,
            undeliverable: 0,
            delays: DelaysView {
                kept: 9,
                released: 2,
                cancelled: 1,
                releasing: 1,
            },
        });
        all.check_delays();
        let mut out = Vec::new();
        all.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "missing for g: partition 2, offsets 2046 to 2046",
            "jobs-2 of g: only the first 1024 gaps are named, MISSING counts all",
            "jobs-2 of g: 5 messages were removed from the log before they were settled",
            "jobs-2 of g: the ledger is -1 off what is final",
            "delayed on partition 2: 9 kept = 2 released + 1 cancelled + 1 on their way + 3 waiting",
            "jobs-2: 9 delayed messages were kept, 7 are accounted for",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!all.is_whole());
    }
}
