//! Keeps the nodes of a run as its faults want them: up, down, stopped, damaged.
//!
//! A process that ends by itself is started again, as a service manager does. Why it may
//! end by itself is decided here: because its disk failed it, or because it was asked.
//! Anything else is a violation.

mod failed_syncs;
mod shrinks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::image::ClusterImage;
use weir_base::{NodeId, Offset, TopicPartition};
use weir_storage::{Crash, SimFaults};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::nemesis::disk::{DiskFault, DiskFaultKind, rot, spoil_batches};
use crate::nemesis::process::{ProcessFault, ROLL_STEP};
use crate::nemesis::{ClockFault, Fault};
use crate::plan::Plan;
use crate::whole_node::{Insides, STOPPED, STOPPED_LATE};
use failed_syncs::FailedSyncs;
use shrinks::{Blow, Shrinks};

/// How long a node that ended by itself stays down, in milliseconds.
const RESTART_AFTER: u64 = 500;
/// How long a crash waits for the disk operation it was planned for.
const DOOM_WAITS: u64 = 200;
/// What every operation of a disk that stands still may take.
const STALL: Duration = Duration::from_secs(100_000);
/// Ended starts in a row after which a damaged node counts as lost.
const STARTS_MAX: u32 = 8;

type LogEnds = BTreeMap<TopicPartition, Offset>;

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
    /// When machines lost their power, in milliseconds.
    pub(crate) power_losses: Vec<(u64, NodeId)>,
    /// When processes ended, in any way.
    pub(crate) ends: u64,
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
    doom: Option<Doom>,
    /// Loses its power in the first term after this one.
    dooming_term: Option<u64>,
    /// Is killed when one of its logs ends before this.
    dooming_cut: Option<LogEnds>,
    /// Where its logs ended when it was killed for a cut, until they are open again.
    cut_at: LogEnds,
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
            power_losses: Vec::new(),
            ends: 0,
            violations: Vec::new(),
            points: Vec::new(),
        };
        for node in plan.all_nodes() {
            supervisor.set_disk_faults(node);
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

    /// A fault begins. Says whether anything was there for it to strike.
    pub(crate) fn begin(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        now: u64,
        event: usize,
        fault: &Fault,
    ) -> Result<bool> {
        match fault {
            Fault::Process(fault) => self.begin_process(sim, now, fault),
            Fault::Disk(fault) => self.begin_disk(now, event, fault),
            Fault::Clock(fault) => self.set_clock(fault, true),
            Fault::Network(_) | Fault::Admin(_) => Ok(true),
        }
    }

    fn begin_process(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        now: u64,
        fault: &ProcessFault,
    ) -> Result<bool> {
        match *fault {
            ProcessFault::Kill { node, operations } => {
                self.control(node).held += 1;
                self.doom(now, node, operations, Crash::Process)
            }
            ProcessFault::PowerLoss { node, operations } => {
                self.control(node).held += 1;
                self.doom(now, node, operations, Crash::PowerLoss)
            }
            ProcessFault::PowerLossAtVote { node } => {
                let term = self.term(node);
                self.control(node).dooming_term = term;
                Ok(term.is_some())
            }
            ProcessFault::KillAtCut => {
                for node in self.present() {
                    let ends = self.log_ends(node);
                    self.control(node).dooming_cut = Some(ends);
                }
                Ok(true)
            }
            ProcessFault::KillAtShrink { after, down } => {
                self.shrinks.arm(Blow { after, down });
                Ok(true)
            }
            ProcessFault::PowerLossOfAll => {
                for node in self.present() {
                    self.control(node).held += 1;
                    self.end_now(sim, now, node, Crash::PowerLoss)?;
                }
                Ok(true)
            }
            ProcessFault::Pause { node } => {
                let control = self.control(node);
                control.pauses += 1;
                let is_up = control.is_up;
                if is_up {
                    self.cluster.pause(node);
                }
                Ok(is_up)
            }
            ProcessFault::CrashInRecovery {
                node,
                operations,
                power,
            } => {
                if !self.control(node).is_up {
                    return Ok(false);
                }
                self.end_now(sim, now, node, Crash::Process)?;
                let crash = if power {
                    Crash::PowerLoss
                } else {
                    Crash::Process
                };
                self.start(sim, node)?;
                self.doom(now, node, operations, crash)
            }
            ProcessFault::RollingRestart => {
                let nodes = self.present();
                let times = (0..).map(|turn| now + turn * ROLL_STEP);
                self.rolling.extend(times.zip(nodes));
                Ok(true)
            }
            ProcessFault::Wiped { node } => {
                self.end_now(sim, now, node, Crash::PowerLoss)?;
                let disk = self.cluster.disk(node).context("no such disk")?;
                disk.wipe();
                let control = self.control(node);
                (control.spoilt_at, control.rotted_at) = (Some(now), Some(now));
                control.was_wiped = true;
                control.is_troubled = true;
                Ok(true)
            }
        }
    }

    fn begin_disk(&mut self, now: u64, event: usize, fault: &DiskFault) -> Result<bool> {
        let node = fault.node;
        self.control(node).is_troubled = true;
        if fault.spoils() {
            self.control(node).spoilt_at = Some(now);
        }
        if fault.rots() {
            self.control(node).rotted_at = Some(now);
        }
        if let DiskFaultKind::BitRot { flips, below } = &fault.what {
            let disk = self.cluster.disk(node).context("no such disk")?;
            let flipped = rot(disk, below, *flips, &self.dice);
            self.cluster
                .trace()
                .note(&node, format_args!("{flipped} bits rot"));
            return Ok(flipped > 0);
        }
        if let DiskFaultKind::BadBatches { count } = &fault.what {
            let disk = self.cluster.disk(node).context("no such disk")?;
            let flipped = spoil_batches(disk, *count, &self.dice);
            self.cluster
                .trace()
                .note(&node, format_args!("{flipped} bits of batches are bad"));
            return Ok(flipped > 0);
        }
        self.disk_faults.insert(event, fault.clone());
        self.set_disk_faults(node);
        Ok(true)
    }

    /// A fault ends.
    pub(crate) fn end(&mut self, event: usize, fault: &Fault) -> Result<()> {
        match fault {
            Fault::Process(
                ProcessFault::Kill { node, .. } | ProcessFault::PowerLoss { node, .. },
            ) => self.release(*node),
            Fault::Process(ProcessFault::PowerLossAtVote { node }) => {
                self.control(*node).dooming_term = None;
            }
            Fault::Process(ProcessFault::KillAtCut) => {
                for control in self.controls.values_mut() {
                    control.dooming_cut = None;
                }
            }
            Fault::Process(ProcessFault::KillAtShrink { .. }) => self.shrinks.disarm(),
            Fault::Process(ProcessFault::PowerLossOfAll) => {
                for node in self.controls.keys().copied().collect::<Vec<_>>() {
                    self.release(node);
                }
            }
            Fault::Process(ProcessFault::Pause { node }) => {
                let control = self.control(*node);
                control.pauses = control.pauses.saturating_sub(1);
                if control.pauses == 0 {
                    self.cluster.resume(*node);
                }
            }
            Fault::Disk(fault) => {
                self.disk_faults.remove(&event);
                self.set_disk_faults(fault.node);
            }
            Fault::Clock(fault) => {
                self.set_clock(fault, false)?;
            }
            Fault::Process(
                ProcessFault::CrashInRecovery { .. }
                | ProcessFault::RollingRestart
                | ProcessFault::Wiped { .. },
            )
            | Fault::Network(_)
            | Fault::Admin(_) => {}
        }
        Ok(())
    }

    fn release(&mut self, node: NodeId) {
        let control = self.control(node);
        control.held = control.held.saturating_sub(1);
    }

    /// All faults are over: what is down starts, what waits goes on.
    pub(crate) fn heal(&mut self) -> Result<()> {
        self.disk_faults.clear();
        self.rolling.clear();
        self.shrinks.disarm();
        for node in self.controls.keys().copied().collect::<Vec<_>>() {
            self.set_disk_faults(node);
            let clocks = self.cluster.clock_faults(node).context("no such node")?;
            clocks.set_wall_offset_millis(0);
            if self.control(node).pauses > 0 {
                self.cluster.resume(node);
            }
            let control = self.control(node);
            (control.held, control.pauses, control.failed_starts) = (0, 0, 0);
            (control.dooming_term, control.dooming_cut) = (None, None);
        }
        Ok(())
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
            // First what became of earlier cuts: one that is found now is not looked at
            // before its log is opened again.
            self.look_behind_cuts(node);
            let was_cut = self.was_cut(node);
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

    /// Whether a log of a node that waits for that ends before where it ended a step ago.
    fn was_cut(&mut self, node: NodeId) -> bool {
        if self.control(node).dooming_cut.is_none() {
            return false;
        }
        let ends = self.log_ends(node);
        let control = self.control(node);
        let before = control.dooming_cut.replace(ends.clone());
        let before = before.unwrap_or_default();
        let is_shorter = |at, end: &Offset| before.get(at).is_some_and(|before| before > end);
        let cut = ends.iter().filter(|(at, end)| is_shorter(at, end));
        let cut: LogEnds = cut.map(|(at, end)| (*at, *end)).collect();
        let was_cut = !cut.is_empty();
        if was_cut {
            control.dooming_cut = None;
            control.cut_at = cut;
        }
        was_cut
    }

    /// What was cut from a log does not come back when it is opened again (S-10). Nothing
    /// was written to it in between: it is looked at in the first step that it is there.
    fn look_behind_cuts(&mut self, node: NodeId) {
        if self.control(node).cut_at.is_empty() {
            return;
        }
        for (at, end) in self.log_ends(node) {
            if end == Offset::default() {
                continue;
            }
            let cut_at = self.control(node).cut_at.remove(&at);
            if let Some(before) = cut_at.filter(|before| *before < end) {
                self.violations.push(format!(
                    "I12: node {node} was killed when its log of {at} was cut and ended at {before}; opened again it ends at {end}"
                ));
            }
        }
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

    fn doom(&mut self, now: u64, node: NodeId, operations: u64, crash: Crash) -> Result<bool> {
        let disk = self.cluster.disk(node).context("no such disk")?.clone();
        let control = self.control(node);
        if control.is_up {
            control.doom = Some(Doom {
                crash,
                crashes_before: disk.crashes(),
                deadline: now + DOOM_WAITS,
            });
            disk.crash_after(operations, crash);
        }
        Ok(self.control(node).is_up)
    }

    fn end_now(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        now: u64,
        node: NodeId,
        crash: Crash,
    ) -> Result<()> {
        let control = self.control(node);
        control.doom = None;
        control.restart_at = now + RESTART_AFTER;
        if !std::mem::take(&mut control.is_up) {
            return Ok(());
        }
        self.ends += 1;
        let inside = self.insides.lock().remove(&node);
        drop(inside);
        match crash {
            Crash::Process => self.cluster.kill(sim, node),
            Crash::PowerLoss => {
                self.power_losses.push((now, node));
                self.cluster.power_off(sim, node)
            }
        }
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

    fn set_disk_faults(&self, node: NodeId) {
        let Some(disk) = self.cluster.disk(node) else {
            return;
        };
        let mut faults = SimFaults {
            syncs_lie: self.syncs_lie,
            latency_max: Duration::ZERO,
            ..SimFaults::default()
        };
        for fault in self.disk_faults.values().filter(|f| f.node == node) {
            fault.add_to(&mut faults, disk);
        }
        if self.controls.get(&node).is_some_and(|c| c.is_stalled) {
            faults.latency_max = STALL;
        }
        disk.set_faults(faults);
    }

    fn set_clock(&self, fault: &ClockFault, is_on: bool) -> Result<bool> {
        let clocks = |node| self.cluster.clock_faults(node).context("no such node");
        match *fault {
            ClockFault::Wall { node, millis } => {
                clocks(node)?.set_wall_offset_millis(if is_on { millis } else { 0 });
            }
            ClockFault::Drift { node, ppm } if is_on => clocks(node)?.set_drift_ppm(ppm),
            ClockFault::Drift { .. } => {}
        }
        Ok(true)
    }
}
