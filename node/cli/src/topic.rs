//! `weir topic`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use ureq::http::Method;
use weir_api::console::{
    AlterTopic, CreateTopic, Done, FoundOffsets, OffsetsView, TopicLine, TopicView,
};

use crate::Session;
use crate::client::{Client, Refused, segment};
use crate::table::{Table, list, or_dash};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create(CreateArgs),
    /// List all topics
    List {
        /// Also those that Weir made for itself
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions and what is configured
    Describe {
        /// The topic
        topic: String,
        /// Show all configs with what they do, not only those that were set
        #[arg(long)]
        all_configs: bool,
    },
    /// Add partitions or change configs
    Alter(AlterArgs),
    /// Delete a topic and all its data
    Delete {
        /// The topic
        topic: String,
    },
}

/// When an acknowledgement is given.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[expect(missing_docs, reason = "what they mean is said at each option")]
pub enum Mode {
    Sync,
    Async,
}

/// Durability and configs, for new topics and old.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// A config, such as retention.ms=3600000; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub configs: Vec<(String, String)>,
    /// sync: a replica counts a message after fsync; async: when the kernel has it
    #[arg(long, value_enum)]
    pub flush: Option<Mode>,
    /// sync: an acknowledgement waits for every in-sync replica; async: for the leader
    #[arg(long, value_enum)]
    pub replication: Option<Mode>,
}

/// For `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The topic
    pub topic: String,
    /// Partitions; the cluster's default if not told
    #[arg(long)]
    pub partitions: Option<u32>,
    /// Replicas of each partition; the cluster's default if not told
    #[arg(long)]
    pub replication_factor: Option<u16>,
    /// Durability and configs.
    #[command(flatten)]
    pub settings: Settings,
    /// Succeed if the topic exists already, whatever its settings
    #[arg(long)]
    pub if_not_exists: bool,
    /// Only check
    #[arg(long)]
    pub dry_run: bool,
}

/// For `alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// The topic
    pub topic: String,
    /// Grow to this number of partitions. Keys are then spread anew
    #[arg(long)]
    pub partitions: Option<u32>,
    /// Durability and configs.
    #[command(flatten)]
    pub settings: Settings,
    /// A config to return to its default; may be repeated
    #[arg(long, value_name = "KEY")]
    pub unset: Vec<String>,
    /// Only check
    #[arg(long)]
    pub dry_run: bool,
}

impl Settings {
    fn configs(&self) -> BTreeMap<String, String> {
        let mut configs: BTreeMap<_, _> = self.configs.iter().cloned().collect();
        let modes = [
            ("weir.flush", self.flush),
            ("weir.replication", self.replication),
        ];
        for (key, mode) in modes {
            let word = mode.map(|mode| match mode {
                Mode::Sync => "sync",
                Mode::Async => "async",
            });
            configs.extend(word.map(|word| (key.to_owned(), word.to_owned())));
        }
        configs
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

pub(crate) fn run(command: &TopicCommand, session: &mut Session<'_>) -> Result<()> {
    match command {
        TopicCommand::Create(args) => create(args, session),
        TopicCommand::List { internal } => {
            let mut topics: Vec<TopicLine> = session.client.get("/v1/topics")?;
            topics.retain(|topic| *internal || !topic.internal);
            session.show(&topics, |topics, out| print_list(topics, out))
        }
        TopicCommand::Describe { topic, all_configs } => {
            let view = describe(&session.client, topic)?;
            session.show(&view, |view, out| print_topic(view, *all_configs, out))
        }
        TopicCommand::Alter(args) => {
            let wish = AlterTopic {
                partitions: args.partitions,
                configs: args.settings.configs(),
                unset: args.unset.clone(),
                validate_only: args.dry_run,
            };
            let path = path(&args.topic);
            let done: Done = session.client.send(Method::PATCH, &path, Some(&wish))?;
            session.show(&done, print_done)
        }
        TopicCommand::Delete { topic } => {
            let path = path(topic);
            let done: Done = session.client.send(Method::DELETE, &path, None::<&()>)?;
            session.show(&done, print_done)
        }
    }
}

fn path(topic: &str) -> String {
    format!("/v1/topics/{}", segment(topic))
}

pub(crate) fn print_done(done: &Done, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", done.message)
}

fn create(args: &CreateArgs, session: &mut Session<'_>) -> Result<()> {
    let wish = CreateTopic {
        name: args.topic.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        assignment: None,
        configs: args.settings.configs(),
        validate_only: args.dry_run,
    };
    let created = session.client.send(Method::POST, "/v1/topics", Some(&wish));
    let done = match created {
        Err(error) if args.if_not_exists && is(&error, "topic_exists") => Done {
            message: format!("topic '{}' exists", args.topic),
            id: None,
        },
        created => created?,
    };
    session.show(&done, print_done)
}

fn is(error: &anyhow::Error, word: &str) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.0.error == word)
}

/// A topic, with the offsets of partitions led elsewhere asked of their leaders.
fn describe(client: &Client, topic: &str) -> Result<TopicView> {
    let mut view: TopicView = client.get(&path(topic))?;
    let missing: BTreeSet<u32> = view
        .partitions
        .iter()
        .filter(|partition| partition.offsets.is_none())
        .filter_map(|partition| partition.leader)
        .collect();
    if !missing.is_empty() {
        let starts = offsets(client, topic, "earliest", &missing)?;
        let ends = offsets(client, topic, "latest", &missing)?;
        for partition in &mut view.partitions {
            let ends = starts
                .get(&partition.partition)
                .zip(ends.get(&partition.partition));
            if let (None, Some((&log_start, &high_watermark))) = (partition.offsets, ends) {
                partition.offsets = Some(OffsetsView {
                    log_start,
                    high_watermark,
                });
            }
        }
    }
    Ok(view)
}

/// Offsets of a topic's partitions, asked of these nodes. What a node does not answer is
/// missing, and said so.
pub(crate) fn offsets(
    client: &Client,
    topic: &str,
    at: &str,
    leaders: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, u64>> {
    let cluster = client.cluster()?;
    let mut found = BTreeMap::new();
    for node in cluster
        .nodes
        .iter()
        .filter(|node| leaders.contains(&node.id))
    {
        let Some(admin) = node.endpoints.get("admin") else {
            Session::warn(&format!(
                "node {} has no admin address: its offsets are missing",
                node.id
            ));
            continue;
        };
        let path = format!("{}/offsets?at={at}", path(topic));
        match client.get_from::<FoundOffsets>(admin, &path) {
            Ok(answer) => found.extend(answer.offsets),
            Err(error) => Session::warn(&format!(
                "offsets of node {} are missing: {error:#}",
                node.id
            )),
        }
    }
    Ok(found)
}

fn print_list(topics: &[TopicLine], out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new(&[
        "TOPIC",
        "PARTITIONS",
        "REPLICAS",
        "FLUSH",
        "REPLICATION",
        "WITHOUT LEADER",
        "UNDER-REPLICATED",
    ]);
    for topic in topics {
        table.row(vec![
            topic.name.clone(),
            topic.partitions.to_string(),
            topic.replication_factor.to_string(),
            topic.flush.clone(),
            topic.replication.clone(),
            topic.leaderless.to_string(),
            topic.under_replicated.to_string(),
        ]);
    }
    table.print(out)
}

fn print_topic(view: &TopicView, all_configs: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "topic {}  id {}", view.name, view.id)?;
    if all_configs {
        let mut table = Table::new(&["CONFIG", "VALUE", "SET", "WHAT IT DOES"]);
        for config in &view.configs {
            let set = if config.is_set { "yes" } else { "default" };
            table.row(vec![
                config.key.clone(),
                config.value.clone(),
                set.to_owned(),
                config.documentation.clone(),
            ]);
        }
        table.print(out)?;
    } else {
        for config in view.configs.iter().filter(|config| config.is_set) {
            writeln!(out, "  {}={}", config.key, config.value)?;
        }
    }
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "ISR",
        "ELR",
        "MIN ISR",
        "FLUSH",
        "REPLICATION",
        "START",
        "END",
    ]);
    for partition in &view.partitions {
        let offsets = partition.offsets;
        table.row(vec![
            partition.partition.to_string(),
            or_dash(partition.leader),
            partition.leader_epoch.to_string(),
            list(&partition.replicas),
            list(&partition.isr),
            list(&partition.elr),
            partition.min_isr.to_string(),
            partition.flush.clone(),
            partition.replication.clone(),
            or_dash(offsets.map(|offsets| offsets.log_start)),
            or_dash(offsets.map(|offsets| offsets.high_watermark)),
        ]);
    }
    table.print(out)
}
