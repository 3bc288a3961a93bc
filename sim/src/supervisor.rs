//! Keeps the nodes of a run as its faults want them: up, down, stopped, damaged.
//!
//! A process that ends by itself is started again, as a service manager does. Why it may
//! end by itself is decided here: because its disk failed it, or because it was asked.
//! Anything else is a violation.

mod ambush;
mod cuts;
mod failed_syncs;
mod faults;
mod returns;
mod shrinks;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use weir_base::NodeId;
use weir_base::image::{ClusterImage, NodeState};
use weir_storage::Crash;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::nemesis::DiskFault;
use crate::nemesis::network::Way;
use crate::plan::Plan;
use crate::whole_node::{Insides, STOPPED, STOPPED_LATE};
use ambush::{Ambushes, Strike};
use cuts::{Cuts, LogEnds};
use failed_syncs::FailedSyncs;
use returns::Returns;
use shrinks::Shrinks;
use steps::Steps;

/// How long a node that ended by itself stays down, in milliseconds.
const RESTART_AFTER: u64 = 500;
/// Ended starts in a row after which a damaged node counts as lost.
const STARTS_MAX: u32 = 8;

/// The nodes of one run.
pub(crate) struct Supervisor {
    cluster: Cluster,
    insides: Insides,
    dice: Dice,
    controls: BTreeMap<NodeId, Control>,
    /// Disk faults that are on, by event.
    disk_faults: BTreeMap<usize, DiskFault>,
    /// Asked to stop one after the other: node and time.
    rolling: Vec<(u64, NodeId)>,
    syncs_lie: bool,
    failed_syncs: FailedSyncs,
    shrinks: Shrinks,
    cuts: Cuts,
    ambushes: Ambushes,
    returns: Returns,
    steps: Steps,
    /// When machines lost their power, in milliseconds; and, of those on which no process
    /// ran, when the last one had ended.
    pub(crate) power_losses: Vec<(u64, NodeId)>,
    /// When processes ended, in any way.
    pub(crate) ends: u64,
    /// The newest image of a process that ended: others may act on it already, and nobody
    /// that runs has to have it.
    pub(crate) last_image: Arc<ClusterImage>,
    pub(crate) violations: Vec<String>,
    pub(crate) points: Vec<&'static str>,
}

#[derive(Default)]
struct Control {
    is_up: bool,
    /// Faults that keep it down.
    held: u32,
    pauses: u32,
    restart_at: u64,
    /// When its process ended last.
    ended_at: u64,
    doom: Option<Doom>,
    /// Loses its power in the first term after this one.
    dooming_term: Option<u64>,
    /// Not part of the cluster yet, or never again.
    is_away: bool,
    /// A disk fault touched it: it may end by itself.
    is_troubled: bool,
    /// When a fault last lost or spoiled what its disk held.
    spoilt_at: Option<u64>,
    /// When a fault last spoiled what its disk held already.
    rotted_at: Option<u64>,
    was_wiped: bool,
    /// Its disk stands still, for good.
    is_stalled: bool,
    failed_starts: u32,
}

impl Control {
    /// Whether a loss of power waits for its moment.
    fn loses_power(&self) -> bool {
        self.doom.is_some_and(|doom| doom.crash == Crash::PowerLoss)
    }
}

/// A crash that waits for its moment.
#[derive(Clone, Copy)]
struct Doom {
    crash: Crash,
    crashes_before: u64,
    deadline: u64,
}

impl Supervisor {
    pub(crate) fn new(cluster: &Cluster, insides: &Insides, plan: &Plan) -> Self {
        let controls = plan.all_nodes().into_iter().map(|node| {
            let is_away = plan.spares.contains(&node);
            let control = Control {
                is_up: !is_away,
                is_away,
                ..Control::default()
            };
            (node, control)
        });
        let supervisor = Self {
            controls: controls.collect(),
            cluster: cluster.clone(),
            insides: insides.clone(),
            dice: Dice::new(cluster.entropy("supervisor")),
            disk_faults: BTreeMap::new(),
            rolling: Vec::new(),
            syncs_lie: plan.syncs_lie,
            failed_syncs: FailedSyncs::default(),
            shrinks: Shrinks::default(),
            cuts: Cuts::default(),
            ambushes: Ambushes::default(),
            returns: Returns::default(),
            steps: Steps::default(),
            power_losses: Vec::new(),
            ends: 0,
            last_image: Arc::default(),
            violations: Vec::new(),
            points: Vec::new(),
        };
        for node in plan.all_nodes() {
            supervisor.set_disk_faults(node);
        }
        if plan.has_queues {
            supervisor.steps.watch(cluster.tripwire(), insides);
        }
        supervisor
    }

    fn control(&mut self, node: NodeId) -> &mut Control {
        self.controls.entry(node).or_default()
    }

    /// Nodes that take part, up or down.
    pub(crate) fn present(&self) -> Vec<NodeId> {
        let of_use = self
            .controls
            .iter()
            .filter(|(_, c)| !c.is_away && !c.is_stalled);
        of_use.map(|(node, _)| *node).collect()
    }

    /// Whether a fault lost or spoiled what a node's disk held, at that time or later.
    pub(crate) fn was_spoilt_since(&self, node: NodeId, since: u64) -> bool {
        let spoilt_at = self.controls.get(&node).and_then(|c| c.spoilt_at);
        spoilt_at.is_some_and(|at| at >= since)
    }

    /// Whether a fault spoiled what a node's disk held already, at that time or later.
    pub(crate) fn has_rotted_since(&self, node: NodeId, since: u64) -> bool {
        let rotted_at = self.controls.get(&node).and_then(|c| c.rotted_at);
        rotted_at.is_some_and(|at| at >= since)
    }

    /// Whether a node's machine lost its power at that time or later.
    pub(crate) fn lost_power_since(&self, node: NodeId, since: u64) -> bool {
        let mut losses = self.power_losses.iter();
        losses.any(|(at, loser)| *loser == node && *at >= since)
    }

    /// Whether a node's disk was replaced by an empty one.
    pub(crate) fn was_wiped(&self, node: NodeId) -> bool {
        self.controls.get(&node).is_some_and(|c| c.was_wiped)
    }

    /// A node is gone for good.
    pub(crate) fn take_away(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        now: u64,
        node: NodeId,
    ) -> Result<()> {
        self.end_now(sim, now, node, Crash::Process)?;
        self.control(node).is_away = true;
        Ok(())
    }

    /// A node joins that was not there.
    pub(crate) fn add(&mut self, node: NodeId) {
        self.control(node).is_away = false;
    }

    /// Sees to every node after a step.
    pub(crate) fn tend(&mut self, sim: &mut turmoil::Sim<'_>, now: u64) -> Result<()> {
        for fault in self.disk_faults.values().filter(|fault| fault.spoils()) {
            let control = self.controls.entry(fault.node).or_default();
            control.spoilt_at = Some(now);
            if fault.rots() {
                control.rotted_at = Some(now);
            }
        }
        if let Some((at, node)) = self.rolling.first().copied()
            && at <= now
        {
            self.rolling.remove(0);
            self.cluster.ask_to_stop(node);
        }
        if self.shrinks.is_armed()
            && let Some((leader, down)) = self.shrinks.look(now, &self.newest_image())
        {
            self.points.push("leader killed at a shrink of its ISR");
            self.end_now(sim, now, leader, Crash::Process)?;
            self.control(leader).restart_at = now + down;
        }
        self.tend_ambushes(sim, now)?;
        self.tend_returns(now);
        for struck in self.steps.look(&self.insides) {
            self.points.push(struck.blow.step.point(struck.blow.moment));
            self.end_now(sim, now, struck.node, Crash::Process)?;
            self.control(struck.node).restart_at = now + struck.blow.down;
        }
        for node in self.controls.keys().copied().collect::<Vec<_>>() {
            let control = self.control(node);
            let (is_up, doom) = (control.is_up, control.doom);
            let can_act = is_up && control.pauses == 0 && !control.is_stalled;
            let disk = self.cluster.disk(node).context("no such disk")?;
            let has_failed = disk.has_failed_sync("wal/");
            let goes_on = self.failed_syncs.look(node, now, has_failed, can_act);
            self.violations.extend(goes_on);
            let control = self.control(node);
            if !is_up {
                let due = control.held == 0 && control.restart_at <= now && !control.is_away;
                if due {
                    self.start(sim, node)?;
                }
                continue;
            }
            let dooming_term = control.dooming_term;
            let was_cut = self.cuts.watch(node) && self.was_cut(node);
            let disk = self.cluster.disk(node).context("no such disk")?;
            if dooming_term.is_some_and(|doomed| self.term(node) > Some(doomed)) {
                self.control(node).dooming_term = None;
                self.points.push("power lost right after a vote");
                self.end_now(sim, now, node, Crash::PowerLoss)?;
            } else if was_cut {
                self.points.push("killed right after a cut");
                self.end_now(sim, now, node, Crash::Process)?;
            } else if let Some(doom) = doom
                && (disk.crashes() > doom.crashes_before || now >= doom.deadline)
            {
                if disk.crashes() > doom.crashes_before {
                    self.points.push("crash amid disk operations");
                }
                disk.call_off_crash();
                self.end_now(sim, now, node, doom.crash)?;
            } else if let Some(why) = self.cluster.death(node) {
                self.judge(node, &why);
                self.end_now(sim, now, node, Crash::Process)?;
            }
        }
        Ok(())
    }

    /// Strikes whom an ambush caught.
    fn tend_ambushes(&mut self, sim: &mut turmoil::Sim<'_>, now: u64) -> Result<()> {
        if !self.ambushes.is_on() {
            return Ok(());
        }
        let image = self.newest_image();
        let Some(strike) = self.ambushes.look(now, &self.insides, &image) else {
            return Ok(());
        };
        let (node, crash, down) = match strike {
            Strike::Disk(node) => {
                self.set_disk_faults(node);
                return Ok(());
            }
            Strike::PowerLoss(node, down) => {
                self.points.push("power lost with a tail");
                (node, Crash::PowerLoss, down)
            }
            Strike::Kill(node, down) => {
                self.points.push("leader killed that was ahead");
                (node, Crash::Process, down)
            }
        };
        self.end_now(sim, now, node, crash)?;
        self.control(node).restart_at = now + down;
        Ok(())
    }

    /// Sees to who came back.
    fn tend_returns(&mut self, now: u64) {
        if !self.returns.is_on() {
            return;
        }
        let insides = self.insides.lock();
        // Once it knows that the others count on it, it opens its logs.
        let is_back = |node: NodeId| {
            insides.get(&node).is_some_and(|inside| {
                let image = inside.api.cluster.image();
                image.nodes.get(&node).is_some_and(|record| {
                    record.state == NodeState::Active
                        && Some(record.epoch) == *inside.metadata.node_epoch().borrow()
                })
            })
        };
        if self.returns.look(now, is_back) {
            self.points.push("cut off at its return");
        }
    }

    /// What is cut for an ambush, or to keep who came back to itself.
    pub(crate) fn severed(&self) -> Vec<Way> {
        let all = self.controls.keys().copied();
        [self.ambushes.severed(), self.returns.severed(all)].concat()
    }

    /// The newest image that any running node has.
    fn newest_image(&self) -> Arc<ClusterImage> {
        let insides = self.insides.lock();
        let images = insides.values().map(|inside| inside.api.cluster.image());
        images.max_by_key(|image| image.version).unwrap_or_default()
    }

    fn log_ends(&self, node: NodeId) -> LogEnds {
        let insides = self.insides.lock();
        let replicas = insides.get(&node).map(|inside| inside.broker.replicas());
        let ends = replicas.unwrap_or_default().into_iter();
        ends.map(|handle| (handle.at(), handle.view().log_end))
            .collect()
    }

    /// Whether a node is to be killed because one of its logs was cut.
    fn was_cut(&mut self, node: NodeId) -> bool {
        let look = self.cuts.look(node, &self.log_ends(node));
        self.violations.extend(look.violations);
        look.was_cut
    }

    /// The term that a node's voter is in, if it runs.
    fn term(&self, node: NodeId) -> Option<u64> {
        let insides = self.insides.lock();
        let progress = insides.get(&node)?.metadata.raft_progress()?;
        Some(progress.term)
    }

    fn judge(&mut self, node: NodeId, why: &str) {
        self.cluster
            .trace()
            .note(&node, format_args!("ended by itself: {why}"));
        let control = self.control(node);
        if why == STOPPED || why == STOPPED_LATE {
            let is_clean = why == STOPPED;
            let point = if is_clean {
                "stopped cleanly"
            } else {
                "not stopped in time"
            };
            self.points.push(point);
            return;
        }
        let by_the_disk = [
            "did not start",
            "the data directory failed",
            "the metadata group failed",
        ];
        if control.is_troubled && by_the_disk.iter().any(|known| why.contains(known)) {
            let is_start = why.starts_with("did not start");
            control.failed_starts += u32::from(is_start);
            // Damage that only an operator can mend.
            control.is_away = control.spoilt_at.is_some() && control.failed_starts > STARTS_MAX;
            let point = match (control.is_away, is_start) {
                (true, _) => "given up: its disk is beyond use",
                (false, true) => "refused to start on a bad disk",
                (false, false) => "stopped itself for a failed disk",
            };
            self.points.push(point);
        } else {
            self.violations
                .push(format!("node {node} ended by itself: {why}"));
        }
    }

    /// Ends a process that runs, or its machine, whether a process runs there or not: what
    /// was not synced is lost with its power.
    fn end_now(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        now: u64,
        node: NodeId,
        crash: Crash,
    ) -> Result<()> {
        let control = self.control(node);
        // A machine that is about to lose its power does, whatever ends its process first.
        let loses_power = crash == Crash::PowerLoss || control.loses_power();
        control.doom = None;
        control.restart_at = now + RESTART_AFTER;
        let was_up = std::mem::take(&mut control.is_up);
        if was_up {
            control.ended_at = now;
            self.ends += 1;
            let inside = self.insides.lock().remove(&node);
            if let Some(image) = inside.map(|inside| inside.api.cluster.image())
                && image.version > self.last_image.version
            {
                self.last_image = image;
            }
        }
        if loses_power {
            let ended_at = self.control(node).ended_at;
            self.power_losses.push((now, node));
            if !was_up {
                // What it loses was written before its process ended.
                self.power_losses.push((ended_at, node));
                self.points
                    .push("power lost at a machine without a process");
            }
            self.cluster.power_off(sim, node)?;
        } else if was_up {
            self.cluster.kill(sim, node)?;
        }
        Ok(())
    }

    fn start(&mut self, sim: &mut turmoil::Sim<'_>, node: NodeId) -> Result<()> {
        let control = self.control(node);
        control.is_up = true;
        control.doom = None;
        self.cluster.start(sim, node)
    }

    /// From now on every operation of a node's disk takes longer than the run.
    pub(crate) fn stall(&mut self, node: NodeId) {
        let control = self.control(node);
        (control.is_stalled, control.is_troubled) = (true, true);
        self.set_disk_faults(node);
    }
}
