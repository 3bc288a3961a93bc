//! `weir dev`: a cluster on this machine with one command.
//!
//! Owns the node processes: it plans them ([`plan`]), writes their files
//! ([`directory`]), starts each as `weir serve`, restarts one that dies, says in
//! `cluster.json` who they are, and stops them. A node is asked to stop by closing its
//! standard input, which the kernel also does when this process is killed: no node
//! outlives its supervisor. Nothing here runs inside a node, so nothing here is
//! simulated and the seams of `Env` are not used (decisions/0002).

mod child;
pub mod directory;
pub mod plan;
mod ports;
mod readiness;
pub mod supervise;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use child::Child;
use directory::{ClusterFile, ClusterFileNode, Directory};
use plan::{NodePlan, Plan, Wish};
use supervise::Nodes;

/// Time between two questions to nodes that start: a start takes tenths of a second.
const READY_POLL: Duration = Duration::from_millis(10);
/// How long a start may take before its reasons are shown, and shown again.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// How long leaders are waited for once all nodes are there. An election takes tenths of
/// a second, a recovery after a crash some seconds; what has no leader then lost its data.
const LEADERS_PATIENCE: Duration = Duration::from_secs(20);

/// What `weir dev` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    /// Number of nodes, 1 to 9. A cluster may grow between two runs, never shrink
    #[arg(long, env = "WEIR_DEV_NODES", default_value_t = 3)]
    pub nodes: u32,
    /// Kafka port of node 1; node 2 gets the next one, and so on. Peer ports are 10000 above
    #[arg(
        long,
        env = "WEIR_DEV_PORT_BASE",
        default_value_t = 9092,
        value_name = "PORT"
    )]
    pub port_base: u16,
    /// Admin port of node 1; node 2 gets the one 100 above, and so on
    #[arg(
        long,
        env = "WEIR_DEV_ADMIN_PORT_BASE",
        default_value_t = 8080,
        value_name = "PORT"
    )]
    pub admin_port_base: u16,
    /// RocketMQ port of node 1; node 2 gets the next one, and so on [default: the one after --admin-port-base]
    #[arg(long, env = "WEIR_DEV_ROCKETMQ_PORT_BASE", value_name = "PORT")]
    pub rocketmq_port_base: Option<u16>,
    /// Where all data lies; started again on it, the cluster serves all it had
    #[arg(
        long,
        env = "WEIR_DEV_DATA",
        default_value = "weir-data",
        value_name = "DIR"
    )]
    pub data: PathBuf,
    /// Leave a node that died dead, instead of starting it again after 3 s
    #[arg(long, env = "WEIR_DEV_NO_RESTART")]
    pub no_restart: bool,
    /// When ready, print cluster.json's content as one line instead of text
    #[arg(long, env = "WEIR_DEV_JSON")]
    pub json: bool,
}

/// Runs a cluster until asked to stop.
///
/// # Errors
/// What keeps it from running, as one line.
pub fn run(args: &DevArgs) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(supervise(args))
}

async fn supervise(args: &DevArgs) -> Result<()> {
    let path = std::path::absolute(&args.data)
        .with_context(|| format!("--data {}", args.data.display()))?;
    let mut stop = StopSignals::new()?;
    let directory = Directory::open(&path)?;
    child::wait_for_left_behind(&directory.left_behind()).await?;
    let wish = Wish {
        nodes: args.nodes,
        port_base: args.port_base,
        admin_port_base: args.admin_port_base,
        rocketmq_port_base: args
            .rocketmq_port_base
            .unwrap_or_else(|| args.admin_port_base.saturating_add(1)),
        directory: path,
    };
    let plan = plan::plan(&wish, directory.founded()?.as_ref())?;
    ports::check(&plan)?;
    directory.prepare(&plan)?;

    let mut cluster = Cluster {
        nodes: Nodes::new(plan.nodes.len(), !args.no_restart),
        children: plan.nodes.iter().map(|_| None).collect(),
        started: now(),
        announced: false,
        directory,
        plan,
    };
    let ended = cluster.run(args, &mut stop).await;
    cluster.stop(&mut stop).await;
    ended
}

struct Cluster {
    plan: Plan,
    directory: Directory,
    nodes: Nodes,
    children: Vec<Option<Child>>,
    started: Instant,
    announced: bool,
}

impl Cluster {
    /// Until asked to stop, or until it cannot go on.
    async fn run(&mut self, args: &DevArgs, stop: &mut StopSignals) -> Result<()> {
        // Registered before the first child, so that no death goes unseen.
        let mut deaths = signal(SignalKind::child())?;
        loop {
            self.start_due()?;
            let next_due = self
                .nodes
                .next_due()
                .map_or(self.started + FAR_AWAY, |at| self.started + at);
            let asking = !self.announced && self.nodes.all_running();
            tokio::select! {
                biased;
                () = stop.next() => return Ok(()),
                _ = deaths.recv() => self.reap()?,
                () = sleep_until(next_due) => {}
                () = until_ready(&self.plan), if asking => {
                    self.announced = true;
                    self.announce(args)?;
                }
            }
        }
    }

    fn start_due(&mut self) -> Result<()> {
        let due = self.nodes.due(self.started.elapsed());
        for &index in &due {
            let (Some(node), Some(slot)) =
                (self.plan.nodes.get(index), self.children.get_mut(index))
            else {
                continue;
            };
            let child = Child::start(node)?;
            self.nodes.on_started(index, child.pid());
            if self.announced {
                say(&format!(
                    "node {} started again (pid {})",
                    node.id,
                    child.pid()
                ));
            }
            *slot = Some(child);
        }
        if !due.is_empty() {
            self.directory.publish(&self.cluster_file())?;
        }
        Ok(())
    }

    /// Notices which nodes died.
    fn reap(&mut self) -> Result<()> {
        let mut changed = false;
        for (index, node) in self.plan.nodes.iter().enumerate() {
            let Some(slot) = self.children.get_mut(index) else {
                continue;
            };
            let Some(status) = slot.as_mut().and_then(Child::ended) else {
                continue;
            };
            *slot = None;
            changed = true;
            // One that gives up by itself before the cluster ever ran would do so again.
            if !self.announced && status.code().is_some() {
                bail!(
                    "node {} gave up while starting ({status}); its reason is above or in {}",
                    node.id,
                    node.log_file().display()
                );
            }
            let restart = self.nodes.on_exit(index, self.started.elapsed());
            say(&format!(
                "node {} died ({status}); {}",
                node.id,
                match restart {
                    Some(_) => format!("starting it again in {:?}", supervise::RESTART_DELAY),
                    None => "left dead, as --no-restart says".to_owned(),
                }
            ));
        }
        if changed {
            self.directory.publish(&self.cluster_file())?;
        }
        Ok(())
    }

    fn cluster_file(&self) -> ClusterFile {
        let describe = |(index, node): (usize, &NodePlan)| ClusterFileNode {
            id: node.id,
            pid: self.nodes.pid(index),
            kafka: node.kafka.to_string(),
            rocketmq: node.rocketmq.to_string(),
            admin: node.admin.to_string(),
            peer: node.peer.to_string(),
            data: node.data().display().to_string(),
            log: node.log_file().display().to_string(),
        };
        ClusterFile {
            nodes: self.plan.nodes.iter().enumerate().map(describe).collect(),
        }
    }

    fn announce(&self, args: &DevArgs) -> Result<()> {
        let cluster = self.cluster_file();
        let mut out = std::io::stdout().lock();
        // Nobody may be reading: the cluster runs all the same.
        let written = if args.json {
            writeln!(out, "{}", serde_json::to_string(&cluster)?)
        } else {
            cluster
                .nodes
                .iter()
                .try_for_each(|node| {
                    writeln!(
                        out,
                        "node {}  kafka {}  rocketmq {}  admin http://{}  data {}",
                        node.id, node.kafka, node.rocketmq, node.admin, node.data
                    )
                })
                .and_then(|()| writeln!(out, "weir: ready"))
        };
        drop(written.and_then(|()| out.flush()));
        Ok(())
    }

    /// Asks every node to stop, waits, and kills those that do not.
    async fn stop(&mut self, stop: &mut StopSignals) {
        let Ok(mut deaths) = signal(SignalKind::child()) else {
            return;
        };
        for child in self.children.iter_mut().flatten() {
            child.ask_to_stop();
        }
        let deadline = now() + plan::STOP_TIMEOUT + Duration::from_secs(2);
        loop {
            for slot in &mut self.children {
                if slot.as_mut().and_then(Child::ended).is_some() {
                    *slot = None;
                }
            }
            if self.children.iter().all(Option::is_none) {
                break;
            }
            tokio::select! {
                biased;
                _ = deaths.recv() => continue,
                () = stop.next() => say("asked to stop again: killing the nodes"),
                () = sleep_until(deadline) => say("nodes do not stop in time: killing them"),
            }
            for child in self.children.iter_mut().flatten() {
                child.kill();
            }
            break;
        }
        if let Err(error) = self.directory.unpublish() {
            say(&format!("cluster.json stays: {error}"));
        }
    }
}

/// Asks all nodes until all are ready, all see all of them active, and every partition has
/// a leader. Partitions that get none hold nobody up for ever: they are told of.
async fn until_ready(plan: &Plan) {
    let mut complain_at = now() + READY_PATIENCE;
    let mut nodes_since = None;
    loop {
        let mut waiting = Vec::new();
        for node in &plan.nodes {
            if let Err(reasons) = readiness::ask(node).await {
                waiting.push(format!("node {}: {}", node.id, reasons.join(", ")));
            }
        }
        if waiting.is_empty() {
            let lacks = readiness::lacks(plan).await;
            if lacks.nothing() {
                return;
            }
            waiting = lacks.nodes;
            if let Some((without, all)) = lacks.leaderless {
                let since = *nodes_since.get_or_insert_with(now);
                if waiting.is_empty() && now() >= since + LEADERS_PATIENCE {
                    say(&format!(
                        "{without} of {all} partitions have no leader, because the replicas that may lead \
                         are missing or damaged: going on without them; `weir topic describe` names them"
                    ));
                    return;
                }
                waiting.push(format!("{without} of {all} partitions have no leader"));
            }
        }
        if now() >= complain_at {
            say(&format!("not ready yet: {}", waiting.join("; ")));
            complain_at = now() + READY_PATIENCE;
        }
        pause(READY_POLL).await;
    }
}

/// Whatever asks this process to stop.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn new() -> Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A time that never comes.
const FAR_AWAY: Duration = Duration::from_secs(365 * 86_400);

#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor is outside of every node and never simulated"
)]
fn now() -> Instant {
    Instant::now()
}

async fn pause(duration: Duration) {
    sleep_until(now() + duration).await;
}

/// Tells the user on standard error, which may be closed.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "weir dev: {line}"));
}
