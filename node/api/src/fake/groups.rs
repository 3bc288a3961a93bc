//! The real group machine over a journal in memory: what it decides is committed at once.
//!
//! There is no task: whoever waits for a reply also waits for the machine's next
//! deadline and ticks it, and every call ticks it first if a deadline has passed. A
//! group nobody asks about therefore stands still, and catches up when asked.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use weir_base::machine::{Decision, Machine, Token};
use weir_base::{BoxFuture, Offset, Timestamp};

use super::FakeBroker;
use crate::groups::{
    GroupCommand, GroupMachine, GroupOptions, GroupRecord, GroupReply, Groups, LiveGroups, MemberId,
};
use crate::{ClusterApi, Coordinator, GroupApi, GroupCallError};

/// Least pause between two ticks, should a deadline not move.
const TICK_PAUSE: Duration = Duration::from_millis(10);

type Out = Decision<GroupRecord, GroupReply>;

pub(super) struct FakeGroups {
    durable: Groups,
    live: LiveGroups,
    end: Offset,
    next_token: u64,
    waiting: BTreeMap<Token, oneshot::Sender<GroupReply>>,
}

impl Default for FakeGroups {
    fn default() -> Self {
        let options = GroupOptions {
            initial_rebalance_delay: Duration::ZERO,
            ..GroupOptions::default()
        };
        Self {
            durable: Groups::default(),
            live: LiveGroups::with_options(options),
            end: Offset::ZERO,
            next_token: 0,
            waiting: BTreeMap::new(),
        }
    }
}

impl FakeGroups {
    fn call(&mut self, now: Timestamp, command: GroupCommand) -> oneshot::Receiver<GroupReply> {
        self.tick(now);
        self.next_token += 1;
        let token = Token(self.next_token);
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(token, sender);
        let mut out = Out::default();
        GroupMachine::decide(&self.durable, &mut self.live, now, token, command, &mut out);
        self.settle(out);
        receiver
    }

    fn tick(&mut self, now: Timestamp) {
        if self.deadline().is_some_and(|at| at <= now) {
            let mut out = Out::default();
            GroupMachine::on_tick(&self.durable, &mut self.live, now, &mut out);
            self.settle(out);
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        GroupMachine::next_deadline(&self.durable, &self.live)
    }

    fn settle(&mut self, out: Out) {
        for record in &out.records {
            GroupMachine::apply(&mut self.durable, self.end, record);
            self.end = self.end + 1;
        }
        for (token, reply) in out.replies {
            if let Some(waiting) = self.waiting.remove(&token) {
                // The caller may have gone away meanwhile.
                let _gone = waiting.send(reply);
            }
        }
    }
}

impl GroupApi for FakeBroker {
    fn coordinator(&self, _group: &str) -> BoxFuture<'static, Result<Coordinator, GroupCallError>> {
        let node = self.coordinator_node();
        Box::pin(async move { Ok(Coordinator { node }) })
    }

    fn call(
        &self,
        command: GroupCommand,
    ) -> BoxFuture<'static, Result<GroupReply, GroupCallError>> {
        if self.coordinator_node() != self.node() {
            return Box::pin(async { Err(GroupCallError::NotCoordinator) });
        }
        let mut reply = self.state().groups.call(self.now(), command);
        // The call may have moved the deadline that others wait for.
        self.wake_readers();
        let broker = self.clone();
        Box::pin(async move {
            let mut changes = broker.0.changes.subscribe();
            loop {
                changes.mark_unchanged();
                let deadline = broker.state().groups.deadline();
                let wait = deadline.map_or(Duration::MAX, |at| {
                    let left = u64::try_from(at.0.saturating_sub(broker.now().0));
                    Duration::from_millis(left.unwrap_or(0)).max(TICK_PAUSE)
                });
                tokio::select! {
                    biased;
                    reply = &mut reply => {
                        return reply.map_err(|_| GroupCallError::Indeterminate);
                    }
                    changed = changes.changed() => drop(changed),
                    () = broker.0.env.sleep(wait) => {
                        let now = broker.now();
                        broker.state().groups.tick(now);
                    }
                }
            }
        })
    }

    fn new_producer_id(&self) -> BoxFuture<'static, Result<i64, GroupCallError>> {
        let mut state = self.state();
        let id = state.next_producer_id;
        state.next_producer_id += 1;
        Box::pin(async move { Ok(id) })
    }

    fn fresh_member_id(&self, client_id: &str) -> MemberId {
        format!("{client_id}-{}", self.0.entropy.uuid()).into()
    }
}
