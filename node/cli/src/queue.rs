//! `weir queue`, `weir delayed`, `weir tx`; `trace` and `reconcile` have files of their own.
//!
//! What lies on many partitions is asked of every node, each of which answers for what it
//! leads; a handle names its partition, so what it stands for is asked of one.

pub mod moves;
pub mod reconcile;
pub mod set;
mod settings;
pub mod trace;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use ureq::http::Method;
use weir_api::console::{
    DecideHalf, DelayedLine, Done, HalfView, Problem, QueueLine, QueueStoreLine, SendOn,
    UndeliverableLine,
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
    /// Forget a group, with what it acknowledged; messages stay for the other groups
    Delete(moves::DeleteArgs),
    /// Move a group: messages before are final for it, those behind are delivered (again)
    Seek(moves::SeekArgs),
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

pub(crate) fn point_in_time(text: &str) -> Result<i64, String> {
    time::parse(text).ok_or_else(|| "write a time such as 2026-11-21T16:00:00Z".to_owned())
}

/// Asks every node that is up for the lines of what it leads.
pub(crate) fn of_all<T: DeserializeOwned + Ord>(client: &Client, path: &str) -> Result<Vec<T>> {
    let answers: Vec<Vec<T>> = of_each(client, path)?;
    let mut lines: Vec<T> = answers.into_iter().flatten().collect();
    lines.sort();
    Ok(lines)
}

/// Asks every node that is up about what it leads.
pub(crate) fn of_each<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>> {
    let cluster = client.cluster()?;
    let mut answers = Vec::new();
    for node in cluster.nodes.iter().filter(|node| node.state != "fenced") {
        let Some(admin) = node.endpoints.get("admin") else {
            Session::warn(&format!("node {} has no admin address", node.id));
            continue;
        };
        match client.get_from::<T>(admin, path) {
            Ok(answer) => answers.push(answer),
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
    if answers.is_empty() {
        bail!("no node could be asked; see `weir cluster status`");
    }
    Ok(answers)
}

pub(crate) fn run_queue(command: &QueueCommand, session: &mut Session<'_>) -> Result<()> {
    let topic = match command {
        QueueCommand::List => None,
        QueueCommand::Describe { topic } => Some(topic),
        QueueCommand::Set(args) => return set::run(args, session),
        QueueCommand::Delete(args) => return moves::delete(args, session),
        QueueCommand::Seek(args) => return moves::seek(args, session),
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
