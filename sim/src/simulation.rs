//! One seed, from its first step to its judgement.
//!
//! First faults, while clients write and read and the invariants are watched. Then they
//! end, for a core of the nodes for good, and within [`LIVENESS`] everything has to work
//! again: every partition acknowledges writes, readers get to the end, moves are done.
//! Last, what the clients saw is judged.

mod clients;
mod decisions;
mod healed;
mod identity;
mod liveness;
mod queues;
mod stranded;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use weir::options::{ByteSize, NodeOptions};
use weir_base::image::PartitionRecord;
use weir_base::{LeaderEpoch, TopicPartition};
use weir_checkers::Key;

use crate::cluster::{Cluster, ip};
use crate::invariants::{Invariants, Told};
use crate::log_events::{Listener, Said};
use crate::nemesis::network::Links;
use crate::nemesis::{Change, Fault};
use crate::oracle::promise::Promise;
use crate::oracle::{self};
use crate::outcome::Outcome;
use crate::plan::{CLIENTS, Plan, TOPICS, VOTERS};
use crate::points::Points;
use crate::probe::Seen;
use crate::supervisor::Supervisor;
use crate::trace::{Trace, set_time_outside};
use crate::whole_node::{Insides, node_options, run_watched};
use crate::workload::clerk::Ledger;
use crate::workload::recorder::Recorder;
use crate::workload::stage::Stage;
use crate::workload::workers::book::Book;
use crate::workload::workers::{CHECK_INTERVAL, CHECKS_MAX};
use clients::Admin;
use healed::LIVENESS;
use liveness::Standing;
use queues::Outages;
use stranded::Membership;

/// Simulated milliseconds of a step, and the grain of the network: half of what a run
/// costs is taken by steps, whatever happens in them.
const TICK: u64 = 2;
/// Simulated milliseconds between two looks at the invariants.
const LOOK_EVERY: u64 = 3 * TICK;

/// Runs a plan. Call it on a fresh thread.
pub(crate) fn simulate(plan: &Plan, trace: &Trace) -> Outcome {
    let said = Said::default();
    let listener = Listener::new(trace.clone(), said.clone());
    tracing::subscriber::with_default(listener, || {
        let mut outcome = Outcome {
            seed: plan.seed,
            events: plan.events.iter().map(|(number, _)| *number).collect(),
            ..Outcome::default()
        };
        if let Err(error) = run(plan, trace, &said, &mut outcome) {
            outcome
                .violations
                .push(format!("the run broke off: {error:#}"));
        }
        outcome.digest = trace.digest().to_string();
        outcome
    })
}

/// The partitions that clients use: topic, partition and the key in their history.
pub(crate) fn keys() -> impl Iterator<Item = (usize, i32, Key)> {
    let partitions = (0..)
        .zip(TOPICS)
        .flat_map(|(index, topic)| (0..topic.partitions).map(move |p| (index, p)));
    (0..)
        .zip(partitions)
        .map(|(key, (index, p))| (index, p, Key(key)))
}

struct Run<'p> {
    plan: &'p Plan,
    said: Said,
    cluster: Cluster,
    supervisor: Supervisor,
    links: Links,
    /// Losses of power after which the links were set anew.
    losses: usize,
    insides: Insides,
    invariants: Invariants,
    recorder: Recorder,
    stage: Stage,
    book: Book,
    ledger: Ledger,
    admin: Admin,
    seen: Seen,
    epochs: BTreeMap<TopicPartition, LeaderEpoch>,
    membership: Membership,
    outages: Outages,
    promise: Promise,
    points: Points,
    faults: BTreeMap<String, u64>,
}

fn run(plan: &Plan, trace: &Trace, said: &Said, outcome: &mut Outcome) -> Result<()> {
    let machines = [plan.all_nodes(), CLIENTS.to_vec()].concat();
    let cluster = Cluster::new(plan.seed, &machines, trace.clone())?;
    cluster.contain_panics();
    let longest = Duration::from_millis(plan.end) + LIVENESS * 3;
    let mut builder = Cluster::builder(plan.seed, longest);
    let mut sim = builder.tick_duration(Duration::from_millis(TICK)).build();
    let insides = Insides::default();
    let has_small_files = plan.focus.is_some_and(|focus| focus.has_small_files);
    let (has_queues, has_small_cache) = (plan.has_queues, plan.has_small_cache);
    for node in plan.all_nodes() {
        let (cluster, insides) = (cluster.clone(), insides.clone());
        sim.host(ip(node), move || {
            let mut options = node_options(node, &VOTERS);
            if has_small_files {
                small_files(&mut options);
            }
            if has_small_cache {
                options.storage.tail_cache_bytes = SMALL_CACHE;
            }
            if has_queues {
                options.queues.check_interval = CHECK_INTERVAL;
                options.queues.checks_max = CHECKS_MAX;
            }
            let software = run_watched(cluster.clone(), options, insides.clone());
            async move { Ok(software.await?) }
        });
    }
    for spare in &plan.spares {
        cluster.leave_off(&mut sim, *spare)?;
    }
    let (recorder, stage) = (Recorder::new(trace), Stage::default());
    let (book, ledger) = (Book::new(trace), Ledger::new(trace));
    let admin = clients::start(&mut sim, &cluster, plan, &recorder, &stage, &book, &ledger);
    let forgetful = plan.focus.filter(|focus| focus.rots_metadata());
    let forgetful = forgetful.map(|_| plan.victim);
    let mut run = Run {
        plan,
        said: said.clone(),
        supervisor: Supervisor::new(&cluster, &insides, plan),
        cluster,
        links: Links::default(),
        losses: 0,
        insides,
        invariants: Invariants::new(forgetful, plan.a_disk_lies()),
        recorder,
        stage,
        book,
        ledger,
        admin,
        seen: Seen::default(),
        epochs: BTreeMap::new(),
        membership: Membership::default(),
        outages: Outages::default(),
        promise: Promise::default(),
        points: Points::default(),
        faults: BTreeMap::new(),
    };
    for (topic, _, key) in keys() {
        run.promise.set_mode(key, TOPICS[topic].mode);
    }
    if plan.a_disk_lies() {
        run.promise.set_liar(plan.victim);
    }
    let mut is_drained = false;
    let finished = run
        .under_faults(&mut sim)
        .and_then(|()| run.healed(&mut sim, &mut is_drained));
    if let Err(error) = finished {
        outcome.violations.push(format!("{error:#}"));
    }
    outcome.simulated_ms = millis(&sim);
    outcome.violations.extend(run.recorder.complaints());
    outcome.violations.extend(said.violations());
    outcome.violations.append(&mut run.supervisor.violations);
    outcome.acknowledged = run.recorder.acknowledgements();
    run.promise
        .set_power_losses(std::mem::take(&mut run.supervisor.power_losses));
    let mut ops = run.recorder.ops();
    if plan.is_spoilt {
        oracle::spoil(&mut ops, &run.promise);
    }
    let judgement = oracle::judge(ops, &run.promise, is_drained);
    if outcome.violations.is_empty() && run.recorder.acknowledgements() == 0 {
        outcome
            .violations
            .push("nothing was acknowledged: the run proves nothing".to_owned());
    }
    outcome.violations.extend(judgement.violations);
    let registers = oracle::judge_registers(&run.ledger.calls());
    outcome.violations.extend(registers.violations);
    outcome
        .violations
        .extend(run.judge_queues(outcome.simulated_ms));
    outcome.forgiven = judgement.forgiven;
    let judged = judgement.points.into_iter().chain(registers.points);
    for point in run.supervisor.points.drain(..).chain(judged) {
        run.points.reach(point);
    }
    run.points.hear(&said.counts());
    outcome.points = run.points.counts();
    while let Ok(kind) = run.admin.done.try_recv() {
        *run.faults.entry(kind.to_owned()).or_default() += 1;
    }
    outcome.faults = run.faults;
    run.insides.lock().clear();
    Ok(())
}

/// What nodes with a small cache keep of the ends of their logs.
const SMALL_CACHE: ByteSize = ByteSize(4 << 10);

/// Files that are full in seconds.
fn small_files(options: &mut NodeOptions) {
    options.storage.wal_file_bytes = ByteSize(256 << 10);
    options.storage.checkpoint_bytes = ByteSize(256 << 10);
}

fn millis(sim: &turmoil::Sim<'_>) -> u64 {
    u64::try_from(sim.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Run<'_> {
    /// The phase in which only safety counts.
    fn under_faults(&mut self, sim: &mut turmoil::Sim<'_>) -> Result<()> {
        let plan = self.plan;
        let mut begins = plan.events.iter().peekable();
        let mut running: Vec<(u64, usize, &Fault)> = Vec::new();
        while millis(sim) < plan.end {
            let now = millis(sim);
            let mut links_change = false;
            while let Some(index) = running.iter().position(|(until, ..)| *until <= now) {
                let (_, number, fault) = running.remove(index);
                self.cluster
                    .trace()
                    .note(&"nemesis", format_args!("event {number} ends"));
                self.links.end(number);
                links_change |= matches!(fault, Fault::Network(_));
                self.supervisor.end(number, fault)?;
            }
            while let Some((number, event)) = begins.next_if(|(_, event)| event.at <= now) {
                let trace = self.cluster.trace();
                trace.note(&"nemesis", format_args!("event {number} begins: {event}"));
                let struck = self.supervisor.begin(sim, now, *number, &event.fault)?;
                // What the admin was told counts when it worked.
                if struck && !matches!(event.fault, Fault::Admin(_)) {
                    let kind = event.fault.kind().to_owned();
                    *self.faults.entry(kind).or_default() += 1;
                }
                match &event.fault {
                    Fault::Network(fault) => self.links.begin(*number, fault.clone()),
                    Fault::Admin(change) => self.change(change),
                    Fault::Process(_) | Fault::Disk(_) | Fault::Clock(_) => {}
                }
                links_change |= matches!(event.fault, Fault::Network(_));
                running.push((event.until, *number, &event.fault));
            }
            self.step(sim, links_change)?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) {
        if let Change::AddNode { node } = change {
            self.supervisor.add(*node);
        }
        // The admin outlives every run: if it is gone, so is the run.
        self.admin.changes.send(change.clone()).unwrap_or_default();
    }

    /// A partition that clients use, as the newest image has it.
    fn record(&self, topic: usize, partition: i32) -> Option<(TopicPartition, &PartitionRecord)> {
        let topic = self.seen.newest.topics.get(TOPICS[topic].name)?;
        let at = TopicPartition::new(topic.id, u32::try_from(partition).ok()?);
        Some((at, self.seen.newest.partition(at)?))
    }

    fn standing(&self) -> Standing<'_> {
        Standing {
            seen: &self.seen,
            supervisor: &self.supervisor,
            membership: &self.membership,
        }
    }

    /// Keys whose partition only an operator can bring back.
    fn stranded(&self) -> BTreeSet<Key> {
        let keys = keys().filter(|(topic, partition, _)| {
            let known = self.record(*topic, *partition);
            known.is_some_and(|(at, record)| self.standing().is_stranded(at, record))
        });
        keys.map(|(.., key)| key).collect()
    }

    /// One step of the simulation and everything that goes with it. Says whether the nodes
    /// were looked at.
    fn step(&mut self, sim: &mut turmoil::Sim<'_>, links_change: bool) -> Result<bool> {
        let now = millis(sim);
        set_time_outside(sim.elapsed());
        self.supervisor.tend(sim, now)?;
        // A fault that began may have taken some, before this step.
        let losses = self.supervisor.power_losses.len();
        let lost_power = std::mem::replace(&mut self.losses, losses) < losses;
        if lost_power {
            self.links.forget();
        }
        let severs = self.links.sever(self.supervisor.severed());
        if links_change || lost_power || severs {
            let machines = [self.plan.all_nodes(), CLIENTS.to_vec()].concat();
            self.links.apply(&self.cluster, sim, &machines);
        }
        if let Err(error) = sim.step() {
            anyhow::bail!("a host ended: {error}");
        }
        let looks = now.is_multiple_of(LOOK_EVERY);
        if looks {
            set_time_outside(sim.elapsed());
            self.look(millis(sim))?;
        }
        if let Some(first) = self.supervisor.violations.pop() {
            anyhow::bail!("{first}");
        }
        Ok(looks)
    }

    fn look(&mut self, now: u64) -> Result<()> {
        let before = Arc::clone(&self.seen.newest);
        if self.supervisor.last_image.version > before.version {
            self.seen.newest = Arc::clone(&self.supervisor.last_image);
        }
        self.seen = Seen::look(&self.insides, &self.seen);
        decisions::note(self.cluster.trace(), &before, &self.seen.newest);
        self.membership.look(&self.seen.newest, now);
        let mut told = Told::new();
        for (topic, partition, key) in keys() {
            let Some(record) = self.seen.newest.topics.get(TOPICS[topic].name) else {
                continue;
            };
            let index = u32::try_from(partition).context("partition")?;
            let at = TopicPartition::new(record.id, index);
            told.insert(at, self.recorder.acknowledged_end(key));
            let epoch = self.seen.newest.partition(at).map(|p| p.leader_epoch);
            if let Some(epoch) = epoch
                && self.epochs.insert(at, epoch) != Some(epoch)
            {
                self.promise.elected(key, now);
            }
            let leading = self
                .seen
                .replicas(at)
                .filter(|(_, replica)| replica.is_leader && Some(replica.leader_epoch) == epoch);
            if let Some(mark) = leading.map(|(_, r)| r.high_watermark.0).max() {
                self.promise.committed(key, now, mark);
            }
        }
        if self.plan.has_queues {
            self.outages.look(now, &self.seen);
        }
        self.points.look(&self.seen);
        let broken = self.invariants.look(&self.seen, &told);
        anyhow::ensure!(broken.is_empty(), "{}", broken.join("; "));
        Ok(())
    }
}
