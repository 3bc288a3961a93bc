//! How deliveries end: settled, returned, given up, or left behind.

use std::sync::Arc;
use std::time::Duration;

use weir_base::{Offset, Timestamp};

use super::receive::check_invisible;
use super::{Lease, LiveGroup, State};
use crate::command::EndCause;
use crate::error::{QueueError, ReceiptError};
use crate::ids::{MemberName, sip_hash};
use crate::receipt::Receipt;
use crate::record::{
    AttemptEnd, DeadLetter, Destination, Ending, OutgoingMessage, QueueRecord, StoredAttempts,
};
use crate::reply::Returned;
use crate::settings::{ATTEMPTS_MAX, BACKOFF_MAX, Backoff, Target};
use crate::timers::Timer;
use crate::turn::Turn;

/// Ends of attempts that are remembered.
const HISTORY_MAX: usize = 16;
/// Bytes of a consumer's note that are remembered.
const NOTE_BYTES_MAX: usize = 256;
/// At most what a dead letter says of itself beside the message: its headers.
const DEAD_LETTER_BYTES: u32 = 2_048;

impl LiveGroup {
    /// Whether the receipt is for a live delivery of this group.
    fn check(&self, turn: &Turn<'_>, receipt: &Receipt) -> Result<(), ReceiptError> {
        if !receipt.is_sealed_by(turn.core.secret, turn.core.partition) {
            return Err(ReceiptError::Forged);
        }
        if receipt.group != self.number {
            return Err(ReceiptError::OtherGroup);
        }
        let lease = self.leases.get(&receipt.offset);
        let live = lease.is_some_and(|lease| {
            (lease.number == receipt.lease && turn.core.reign == receipt.reign)
                || weir_base::mutant!(OldReceipts)
        });
        if live {
            return Ok(());
        }
        Err(ReceiptError::Expired {
            offset: receipt.offset,
            attempt: receipt.attempt,
        })
    }

    /// Settles deliveries for good.
    pub(crate) fn ack(
        &mut self,
        turn: &mut Turn<'_>,
        receipts: &[Receipt],
        ending: Ending,
    ) -> Vec<Result<(), ReceiptError>> {
        let settle = |receipt: &Receipt| {
            self.check(turn, receipt)?;
            self.finish(turn, receipt.offset, ending);
            Ok(())
        };
        receipts.iter().map(settle).collect()
    }

    /// Returns a delivery.
    pub(crate) fn nack(
        &mut self,
        turn: &mut Turn<'_>,
        receipt: &Receipt,
        delay: Option<Duration>,
        cause: EndCause,
        note: Option<Arc<str>>,
    ) -> Result<Returned, QueueError> {
        self.check(turn, receipt)?;
        if let Some(asked) = delay.filter(|delay| *delay > BACKOFF_MAX) {
            let most = BACKOFF_MAX;
            return Err(QueueError::RetryDelay { asked, most });
        }
        Ok(self.end_attempt(turn, receipt.offset, delay, cause, note))
    }

    /// Extends a lease.
    pub(crate) fn renew(
        &mut self,
        turn: &mut Turn<'_>,
        receipt: &Receipt,
        invisible: Duration,
    ) -> Result<Timestamp, QueueError> {
        self.check(turn, receipt)?;
        self.extend(turn, receipt.offset, check_invisible(invisible)?);
        let lease = self.leases.get(&receipt.offset);
        Ok(lease.map_or(turn.now, |lease| lease.until))
    }

    /// Gives a message up, which its consumer tried `told` times.
    pub(crate) fn give_up(
        &mut self,
        turn: &mut Turn<'_>,
        receipt: &Receipt,
        told: u16,
        note: Option<Arc<str>>,
    ) -> Result<(), QueueError> {
        self.check(turn, receipt)?;
        let mut attempts = self.attempts(turn, receipt.offset, EndCause::Rejected, note);
        attempts.ended = attempts.ended.max(told.min(ATTEMPTS_MAX));
        self.dead_letter(turn, receipt.offset, attempts);
        Ok(())
    }

    /// Moves a message to another partition.
    pub(crate) fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        receipt: &Receipt,
        target: Target,
    ) -> Result<(), QueueError> {
        target.validate()?;
        self.check(turn, receipt)?;
        let offset = receipt.offset;
        let message = OutgoingMessage::Forwarded { offset };
        let bytes = self.bytes_of(offset);
        turn.depart(Destination::There(target), message, bytes);
        self.finish(turn, offset, Ending::Forwarded);
        Ok(())
    }

    /// A lease ran out, unless the broker renews it.
    pub(crate) fn on_lease_over(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        let Some(lease) = self.leases.get(&offset).filter(|l| l.until <= turn.now) else {
            return;
        };
        if lease.auto_renew && turn.now < lease.since + turn.core.options.auto_renew_max {
            let invisible = lease.invisible;
            self.extend(turn, offset, invisible);
        } else {
            // RocketMQ's ladder is for what was returned; here the lease was the pause.
            let on_ladder = matches!(self.settings.backoff, Backoff::Ladder);
            let delay = on_ladder.then_some(Duration::ZERO);
            self.abandon(turn, offset, delay, EndCause::LeaseTimeout);
        }
    }

    /// A member is gone.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, member: &MemberName) {
        self.stop_waiting(turn, member);
        let held = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.member == *member);
        let held: Vec<Offset> = held.map(|(offset, _)| *offset).collect();
        self.abandon_all(turn, held);
    }

    /// Deliveries, in order, are taken from who has them.
    pub(super) fn abandon_all(&mut self, turn: &mut Turn<'_>, held: Vec<Offset>) {
        for offset in held {
            // What was behind another in its run was called back with it.
            if self.leases.contains_key(&offset) {
                self.abandon(turn, offset, None, EndCause::Disconnected);
            }
        }
    }

    /// Nobody says anything about a delivery: an attempt, unless it was not its turn yet.
    fn abandon(
        &mut self,
        turn: &mut Turn<'_>,
        offset: Offset,
        delay: Option<Duration>,
        cause: EndCause,
    ) {
        if weir_base::mutant!(FollowersPay) || !self.step_back(turn, offset) {
            self.end_attempt(turn, offset, delay, cause, None);
        }
    }

    /// A message's time has come again.
    pub(crate) fn on_retry_due(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        let stored = turn.stored(self.number).attempts.get(&offset);
        let due = stored.is_none_or(|attempts| attempts.next_at <= turn.now);
        let message = self.messages.get_mut(&offset);
        let Some(message) = message.filter(|m| m.state == State::Retrying && due) else {
            return;
        };
        self.held -= 1;
        self.retrying -= 1;
        if self.settings.fifo && message.key.is_some() {
            // It kept its place in front of its message group.
            message.state = State::Ready;
            self.ready.push_back(offset);
        } else {
            self.route(offset);
        }
    }

    /// A delivery ended without success: the message comes again, or never.
    fn end_attempt(
        &mut self,
        turn: &mut Turn<'_>,
        offset: Offset,
        delay: Option<Duration>,
        cause: EndCause,
        note: Option<Arc<str>>,
    ) -> Returned {
        self.call_back_behind(turn, offset);
        let mut attempts = self.attempts(turn, offset, cause, note);
        if weir_base::mutant!(TimeoutsAreFree) && cause == EndCause::LeaseTimeout {
            attempts.ended -= 1;
        }
        if attempts.ended >= self.settings.attempts_max {
            self.dead_letter(turn, offset, attempts);
            return Returned::DeadLettered;
        }
        let salt = sip_hash(turn.core.secret, &offset.0.to_le_bytes());
        let pause = delay.unwrap_or_else(|| self.settings.backoff.pause(attempts.ended, salt));
        let next_at = turn.now + pause;
        attempts.next_at = next_at;
        self.remove_lease(turn, offset);
        if let Some(message) = self.messages.get_mut(&offset) {
            message.ended = attempts.ended;
            let key = message.key;
            // Behind others of its run it waits for them first, then for its time.
            if !self.step_back(turn, offset) {
                self.retry_later(turn, offset, next_at);
                if !self.settings.fifo {
                    self.release(key);
                } else if weir_base::mutant!(RetryLetsFollowersPass) {
                    self.leave_line(offset, key);
                }
            }
        }
        turn.record(QueueRecord::Attempts {
            group: self.number,
            offset,
            value: Some(attempts),
        });
        Returned::Retry(next_at)
    }

    /// All ended attempts of a message, one more now.
    fn attempts(
        &self,
        turn: &Turn<'_>,
        offset: Offset,
        cause: EndCause,
        note: Option<Arc<str>>,
    ) -> StoredAttempts {
        let stored = turn.stored(self.number).attempts.get(&offset);
        let mut attempts = stored.cloned().unwrap_or_else(|| StoredAttempts {
            ended: 0,
            next_at: turn.now,
            first_at: turn.now,
            history: Vec::new(),
            note: None,
        });
        attempts.ended = attempts.ended.saturating_add(1);
        if attempts.history.len() == HISTORY_MAX {
            attempts.history.remove(0);
        }
        attempts.history.push(AttemptEnd {
            at: turn.now,
            cause,
        });
        if let Some(note) = note {
            let cut = note.floor_char_boundary(NOTE_BYTES_MAX);
            attempts.note = Some(note.get(..cut).unwrap_or_default().into());
        }
        attempts
    }

    fn bytes_of(&self, offset: Offset) -> u32 {
        let message = self.messages.get(&offset);
        message.map_or(0, |message| message.bytes)
    }

    /// A message that failed as often as it may is a dead letter.
    pub(super) fn give_up_now(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        let stored = turn.stored(self.number).attempts.get(&offset).cloned();
        if let Some(attempts) = stored {
            self.dead_letter(turn, offset, attempts);
        }
    }

    /// Moves a message to the dead letters: one batch of records has the copy that departs and
    /// the removal, so it is in exactly one place whatever fails (Q2).
    fn dead_letter(&mut self, turn: &mut Turn<'_>, offset: Offset, attempts: StoredAttempts) {
        let target = self.settings.dead_letter.clone();
        let target = target.unwrap_or_else(|| default_dead_letter(&self.name));
        let facts = DeadLetter {
            group: self.name.clone(),
            attempts,
        };
        if !weir_base::mutant!(DeadLettersVanish) {
            let message = OutgoingMessage::DeadLetter { offset, facts };
            let bytes = self.bytes_of(offset) + DEAD_LETTER_BYTES;
            turn.depart(Destination::There(target), message, bytes);
        }
        self.finish(turn, offset, Ending::DeadLettered);
    }

    /// Ends the life of a message in the group.
    pub(super) fn finish(&mut self, turn: &mut Turn<'_>, offset: Offset, ending: Ending) {
        self.remove_lease(turn, offset);
        let Some(message) = self.messages.remove(&offset) else {
            return;
        };
        let has_place = matches!(message.state, State::Ready | State::InFlight);
        if !has_place {
            self.held -= 1;
        }
        if message.state == State::Retrying {
            self.retrying -= 1;
        }
        if self.settings.fifo {
            self.leave_line(offset, message.key);
        } else if has_place {
            self.release(message.key);
        }
        if turn.stored(self.number).attempts.contains_key(&offset) {
            turn.record(QueueRecord::Attempts {
                group: self.number,
                offset,
                value: None,
            });
        }
        self.mark(turn, offset, message.hour, ending);
    }

    pub(super) fn remove_lease(&mut self, turn: &mut Turn<'_>, offset: Offset) -> Option<Lease> {
        let lease = self.leases.remove(&offset)?;
        let timer = Timer::Lease(self.number, offset);
        turn.core.timers.disarm(lease.until, timer);
        if let Some(id) = &lease.attempt_id
            && let Some(offsets) = self.repeats.get_mut(id)
        {
            offsets.retain(|given| *given != offset);
            if offsets.is_empty() {
                self.repeats.remove(id);
            }
        }
        Some(lease)
    }
}

/// `dlq.<group>`, or a name made from the group's hash if that is not a legal one.
pub(crate) fn default_dead_letter(group: &str) -> Target {
    let mut topic = format!("dlq.{group}");
    if !weir_base::ids::is_topic_name(&topic) {
        topic = format!("dlq.{:016x}", crate::ids::KeyHash::of(group.as_bytes()).0);
    }
    Target {
        topic: topic.into(),
        partition: 0,
    }
}
