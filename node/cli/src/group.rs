//! `weir group`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use ureq::http::Method;
use weir_api::console::{Done, GroupLine, GroupView, ResetOffset, ResetOffsets};

use crate::client::{Client, Refused, segment};
use crate::position::{ToArgs, leaders, targets};
use crate::table::{Table, or_dash};
use crate::topic::{offsets, print_done};
use crate::{Session, time};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups
    List,
    /// Show a group's members, offsets and lag
    Describe {
        /// The group
        group: String,
    },
    /// Delete an empty group and its offsets
    Delete {
        /// The group
        group: String,
    },
    /// Move the offsets of a group that has no members
    ResetOffsets(ResetArgs),
}

/// For `reset-offsets`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The group
    pub group: String,
    /// A topic, or some of its partitions (orders, orders:0,2); may be repeated. Without
    /// it, all that the group has committed
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", value_parser = topic_partitions)]
    pub topics: Vec<(String, Option<Vec<u32>>)>,
    /// Where to.
    #[command(flatten)]
    pub to: ToArgs,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
}

fn topic_partitions(text: &str) -> Result<(String, Option<Vec<u32>>), String> {
    let Some((topic, partitions)) = text.split_once(':') else {
        return Ok((text.to_owned(), None));
    };
    let partitions = partitions
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>();
    let partitions = partitions.map_err(|_| "write TOPIC or TOPIC:0,1,2".to_owned())?;
    Ok((topic.to_owned(), Some(partitions)))
}

pub(crate) fn run(command: &GroupCommand, session: &mut Session<'_>) -> Result<()> {
    match command {
        GroupCommand::List => {
            let groups = all(&session.client)?;
            session.show(&groups, |groups, out| print_list(groups, out))
        }
        GroupCommand::Describe { group } => {
            let view = describe(&session.client, group)?;
            session.show(&view, print_group)
        }
        GroupCommand::Delete { group } => {
            let path = path(group);
            let done: Done = session.client.send(Method::DELETE, &path, None::<&()>)?;
            session.show(&done, print_done)
        }
        GroupCommand::ResetOffsets(args) => reset(args, session),
    }
}

fn path(group: &str) -> String {
    format!("/v1/groups/{}", segment(group))
}

/// Every node lists the groups that it coordinates.
fn all(client: &Client) -> Result<Vec<GroupLine>> {
    let cluster = client.cluster()?;
    // A fenced node coordinates nothing any more.
    let nodes = cluster.nodes.iter().filter(|node| node.state != "fenced");
    let mut groups = BTreeSet::new();
    let mut asked = 0;
    for node in nodes {
        let Some(admin) = node.endpoints.get("admin") else {
            Session::warn(&format!(
                "node {} has no admin address: its groups are missing",
                node.id
            ));
            continue;
        };
        match client.get_from::<Vec<GroupLine>>(admin, "/v1/groups") {
            Ok(lines) => {
                asked += 1;
                groups.extend(lines);
            }
            Err(error) => Session::warn(&format!(
                "groups of node {} are missing: {error:#}",
                node.id
            )),
        }
    }
    if asked == 0 {
        bail!("no node could be asked for its groups; see `weir cluster status`");
    }
    Ok(groups.into_iter().collect())
}

/// A group, with the ends of partitions led elsewhere asked of their leaders.
fn describe(client: &Client, group: &str) -> Result<GroupView> {
    let mut view: GroupView = client.get(&path(group))?;
    let topics: BTreeSet<String> = view
        .offsets
        .iter()
        .filter(|offset| offset.end.is_none())
        .map(|offset| offset.topic.clone())
        .collect();
    for topic in topics {
        // A topic that was deleted since has no ends.
        let Some(leaders) = leaders(client, &topic)? else {
            continue;
        };
        let ends = offsets(client, &topic, "latest", &leaders.into_values().collect())?;
        let missing = |offset: &&mut weir_api::console::CommittedView| {
            offset.topic == topic && offset.end.is_none()
        };
        for offset in view.offsets.iter_mut().filter(missing) {
            offset.end = ends.get(&offset.partition).copied();
        }
    }
    Ok(view)
}

/// A partition's way from one offset to another.
#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: u32,
    from: Option<u64>,
    to: u64,
    /// Messages between `to` and the end.
    lag: u64,
}

fn reset(args: &ResetArgs, session: &mut Session<'_>) -> Result<()> {
    let client = &session.client;
    let committed = match client.get::<GroupView>(&path(&args.group)) {
        Ok(view) => view.offsets,
        // It is founded by what is committed for it.
        Err(error) if is_unknown_group(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    let committed: BTreeMap<(String, u32), u64> = committed
        .into_iter()
        .map(|offset| ((offset.topic, offset.partition), offset.offset))
        .collect();
    let mut wished: BTreeMap<String, Option<Vec<u32>>> = args.topics.iter().cloned().collect();
    if wished.is_empty() {
        for (topic, partition) in committed.keys() {
            let partitions = wished
                .entry(topic.clone())
                .or_insert_with(|| Some(Vec::new()));
            partitions.get_or_insert_default().push(*partition);
        }
    }
    if wished.is_empty() {
        bail!(
            "group '{}' has committed nothing; say --topic TOPIC",
            args.group
        );
    }
    let mut moves = Vec::new();
    for (topic, partitions) in &wished {
        let found = targets(client, &args.to, topic)?;
        let partitions = partitions
            .clone()
            .unwrap_or_else(|| found.keys().copied().collect());
        for partition in partitions {
            let &(to, end) = found.get(&partition).with_context(|| {
                format!("{topic}-{partition} does not exist or has no leader that answers; see `weir topic describe {topic}`")
            })?;
            moves.push(Move {
                from: committed.get(&(topic.clone(), partition)).copied(),
                topic: topic.clone(),
                partition,
                to,
                lag: end.saturating_sub(to),
            });
        }
    }
    let wish = ResetOffsets {
        offsets: moves
            .iter()
            .map(|step| ResetOffset {
                topic: step.topic.clone(),
                partition: step.partition,
                offset: step.to,
            })
            .collect(),
        dry_run: args.dry_run,
    };
    let path = format!("{}/offsets", path(&args.group));
    let done: Done = client.send(Method::POST, &path, Some(&wish))?;
    session.show(&moves, |moves, out| {
        print_moves(moves, out)?;
        print_done(&done, out)
    })
}

fn is_unknown_group(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.0.error == "unknown_group")
}

fn print_list(groups: &[GroupLine], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "COORDINATOR"]);
    for group in groups {
        table.row(vec![
            group.group.clone(),
            group.state.clone(),
            group.protocol_type.clone(),
            group.coordinator.to_string(),
        ]);
    }
    table.print(out)
}

fn print_group(view: &GroupView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "group {}  state {}  protocol {}  coordinator {}",
        view.group,
        view.state,
        if view.protocol.is_empty() {
            "-"
        } else {
            &view.protocol
        },
        view.coordinator
    )?;
    if !view.members.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["MEMBER", "CLIENT", "HOST", "ASSIGNMENT"]);
        for member in &view.members {
            table.row(vec![
                member.member.clone(),
                member.client_id.clone(),
                member.client_host.clone(),
                member
                    .assignment
                    .as_ref()
                    .map_or_else(|| "opaque".to_owned(), shown),
            ]);
        }
        table.print(out)?;
    }
    if !view.offsets.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&[
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "LAG",
            "COMMITTED AT",
        ]);
        for offset in &view.offsets {
            let lag = offset.end.map(|end| end.saturating_sub(offset.offset));
            table.row(vec![
                offset.topic.clone(),
                offset.partition.to_string(),
                offset.offset.to_string(),
                or_dash(offset.end),
                or_dash(lag),
                time::show(offset.at),
            ]);
        }
        table.print(out)?;
    }
    Ok(())
}

fn shown(assignment: &BTreeMap<String, Vec<u32>>) -> String {
    if assignment.is_empty() {
        return "-".to_owned();
    }
    let topics: Vec<_> = assignment
        .iter()
        .map(|(topic, partitions)| format!("{topic}:{}", crate::table::list(partitions)))
        .collect();
    topics.join(" ")
}

fn print_moves(moves: &[Move], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&["TOPIC", "PARTITION", "FROM", "TO", "LAG"]);
    for step in moves {
        table.row(vec![
            step.topic.clone(),
            step.partition.to_string(),
            or_dash(step.from),
            step.to.to_string(),
            step.lag.to_string(),
        ]);
    }
    table.print(out)
}
