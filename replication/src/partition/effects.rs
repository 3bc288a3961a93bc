//! Carrying out what the core wants.

use std::sync::Arc;

use weir_base::batch::BatchBuilder;
use weir_base::{LeaderEpoch, Offset, RecordBatch};
use weir_storage::LogError;

use super::{Deferred, Partition, SPACE_PAUSE};
use crate::agreement::{IsrChange, IsrRefusal, ReplicaEvent};
use crate::core::effect::{Effect, IsrProposal};
use crate::error::AppendError;

impl Partition {
    /// Carries effects out in order, and those that they bring about after them.
    pub(super) async fn carry_out(&mut self) {
        while let Some(effect) = self.effects.pop_front() {
            if let Err(error) = self.effect(effect).await {
                tracing::error!(partition = %self.at, %error, "log refused what the protocol needs");
                self.fail(&error);
            }
        }
        self.follow_only(self.core.leader_followed());
    }

    async fn effect(&mut self, effect: Effect) -> Result<(), LogError> {
        match effect {
            Effect::AppendBarrier(epoch) => {
                // Deferred once, it may have become needless.
                let is_due = self.log.position().last_epoch < epoch;
                if is_due && self.core.leads() == Some(epoch) {
                    let flush = self.core.durability().flush;
                    let barrier = barrier(self, epoch);
                    let appended = self.append(vec![barrier], flush).await.map(drop);
                    self.or_defer(appended, Effect::AppendBarrier(epoch))?;
                }
            }
            Effect::AdvanceHighWatermark(_) => {
                // Before anybody is told, not when the work in hand is done, which may wait for
                // the disk: who is acknowledged finds it here.
                self.publish();
                self.release();
                self.offer(None);
            }
            Effect::ProposeIsr(proposal) => self.propose(proposal),
            Effect::Stream { to, session, from } => {
                if let Some(outlet) = self.outlets.get(&to) {
                    let outlet = Arc::clone(outlet);
                    let source = (Arc::clone(&self.log), Arc::clone(&self.inbox));
                    let epoch = self.core.leader_epoch();
                    outlet.start(self.at, epoch, session, from, self.standing(), source);
                    if let Some((old, before)) = self.followers.insert(to, (session, outlet)) {
                        before.stop(self.at, old);
                    }
                }
            }
            Effect::Answer {
                to,
                session,
                leader_epoch,
                answer,
            } => {
                if let Some(outlet) = self.outlets.get(&to) {
                    outlet.answer(self.at, leader_epoch, session, answer);
                }
            }
            Effect::Open { to, open } => {
                self.follow_only(Some(to));
                self.node
                    .uplink(to, self.at)
                    .open(&self.node, self.at, open, &self.inbox);
            }
            Effect::Progress { to, progress } => {
                self.node.uplink(to, self.at).progress(self.at, progress);
            }
            Effect::TruncateTo { to, acknowledged } => {
                if acknowledged > 0 {
                    self.tell_cut(to, acknowledged).await;
                }
                tracing::info!(partition = %self.at, %to, end = %self.core.position().end, "log cut to match its leader's");
                let cut = self.log.truncate_to(to).await;
                let again = Effect::TruncateTo {
                    to,
                    acknowledged: 0, // told already
                };
                if self.or_defer(cut, again)? {
                    self.reposition();
                }
            }
            Effect::ResetTo(at) => {
                tracing::info!(partition = %self.at, %at, "log begins anew where its leader's does");
                let reset = self.log.reset_to(at).await;
                if self.or_defer(reset, Effect::ResetTo(at))? {
                    self.reposition();
                }
            }
            Effect::SetStart(at) => {
                match self.log.set_start(at).await {
                    // The leader's next frame says it again.
                    Err(LogError::DiskFull) => {}
                    raised => raised?,
                }
                self.reposition();
            }
            Effect::LeadershipLost => {
                let error = AppendError::LeadershipLost(self.known_leader());
                self.replicated.fail(&error);
                self.flushed.fail(&error);
                self.stop_serving();
            }
            Effect::BelowMinIsr { isr, min_isr } => {
                self.replicated
                    .fail(&AppendError::NotEnoughReplicasAfterAppend { isr, min_isr });
            }
            Effect::LeadershipRefused(epoch) => {
                tracing::warn!(partition = %self.at, %epoch, "elected in an epoch that was led before");
                self.node
                    .agreement
                    .on_event(ReplicaEvent::LeadershipRefused { at: self.at, epoch });
            }
        }
        Ok(())
    }

    /// Puts an effect off for which the log had no space, and says whether it is done.
    /// Space comes back; a replica that gave up would be missed by nobody but its clients.
    fn or_defer(&mut self, result: Result<(), LogError>, effect: Effect) -> Result<bool, LogError> {
        let Err(LogError::DiskFull) = result else {
            return result.map(|()| true);
        };
        tracing::warn!(partition = %self.at, ?effect, "no space left for what the protocol needs");
        self.deferred = Some(Deferred {
            effect,
            epoch: self.core.leader_epoch(),
            at: self.now() + SPACE_PAUSE,
        });
        Ok(false)
    }

    /// Tries what was put off again, if it is time and still the same epoch.
    pub(super) async fn retry_deferred(&mut self) {
        let now = self.now();
        let Some(deferred) = self.deferred.take_if(|deferred| deferred.at <= now) else {
            return;
        };
        if deferred.epoch == self.core.leader_epoch() && !self.core.is_failed() {
            self.effects.push_back(deferred.effect);
            self.carry_out().await;
        }
    }

    /// What may have been acknowledged and is about to be cut is never silently lost.
    async fn tell_cut(&mut self, from: Offset, offsets: u64) {
        self.node.count_cut(offsets);
        let bytes_max = self.node.options.core.unreplicated_bytes_max;
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let end = self.core.position().end;
        let read = self.log.read(from, end, bytes_max).await;
        let batches = match read {
            Ok(chunk) => chunk.chunks,
            Err(error) => {
                tracing::warn!(partition = %self.at, %error, "what is cut cannot be saved");
                vec![]
            }
        };
        self.node.agreement.on_event(ReplicaEvent::AcknowledgedCut {
            at: self.at,
            from,
            offsets,
            batches,
        });
    }

    /// Tells the core where the log stands now; its effects join the queue.
    fn reposition(&mut self) {
        let mut effects = vec![];
        let now = self.now();
        self.core
            .on_position(now, self.log.position(), &mut effects);
        self.effects.extend(effects);
    }

    /// The log could not do what the protocol needs: without it this replica can be
    /// neither leader nor follower.
    fn fail(&mut self, error: &LogError) {
        let mut effects = vec![];
        if !self.core.is_failed() {
            self.core.on_failed(&mut effects);
            self.node.agreement.on_event(ReplicaEvent::Failed {
                at: self.at,
                error: error.clone(),
            });
        }
        self.effects.extend(effects);
    }

    fn propose(&self, proposal: IsrProposal) {
        let epoch = proposal.partition_epoch;
        let change = IsrChange {
            at: self.at,
            leader: self.node.me,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr,
            durability: proposal.durability,
        };
        let (node, inbox) = (Arc::clone(&self.node), Arc::clone(&self.inbox));
        let answer = node.agreement.propose(change);
        self.node
            .env
            .tasks
            .spawn("replication ISR proposal", async move {
                let deadline = node.options.proposal_deadline;
                let answer = node.env.timeout(deadline, answer).await;
                let late = || Err(IsrRefusal::Unanswered(format!("within {deadline:?}")));
                inbox.isr_answer(epoch, answer.unwrap_or_else(late));
            });
    }

    /// Leaves the link of a former leader.
    fn follow_only(&mut self, leader: Option<weir_base::NodeId>) {
        if self.followed != leader {
            if let Some(before) = self.followed {
                self.node
                    .uplink(before, self.at)
                    .leave(self.at, &self.inbox);
            }
            self.followed = leader;
        }
    }
}

/// The control batch that starts an epoch: key version 0, type 100 ("epoch barrier",
/// outside the types that clients know), so that the epoch shows in every log even if
/// nothing is ever produced in it.
fn barrier(partition: &Partition, epoch: LeaderEpoch) -> RecordBatch {
    let mut key = 0i16.to_be_bytes().to_vec();
    key.extend_from_slice(&BARRIER_TYPE.to_be_bytes());
    BatchBuilder::new(partition.node.env.clock.wall())
        .control()
        .record(Some(&key), Some(&epoch.to_wire().to_be_bytes()))
        .build()
}

/// The barrier's control record type.
const BARRIER_TYPE: i16 = 100;
