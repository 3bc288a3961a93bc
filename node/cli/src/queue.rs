//! `weir queue`, `weir delayed`, `weir tx`, `weir dlq`, `weir trace`, `weir reconcile`.
//!
//! What lies on many partitions is asked of every node, each of which answers for what it
//! leads; a handle names its partition, so what it stands for is asked of one.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Method;
use weir_api::console::{
    DecideHalf, DelayedLine, Done, HalfView, LedgerLine, Problem, QueueLine, RecordView,
    StandingView, TopicView,
};

use crate::client::{Client, Refused, segment};
use crate::table::{Table, or_dash};
use crate::topic::{offsets, print_done};
use crate::{Session, time};

/// For `weir queue`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List the queue groups of all topics, a line a partition
    List,
    /// The same of one topic
    Describe {
        /// The topic
        topic: String,
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

/// For `weir dlq`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List the dead-letter topics and how much they hold
    List,
    /// Show dead letters of a group
    Show {
        /// The group
        group: String,
        /// First offset
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most letters
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// Remove all dead letters of a group
    Purge {
        /// The group
        group: String,
        /// They are gone for good
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// For `weir trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The topic
    pub topic: String,
    /// The partition
    pub partition: u32,
    /// The message's offset
    pub offset: u64,
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

fn point_in_time(text: &str) -> Result<i64, String> {
    time::parse(text).ok_or_else(|| "write a time such as 2026-11-21T16:00:00Z".to_owned())
}

/// Asks every node that is up for the lines of what it leads.
fn of_all<T: DeserializeOwned + Ord>(client: &Client, path: &str) -> Result<Vec<T>> {
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
    let mut lines: Vec<QueueLine> = of_all(&session.client, "/v1/queues")?;
    if let QueueCommand::Describe { topic } = command {
        lines.retain(|line| line.topic == *topic);
        if lines.is_empty() {
            return Err(refused(
                "no_queue",
                format!("topic '{topic}' has no queue groups"),
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
            "NODE",
        ]);
        for line in lines {
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
                line.node.to_string(),
            ]);
        }
        table.print(out)
    })
}

fn refused(error: &str, message: String) -> anyhow::Error {
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

pub(crate) fn run_dlq(command: &DlqCommand, session: &mut Session<'_>) -> Result<()> {
    match command {
        DlqCommand::List => list_dead(session),
        DlqCommand::Show { group, from, limit } => {
            let topic = segment(&format!("dlq.{group}"));
            let path = format!("/v1/queues/{topic}/records/0/{from}?limit={limit}");
            let letters: Vec<RecordView> = session.client.get(&path)?;
            session.show(&letters, |letters, out| print_letters(letters, out))
        }
        DlqCommand::Purge { group, yes: _ } => {
            let topic = segment(&format!("dlq.{group}"));
            let path = format!("/v1/queues/{topic}/purge");
            let view: TopicView = session.client.get(&format!("/v1/topics/{topic}"))?;
            let leader = view.partitions.first().and_then(|first| first.leader);
            let cluster = session.client.cluster()?;
            let node = cluster.nodes.iter().find(|node| Some(node.id) == leader);
            let Some(admin) = node.and_then(|node| node.endpoints.get("admin")) else {
                bail!("nobody leads topic 'dlq.{group}' just now; see `weir cluster status`");
            };
            let leader = Client::new(vec![admin.clone()]);
            let done: Done = leader.send(Method::POST, &path, None::<&()>)?;
            session.show(&done, print_done)
        }
    }
}

/// A dead-letter topic.
#[derive(Debug, Serialize)]
struct DeadLine {
    group: String,
    topic: String,
    letters: Option<u64>,
}

/// How many records a topic holds; `None` where its leaders cannot all be asked.
fn count(client: &Client, topic: &str) -> Option<u64> {
    let path = format!("/v1/topics/{}", segment(topic));
    let view: TopicView = client.get(&path).ok()?;
    let leaders = view.partitions.iter().filter_map(|p| p.leader).collect();
    let [earliest, latest] =
        ["earliest", "latest"].map(|at| offsets(client, topic, at, &leaders).ok());
    let (earliest, latest) = (earliest?, latest?);
    let sizes = view.partitions.iter().map(|partition| {
        let index = &partition.partition;
        Some(latest.get(index)?.saturating_sub(*earliest.get(index)?))
    });
    sizes.sum()
}

fn list_dead(session: &mut Session<'_>) -> Result<()> {
    let topics: Vec<weir_api::console::TopicLine> = session.client.get("/v1/topics")?;
    let mut lines = Vec::new();
    for topic in topics {
        let Some(group) = topic.name.strip_prefix("dlq.") else {
            continue;
        };
        let letters = count(&session.client, &topic.name);
        lines.push(DeadLine {
            group: group.to_owned(),
            topic: topic.name.clone(),
            letters,
        });
    }
    session.show(&lines, |lines, out| {
        let mut table = Table::new(&["GROUP", "TOPIC", "LETTERS"]);
        for line in lines {
            let letters = or_dash(line.letters);
            table.row(vec![line.group.clone(), line.topic.clone(), letters]);
        }
        table.print(out)
    })
}

fn print_letters(letters: &[RecordView], out: &mut dyn Write) -> io::Result<()> {
    for letter in letters {
        let at = time::show(letter.at);
        writeln!(
            out,
            "offset {} at {at}, {} bytes",
            letter.offset, letter.bytes
        )?;
        for (name, value) in &letter.headers {
            writeln!(out, "  {name}: {value}")?;
        }
        writeln!(out, "  {}", letter.value)?;
    }
    Ok(())
}

pub(crate) fn run_trace(args: &TraceArgs, session: &mut Session<'_>) -> Result<()> {
    let (topic, partition, offset) = (segment(&args.topic), args.partition, args.offset);
    let path = format!("/v1/queues/{topic}/trace/{partition}/{offset}");
    let standings: Vec<StandingView> = session.client.get(&path)?;
    session.show(&standings, |standings, out| {
        let mut table = Table::new(&["GROUP", "STANDING", "MEMBER", "UNTIL", "ENDED ATTEMPTS"]);
        for standing in standings {
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
        table.print(out)
    })
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
    let mut hours = Vec::new();
    for group in pending.keys() {
        let (topic, name) = (segment(&args.topic), segment(group));
        let path = format!("/v1/queues/{topic}/ledger/{name}?since_hour={since_hour}");
        let lines: Vec<LedgerLine> = of_all(&session.client, &path)?;
        hours.extend(lines.into_iter().map(|counts| Reconciled {
            group: group.clone(),
            hour: i64::from(counts.hour) * HOUR,
            counts,
        }));
    }
    let all = Reconciliation {
        topic: args.topic.clone(),
        hours,
        pending,
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
        Ok(())
    })
}
