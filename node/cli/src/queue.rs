//! `weir queue`, `weir delayed`, `weir tx`, `weir trace`, `weir reconcile`.
//!
//! What lies on many partitions is asked of every node, each of which answers for what it
//! leads; a handle names its partition, so what it stands for is asked of one.

pub mod set;
mod settings;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use ureq::http::Method;
use weir_api::console::{
    DecideHalf, DelayedLine, Done, FoundMessage, GapLine, HalfView, LedgerLine, Problem, QueueLine,
    QueueStoreLine, SendOn, StandingView, StoryLine, UndeliverableLine,
};

use crate::client::{Client, Refused, segment};
use crate::table::{Table, or_dash};
use crate::topic::print_done;
use crate::{Session, time};

/// For `weir queue`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List the queue groups of all topics, a line a partition
    List,
    /// The same of one topic
    #[command(visible_alias = "show")]
    Describe {
        /// The topic
        topic: String,
    },
    /// List messages that were refused where they were to go
    Undeliverable {
        /// The topic they come from
        topic: String,
    },
    /// Send on what was refused
    SendOn {
        /// The topic they come from
        topic: String,
        /// Its partition
        partition: u32,
        /// Only this one, from the list; may be repeated
        #[arg(long, value_name = "NUMBER")]
        number: Vec<u64>,
        /// To partition 0 of this topic instead of where it was to go
        #[arg(long, value_name = "TOPIC")]
        to: Option<String>,
    },
    /// Make a group on a topic, or change its attempts, pauses, order, limits or expiry
    Set(set::SetArgs),
    /// List the subscribers of broadcasts: how far each is behind, and when it is forgotten
    Subscribers {
        /// Only of this topic
        topic: Option<String>,
    },
}

/// For `weir delayed`.
#[derive(Debug, Subcommand)]
pub enum DelayedCommand {
    /// List messages that are not due yet, at most 1,000 a partition
    List {
        /// The topic
        topic: String,
    },
    /// Take one back; tells truthfully what became of it
    Cancel {
        /// The topic
        topic: String,
        /// Its handle, from the list
        handle: String,
    },
}

/// For `weir tx`.
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    /// List half messages that nobody decided on
    List {
        /// The topic
        topic: String,
        /// Only those that are asked about no more
        #[arg(long)]
        parked: bool,
    },
    /// Make one visible
    Commit(Half),
    /// Drop one
    Rollback(Half),
}

/// Names a half message.
#[derive(Debug, Args)]
pub struct Half {
    /// The topic
    pub topic: String,
    /// Its handle, from the list
    pub handle: String,
}

/// For `weir trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The topic
    pub topic: String,
    /// The partition, with the offset
    #[arg(requires = "offset", conflicts_with_all = ["id", "key"])]
    pub partition: Option<u32>,
    /// The message's offset
    pub offset: Option<u64>,
    /// Every message of this id, among the newest 100,000 of each partition
    #[arg(long, conflicts_with = "key", required_unless_present_any = ["partition", "key"])]
    pub id: Option<String>,
    /// Every message of this key or message group, among the newest 100,000
    #[arg(long)]
    pub key: Option<String>,
}

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

pub(crate) fn point_in_time(text: &str) -> Result<i64, String> {
    time::parse(text).ok_or_else(|| "write a time such as 2026-11-21T16:00:00Z".to_owned())
}

/// Asks every node that is up for the lines of what it leads.
pub(crate) fn of_all<T: DeserializeOwned + Ord>(client: &Client, path: &str) -> Result<Vec<T>> {
    let cluster = client.cluster()?;
    let (mut lines, mut asked) = (Vec::new(), 0);
    for node in cluster.nodes.iter().filter(|node| node.state != "fenced") {
        let Some(admin) = node.endpoints.get("admin") else {
            Session::warn(&format!("node {} has no admin address", node.id));
            continue;
        };
        match client.get_from::<Vec<T>>(admin, path) {
            Ok(some) => {
                asked += 1;
                lines.extend(some);
            }
            // The same everywhere: the caller's doing.
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => {
                Session::warn(&format!(
                    "what node {} leads is missing: {error:#}",
                    node.id
                ));
            }
        }
    }
    if asked == 0 {
        bail!("no node could be asked; see `weir cluster status`");
    }
    lines.sort();
    Ok(lines)
}

pub(crate) fn run_queue(command: &QueueCommand, session: &mut Session<'_>) -> Result<()> {
    let topic = match command {
        QueueCommand::List => None,
        QueueCommand::Describe { topic } => Some(topic),
        QueueCommand::Set(args) => return set::run(args, session),
        QueueCommand::Subscribers { topic } => return subscribers(topic.as_deref(), session),
        QueueCommand::Undeliverable { topic } => return undeliverable(topic, session),
        QueueCommand::SendOn {
            topic,
            partition,
            number,
            to,
        } => {
            let path = format!("/v1/queues/{}/undeliverable/{partition}", segment(topic));
            let wish = SendOn {
                numbers: number.clone(),
                to: to.clone(),
            };
            let done: Done = session.client.send(Method::POST, &path, Some(&wish))?;
            return session.show(&done, print_done);
        }
    };
    let is_wanted = |of: &String| topic.is_none_or(|topic| of == topic);
    let mut lines: Vec<QueueLine> = of_all(&session.client, "/v1/queues")?;
    lines.retain(|line| is_wanted(&line.topic));
    if let Some(topic) = topic.filter(|_| lines.is_empty()) {
        return Err(refused(
            "no_queue",
            format!("topic '{topic}' has no queue groups"),
        ));
    }
    let mut kept: Vec<QueueStoreLine> = of_all(&session.client, "/v1/queues-watch")?;
    kept.retain(|line| is_wanted(&line.topic));
    for line in &kept {
        let (topic, partition) = (&line.topic, line.partition);
        if line.halves_parked > 0 {
            Session::warn(&format!(
                "{topic}-{partition}: {} half messages are parked; see `weir tx list {topic} --parked`",
                line.halves_parked
            ));
        }
        if line.undeliverable > 0 {
            Session::warn(&format!(
                "{topic}-{partition}: {} messages were refused elsewhere; see `weir queue undeliverable {topic}`",
                line.undeliverable
            ));
        }
    }
    session.show(&lines, |lines, out| {
        let mut table = Table::new(&[
            "TOPIC",
            "PARTITION",
            "GROUP",
            "LAG",
            "READY",
            "IN-FLIGHT",
            "RETRYING",
            "WAITING",
            "ACKED",
            "DEAD",
            "OLDEST",
            "LIMIT",
            "NODE",
        ]);
        for line in lines {
            let limit = line.capacity.map(|max| format!("{max} ({})", line.on_full));
            table.row(vec![
                line.topic.clone(),
                line.partition.to_string(),
                line.group.clone(),
                line.lag.to_string(),
                line.ready.to_string(),
                line.in_flight.to_string(),
                line.retrying.to_string(),
                line.waiting.to_string(),
                line.acked.to_string(),
                line.dead_lettered.to_string(),
                or_dash(line.oldest.map(time::show)),
                or_dash(limit),
                line.node.to_string(),
            ]);
        }
        table.print(out)?;
        settings::print(lines, out)?;
        for line in &kept {
            let (topic, partition) = (&line.topic, line.partition);
            writeln!(
                out,
                "{topic}-{partition}: {} delayed, {} half messages ({} parked), {} on their way, {} undeliverable",
                line.delayed, line.halves, line.halves_parked, line.outgoing, line.undeliverable
            )?;
        }
        Ok(())
    })
}

fn subscribers(topic: Option<&str>, session: &mut Session<'_>) -> Result<()> {
    let mut lines: Vec<QueueLine> = of_all(&session.client, "/v1/queues")?;
    lines.retain(|line| topic.is_none_or(|topic| line.topic == topic));
    let subscribers = settings::subscribers(&lines);
    session.show(&subscribers, |all, out| {
        settings::print_subscribers(all, out)
    })
}

fn undeliverable(topic: &str, session: &mut Session<'_>) -> Result<()> {
    let path = format!("/v1/queues/{}/undeliverable", segment(topic));
    let lines: Vec<UndeliverableLine> = of_all(&session.client, &path)?;
    session.show(&lines, |lines, out| {
        let mut table = Table::new(&["PARTITION", "NUMBER", "SINCE", "ID", "TO", "WHY"]);
        for line in lines {
            table.row(vec![
                line.partition.to_string(),
                line.number.to_string(),
                time::show(line.at),
                line.id.clone(),
                line.to.clone(),
                line.reason.clone(),
            ]);
        }
        table.print(out)
    })
}

pub(crate) fn refused(error: &str, message: String) -> anyhow::Error {
    Refused(Problem {
        error: error.to_owned(),
        message,
        remedy: "`weir queue list` shows what there is".to_owned(),
        redirect: None,
    })
    .into()
}

pub(crate) fn run_delayed(command: &DelayedCommand, session: &mut Session<'_>) -> Result<()> {
    match command {
        DelayedCommand::List { topic } => {
            let path = format!("/v1/queues/{}/delayed", segment(topic));
            let lines: Vec<DelayedLine> = of_all(&session.client, &path)?;
            session.show(&lines, |lines, out| {
                let mut table = Table::new(&["DUE", "PARTITION", "ID", "HANDLE"]);
                for line in lines {
                    let due = time::show(line.deliver_at);
                    let partition = line.partition.to_string();
                    table.row(vec![due, partition, line.id.clone(), line.handle.clone()]);
                }
                table.print(out)
            })
        }
        DelayedCommand::Cancel { topic, handle } => {
            let (topic, handle) = (segment(topic), segment(handle));
            let path = format!("/v1/queues/{topic}/delayed/{handle}");
            let done: Done = session.client.send(Method::DELETE, &path, None::<&()>)?;
            session.show(&done, print_done)
        }
    }
}

pub(crate) fn run_tx(command: &TxCommand, session: &mut Session<'_>) -> Result<()> {
    let (half, commit) = match command {
        TxCommand::List { topic, parked } => {
            let path = format!("/v1/queues/{}/halves?parked={parked}", segment(topic));
            let lines: Vec<HalfView> = of_all(&session.client, &path)?;
            return session.show(&lines, |lines, out| {
                let mut table = Table::new(&[
                    "PREPARED",
                    "PARTITION",
                    "ID",
                    "PRODUCERS",
                    "CHECKS",
                    "HANDLE",
                ]);
                for line in lines {
                    let parked = if line.parked { " (parked)" } else { "" };
                    table.row(vec![
                        time::show(line.prepared_at),
                        line.partition.to_string(),
                        line.id.clone(),
                        line.producers.clone(),
                        format!("{}{parked}", line.checks),
                        line.handle.clone(),
                    ]);
                }
                table.print(out)
            });
        }
        TxCommand::Commit(half) => (half, true),
        TxCommand::Rollback(half) => (half, false),
    };
    let (topic, handle) = (segment(&half.topic), segment(&half.handle));
    let path = format!("/v1/queues/{topic}/halves/{handle}");
    let wish = DecideHalf { commit };
    let done: Done = session.client.send(Method::POST, &path, Some(&wish))?;
    session.show(&done, print_done)
}

/// All that is known of one message.
#[derive(Debug, Serialize)]
struct Traced {
    partition: u32,
    offset: u64,
    /// `None` when it was named by its offset.
    message: Option<FoundMessage>,
    /// What the journal tells, oldest first.
    story: Vec<StoryLine>,
    /// Where it stands now.
    standings: Vec<StandingView>,
}

pub(crate) fn run_trace(args: &TraceArgs, session: &mut Session<'_>) -> Result<()> {
    let topic = segment(&args.topic);
    let by = |name: &str, value: &str| -> Result<Vec<FoundMessage>> {
        let path = format!("/v1/queues/{topic}/find?{name}={}", segment(value));
        of_all(&session.client, &path)
    };
    let places: Vec<(u32, u64, Option<FoundMessage>)> =
        match (args.partition.zip(args.offset), &args.id, &args.key) {
            (Some((partition, offset)), ..) => vec![(partition, offset, None)],
            (None, Some(id), _) => by("id", id)?.into_iter().map(place).collect(),
            (None, None, Some(key)) => by("key", key)?.into_iter().map(place).collect(),
            (None, None, None) => bail!("name a partition and an offset, an id or a key"),
        };
    if places.is_empty() {
        let what = format!("topic '{}' has no such message", args.topic);
        return Err(refused("unknown_message", what));
    }
    let mut traced = Vec::new();
    for (partition, offset, message) in places {
        let at = format!("{partition}/{offset}");
        let story = format!("/v1/queues/{topic}/story/{at}");
        let trace = format!("/v1/queues/{topic}/trace/{at}");
        traced.push(Traced {
            partition,
            offset,
            message,
            story: session.client.get(&story)?,
            standings: session.client.get(&trace)?,
        });
    }
    session.show(&traced, |traced, out| {
        for one in traced {
            writeln!(out, "partition {}, offset {}", one.partition, one.offset)?;
            if let Some(message) = &one.message {
                let from = message.replayed_from.as_ref();
                let from = from.map_or_else(String::new, |from| format!(", replayed from {from}"));
                let (id, at) = (&message.id, time::show(message.at));
                writeln!(out, "  {at} stored, id {id}{from}")?;
            }
            for line in &one.story {
                writeln!(out, "  {} {}", time::show(line.at), line.what)?;
            }
            let mut table = Table::new(&["GROUP", "STANDING", "MEMBER", "UNTIL", "ENDED ATTEMPTS"]);
            for standing in &one.standings {
                let ended = standing.ended.iter();
                let ended = ended.map(|(cause, at)| format!("{cause} at {}", time::show(*at)));
                table.row(vec![
                    standing.group.clone(),
                    standing.standing.clone(),
                    or_dash(standing.member.clone()),
                    or_dash(standing.until.map(time::show)),
                    ended.collect::<Vec<_>>().join(", "),
                ]);
            }
            table.print(out)?;
        }
        Ok(())
    })
}

fn place(message: FoundMessage) -> (u32, u64, Option<FoundMessage>) {
    (message.partition, message.offset, Some(message))
}

/// What became of the messages of one hour, for one group.
#[derive(Debug, Serialize)]
struct Reconciled {
    group: String,
    hour: i64,
    #[serde(flatten)]
    counts: LedgerLine,
}

/// The whole answer of `reconcile`.
#[derive(Debug, Serialize)]
struct Reconciliation {
    topic: String,
    hours: Vec<Reconciled>,
    /// Not final yet, by group.
    pending: BTreeMap<String, u64>,
    /// Offsets at which no record was found, by group, whenever they were stored.
    gaps: BTreeMap<String, Vec<GapLine>>,
}

pub(crate) fn run_reconcile(args: &ReconcileArgs, session: &mut Session<'_>) -> Result<()> {
    const HOUR: i64 = 3_600_000;
    let lines: Vec<QueueLine> = of_all(&session.client, "/v1/queues")?;
    let lines = lines.into_iter().filter(|line| line.topic == args.topic);
    let mut pending: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines.filter(|line| args.group.as_ref().is_none_or(|g| *g == line.group)) {
        *pending.entry(line.group).or_default() += line.lag;
    }
    if pending.is_empty() {
        let what = format!("topic '{}' has no such queue group", args.topic);
        return Err(refused("unknown_group", what));
    }
    let since_hour = args.since.map_or(0, |at| at.max(0) / HOUR);
    let (mut hours, mut gaps) = (Vec::new(), BTreeMap::new());
    for group in pending.keys() {
        let (topic, name) = (segment(&args.topic), segment(group));
        let path = format!("/v1/queues/{topic}/ledger/{name}?since_hour={since_hour}");
        let lines: Vec<LedgerLine> = of_all(&session.client, &path)?;
        hours.extend(lines.into_iter().map(|counts| Reconciled {
            group: group.clone(),
            hour: i64::from(counts.hour) * HOUR,
            counts,
        }));
        let path = format!("/v1/queues/{topic}/gaps/{name}");
        let found: Vec<GapLine> = of_all(&session.client, &path)?;
        if !found.is_empty() {
            gaps.insert(group.clone(), found);
        }
    }
    let all = Reconciliation {
        topic: args.topic.clone(),
        hours,
        pending,
        gaps,
    };
    session.show(&all, |all, out| {
        let mut table = Table::new(&[
            "HOUR",
            "GROUP",
            "PARTITION",
            "ACKED",
            "DEAD",
            "FORWARDED",
            "FILTERED",
            "SUPERSEDED",
            "DROPPED",
            "MISSING",
        ]);
        for line in &all.hours {
            let counts = &line.counts;
            let mut cells = vec![time::show(line.hour), line.group.clone()];
            cells.push(counts.partition.to_string());
            let numbers = [
                counts.acked,
                counts.dead_lettered,
                counts.forwarded,
                counts.filtered,
                counts.superseded,
                counts.dropped,
                counts.missing,
            ];
            cells.extend(numbers.map(|number| number.to_string()));
            table.row(cells);
        }
        table.print(out)?;
        for (group, pending) in &all.pending {
            writeln!(out, "pending for {group}: {pending}")?;
        }
        for (group, gaps) in &all.gaps {
            for gap in gaps {
                let last = gap.from + gap.offsets.saturating_sub(1);
                writeln!(
                    out,
                    "missing for {group}: partition {}, offsets {} to {last}",
                    gap.partition, gap.from
                )?;
            }
        }
        Ok(())
    })
}
