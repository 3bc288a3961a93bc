//! Half messages: kept out of sight until they are decided on, and asked about meanwhile.
//!
//! The first decision stands (S-38): it is one record, and whoever comes later is told. A
//! half message is asked about when its time has come and a member of its producer group
//! waits to be asked; only checks that reached somebody count. After the last it is
//! parked: listed, and decided by an operator or a late producer. Each half message is
//! looked at by itself, so none can keep the others from being asked about (S-39).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_base::Timestamp;
use weir_base::machine::Token;

use crate::command::{Decision, Prepare};
use crate::dedup;
use crate::delay::{LINES_MAX, check_room};
use crate::error::QueueError;
use crate::ids::{EntryNumber, MemberName};
use crate::receipt::HalfHandle;
use crate::record::{
    Destination, HalfChecks, OutgoingMessage, QueueRecord, StoredDecision, StoredHalf,
};
use crate::reply::{Check, HalfLine, Prepared, QueueReply};
use crate::settings::GROUP_NAME_BYTES_MAX;
use crate::timers::Timer;
use crate::turn::Turn;

/// Pause before a check that reached nobody is tried again.
const MISSED_PAUSE: Duration = Duration::from_secs(5);

/// Who asks and who waits to be asked.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// By producer group: whose time has come. Some may be decided meanwhile.
    due: BTreeMap<Arc<str>, VecDeque<EntryNumber>>,
    waiting: BTreeMap<Arc<str>, VecDeque<CheckWaiter>>,
    /// Producer groups of callers that wait.
    tokens: BTreeMap<Token, Arc<str>>,
}

#[derive(Debug)]
struct CheckWaiter {
    token: Token,
    member: MemberName,
    batch_max: usize,
    until: Timestamp,
}

/// Keeps a half message.
pub(crate) fn prepare(turn: &mut Turn<'_>, wish: Prepare) -> Result<Prepared, QueueError> {
    let options = &turn.core.options;
    if wish.payload.len() > options.payload_bytes_max {
        return Err(QueueError::PayloadTooLarge {
            bytes: wish.payload.len(),
            max: options.payload_bytes_max,
        });
    }
    if !(1..=GROUP_NAME_BYTES_MAX).contains(&wish.producers.len()) {
        return Err(QueueError::InvalidGroupName {
            bytes: wish.producers.len(),
            max: GROUP_NAME_BYTES_MAX,
        });
    }
    let (secret, partition) = (turn.core.secret, turn.core.partition);
    if let Some(first) = dedup::first(turn, wish.dedup.as_ref()) {
        let Some(first) = first.filter(|first| first.deliver_at.is_none()) else {
            return Err(QueueError::SentBefore);
        };
        return Ok(Prepared::Duplicate {
            handle: HalfHandle::new(secret, partition, first.number),
            told: first.told,
        });
    }
    check_room(turn, wish.room.as_ref())?;
    if turn.state.halves.len() >= options.halves_max {
        let max = options.halves_max;
        return Err(QueueError::TooManyHalves { max });
    }
    let check_at = turn.now + wish.check_after.unwrap_or(options.check_after);
    dedup::check(turn, wish.dedup.as_ref())?;
    let number = turn.draw();
    if let Some(dedup) = wish.dedup {
        dedup::remember(turn, dedup, number, None);
    }
    turn.core.timers.arm(check_at, Timer::Half(number));
    turn.record(QueueRecord::Half {
        number,
        value: Some(StoredHalf {
            producers: wish.producers,
            prepared_at: turn.now,
            check_at,
            payload: wish.payload,
        }),
    });
    let handle = HalfHandle::new(secret, partition, number);
    Ok(Prepared::Kept(handle))
}

/// A check reached nobody: it is taken back, and tried again in a moment, when somebody else
/// may wait to be asked.
pub(crate) fn missed(turn: &mut Turn<'_>, handle: &HalfHandle) -> Result<(), QueueError> {
    if !handle.is_sealed_by(turn.core.secret, turn.core.partition) {
        return Err(QueueError::ForgedHandle);
    }
    let number = handle.number;
    let Some(half) = turn.state.halves.get(&number) else {
        // Decided meanwhile.
        return Ok(());
    };
    let checks = half.checks;
    if checks.parked || checks.checks == 0 {
        return Ok(());
    }
    let timers = &mut turn.core.timers;
    timers.disarm(checks.next_at, Timer::Half(number));
    let next_at = turn.now + MISSED_PAUSE;
    timers.arm(next_at, Timer::Half(number));
    turn.record(QueueRecord::HalfChecks {
        number,
        value: Some(HalfChecks {
            checks: checks.checks - 1,
            next_at,
            parked: false,
        }),
    });
    Ok(())
}

/// Decides on a half message.
pub(crate) fn resolve(
    turn: &mut Turn<'_>,
    handle: &HalfHandle,
    decision: Decision,
) -> Result<(), QueueError> {
    let sealed = handle.is_sealed_by(turn.core.secret, turn.core.partition);
    if !sealed && !weir_base::mutant!(M14) {
        return Err(QueueError::ForgedHandle);
    }
    let (state, number) = (turn.state, handle.number);
    let Some(half) = state.halves.get(&number) else {
        return match state.decided.get(number) {
            Some((_, first)) if *first == decision || weir_base::mutant!(M15) => Ok(()),
            Some((_, first)) => Err(QueueError::AlreadyDecided(*first)),
            None => Err(QueueError::NoSuchHalf),
        };
    };
    turn.core
        .timers
        .disarm(half.checks.next_at, Timer::Half(number));
    let until = turn.now + turn.core.options.remembered;
    turn.record(QueueRecord::Decided {
        number,
        value: Some(StoredDecision { decision, until }),
    });
    match decision {
        Decision::Commit => {
            let payload_at = half.payload_at;
            let message = OutgoingMessage::Committed { number, payload_at };
            turn.depart(Destination::Here, message, half.bytes);
        }
        Decision::Rollback => {
            turn.record(QueueRecord::Half {
                number,
                value: None,
            });
            turn.record(QueueRecord::HalfChecks {
                number,
                value: None,
            });
        }
    }
    Ok(())
}

/// A page of half messages that are not decided.
pub(crate) fn list(
    turn: &Turn<'_>,
    after: Option<EntryNumber>,
    limit: usize,
    parked: bool,
) -> Vec<HalfLine> {
    let (secret, partition) = (turn.core.secret, turn.core.partition);
    let from = after.map_or(EntryNumber(0), |after| {
        EntryNumber(after.0.saturating_add(1))
    });
    let halves = turn.state.halves.range(from..);
    let halves = halves.filter(|(_, half)| half.checks.parked || !parked);
    let line = |(number, half): (&EntryNumber, &crate::durable::HalfState)| HalfLine {
        handle: HalfHandle::new(secret, partition, *number),
        producers: half.producers.clone(),
        payload_at: half.payload_at,
        prepared_at: half.prepared_at,
        checks: half.checks.checks,
        parked: half.checks.parked,
    };
    halves.take(limit.min(LINES_MAX)).map(line).collect()
}

impl Checks {
    /// A member of a producer group can be asked.
    pub(crate) fn wait(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        (member, producers): (MemberName, Arc<str>),
        batch_max: usize,
        wait: Duration,
    ) {
        let until = turn.now + turn.core.options.bounded_wait(wait);
        turn.core.timers.arm(until, Timer::CheckWait(token));
        self.tokens.insert(token, producers.clone());
        let waiter = CheckWaiter {
            token,
            member,
            batch_max: batch_max.clamp(1, LINES_MAX),
            until,
        };
        let waiting = self.waiting.entry(producers.clone()).or_default();
        waiting.push_back(waiter);
        self.ask(turn, &producers);
    }

    /// A half message's time has come.
    pub(crate) fn on_due(&mut self, turn: &mut Turn<'_>, number: EntryNumber) {
        let half = turn.state.halves.get(&number);
        let Some(half) = half.filter(|half| !half.checks.parked) else {
            return;
        };
        if half.checks.checks >= turn.core.options.checks_max {
            let checks = HalfChecks {
                parked: true,
                next_at: turn.now,
                ..half.checks
            };
            turn.record(QueueRecord::HalfChecks {
                number,
                value: Some(checks),
            });
            return;
        }
        if weir_base::mutant!(M28) && !self.waiting.contains_key(&half.producers) {
            // Under a name that no group can have: nobody ever takes it away.
            self.due.entry("".into()).or_default().push_back(number);
            return;
        }
        let due = self.due.entry(half.producers.clone()).or_default();
        due.push_back(number);
        self.ask(turn, &half.producers);
    }

    /// Asks who waits about what is due.
    fn ask(&mut self, turn: &mut Turn<'_>, producers: &Arc<str>) {
        if weir_base::mutant!(M28) && self.due.contains_key("") {
            return;
        }
        let (Some(due), Some(waiting)) =
            (self.due.get_mut(producers), self.waiting.get_mut(producers))
        else {
            return;
        };
        let next_at = turn.now + turn.core.options.check_interval;
        while let Some(waiter) = waiting.front() {
            let mut asked = Vec::new();
            while asked.len() < waiter.batch_max
                && let Some(number) = due.pop_front()
            {
                let Some(half) = turn.state.halves.get(&number) else {
                    continue;
                };
                let checks = half.checks.checks.saturating_add(1);
                let value = HalfChecks {
                    checks,
                    next_at,
                    parked: false,
                };
                turn.record(QueueRecord::HalfChecks {
                    number,
                    value: Some(value),
                });
                turn.core.timers.arm(next_at, Timer::Half(number));
                asked.push(Check {
                    handle: HalfHandle::new(turn.core.secret, turn.core.partition, number),
                    payload_at: half.payload_at,
                    check: checks,
                });
            }
            if asked.is_empty() {
                break;
            }
            turn.core
                .timers
                .disarm(waiter.until, Timer::CheckWait(waiter.token));
            turn.reply(waiter.token, QueueReply::AwaitChecks(asked));
            self.tokens.remove(&waiter.token);
            waiting.pop_front();
        }
        if due.is_empty() {
            self.due.remove(producers);
        }
        if waiting.is_empty() {
            self.waiting.remove(producers);
        }
    }

    /// A producer has waited long enough.
    pub(crate) fn on_wait_over(&mut self, turn: &mut Turn<'_>, token: Token) {
        if let Some(producers) = self.tokens.get(&token).cloned() {
            self.answer_empty(turn, &producers, |waiter| waiter.token == token);
        }
    }

    /// A client is gone.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, member: &MemberName) {
        let groups: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        for producers in groups {
            self.answer_empty(turn, &producers, |waiter| waiter.member == *member);
        }
    }

    fn answer_empty(
        &mut self,
        turn: &mut Turn<'_>,
        producers: &Arc<str>,
        which: impl Fn(&CheckWaiter) -> bool,
    ) {
        let Some(waiting) = self.waiting.get_mut(producers) else {
            return;
        };
        let tokens = &mut self.tokens;
        waiting.retain(|waiter| {
            let answered = which(waiter);
            if answered {
                tokens.remove(&waiter.token);
                let timer = Timer::CheckWait(waiter.token);
                turn.core.timers.disarm(waiter.until, timer);
                turn.reply(waiter.token, QueueReply::AwaitChecks(Vec::new()));
            }
            !answered
        });
        if waiting.is_empty() {
            self.waiting.remove(producers);
        }
    }
}
