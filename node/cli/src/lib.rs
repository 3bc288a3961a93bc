//! The operator's commands: `weir topic`, `weir group`, `weir cluster`, `weir queue`,
//! `weir delayed`, `weir tx`, `weir dlq`, `weir trace`, `weir reconcile`.
//!
//! Owns how they are written, asked for over the admin API of any node, and printed:
//! tables for people, `--json` for programs. Knows nothing that the API does not tell.
//! What lies on several nodes (groups on their coordinators, offsets on leaders) is asked
//! of each and put together here. Nothing is retried but what surely did not arrive.

mod client;
pub mod cluster;
pub mod dlq;
pub mod group;
pub mod position;
pub mod queue;
mod table;
mod target;
mod time;
pub mod topic;

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};

use client::Client;
pub use client::Refused;

/// An operator's command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, show, alter and delete topics
    Topic {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: topic::TopicCommand,
    },
    /// Show and delete consumer groups, and move their offsets
    Group {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: group::GroupCommand,
    },
    /// Show the nodes and what is amiss
    Cluster {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: cluster::ClusterCommand,
    },
    /// Show queue groups: per-message delivery
    Queue {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: queue::QueueCommand,
    },
    /// List and cancel delayed messages
    Delayed {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: queue::DelayedCommand,
    },
    /// List half messages, commit them or roll them back
    Tx {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: queue::TxCommand,
    },
    /// Show, replay and remove dead letters
    Dlq {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(subcommand)]
        command: dlq::DlqCommand,
    },
    /// Tell what befell a message, and where it stands with every queue group
    Trace {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(flatten)]
        args: queue::trace::TraceArgs,
    },
    /// Account for every message of a topic: how it ended, by hour
    Reconcile {
        /// Where and how.
        #[command(flatten)]
        connection: Connection,
        /// What.
        #[command(flatten)]
        args: queue::reconcile::ReconcileArgs,
    },
}

/// Whom to ask and how to answer.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Admin address of any node, host:port; without it, the cluster that `weir dev` runs
    /// in ./weir-data, else 127.0.0.1:8080
    #[arg(long, global = true, env = "WEIR_ADMIN", value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

/// Carries out a command, writing its answer to `out`.
///
/// # Errors
/// Why it was refused or could not be asked, with the remedy, as one line. Bad usage is
/// found earlier, by clap.
pub fn run(command: &Command, out: &mut dyn Write) -> Result<()> {
    let (Command::Topic { connection, .. }
    | Command::Group { connection, .. }
    | Command::Cluster { connection, .. }
    | Command::Queue { connection, .. }
    | Command::Delayed { connection, .. }
    | Command::Tx { connection, .. }
    | Command::Dlq { connection, .. }
    | Command::Trace { connection, .. }
    | Command::Reconcile { connection, .. }) = command;
    let mut session = Session {
        client: Client::new(target::addresses(connection.admin.as_deref())?),
        json: connection.json,
        out,
    };
    match command {
        Command::Topic { command, .. } => topic::run(command, &mut session),
        Command::Group { command, .. } => group::run(command, &mut session),
        Command::Cluster { command, .. } => cluster::run(command, &mut session),
        Command::Queue { command, .. } => queue::run_queue(command, &mut session),
        Command::Delayed { command, .. } => queue::run_delayed(command, &mut session),
        Command::Tx { command, .. } => queue::run_tx(command, &mut session),
        Command::Dlq { command, .. } => dlq::run(command, &mut session),
        Command::Trace { args, .. } => queue::trace::run(args, &mut session),
        Command::Reconcile { args, .. } => queue::reconcile::run(args, &mut session),
    }
}

/// What every command works with.
pub(crate) struct Session<'a> {
    pub(crate) client: Client,
    pub(crate) json: bool,
    pub(crate) out: &'a mut dyn Write,
}

impl Session<'_> {
    /// Prints `answer` as JSON, or for people by `print`.
    pub(crate) fn show<T: serde::Serialize>(
        &mut self,
        answer: &T,
        print: impl FnOnce(&T, &mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        if self.json {
            serde_json::to_writer_pretty(&mut *self.out, answer)?;
            writeln!(self.out)?;
        } else {
            print(answer, self.out)?;
        }
        Ok(())
    }

    /// Something is missing from the answer; said where it does not mix with it.
    pub(crate) fn warn(line: &str) {
        drop(writeln!(std::io::stderr(), "weir: {line}"));
    }
}
