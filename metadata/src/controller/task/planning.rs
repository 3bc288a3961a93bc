//! From what came in, and from what time brings, to items on a draft.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weir_base::image::{ClusterImage, NodeRecord, NodeState};
use weir_base::{Monotonic, NodeEpoch, NodeId};

use super::draft::Draft;
use super::{BATCH_MAX, Clock, Controller, Mail, Pending, REBALANCE_MAX};
use crate::ask::{Answer, Ask, LogEnd};
use crate::command::{Command, Item, Outcome, Refusal};
use crate::controller::plan::plan;
use crate::controller::slow::SlowLimits;
use crate::controller::{companion, elect, fence, reassign};

impl Controller {
    /// Plans a request and all that wait behind it.
    pub(super) fn plan_mail(&self, first: Mail, rx: &mut mpsc::Receiver<Mail>) -> Vec<Pending> {
        let mut draft = Draft::new(&self.store.image());
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(mail) = next.take() {
            self.plan_one(&mut draft, mail);
            taken += 1;
            if taken < BATCH_MAX {
                next = rx.try_recv().ok();
            }
        }
        draft.items
    }

    fn plan_one(&self, draft: &mut Draft, mail: Mail) {
        match mail {
            Mail::Ask(ask, reply) => self.plan_ask(draft, &ask, reply),
            Mail::Gone(node, epoch) => {
                let is_same = |n: &NodeRecord| n.epoch == epoch;
                if draft.image.nodes.get(&node).is_some_and(is_same) {
                    self.plan_fence(draft, node);
                }
            }
            Mail::Look => self.plan_unfence(draft),
        }
    }

    fn plan_ask(&self, draft: &mut Draft, ask: &Ask, reply: oneshot::Sender<Answer>) {
        if let Some(why) = self.not_yet(draft, ask) {
            // The asker may be gone.
            drop(reply.send(Answer::NotYet(why)));
            return;
        }
        let answer = match plan(&draft.image, ask, self.entropy.uuid()) {
            Err(refusal) => {
                if let Refusal::LastCopy { at, node } = &refusal {
                    tracing::error!(partition = %at, %node, "ALARM: the last copy is bad: {refusal}");
                }
                Answer::Refused(refusal)
            }
            Ok(item) if item.is_empty() => {
                if let Ask::LogEnds { node, epoch, ends } = ask {
                    self.plan_inspected(draft, *node, *epoch, ends);
                }
                self.seen(Outcome::Done)
            }
            Ok(item) if is_validation(ask) => match Draft::new(&draft.image).add(item, None) {
                Ok(outcome) => self.seen(outcome),
                Err(refusal) => Answer::Refused(refusal),
            },
            Ok(mut item) => {
                if !matches!(ask, Ask::ElectPreferred(_)) {
                    self.spare_hindered(&draft.image, &mut item);
                }
                if let Ask::Leave { node, epoch } = ask
                    && let Some(office) = self.office().as_mut()
                {
                    office.left.insert((*node, *epoch));
                    office.sessions.forget(*node);
                }
                if let Ask::Resign { at, node, what, .. } = ask {
                    tracing::warn!(partition = %at, %node, ?what, "resigned");
                }
                let (Ask::AlterPartition(_) | Ask::Reassign { .. }) = ask else {
                    draft.add_or_answer(item, reply);
                    return;
                };
                let at = match &item[..] {
                    [Command::AlterPartition(proposal)] => Some(proposal.at),
                    [Command::StartReassignment { at, .. }] => Some(*at),
                    _ => None,
                };
                draft.add_or_answer(item, reply);
                // What just caught up may end a move.
                let next = at.map(|at| reassign::plan_progress(&draft.image, at));
                draft.add_own(next.unwrap_or_default());
                return;
            }
        };
        // The asker may be gone.
        drop(reply.send(answer));
    }

    /// Takes note of where a node's logs end, and elects where that was the last word.
    fn plan_inspected(&self, draft: &mut Draft, node: NodeId, epoch: NodeEpoch, ends: &[LogEnd]) {
        let mut office = self.office();
        let Some(office) = office.as_mut() else {
            return;
        };
        for told in ends {
            office.log_ends.tell(node, epoch, *told);
            let item = office.log_ends.plan(&draft.image, told.at);
            if let Some(Command::ChangePartition(change)) = item.first() {
                tracing::warn!(partition = %told.at, leader = ?change.leader, "the longest of suspects leads");
            }
            draft.add_own(item);
        }
        office.log_ends.prune(&draft.image);
    }

    /// While the cluster forms, "as many replicas as there are nodes" would be one: a
    /// topic that does not say waits for every voter's first registration.
    fn not_yet(&self, draft: &Draft, ask: &Ask) -> Option<String> {
        let Ask::CreateTopic { topic, .. } = ask else {
            return None;
        };
        if topic.replication_factor.is_some() || topic.assignment.is_some() {
            return None;
        }
        let known = &draft.image.nodes;
        let missing = self
            .group
            .voters()
            .iter()
            .find(|v| !known.contains_key(v))?;
        Some(format!("voter {missing} has not registered yet"))
    }

    fn plan_fence(&self, draft: &mut Draft, node: NodeId) {
        if let Some(office) = self.office().as_mut() {
            office.sessions.forget(node);
            let record = draft.image.nodes.get(&node);
            office.fencing.extend(record.map(|n| (n.id, n.epoch)));
        }
        let mut item = fence::plan_fence(&draft.image, node);
        self.spare_hindered(&draft.image, &mut item);
        draft.add_own(item);
    }

    /// Lets in every fenced node that lives and has applied its own registration.
    fn plan_unfence(&self, draft: &mut Draft) {
        let now = self.env.clock.now();
        let ready: Vec<NodeId> = match self.office().as_ref() {
            None => return,
            Some(office) => draft
                .image
                .nodes
                .values()
                .filter(|n| !n.is_active() && !office.left.contains(&(n.id, n.epoch)))
                .filter(|n| {
                    let limit = self.options.session;
                    let own = n.epoch.0;
                    office.sessions.is_caught_up(now, n.id, n.epoch, own, limit)
                })
                .map(|n| n.id)
                .collect(),
        };
        for node in ready {
            if let Some(office) = self.office().as_mut() {
                office.fencing.retain(|(fenced, _)| *fenced != node);
            }
            let item = fence::plan_unfence(&draft.image, node);
            draft.add_own(item);
        }
    }

    /// What time brings: silence, stragglers, the peace-time duties.
    pub(super) fn plan_tick(self: &Arc<Self>, clock: &mut Clock) -> Vec<Pending> {
        let now = self.env.clock.now();
        clock.tick = now + self.options.heartbeat / 2;
        let image = self.store.image();
        let mut draft = Draft::new(&image);
        if image.cluster_id.is_none() {
            let cluster_id = self.entropy.uuid();
            draft.add_own(vec![Command::FormCluster { cluster_id }]);
        }
        self.judge_disks(now, &image);
        for node in image.nodes.values().filter(|n| n.is_active()) {
            let silence = match self.office().as_ref() {
                Some(office) => office.sessions.silence(now, node.id, node.epoch),
                None => Duration::ZERO,
            };
            if silence >= self.options.session {
                tracing::info!(node = %node.id, ?silence, "fenced for silence");
                self.plan_fence(&mut draft, node.id);
            } else if silence >= self.options.heartbeat * 2 {
                self.suspect(node.id, node.epoch, None);
            }
            if node.state == NodeState::Draining {
                let mut item = fence::plan_drain(&draft.image, node.id);
                self.spare_hindered(&draft.image, &mut item);
                draft.add_own(item);
            }
            if self.is_slow(node.id) && !weir_base::mutant!(L4) {
                // Its heartbeats are fine, its disk is not (S-47): it may follow.
                let mut item = elect::plan_hand_over(&draft.image, node.id, REBALANCE_MAX);
                self.spare_hindered(&draft.image, &mut item);
                self.keep_from_hindered(&draft.image, &mut item);
                draft.add_own(item);
            }
        }
        self.plan_unfence(&mut draft);
        if now >= clock.rebalance {
            clock.rebalance = now + self.options.rebalance;
            self.plan_peace(&mut draft);
        }
        if now >= clock.no_op && draft.items.is_empty() {
            draft.items.push((Item::new(), None));
        }
        draft.items
    }

    /// Moves that could end, preferred leaders that could lead.
    fn plan_peace(&self, draft: &mut Draft) {
        let moving: Vec<Command> = draft
            .image
            .partitions()
            .flat_map(|(at, _)| reassign::plan_progress(&draft.image, at))
            .collect();
        for command in moving {
            draft.add_own(vec![command]);
        }
        for plan in [elect::plan_rebalance, companion::plan_align_all] {
            let mut item = plan(&draft.image, REBALANCE_MAX);
            self.keep_from_hindered(&draft.image, &mut item);
            draft.add_own(item);
        }
    }

    /// Takes what the living nodes told of their disks.
    fn judge_disks(&self, now: Monotonic, image: &ClusterImage) {
        let mut office = self.office();
        let Some(office) = office.as_mut() else {
            return;
        };
        let active = image.nodes.values().filter(|node| node.is_active());
        let reports = active.filter_map(|node| {
            let limit = self.options.session;
            let facts = office.sessions.disk(now, node.id, node.epoch, limit)?;
            Some((node.id, facts))
        });
        let (reports, limits) = (reports.collect(), SlowLimits::from(&self.options));
        for (node, is_slow) in office.slow.on_reports(now, &reports, &limits) {
            let p99 = reports.get(&node).and_then(|facts| facts.fsync_p99);
            if is_slow {
                tracing::warn!(%node, ?p99, "disk far slower than the others': leads nothing");
            } else {
                tracing::info!(%node, ?p99, "disk is no longer slow");
            }
        }
    }

    fn is_slow(&self, node: NodeId) -> bool {
        let office = self.office();
        office
            .as_ref()
            .is_some_and(|office| office.slow.is_slow(node))
    }

    /// Nodes that could lead and would serve badly: their disk is far slower than the
    /// others', or they still read their journals.
    fn hindered(&self, image: &ClusterImage) -> BTreeSet<NodeId> {
        let (now, limit) = (self.env.clock.now(), self.options.session);
        let office = self.office();
        let Some(office) = office.as_ref() else {
            return BTreeSet::new();
        };
        let is_hindered = |node: &&NodeRecord| {
            let told = office.sessions.disk(now, node.id, node.epoch, limit);
            office.slow.is_slow(node.id) || told.is_some_and(|facts| facts.reads_journals)
        };
        let hindered = image.nodes.values().filter(is_hindered);
        hindered.map(|node| node.id).collect()
    }

    /// Elects others where there are any: a leader is needed now.
    fn spare_hindered(&self, image: &ClusterImage, item: &mut Item) {
        elect::spare(image, item, &self.hindered(image));
    }

    /// Leaves out what would make a hindered node lead: what moves in peace can wait.
    fn keep_from_hindered(&self, image: &ClusterImage, item: &mut Item) {
        let hindered = self.hindered(image);
        item.retain(|command| !leader_in(command).is_some_and(|node| hindered.contains(&node)));
    }
}

/// Whom a command makes the leader of a partition.
fn leader_in(command: &Command) -> Option<NodeId> {
    let Command::ChangePartition(change) = command else {
        return None;
    };
    change.leader
}

fn is_validation(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::CreateTopic {
            validate_only: true,
            ..
        } | Ask::CreatePartitions {
            validate_only: true,
            ..
        } | Ask::AlterConfigs {
            validate_only: true,
            ..
        }
    )
}
