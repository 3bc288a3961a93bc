//! Queues of a run: when they are done, and what is judged of them.

use std::time::Duration;

use weir_base::companion;

use super::Run;
use crate::nemesis::{ClockFault, Fault};
use crate::oracle::queues::judge;
use crate::workload::workers::QUEUES;

/// A step of the network and the milliseconds that are rounded away.
const SLACK: i64 = 10;
/// How far two wall clocks may be apart that were set wrong.
const JUMP: i64 = 2 * 60_000;
/// The same for clocks that run fast or slow, through a whole run.
const DRIFT: i64 = 2 * 8_000;

impl Run<'_> {
    /// By how much the clocks of two leaders may differ, in milliseconds.
    fn clocks_differ(&self) -> i64 {
        let mut slack = SLACK;
        let has = |wanted: fn(&ClockFault) -> bool| {
            let mut events = self.plan.events.iter();
            events.any(|(_, event)| matches!(&event.fault, Fault::Clock(fault) if wanted(fault)))
        };
        if has(|fault| matches!(fault, ClockFault::Wall { .. })) {
            slack += JUMP;
        }
        if has(|fault| matches!(fault, ClockFault::Drift { .. })) {
            slack += DRIFT;
        }
        slack
    }

    /// How much longer queues may take than all else: what one leader put off by its clock
    /// comes when that of the next has got there.
    pub(super) fn queues_may_lag(&self) -> Duration {
        if !self.plan.has_queues {
            return Duration::ZERO;
        }
        Duration::from_millis(self.clocks_differ().unsigned_abs())
    }

    /// Whether nothing is pending any more, or nothing can be asked of them.
    pub(super) fn queues_are_done(&self) -> bool {
        !self.plan.has_queues || self.book.is_closed() || self.queues_are_stranded()
    }

    /// Whether only an operator can bring back what some queue needs.
    fn queues_are_stranded(&self) -> bool {
        let image = &self.seen.newest;
        let is_ours = |name: &str| {
            QUEUES
                .iter()
                .any(|queue| [queue.topic, queue.letters].contains(&name))
        };
        let mut partitions = image.partitions();
        partitions.any(|(at, record)| {
            let Some(name) = image.topic_names.get(&at.topic) else {
                return false;
            };
            (is_ours(name) || companion::parent_of(name).is_some())
                && self.standing().is_stranded(at, record)
        })
    }

    /// What the clients of queues saw that must not be.
    pub(super) fn judge_queues(&mut self) -> Vec<String> {
        if !self.plan.has_queues || self.queues_are_stranded() {
            return Vec::new();
        }
        let judgement = judge(&self.book, self.clocks_differ());
        for point in judgement.points {
            self.points.reach(point);
        }
        judgement.violations
    }
}
