//! The phase in which everything has to work: faults are over, for a core of the nodes for
//! good, and within [`LIVENESS`] all that clients use does its work again. Last the copies
//! of each log are compared.

use std::time::Duration;

use anyhow::Result;

use super::{Run, identity, keys, millis};
use crate::nemesis::NetworkFault;
use crate::plan::TOPICS;

/// How long everything may take to work again after the faults.
pub(super) const LIVENESS: Duration = Duration::from_secs(60);
/// How long a partition that seems stranded has to show that it is not.
const STRANDED_AFTER: Duration = Duration::from_secs(5);
/// How long a message may take in a network that stays slow: a few heartbeats, and less
/// than the shortest timeout. Most take a fifth of it.
const SLOW: Duration = Duration::from_millis(450);
/// How long such a network is watched when everything works: nobody is to lose its place
/// for being slow.
const CALM: Duration = Duration::from_secs(20);
/// Leaders that the metadata group may have when faults are over: a few, until those that
/// come back have found each other.
const CONTROLLERS_MAX: u64 = 5;

impl Run<'_> {
    /// The phase in which everything has to work.
    pub(super) fn healed(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        is_drained: &mut bool,
    ) -> Result<()> {
        self.cluster
            .trace()
            .note(&"nemesis", format_args!("faults end"));
        self.links.end_all();
        if self.plan.focus.is_some_and(|focus| focus.stays_slow) {
            let max = SLOW;
            self.links.begin(usize::MAX, NetworkFault::Delay { max });
        }
        self.supervisor.heal()?;
        let victim = self.plan.victim;
        // A node with a new disk under its old id is turned away until an operator acts.
        let is_dispensable = !self.has_undecided() && self.standing().can_do_without(victim);
        let is_spared = self.plan.victim_stays_away && is_dispensable;
        if self.supervisor.was_wiped(victim) || is_spared {
            self.cluster
                .trace()
                .note(&victim, format_args!("stays away"));
            let now = millis(sim);
            self.supervisor.take_away(sim, now, victim)?;
            self.points.reach("core without one node");
        }
        let stalls = self.plan.focus.is_some_and(|focus| focus.victim_stalls);
        if stalls && is_dispensable {
            self.cluster
                .trace()
                .note(&victim, format_args!("its disk stands still"));
            self.supervisor.stall(victim);
            self.points.reach("core beside a disk that stands still");
        }
        self.step(sim, true)?;
        self.stage.heal();
        let controllers = self.said.controllers();
        let until = sim.elapsed() + LIVENESS + self.queues_may_lag();
        let patience = sim.elapsed() + STRANDED_AFTER;
        let stays_slow = self.plan.focus.is_some_and(|focus| focus.stays_slow);
        let watched = sim.elapsed() + if stays_slow { CALM } else { Duration::ZERO };
        while sim.elapsed() < until {
            if !self.step(sim, false)? {
                continue;
            }
            let changes = self.said.controllers() - controllers;
            anyhow::ensure!(
                changes <= CONTROLLERS_MAX,
                "liveness: {changes} times somebody took over the metadata group after the faults"
            );
            let stranded = self.stranded();
            if !stranded.is_empty() && sim.elapsed() < patience {
                continue;
            }
            let mut wanted = keys().filter(|(.., key)| !stranded.contains(key));
            *is_drained = wanted.all(|(.., key)| self.stage.is_read(key));
            *is_drained &= self.queues_are_done();
            let is_over = *is_drained && sim.elapsed() >= watched;
            if is_over && self.stage.is_kept() && self.standing().what_is_missing().is_none() {
                if !stranded.is_empty() {
                    self.points
                        .reach("partition that only an operator can bring back");
                }
                stranded
                    .into_iter()
                    .for_each(|key| self.promise.strand(key));
                return self.compare_copies();
            }
        }
        let missing = self.standing().what_is_missing().unwrap_or_default();
        let mut waiting: Vec<String> = keys()
            .filter(|(.., key)| !self.stage.is_read(*key))
            .map(|(topic, partition, key)| {
                let name = TOPICS[topic].name;
                let what = if self.stage.written(key).is_some() {
                    "read"
                } else {
                    "written"
                };
                format!("{name}-{partition} is not {what}")
            })
            .collect();
        if !self.stage.is_kept() {
            waiting.push("clients of groups or of configs are not done".to_owned());
        }
        if !self.queues_are_done() {
            waiting.push(format!("queues wait for {}", self.book.waits_for()));
        }
        anyhow::bail!(
            "liveness: {LIVENESS:?} after the faults: {missing} {}{}",
            waiting.join(", "),
            self.standing().describe()
        )
    }

    /// Whether a voter has what nobody applied yet: who is in sync may be decided otherwise
    /// already, and be seen when the metadata group has a leader again.
    fn has_undecided(&self) -> bool {
        let insides = self.insides.lock();
        let voters = || insides.values().filter_map(|i| i.metadata.raft_progress());
        let applied = voters().map(|voter| voter.applied).max();
        voters().any(|voter| Some(voter.last) > applied)
    }

    /// Reads what every member of an ISR holds (C23).
    fn compare_copies(&mut self) -> Result<()> {
        let insides = self.insides.lock().clone();
        let mut broken = Vec::new();
        let mut compared = false;
        for (at, record) in keys().filter_map(|(topic, p, _)| self.record(topic, p)) {
            let mut copies = Vec::new();
            let members = insides.iter().filter(|(node, _)| record.isr.contains(node));
            for (node, inside) in members {
                let replicas = inside.broker.replicas();
                let replica = replicas.iter().find(|replica| replica.at() == at);
                let copy = replica.and_then(identity::Copy::read);
                copies.extend(copy.map(|copy| (*node, copy)));
            }
            compared |= copies.len() > 1;
            let parting = identity::differ(&copies);
            broken.extend(parting.map(|how| format!("C23: {at}: {how}")));
        }
        if compared {
            self.points.reach("copies of a log compared");
        }
        anyhow::ensure!(broken.is_empty(), "{}", broken.join("; "));
        Ok(())
    }
}
