//! `weir cluster`.

use std::io::{self, Write};

use anyhow::Result;
use clap::Subcommand;
use weir_api::console::ClusterView;

use crate::Session;
use crate::table::{Table, or_dash};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the nodes, and how many partitions miss something
    Status,
}

pub(crate) fn run(command: &ClusterCommand, session: &mut Session<'_>) -> Result<()> {
    match command {
        ClusterCommand::Status => {
            let view = session.client.cluster()?;
            session.show(&view, print)
        }
    }
}

fn print(view: &ClusterView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "cluster {}  controller {}  metadata version {}",
        or_dash(view.cluster_id.as_ref()),
        or_dash(view.controller),
        view.version
    )?;
    writeln!(
        out,
        "{} topics, {} partitions: {} without leader, {} under-replicated, {} below min ISR\n",
        view.topics, view.partitions, view.leaderless, view.under_replicated, view.under_min_isr
    )?;
    let mut table = Table::new(&[
        "NODE", "NAME", "STATE", "LEADS", "REPLICAS", "RACK", "KAFKA", "ADMIN", "PEER",
    ]);
    for node in &view.nodes {
        table.row(vec![
            node.id.to_string(),
            node.name.clone(),
            node.state.clone(),
            node.leads.to_string(),
            node.replicas.to_string(),
            or_dash(node.rack.as_ref()),
            or_dash(node.endpoints.get("kafka")),
            or_dash(node.endpoints.get("admin")),
            node.peer.clone(),
        ]);
    }
    table.print(out)
}
