//! The stage of a scenario: nodes, one topic of one partition, one writer, and a look at
//! all of it every few milliseconds with the invariants.
//!
//! A scenario reads like its incident: it breaks things, waits for conditions, and asks.
//! Every wait is bounded, and ends early if an invariant breaks or a process ends by
//! itself that was not to.

mod clients;
mod faults;
mod play;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::sync::mpsc::UnboundedSender;
use weir_base::image::PartitionRecord;
use weir_base::{NodeId, TopicPartition};

use self::clients::{CLIENT, Order, Writing, host_client};
#[cfg(feature = "mutants")]
pub(super) use self::play::objection;
pub(super) use self::play::{Setting, play};
use crate::cluster::{Cluster, ip};
use crate::invariants::{Invariants, Told};
use crate::log_events::Said;
use crate::probe::{ReplicaSeen, Seen};
use crate::trace::{Trace, set_time_outside};
use crate::whole_node::{Insides, node_options, run_watched};
use crate::workload::produce::Ledger;

/// The topic that everything is about.
pub(super) const TOPIC: &str = "orders";
/// The founding voters of the metadata group, unless a scenario has others: all, or the
/// first three of five nodes.
pub(super) const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// How long one scenario may take in all.
const LONGEST: Duration = Duration::from_secs(240);
/// Simulated milliseconds between two looks.
const LOOK_EVERY: u64 = 5;
const POLL: Duration = Duration::from_millis(5);

/// A running scenario.
pub(super) struct Theatre {
    cluster: Cluster,
    sim: turmoil::Sim<'static>,
    insides: Insides,
    invariants: Invariants,
    pub(super) seen: Seen,
    orders: UnboundedSender<Order>,
    ledger: Ledger,
    writing: Arc<Mutex<Writing>>,
    all: Vec<NodeId>,
    at: Option<TopicPartition>,
    up: BTreeSet<NodeId>,
    said: Said,
    /// Processes that may end by themselves, and did so why.
    mortal: BTreeSet<NodeId>,
    pub(super) deaths: Vec<(NodeId, String)>,
}

impl Theatre {
    fn open(setting: &Setting, trace: Trace, said: Said) -> Result<Self> {
        let all: Vec<NodeId> = (1..=setting.nodes).map(NodeId).collect();
        let machines = [all.as_slice(), &[CLIENT]].concat();
        let cluster = Cluster::new(setting.seed, &machines, trace)?;
        cluster.contain_panics();
        let voters: Vec<NodeId> = all
            .iter()
            .copied()
            .filter(|n| n.0 <= setting.voters)
            .collect();
        let mut sim = Cluster::builder(setting.seed, LONGEST).build();
        let insides = Insides::default();
        for node in all.iter().copied() {
            let (cluster, insides) = (cluster.clone(), insides.clone());
            let (change, voters) = (setting.options, voters.clone());
            sim.host(ip(node), move || {
                let mut options = node_options(node, &voters);
                change(&mut options);
                let software = run_watched(cluster.clone(), options, insides.clone());
                async move { Ok(software.await?) }
            });
        }
        let orders = host_client(&mut sim, &cluster);
        Ok(Self {
            cluster,
            sim,
            insides,
            invariants: Invariants::new(None, false),
            seen: Seen::default(),
            orders,
            ledger: Ledger::default(),
            writing: Arc::default(),
            up: all.iter().copied().collect(),
            all,
            at: None,
            said,
            mortal: BTreeSet::new(),
            deaths: Vec::new(),
        })
    }

    /// Simulated milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One step.
    pub(super) fn step(&mut self) -> Result<()> {
        set_time_outside(self.sim.elapsed());
        self.sim
            .step()
            .map_err(|error| anyhow!("a host ended: {error}"))?;
        self.bury()?;
        if let Some(failure) = self.lock().failure.take() {
            bail!("the writer was told what it must never be: {failure}");
        }
        if self.now().is_multiple_of(LOOK_EVERY) {
            set_time_outside(self.sim.elapsed());
            self.seen = Seen::look(&self.insides, &self.seen);
            let mut told = Told::new();
            if let Some(at) = self.at {
                told.insert(at, self.ledger.acknowledged_end(0));
            }
            let broken = self.invariants.look(&self.seen, &told);
            ensure!(broken.is_empty(), "{}", broken.join("; "));
        }
        Ok(())
    }

    /// Processes that ended by themselves are ended for good.
    fn bury(&mut self) -> Result<()> {
        for node in self.all.clone() {
            if self.up.contains(&node)
                && let Some(why) = self.cluster.death(node)
            {
                self.kill(node)?;
                ensure!(
                    self.mortal.contains(&node),
                    "node {node} ended by itself: {why}"
                );
                self.deaths.push((node, why));
            }
        }
        Ok(())
    }

    /// Lets `millis` pass.
    pub(super) fn run(&mut self, millis: u64) -> Result<()> {
        let end = self.now() + millis;
        while self.now() < end {
            self.step()?;
        }
        Ok(())
    }

    /// Steps until what is seen is as wanted. Gives the milliseconds it took.
    pub(super) fn until(
        &mut self,
        what: &str,
        within: u64,
        is_so: impl Fn(&Seen) -> bool,
    ) -> Result<u64> {
        let begun = self.now();
        while !is_so(&self.seen) {
            let passed = self.now() - begun;
            ensure!(
                passed < within,
                "not within {within} ms: {what}{}",
                self.describe()
            );
            self.step()?;
        }
        Ok(self.now() - begun)
    }

    /// The partition as the newest image has it.
    pub(super) fn record(&self) -> Result<&PartitionRecord> {
        record(&self.seen).context("no topic")
    }

    /// Who leads the partition.
    pub(super) fn leader(&self) -> Result<NodeId> {
        self.record()?.leader.context("no leader")
    }

    /// A node's replica.
    pub(super) fn replica(&self, node: NodeId) -> Option<&ReplicaSeen> {
        replica(&self.seen, node)
    }

    /// The leader of the metadata group, as most of the nodes that run know it.
    pub(super) fn controller(&self) -> Option<NodeId> {
        let insides = self.insides.lock();
        let told = insides.values().map(|inside| inside.metadata.controller());
        let mut count: BTreeMap<NodeId, usize> = BTreeMap::new();
        for node in told.flatten() {
            *count.entry(node).or_default() += 1;
        }
        let known = count.into_iter().max_by_key(|(_, nodes)| *nodes);
        known.map(|(node, _)| node)
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> Vec<NodeId> {
        self.up.iter().copied().collect()
    }

    /// A node's disk.
    pub(super) fn disk(&self, node: NodeId) -> Result<weir_storage::SimDisk> {
        Ok(self.cluster.disk(node).context("no such disk")?.clone())
    }

    /// How often nodes logged a message that begins so.
    pub(super) fn heard(&self, begins: &str) -> u64 {
        let said = self.said.counts();
        let such = said
            .iter()
            .filter(|(message, _)| message.starts_with(begins));
        such.map(|(_, count)| count).sum()
    }

    /// What a node says of a bug in itself that it lives with, nobody may have said.
    fn heard_no_bug(&self) -> Result<()> {
        let bug = "the controller refused its own plan";
        ensure!(self.heard(bug) == 0, "{bug}");
        Ok(())
    }

    fn describe(&self) -> String {
        let replicas: Vec<String> = (self.all.iter())
            .filter_map(|node| {
                let r = self.replica(*node)?;
                Some(format!(
                    "\n  node {node}: epoch {} leads {} ready {} failed {} watermark {} end {} durable {}",
                    r.leader_epoch,
                    r.is_leader,
                    r.is_ready,
                    r.is_failed,
                    r.high_watermark,
                    r.log_end,
                    r.durable_end
                ))
            })
            .collect();
        format!("\n  {:?}{}", record(&self.seen), replicas.concat())
    }
}

/// The partition as the newest image has it.
pub(super) fn record(seen: &Seen) -> Option<&PartitionRecord> {
    seen.newest.topics.get(TOPIC)?.partitions.first()
}

/// A node's replica of it.
pub(super) fn replica(seen: &Seen, node: NodeId) -> Option<&ReplicaSeen> {
    let at = TopicPartition::new(seen.newest.topics.get(TOPIC)?.id, 0);
    seen.nodes.get(&node)?.replicas.get(&at).map(Arc::as_ref)
}
