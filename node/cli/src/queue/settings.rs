//! What is set for queue groups, in tables: a line a group where all its partitions agree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;
use weir_api::console::{BackoffView, NamedBackoff, QueueLine, QueueSettingsView};

use crate::table::{Table, list, or_dash};
use crate::time;

/// Groups with the partitions on which they have the same settings; what each partition has
/// its own share of is summed up.
fn agreeing(lines: &[QueueLine]) -> BTreeMap<(&str, &str, QueueSettingsView), Vec<&QueueLine>> {
    let mut groups = BTreeMap::new();
    for line in lines {
        let shared_apart = QueueSettingsView {
            concurrency: line.settings.concurrency.map(|_| 0),
            ..line.settings.clone()
        };
        let key = (line.topic.as_str(), line.group.as_str(), shared_apart);
        groups.entry(key).or_insert_with(Vec::new).push(line);
    }
    groups
}

/// Prints every setting of every group.
pub(super) fn print(lines: &[QueueLine], out: &mut dyn Write) -> io::Result<()> {
    let groups = agreeing(lines);
    let names: Vec<(&str, &str)> = groups
        .keys()
        .map(|(topic, group, _)| (*topic, *group))
        .collect();
    for ((topic, group, settings), lines) in groups {
        let differs = names.iter().filter(|name| **name == (topic, group)).count() > 1;
        let partitions: Vec<u32> = lines.iter().map(|line| line.partition).collect();
        let place = match differs {
            true => format!("{topic} {group} (partitions {})", list(&partitions)),
            false => format!("{topic} {group}"),
        };
        let shares = lines.iter().filter_map(|line| line.settings.concurrency);
        let concurrency = shares.map(u64::from).reduce(|sum, share| sum + share);
        writeln!(out, "{place}: {}", words(&settings, concurrency))?;
    }
    Ok(())
}

/// All of it in one line, in the words of `weir queue set`.
fn words(settings: &QueueSettingsView, concurrency: Option<u64>) -> String {
    let QueueSettingsView {
        attempts,
        backoff,
        fifo,
        lease,
        filter,
        rate,
        partition_rate,
        concurrency: _,
        key_concurrency,
        dead_letter,
        capacity,
        on_full,
        broadcast,
        versioned,
        expires,
    } = settings;
    let rate = match (rate, partition_rate) {
        (Some(rate), _) => Some(format!("{rate}/s")),
        (None, Some(rate)) => Some(format!("{rate}/s a partition")),
        (None, None) => None,
    };
    let fields = [
        ("attempts", attempts.to_string()),
        ("backoff", pauses(backoff)),
        ("fifo", fifo.to_string()),
        ("lease", time::show_duration(*lease)),
        ("filter", or_dash(filter.as_ref())),
        ("rate", or_dash(rate)),
        ("concurrency", or_dash(concurrency)),
        ("key-concurrency", or_dash(*key_concurrency)),
        ("dead-letter", dead_letter.clone()),
        ("capacity", or_dash(*capacity)),
        ("on-full", or_dash(on_full.as_ref())),
        ("broadcast", or_dash(broadcast.as_ref())),
        ("versioned", versioned.to_string()),
        ("expires", or_dash(expires.map(time::show_duration))),
    ];
    let fields = fields.map(|(name, value)| format!("{name} {value}"));
    fields.join(", ")
}

/// As `--backoff` takes it.
fn pauses(backoff: &BackoffView) -> String {
    match backoff {
        BackoffView::List(steps) => {
            let steps: Vec<String> = steps.iter().copied().map(time::show_duration).collect();
            steps.join(",")
        }
        BackoffView::Exponential(view) => format!(
            "exponential:initial={},max={},multiplier={}.{:02},jitter={}%",
            time::show_duration(view.initial),
            time::show_duration(view.max),
            view.multiplier_percent / 100,
            view.multiplier_percent % 100,
            view.jitter_percent
        ),
        BackoffView::Named(NamedBackoff::Ladder) => "ladder".to_owned(),
    }
}

/// A subscriber of a broadcast: a group of its own.
#[derive(Debug, Serialize)]
pub(super) struct Subscriber {
    broadcast: String,
    topic: String,
    subscriber: String,
    partitions: usize,
    /// Messages that it did not get yet.
    lag: u64,
    /// When the oldest of them was stored.
    oldest: Option<i64>,
    /// How long it is kept without a receive, ms.
    expires: Option<u64>,
    /// When it is forgotten on the first of its partitions, should it not ask until then.
    expires_at: Option<i64>,
}

/// The subscribers among `lines`.
pub(super) fn subscribers(lines: &[QueueLine]) -> Vec<Subscriber> {
    let name = |line: &QueueLine| {
        let broadcast = line.settings.broadcast.clone()?;
        Some((broadcast, line.topic.clone(), line.group.clone()))
    };
    let names: BTreeSet<_> = lines.iter().filter_map(name).collect();
    let of = |(broadcast, topic, subscriber): (String, String, String)| {
        let is_its = |line: &&QueueLine| line.topic == topic && line.group == subscriber;
        let its: Vec<&QueueLine> = lines.iter().filter(is_its).collect();
        Subscriber {
            partitions: its.len(),
            lag: its.iter().map(|line| line.lag).sum(),
            oldest: its.iter().filter_map(|line| line.oldest).min(),
            expires: its.iter().filter_map(|line| line.settings.expires).min(),
            expires_at: its.iter().filter_map(|line| line.expires_at).min(),
            broadcast,
            topic,
            subscriber,
        }
    };
    names.into_iter().map(of).collect()
}

/// Prints them.
pub(super) fn print_subscribers(subscribers: &[Subscriber], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[
        "BROADCAST",
        "TOPIC",
        "SUBSCRIBER",
        "PARTITIONS",
        "LAG",
        "OLDEST",
        "KEPT",
        "EXPIRES",
    ]);
    for one in subscribers {
        table.row(vec![
            one.broadcast.clone(),
            one.topic.clone(),
            one.subscriber.clone(),
            one.partitions.to_string(),
            one.lag.to_string(),
            or_dash(one.oldest.map(time::show)),
            or_dash(one.expires.map(time::show_duration)),
            or_dash(one.expires_at.map(time::show)),
        ]);
    }
    table.print(out)
}
