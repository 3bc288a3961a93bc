//! What the faults of a plan do to machines and their disks, each from when it begins to
//! when it ends.
//!
//! Crashes are told here and dealt in [`Supervisor::tend`], at their moment.

use std::time::Duration;

use anyhow::{Context, Result};
use weir_base::NodeId;
use weir_storage::{Crash, SimFaults};

use super::ambush::Ambush;
use super::shrinks::Blow;
use super::steps;
use super::{Doom, Supervisor};
use crate::nemesis::disk::{DiskFault, DiskFaultKind, rot, spoil_batches};
use crate::nemesis::process::{ProcessFault, ROLL_STEP};
use crate::nemesis::{ClockFault, Fault};

/// How long a crash waits for the disk operation it was planned for.
const DOOM_WAITS: u64 = 200;
/// What every operation of a disk that stands still may take.
const STALL: Duration = Duration::from_secs(100_000);
/// What an operation of a disk may take that is slow for an ambush.
const LATE: Duration = Duration::from_millis(500);

impl Supervisor {
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
                if !self.control(node).is_up {
                    self.end_now(sim, now, node, Crash::PowerLoss)?;
                    return Ok(true);
                }
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
                    self.cuts.arm(node, ends);
                }
                Ok(true)
            }
            ProcessFault::KillAtShrink { after, down } => {
                self.shrinks.arm(Blow { after, down });
                Ok(true)
            }
            ProcessFault::CutOffAtReturn { node, away } => {
                self.end_now(sim, now, node, Crash::Process)?;
                self.returns.arm(node, away);
                Ok(true)
            }
            ProcessFault::PowerLossWithTail { down } => {
                self.ambushes.arm(Ambush::Tail { down });
                Ok(true)
            }
            ProcessFault::KillAhead => {
                self.ambushes.arm(Ambush::Ahead);
                Ok(true)
            }
            ProcessFault::KillAtStep { step, moment, down } => {
                self.steps.arm(steps::Blow { step, moment, down });
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
            Fault::Process(ProcessFault::KillAtCut) => self.cuts.disarm(),
            Fault::Process(ProcessFault::KillAtShrink { .. }) => self.shrinks.disarm(),
            Fault::Process(ProcessFault::CutOffAtReturn { .. }) => self.returns.disarm(),
            Fault::Process(ProcessFault::PowerLossWithTail { .. } | ProcessFault::KillAhead) => {
                self.ambushes.disarm();
            }
            Fault::Process(ProcessFault::KillAtStep { step, moment, down }) => {
                let (step, moment, down) = (*step, *moment, *down);
                self.steps.disarm(steps::Blow { step, moment, down });
            }
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
        self.ambushes.end();
        self.returns.end();
        self.steps.end();
        self.cuts.disarm();
        for node in self.controls.keys().copied().collect::<Vec<_>>() {
            self.set_disk_faults(node);
            let clocks = self.cluster.clock_faults(node).context("no such node")?;
            clocks.set_wall_offset_millis(0);
            if self.control(node).pauses > 0 {
                self.cluster.resume(node);
            }
            let control = self.control(node);
            (control.held, control.pauses, control.failed_starts) = (0, 0, 0);
            control.dooming_term = None;
        }
        Ok(())
    }

    /// Ends a process, or its machine, at the disk operation of this number from now, or
    /// soon. A loss of power that is under way takes the process with it, and so does a
    /// crash that struck in this very step and was not seen to yet.
    fn doom(&mut self, now: u64, node: NodeId, operations: u64, crash: Crash) -> Result<bool> {
        let disk = self.cluster.disk(node).context("no such disk")?.clone();
        let control = self.control(node);
        let is_lost = control.loses_power();
        if control.is_up && !is_lost {
            let pending = control.doom.map(|doom| doom.crashes_before);
            control.doom = Some(Doom {
                crash,
                crashes_before: pending.unwrap_or_else(|| disk.crashes()),
                deadline: now + DOOM_WAITS,
            });
            disk.crash_after(operations, crash);
        }
        Ok(control.is_up)
    }

    pub(super) fn set_disk_faults(&self, node: NodeId) {
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
        if self.ambushes.late() == Some(node) {
            faults.latency_max = faults.latency_max.max(LATE);
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use weir_base::OpenMode;

    use super::*;
    use crate::cluster::{Cluster, Host, ip, on_fresh_thread};
    use crate::plan::Plan;
    use crate::trace::Trace;
    use crate::whole_node::Insides;

    const NODE: NodeId = NodeId(1);

    /// Boots all nodes of a plan, each with this to do and nothing after it.
    fn run_everywhere<F>(
        sim: &mut turmoil::Sim<'_>,
        cluster: &Cluster,
        plan: &Plan,
        software: impl Fn(NodeId, Host) -> F + Clone + 'static,
    ) where
        F: Future<Output = std::io::Result<()>> + 'static,
    {
        for node in plan.all_nodes() {
            let (cluster, software) = (cluster.clone(), software.clone());
            sim.host(ip(node), move || {
                let (cluster, software) = (cluster.clone(), software.clone());
                async move {
                    software(node, cluster.boot(node)?).await?;
                    std::future::pending().await
                }
            });
        }
    }

    /// What a machine has of a file that was written and not synced, when its process was
    /// killed and it then lost its power or not. And when it says that it lost it.
    fn left(seed: u64, loses_power: bool) -> (usize, bool) {
        let plan = Plan::of(seed, None);
        let nodes = plan.all_nodes();
        let cluster = Cluster::new(seed, &nodes, Trace::new()).unwrap();
        let mut sim = Cluster::builder(seed, Duration::from_secs(9)).build();
        let is_written = Arc::new(Mutex::new(false));
        let has_written = Arc::clone(&is_written);
        run_everywhere(&mut sim, &cluster, &plan, move |node, host| {
            let is_written = Arc::clone(&has_written);
            async move {
                let disk = host.env.disk;
                if node == NODE && !*is_written.lock().unwrap() {
                    let file = disk.open("f", OpenMode::Create).await?;
                    disk.sync_directory("").await?;
                    file.write_at(0, vec![vec![7; 1 << 12].into()]).await?;
                    *is_written.lock().unwrap() = true;
                }
                Ok(())
            }
        });
        let mut supervisor = Supervisor::new(&cluster, &Insides::default(), &plan);
        while !*is_written.lock().unwrap() {
            sim.step().unwrap();
        }
        let kill = ProcessFault::Kill {
            node: NODE,
            operations: 1,
        };
        let power = ProcessFault::PowerLoss {
            node: NODE,
            operations: 1,
        };
        let kill = Fault::Process(kill);
        assert!(supervisor.begin(&mut sim, 1_000, 0, &kill).unwrap());
        supervisor.tend(&mut sim, 1_000 + DOOM_WAITS).unwrap();
        if loses_power {
            let power = Fault::Process(power);
            assert!(supervisor.begin(&mut sim, 2_000, 1, &power).unwrap());
        }
        let content = cluster.disk(NODE).unwrap().content("f").unwrap();
        (content.len(), supervisor.lost_power_since(NODE, 2_000))
    }

    #[test]
    fn what_a_process_died_of_is_not_said_of_the_next() {
        on_fresh_thread(|| {
            let plan = Plan::of(1, None);
            let cluster = Cluster::new(1, &plan.all_nodes(), Trace::new()).unwrap();
            cluster.contain_panics();
            let mut sim = Cluster::builder(1, Duration::from_secs(9)).build();
            run_everywhere(&mut sim, &cluster, &plan, |node, host| async move {
                if node == NODE && host.start == 1 {
                    host.process.die("the disk is gone".to_owned());
                }
                Ok(())
            });
            let mut supervisor = Supervisor::new(&cluster, &Insides::default(), &plan);
            sim.step().unwrap();
            assert!(cluster.death(NODE).is_some());
            // The fault ends the process, whatever it died of, and starts the next at once.
            let fault = Fault::Process(ProcessFault::CrashInRecovery {
                node: NODE,
                operations: 9,
                power: false,
            });
            assert!(supervisor.begin(&mut sim, 1_000, 0, &fault).unwrap());
            supervisor.tend(&mut sim, 1_000).unwrap();
            assert_eq!(supervisor.violations, Vec::<String>::new());
        });
    }

    #[test]
    fn a_crash_that_struck_is_not_forgotten_for_the_next_that_waits() {
        on_fresh_thread(|| {
            let plan = Plan::of(1, None);
            let cluster = Cluster::new(1, &plan.all_nodes(), Trace::new()).unwrap();
            let mut sim = Cluster::builder(1, Duration::from_secs(9)).build();
            run_everywhere(&mut sim, &cluster, &plan, |_, host| async move {
                while host.env.disk.sync_directory("").await.is_ok() {
                    host.env.sleep(Duration::from_millis(1)).await;
                }
                host.process.die("the data directory failed".to_owned());
                Ok(())
            });
            let mut supervisor = Supervisor::new(&cluster, &Insides::default(), &plan);
            let kill = |operations| {
                Fault::Process(ProcessFault::Kill {
                    node: NODE,
                    operations,
                })
            };
            assert!(supervisor.begin(&mut sim, 1_000, 0, &kill(1)).unwrap());
            while cluster.death(NODE).is_none() {
                sim.step().unwrap();
            }
            assert!(supervisor.begin(&mut sim, 1_000, 1, &kill(99)).unwrap());
            supervisor.tend(&mut sim, 1_000).unwrap();
            assert_eq!(supervisor.violations, Vec::<String>::new());
            assert_eq!(supervisor.ends, 1);
        });
    }

    #[test]
    fn a_machine_without_a_process_loses_what_was_not_synced_with_its_power() {
        on_fresh_thread(|| {
            assert_eq!(left(1, false), (1 << 12, false));
            // All of it, none or some sectors: the disk's dice say which.
            let with_loss: Vec<_> = (1..9).map(|seed| left(seed, true)).collect();
            assert!(with_loss.iter().all(|(_, is_told)| *is_told));
            assert!(
                with_loss.iter().any(|(bytes, _)| *bytes < 1 << 12),
                "{with_loss:?}"
            );
        });
    }
}
