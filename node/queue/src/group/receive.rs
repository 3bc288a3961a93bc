//! Receives: at once, after a wait, or again after a lost answer.

use std::sync::Arc;
use std::time::Duration;

use weir_base::machine::Token;
use weir_base::{Offset, Timestamp};

use super::{Lease, LiveGroup, LiveMessage, State, Waiting};
use crate::command::Receive;
use crate::error::QueueError;
use crate::ids::{KeyHash, MemberName};
use crate::receipt::Receipt;
use crate::record::{Ending, QueueRecord, StoredVersion};
use crate::reply::{Delivery, QueueReply};
use crate::settings::{INVISIBLE_MAX, INVISIBLE_MIN};
use crate::timers::Timer;
use crate::turn::Turn;

/// Of those who only watch, one is told for so many messages: who comes takes about as many,
/// and all of them would come for each.
const MESSAGES_A_WATCHER: usize = 32;
/// When the next are told, if nobody came.
const TOLD_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Checks the length of a lease.
pub(super) fn check_invisible(asked: Duration) -> Result<Duration, QueueError> {
    if (INVISIBLE_MIN..=INVISIBLE_MAX).contains(&asked) {
        return Ok(asked);
    }
    Err(QueueError::InvisibleDuration {
        asked,
        least: INVISIBLE_MIN,
        most: INVISIBLE_MAX,
    })
}

impl LiveGroup {
    /// Answers, or has the caller wait: whoever waits is served at the end of the turn.
    pub(crate) fn receive(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        receive: Receive,
    ) -> Result<(), QueueError> {
        let invisible = check_invisible(receive.invisible.unwrap_or(self.settings.invisible))?;
        let options = &turn.core.options;
        let batch_max = receive.batch_max.min(options.batch_max);
        let until = turn.now + options.bounded_wait(receive.wait);
        self.asked_at = turn.now;
        if let Some(id) = &receive.attempt_id {
            if let Some(again) = self.repeat(turn, id, invisible) {
                turn.reply(token, QueueReply::Receive(Ok(again)));
                return Ok(());
            }
            // The answer to the caller that waits under this id would not be heard.
            let same = |waiting: &Waiting| waiting.attempt_id.as_ref() == Some(id);
            self.answer_empty(turn, same);
        }
        if self.waiting.len() >= turn.core.options.waiting_max {
            return Err(QueueError::TooManyWaiting {
                max: turn.core.options.waiting_max,
            });
        }
        self.waiting.push_back(Waiting {
            armed: false,
            token,
            member: receive.member,
            until,
            batch_max,
            invisible,
            attempt_id: receive.attempt_id,
            auto_renew: receive.auto_renew,
        });
        Ok(())
    }

    /// What the id was given, as far as it is still in flight; its leases begin anew.
    fn repeat(
        &mut self,
        turn: &mut Turn<'_>,
        id: &Arc<str>,
        invisible: Duration,
    ) -> Option<Vec<Delivery>> {
        let offsets = self.repeats.get(id)?.clone();
        let again = offsets.into_iter();
        let again: Vec<Delivery> = again
            .filter_map(|offset| {
                self.extend(turn, offset, invisible);
                let lease = self.leases.get(&offset)?;
                Some(self.delivery(turn, offset, lease))
            })
            .collect();
        (!again.is_empty()).then_some(again)
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, turn: &mut Turn<'_>, offset: Offset, invisible: Duration) {
        if let Some(lease) = self.leases.get_mut(&offset) {
            let timer = Timer::Lease(self.number, offset);
            turn.core.timers.disarm(lease.until, timer);
            lease.invisible = invisible;
            lease.until = turn.now + invisible;
            turn.core.timers.arm(lease.until, timer);
        }
    }

    fn delivery(&self, turn: &Turn<'_>, offset: Offset, lease: &Lease) -> Delivery {
        let core = &turn.core;
        let receipt = Receipt::new(
            core.secret,
            core.partition,
            (core.reign, lease.number),
            (self.number, offset),
            lease.attempt,
        );
        Delivery {
            offset,
            attempt: lease.attempt,
            receipt,
            invisible_until: lease.until,
        }
    }

    /// Gives who waits what is ready, first come, first served.
    pub(super) fn serve(&mut self, turn: &mut Turn<'_>) {
        let in_flight_max = turn.core.options.in_flight_max;
        let concurrency = self.settings.pacing.concurrency.unwrap_or(u32::MAX);
        let in_flight_max = in_flight_max.min(usize::try_from(concurrency).unwrap_or(usize::MAX));
        let mut untold = Vec::new();
        let deliverable = self.ready.len().min(self.pace_room(turn));
        let mut tells = 1 + deliverable / MESSAGES_A_WATCHER;
        while let Some(first) = self.waiting.front() {
            let batch_max = first.batch_max;
            if batch_max == 0 && tells == 0 {
                untold.extend(self.waiting.pop_front());
                continue;
            }
            let mut given = Vec::new();
            while given.len() < batch_max
                && self.leases.len() < in_flight_max
                && self.pace_allows(turn.now)
                && let Some(offset) = self.next_ready(turn)
            {
                given.push(offset);
                self.pace(turn);
                self.deliver(turn, offset);
            }
            if self.settings.fifo {
                self.add_runs(turn, &mut given, batch_max, in_flight_max);
            }
            // Who only watches is told that there is something, and leaves it to others.
            let is_told = batch_max == 0
                && !self.ready.is_empty()
                && self.leases.len() < in_flight_max
                && self.pace_allows(turn.now);
            if given.is_empty() && !is_told {
                break;
            }
            let Some(waiting) = self.waiting.pop_front() else {
                break;
            };
            tells -= usize::from(is_told);
            if waiting.armed {
                let timer = Timer::Wait(self.number, waiting.token);
                turn.core.timers.disarm(waiting.until, timer);
            }
            if let Some(id) = waiting.attempt_id.filter(|_| !is_told) {
                self.repeats.insert(id, given.clone());
            }
            let leased = given.into_iter();
            let leased = leased.filter_map(|offset| Some((offset, self.leases.get(&offset)?)));
            let deliveries = leased
                .map(|(offset, lease)| self.delivery(turn, offset, lease))
                .collect();
            turn.reply(waiting.token, QueueReply::Receive(Ok(deliveries)));
        }
        if !untold.is_empty() && !self.ready.is_empty() {
            let timer = Timer::Pace(self.number);
            turn.core.timers.arm(turn.now + TOLD_AGAIN_AFTER, timer);
        }
        for waiting in untold.into_iter().rev() {
            self.waiting.push_front(waiting);
        }
        let newcomers = self.waiting.iter_mut().rev();
        for waiting in newcomers.take_while(|waiting| !waiting.armed) {
            let timer = Timer::Wait(self.number, waiting.token);
            turn.core.timers.arm(waiting.until, timer);
            waiting.armed = true;
        }
        if !self.waiting.is_empty() && !self.ready.is_empty() && !self.pace_allows(turn.now) {
            let at = self.pause(turn);
            turn.core.timers.arm(at, Timer::Pace(self.number));
        }
    }

    /// Goes on with the message groups of what was given, one message of each at a time, so
    /// that none has the batch for itself; in the order of the log.
    fn add_runs(
        &mut self,
        turn: &mut Turn<'_>,
        given: &mut Vec<Offset>,
        batch_max: usize,
        in_flight_max: usize,
    ) {
        let runs = given.iter().filter_map(|offset| self.begins_run(*offset));
        let mut runs: Vec<KeyHash> = runs.collect();
        while !runs.is_empty() {
            runs.retain(|key| {
                let next = (given.len() < batch_max
                    && self.leases.len() < in_flight_max
                    && self.pace_allows(turn.now))
                .then(|| self.next_of_run(*key))
                .flatten();
                if let Some(offset) = next {
                    given.push(offset);
                    self.pace(turn);
                    self.deliver(turn, offset);
                }
                next.is_some()
            });
        }
        given.sort_unstable();
    }

    /// The next message that may be delivered; older versions are final instead.
    fn next_ready(&mut self, turn: &mut Turn<'_>) -> Option<Offset> {
        while let Some(offset) = self.ready.pop_front() {
            let message = self.messages.get(&offset);
            let Some(message) = message.filter(|message| message.state == State::Ready) else {
                continue;
            };
            let (key, version) = (message.key, message.version);
            if message.ended >= self.settings.attempts_max {
                // The most allowed was lowered meanwhile.
                self.give_up_now(turn, offset);
            } else if let Some(due) = self.early(turn, offset, message) {
                self.retry_later(turn, offset, due);
                if !self.settings.fifo {
                    self.release(key);
                }
            } else if self.is_superseded(turn, key, version) {
                self.finish(turn, offset, Ending::Superseded);
            } else {
                return Some(offset);
            }
        }
        None
    }

    /// When a message may be delivered, if its time has not come: its turn may come early
    /// when it stood behind others of its message group.
    fn early(&self, turn: &Turn<'_>, offset: Offset, message: &LiveMessage) -> Option<Timestamp> {
        let attempts = (message.ended > 0)
            .then(|| turn.stored(self.number).attempts.get(&offset))
            .flatten();
        let due = attempts.map(|attempts| attempts.next_at);
        due.filter(|due| *due > turn.now)
    }

    /// Leases a message to the receive that is served.
    fn deliver(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        let (Some(waiting), Some(message)) = (self.waiting.front(), self.messages.get_mut(&offset))
        else {
            return;
        };
        message.state = State::InFlight;
        let (key, version) = (message.key, message.version);
        let until = turn.now + waiting.invisible;
        let lease = Lease {
            number: turn.core.next_lease(),
            attempt: message.ended.saturating_add(1),
            until,
            since: turn.now,
            invisible: waiting.invisible,
            auto_renew: waiting.auto_renew,
            member: waiting.member.clone(),
            attempt_id: waiting.attempt_id.clone(),
        };
        assert!(
            lease.attempt <= self.settings.attempts_max,
            "Q2: attempt {} of the message at {offset}",
            lease.attempt
        );
        let old = self.leases.insert(offset, lease);
        assert!(
            old.is_none(),
            "Q1: two receipts for the message at {offset}"
        );
        turn.core
            .timers
            .arm(until, Timer::Lease(self.number, offset));
        if self.settings.versioned
            && let (Some(key), Some(version)) = (key, version)
        {
            self.note_version(turn, key, version);
        }
    }

    /// Whether a newer version of the key was delivered.
    pub(super) fn is_superseded(
        &self,
        turn: &Turn<'_>,
        key: Option<KeyHash>,
        version: Option<u64>,
    ) -> bool {
        if !self.settings.versioned {
            return false;
        }
        let (Some(key), Some(version)) = (key, version) else {
            return false;
        };
        let fresh = self.fresh_versions.iter().filter(|(k, _)| *k == key);
        let fresh = fresh.map(|(_, version)| *version);
        let stored = turn.stored(self.number).versions.get(&key);
        let newest = fresh.chain(stored.map(|stored| stored.version)).max();
        newest.is_some_and(|newest| version < newest)
    }

    /// Records a version when it is delivered, not when it is settled: a successor that
    /// knew only of settled ones might deliver an older one after it.
    fn note_version(&mut self, turn: &mut Turn<'_>, key: KeyHash, version: u64) {
        let (group, stored) = (self.number, turn.stored(self.number));
        let known = stored.versions.get(&key);
        if known.is_some_and(|known| known.version == version) {
            return;
        }
        self.fresh_versions.push((key, version));
        if known.is_none()
            && stored.versions.len() >= turn.core.options.versions_max
            && let Some(oldest) = stored.oldest_version()
        {
            turn.record(QueueRecord::Version {
                group,
                key: oldest,
                value: None,
            });
        }
        let at = turn.now;
        turn.record(QueueRecord::Version {
            group,
            key,
            value: Some(StoredVersion { version, at }),
        });
    }

    /// Answers waiting receives that are of this kind.
    fn answer_empty(&mut self, turn: &mut Turn<'_>, which: impl Fn(&Waiting) -> bool) {
        let number = self.number;
        self.waiting.retain(|waiting| {
            let answered = which(waiting);
            if answered {
                let timer = Timer::Wait(number, waiting.token);
                turn.core.timers.disarm(waiting.until, timer);
                turn.reply(waiting.token, QueueReply::Receive(Ok(Vec::new())));
            }
            !answered
        });
    }

    /// A receive has waited long enough.
    pub(crate) fn on_wait_over(&mut self, turn: &mut Turn<'_>, token: Token) {
        // What is ready now is given rather than withheld.
        self.serve(turn);
        self.answer_empty(turn, |waiting| waiting.token == token);
    }

    /// Nobody of the member waits any more.
    pub(super) fn stop_waiting(&mut self, turn: &mut Turn<'_>, member: &MemberName) {
        self.answer_empty(turn, |waiting| waiting.member == *member);
    }

    /// Answers everybody, since the group is gone.
    pub(super) fn answer_gone(&mut self, turn: &mut Turn<'_>) {
        for waiting in std::mem::take(&mut self.waiting) {
            let timer = Timer::Wait(self.number, waiting.token);
            turn.core.timers.disarm(waiting.until, timer);
            let gone = QueueError::NoSuchGroup(self.name.clone());
            turn.reply(waiting.token, QueueReply::Receive(Err(gone)));
        }
    }

    /// A subscriber that nobody asked for any more.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        let expiry = self.settings.expiry();
        let idle = self.waiting.is_empty() && self.leases.is_empty();
        idle && expiry.is_some_and(|after| self.asked_at + after <= now)
    }

    /// When it may have expired.
    pub(crate) fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let after = self.settings.expiry()?;
        // While leases or receives are live it is looked at again a whole span later.
        let at = self.asked_at + after;
        Some(if at > now { at } else { now + after })
    }
}
