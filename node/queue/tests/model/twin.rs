//! What clients know, in plain maps.

use std::collections::{BTreeMap, BTreeSet};

use weir_base::Timestamp;
use weir_queue::*;

/// Fails the history with a sentence.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use ensure;

pub(crate) const ATTEMPTS_MAX: u16 = 3;
pub(crate) const GROUPS: [&str; 5] = ["plain", "fifo", "tags", "versions", "small"];
/// Deliveries a second to the last of them, and how many of them it is owed when nobody asked.
pub(crate) const RATE: u32 = 20;
const OWED: usize = 5;
/// What the last of them may hold: its oldest are dropped.
pub(crate) const SMALL: u64 = 40;

/// A message of the partition.
#[derive(Debug, Clone)]
pub(crate) struct Produced {
    pub(crate) key: u8,
    pub(crate) tag: u8,
    pub(crate) version: u64,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) at: Timestamp,
}

/// When the journal of a history began.
pub(crate) const BEGUN: Timestamp = Timestamp(1_000_000);

impl Produced {
    /// Whether a copy of it comes instead.
    pub(crate) fn comes_later(&self) -> bool {
        self.not_before.is_some_and(|at| at > BEGUN)
    }

    /// What it tells as a dead letter; a fifth do not tell where they came from.
    pub(crate) fn letter(&self) -> LetterFacts {
        let origin = Target {
            topic: "home".into(),
            partition: u32::from(self.key),
        };
        LetterFacts {
            origin: (self.key != 4).then_some(origin),
            group: Some(GROUPS[usize::from(self.tag)].into()),
            cause: ["nack: because", "lease-timeout"][usize::from(self.tag)].into(),
            keys: vec![self.key.to_string().into()],
        }
    }

    /// Whether a replay with this filter moves it.
    pub(crate) fn is_wanted(&self, filter: &ReplayFilter) -> bool {
        let cause = ["nack", "lease-timeout"][usize::from(self.tag)];
        let tag = format!("t{}", self.tag);
        self.key != 4
            && filter
                .key
                .as_ref()
                .is_none_or(|key| **key == self.key.to_string())
            && filter.tag.as_ref().is_none_or(|wanted| **wanted == tag)
            && filter
                .cause
                .as_ref()
                .is_none_or(|wanted| **wanted == *cause)
            && filter
                .group
                .as_ref()
                .is_none_or(|group| **group == *GROUPS[usize::from(self.tag)])
            && filter.since.is_none_or(|since| since <= self.at)
            && filter.until.is_none_or(|until| until > self.at)
    }
}

/// A live delivery.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) delivery: Delivery,
    member: MemberName,
    /// Number of the answer that it was first in.
    answer: u64,
}

/// What one group's clients were told.
#[derive(Debug, Default, Clone)]
pub(crate) struct Group {
    pub(crate) acked: BTreeSet<u64>,
    pub(crate) dead: BTreeSet<u64>,
    /// Final by a seek.
    pub(crate) sought: BTreeSet<u64>,
    /// Final for want of room.
    pub(crate) dropped: BTreeSet<u64>,
    /// When something was delivered, in the last second of this reign.
    times: Vec<Timestamp>,
    /// Live deliveries.
    pub(crate) leases: BTreeMap<u64, Lease>,
    /// How often a message was given behind another of its message group.
    pub(crate) followed: usize,
    /// ... and was called back, since an attempt at one before it ended.
    pub(crate) called_back: usize,
    /// ... and was settled before that one.
    pub(crate) settled_ahead: usize,
    /// The attempt that was delivered last in this reign.
    last: BTreeMap<u64, u16>,
    /// Least that ended and was told.
    ended: BTreeMap<u64, u16>,
    not_before: BTreeMap<u64, Timestamp>,
    versions: BTreeMap<u8, u64>,
}

impl Group {
    pub(crate) fn is_final(&self, offset: u64) -> bool {
        let all = [&self.acked, &self.dead, &self.sought, &self.dropped];
        all.iter().any(|ended| ended.contains(&offset))
    }

    fn deliver(
        &mut self,
        kind: usize,
        log: &[Produced],
        at: Timestamp,
        given: Delivery,
        (member, answer): (&MemberName, u64),
    ) -> Result<(), String> {
        let offset = given.offset.0;
        let message = &log[usize::try_from(offset).unwrap()];
        ensure!(
            !self.is_final(offset),
            "Q2: {offset} is final and comes again"
        );
        let old = self.leases.get_mut(&offset);
        if let Some(old) = old {
            if old.delivery.receipt == given.receipt {
                old.delivery = given; // the answer to the same attempt id
                return Ok(());
            }
            let over = old.delivery.invisible_until <= at;
            ensure!(over, "Q1: {offset} is in flight and comes again");
        }
        ensure!(
            (1..=ATTEMPTS_MAX).contains(&given.attempt),
            "Q2: attempt {} of {offset}",
            given.attempt
        );
        ensure!(
            !message.comes_later(),
            "Q4: {offset} comes, and not its copy"
        );
        let ended = self.ended.get(&offset).copied().unwrap_or(0);
        ensure!(
            given.attempt > ended,
            "Q2: attempt {} of {offset} ended before",
            given.attempt
        );
        let last = self.last.get(&offset).copied().unwrap_or(0);
        ensure!(
            given.attempt > last,
            "Q2: attempt {last} of {offset} was not counted"
        );
        let early = self.not_before.get(&offset).filter(|time| **time > at);
        ensure!(early.is_none(), "{offset} comes before its backoff is over");
        if kind == 1 {
            // Only behind it in one answer, and nobody else has anything of the message group.
            let open: Vec<u64> = self.open_before(log, offset).collect();
            let is_ours = |o: &&u64| self.leases.get(o).is_some_and(|l| l.answer == answer);
            let passed = open.iter().find(|o| !is_ours(o));
            ensure!(
                passed.is_none(),
                "Q3: {offset} comes before {passed:?} is final"
            );
            self.followed += usize::from(!open.is_empty());
            let mut leased = self.leases.iter();
            let other = leased.find(|(o, lease)| {
                let is_of_run = log[**o as usize].key == message.key && **o != offset;
                is_of_run && lease.answer != answer
            });
            ensure!(other.is_none(), "Q3: {offset} comes beside {other:?}");
        }
        if kind == 2 {
            ensure!(message.tag == 0, "{offset} was not subscribed to");
        }
        if kind == 3 {
            let newest = self.versions.entry(message.key).or_default();
            ensure!(message.version >= *newest, "C21: an older version comes");
            *newest = message.version;
        }
        self.times.retain(|time| time.0 > at.0 - 1_000);
        self.times.push(at);
        self.last.insert(offset, given.attempt);
        let lease = Lease {
            delivery: given,
            member: member.clone(),
            answer,
        };
        self.leases.insert(offset, lease);
        Ok(())
    }

    /// What is before a message in its message group, and not final.
    fn open_before<'a>(
        &'a self,
        log: &'a [Produced],
        offset: u64,
    ) -> impl Iterator<Item = u64> + Clone + 'a {
        let key = log[offset as usize].key;
        (0..offset).filter(move |o| {
            let message = &log[*o as usize];
            message.key == key && !message.comes_later() && !self.is_final(*o)
        })
    }

    /// The leases of an ordered group that ran out take along what was given behind them.
    /// Only for the first of a run that was an attempt.
    fn lapse(&mut self, log: &[Produced], at: Timestamp) {
        let over = self.leases.iter();
        let over = over.filter(|(_, lease)| lease.delivery.invisible_until <= at);
        let over: Vec<u64> = over.map(|(offset, _)| *offset).collect();
        for offset in over {
            self.call_back(log, offset);
            let mut leased = self.leases.range(..offset);
            let key = log[offset as usize].key;
            if leased.any(|(o, _)| log[*o as usize].key == key)
                && self.leases.remove(&offset).is_some()
            {
                self.last.remove(&offset);
                self.called_back += 1;
            }
        }
    }

    /// An attempt ended in an ordered group: what was given behind it is over, uncounted.
    fn call_back(&mut self, log: &[Produced], offset: u64) {
        let behind = self.leases.range(offset + 1..);
        let key = log[offset as usize].key;
        let behind = behind.filter(|(o, _)| log[**o as usize].key == key);
        let behind: Vec<u64> = behind.map(|(offset, _)| *offset).collect();
        for offset in behind {
            self.leases.remove(&offset);
            self.last.remove(&offset);
            self.called_back += 1;
        }
    }

    /// A member is gone, and in an ordered group what it had behind others is no attempt.
    fn leave(&mut self, kind: usize, log: &[Produced], member: &MemberName) {
        let held = self.leases.iter();
        let held = held.filter(|(_, lease)| lease.member == *member);
        let held: Vec<u64> = held.map(|(offset, _)| *offset).collect();
        for offset in held {
            if kind == 1 {
                self.call_back(log, offset);
            }
            self.leases.remove(&offset);
        }
    }

    fn settle(&mut self, receipt: &Receipt) -> Result<(), String> {
        let offset = receipt.offset.0;
        let lease = self.leases.remove(&offset);
        ensure!(
            lease.is_some_and(|lease| lease.delivery.receipt == *receipt),
            "a receipt that is over settled {offset}"
        );
        Ok(())
    }
}

/// What becomes of a delayed message.
#[derive(Debug, Clone)]
pub(crate) struct Delayed {
    /// It was asked to be taken back; whether it was may not be known.
    pub(crate) asked: bool,
    pub(crate) cancelled: bool,
    pub(crate) fired: bool,
}

/// All that was told and committed.
#[derive(Debug, Default)]
pub(crate) struct Twin {
    pub(crate) log: Vec<Produced>,
    pub(crate) groups: [Group; 5],
    /// How often what was told, by name.
    pub(crate) told: BTreeMap<&'static str, usize>,
    pub(crate) delayed: BTreeMap<ScheduleHandle, Delayed>,
    /// When a message of each id was kept.
    ids: BTreeMap<u32, (Timestamp, ScheduleHandle)>,
    pub(crate) halves: BTreeMap<HalfHandle, Option<Decision>>,
    pub(crate) producers: BTreeMap<HalfHandle, &'static str>,
    pub(crate) checks: BTreeMap<HalfHandle, u16>,
    /// Delayed messages of the log, by offset: as what they were taken in.
    pub(crate) taken_in: BTreeMap<u64, Vec<EntryNumber>>,
    /// Appended to the partition, by number.
    pub(crate) appended: BTreeMap<EntryNumber, u32>,
    /// Moved elsewhere: as told, and as appended.
    pub(crate) forwards: BTreeMap<(usize, u64), (u32, u32)>,
    /// Copies in dead letters: group, offset.
    pub(crate) dead_letters: BTreeMap<(GroupName, u64), u32>,
    /// Replays as on record.
    pub(crate) replays: BTreeMap<EntryNumber, StoredReplay>,
    /// Copies that replays appended, by offset.
    pub(crate) replayed: BTreeMap<u64, u32>,
    /// Whether a group may have been moved back.
    went_back: bool,
    /// What was told of replays last.
    pub(crate) report: ReplayReport,
    /// Which group has which number.
    numbers: BTreeMap<GroupNumber, usize>,
    answers: u64,
}

/// What a caller asked.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Receive(usize, MemberName),
    Leave(MemberName),
    Ack(usize, Vec<Receipt>),
    Nack(usize, Receipt),
    Renew(usize, Receipt),
    DeadLetter(usize, Receipt),
    Forward(usize, Receipt),
    /// With an id, and with room for so many, the log ending there.
    Schedule(Option<u32>, Option<(u64, u64)>),
    /// The log ends there.
    Trim(u64),
    Cancel(ScheduleHandle),
    Delayed,
    Prepare(&'static str),
    Resolve(HalfHandle, Decision),
    Forged,
    Checks,
    Seek(usize, u64),
    Replays,
    Other,
}

impl Twin {
    /// A new leader: leases are gone.
    pub(crate) fn fail_over(&mut self) {
        for group in &mut self.groups {
            group.leases.clear();
            group.last.clear();
            group.times.clear();
        }
    }

    /// A record is committed.
    pub(crate) fn on_record(&mut self, record: &QueueRecord) -> Result<(), String> {
        if let QueueRecord::Group {
            group,
            value: Some(made),
        } = record
        {
            let kind = GROUPS.iter().position(|g| *g == &**group).unwrap();
            self.numbers.insert(made.number, kind);
        }
        if let QueueRecord::Scheduled {
            number,
            deliver_at,
            logged: Some(at),
            ..
        } = record
        {
            let asked = self.log[at.0 as usize].not_before;
            ensure!(
                asked == Some(*deliver_at),
                "Q4: {at} is due at {deliver_at:?}"
            );
            self.taken_in.entry(at.0).or_default().push(*number);
        }
        if let QueueRecord::Attempts {
            group,
            offset,
            value: Some(attempts),
        } = record
            && self.numbers.get(group) == Some(&1)
        {
            self.on_attempt(offset.0, attempts)?;
        }
        if let QueueRecord::Departing {
            value: Some(going), ..
        } = record
            && let OutgoingMessage::DeadLetter { offset, facts } = &going.message
        {
            let kind = GROUPS.iter().position(|g| *g == &*facts.group).unwrap();
            if kind == 1 {
                self.on_attempt(offset.0, &facts.attempts)?;
            }
            self.groups[kind].dead.insert(offset.0);
            self.groups[kind].leases.remove(&offset.0);
        }
        if let QueueRecord::Replay { number, value } = record {
            self.replays
                .extend(value.clone().map(|value| (*number, value)));
        }
        Ok(())
    }

    /// An attempt ended in the ordered group. Whoever refuses a message for good goes on with
    /// those behind it; silence is an attempt at the first of a run alone.
    fn on_attempt(&mut self, offset: u64, attempts: &StoredAttempts) -> Result<(), String> {
        let cause = attempts.history.last().map(|end| end.cause);
        let group = &mut self.groups[1];
        if matches!(cause, Some(EndCause::LeaseTimeout | EndCause::Disconnected)) {
            let first = group.open_before(&self.log, offset).next();
            ensure!(
                first.is_none(),
                "Q2: an attempt at {offset} is counted before {first:?} is final"
            );
        }
        if cause != Some(EndCause::Rejected) {
            group.call_back(&self.log, offset);
        }
        Ok(())
    }

    fn count(&mut self, what: &'static str, happened: bool) {
        *self.told.entry(what).or_default() += usize::from(happened);
    }

    /// Messages below `end` that some group without a limit of its own waits for, at least: what
    /// comes later does not wait there.
    pub(crate) fn waiting(&self, end: u64) -> u64 {
        let is_here = |o: &u64| !self.log[*o as usize].comes_later();
        let of = |kind: usize| {
            let waiting = (0..end).filter(|o| !self.groups[kind].is_final(*o));
            waiting.filter(is_here).count() as u64
        };
        of(0).max(of(1))
    }

    /// So many messages wait at most, in the log up to `end` or for it. A delayed one is one,
    /// wherever it came from; but a group that went back may count records that were taken in
    /// and that all had passed.
    pub(crate) fn waiting_at_most(&self, end: u64) -> u64 {
        let is_kept = |number: &EntryNumber| !self.appended.contains_key(number);
        let taken_in = self.taken_in.values().flatten().copied();
        let known = self.delayed.keys().map(|handle| handle.number);
        let mut kept: BTreeSet<EntryNumber> = taken_in.chain(known).filter(is_kept).collect();
        for (handle, delayed) in &self.delayed {
            if delayed.cancelled {
                kept.remove(&handle.number);
            }
        }
        let halves = self.halves.iter().filter(|(handle, decision)| {
            is_kept(&handle.number) && **decision != Some(Decision::Rollback)
        });
        let mut in_the_log = (0..end).filter(|o| !self.taken_in.contains_key(o)).count();
        if self.went_back {
            in_the_log = end as usize;
        }
        (in_the_log + kept.len() + halves.count()) as u64
    }

    /// Where the last `SMALL` messages begin that wait before `end`.
    fn room_from(&self, end: u64) -> u64 {
        let waits = (0..end).filter(|o| !self.taken_in.contains_key(o));
        let old = waits.rev().nth(SMALL as usize);
        old.map_or(0, |old| old + 1)
    }

    /// A reply that was decided at `at` has left.
    pub(crate) fn on_reply(
        &mut self,
        at: Timestamp,
        options: &QueueOptions,
        asked: Asked,
        reply: QueueReply,
    ) -> Result<(), String> {
        self.groups[1].lapse(&self.log, at);
        match (asked, reply) {
            (Asked::Receive(kind, member), QueueReply::Receive(Ok(given))) => {
                self.answers += 1;
                let to = (&member, self.answers);
                for delivery in given {
                    self.groups[kind].deliver(kind, &self.log, at, delivery, to)?;
                }
                let in_a_second = self.groups[4].times.len();
                let most = RATE as usize + OWED + 1;
                ensure!(
                    kind != 4 || in_a_second <= most,
                    "{in_a_second} deliveries in a second"
                );
                self.count(
                    "rate reached",
                    kind == 4 && in_a_second >= RATE as usize * 3 / 4,
                );
            }
            (Asked::Leave(member), QueueReply::Leave) => {
                for (kind, group) in self.groups.iter_mut().enumerate() {
                    group.leave(kind, &self.log, &member);
                }
            }
            (Asked::Ack(kind, receipts), QueueReply::Ack(Ok(results))) => {
                ensure!(results.len() == receipts.len(), "a result a receipt");
                for (receipt, result) in receipts.iter().zip(results) {
                    self.count("old receipt refused", result.is_err());
                    if result.is_ok() {
                        let (group, offset) = (&mut self.groups[kind], receipt.offset.0);
                        let is_ahead = group.open_before(&self.log, offset).next().is_some();
                        group.settled_ahead += usize::from(kind == 1 && is_ahead);
                        group.settle(receipt)?;
                        group.acked.insert(offset);
                    }
                }
            }
            (Asked::Nack(kind, receipt), QueueReply::Nack(Ok(returned))) => {
                let (group, offset) = (&mut self.groups[kind], receipt.offset.0);
                let key = self.log[offset as usize].key;
                let behind = self.log[offset as usize + 1..].iter();
                let waits = kind == 1 && behind.filter(|m| m.key == key).count() > 0;
                let told = self.told.entry("message group parked").or_default();
                *told += usize::from(waits && returned != Returned::DeadLettered);
                match returned {
                    Returned::DeadLettered => ensure!(group.dead.contains(&offset), "told dead"),
                    Returned::Retry(next) => {
                        group.settle(&receipt)?;
                        group.ended.insert(offset, receipt.attempt);
                        group.not_before.insert(offset, next);
                    }
                }
            }
            (Asked::Renew(kind, receipt), QueueReply::Renew(Ok(until))) => {
                let lease = self.groups[kind].leases.get_mut(&receipt.offset.0);
                let lease = lease.filter(|lease| lease.delivery.receipt == receipt);
                ensure!(lease.is_some(), "a lease that is over was renewed");
                lease.unwrap().delivery.invisible_until = until;
                self.count("renewed", true);
            }
            (Asked::DeadLetter(kind, receipt), QueueReply::DeadLetter(Ok(()))) => {
                let dead = &self.groups[kind].dead;
                ensure!(dead.contains(&receipt.offset.0), "told dead");
            }
            (Asked::Forward(kind, receipt), QueueReply::Forward(Ok(()))) => {
                let offset = receipt.offset.0;
                self.groups[kind].settle(&receipt)?;
                self.groups[kind].acked.insert(offset);
                self.forwards.entry((kind, offset)).or_default().0 += 1;
            }
            (
                Asked::Schedule(_, Some((end, most))),
                QueueReply::Schedule(Err(QueueError::Full { messages_max, .. })),
            ) => {
                ensure!(messages_max == most, "full with {messages_max}, not {most}");
                self.count("full", end > 0);
            }
            (Asked::Schedule(id, room), QueueReply::Schedule(Ok(scheduled))) => {
                let is_new = matches!(scheduled, Scheduled::Kept(_));
                if let Some((end, most)) = room.filter(|_| is_new) {
                    let waiting = self.waiting(end);
                    ensure!(waiting < most, "kept though {waiting} of {most} wait");
                }
                self.count("id known again", !is_new);
                let window = options.dedup_window;
                let known = id.and_then(|id| self.ids.get(&id).copied());
                let known = known.filter(|(kept, _)| *kept + window > at);
                match scheduled {
                    Scheduled::Duplicate { handle, .. } => {
                        ensure!(
                            handle == known.map(|(_, first)| first),
                            "no message of this id"
                        );
                    }
                    Scheduled::Kept(handle) => {
                        // What was taken back never was; the answer may have been lost.
                        let counts = known.is_some_and(|(_, first)| !self.delayed[&first].asked);
                        ensure!(!counts, "the id was within the window");
                        let fresh = Delayed {
                            asked: false,
                            cancelled: false,
                            fired: false,
                        };
                        self.ids.extend(id.map(|id| (id, (at, handle))));
                        self.delayed.insert(handle, fresh);
                    }
                }
            }
            (Asked::Delayed, QueueReply::ListScheduled(lines)) => {
                for line in lines {
                    let unknown = Delayed {
                        asked: false,
                        cancelled: false,
                        fired: false,
                    };
                    self.delayed.entry(line.handle).or_insert(unknown);
                }
            }
            (Asked::Cancel(handle), QueueReply::Cancel(Ok(answer))) => {
                let delayed = self.delayed.get_mut(&handle).unwrap();
                match answer {
                    Cancelled::Cancelled => delayed.cancelled = true,
                    Cancelled::AlreadyFired => {
                        ensure!(handle.deliver_at <= at, "fired early");
                        delayed.fired = true;
                    }
                    Cancelled::Unknown => {
                        let over = handle.deliver_at + options.remembered;
                        ensure!(over < at, "forgotten early");
                    }
                }
            }
            (Asked::Prepare(producers), QueueReply::Prepare(Ok(Prepared::Kept(handle)))) => {
                self.halves.insert(handle, None);
                self.producers.insert(handle, producers);
            }
            (Asked::Resolve(handle, decision), QueueReply::Resolve(result)) => {
                let first = self.halves.get_mut(&handle).unwrap();
                match result {
                    Ok(()) => {
                        let other = first.filter(|first| *first != decision);
                        ensure!(other.is_none(), "S-38: a second decision was accepted");
                        *first = Some(decision);
                    }
                    Err(QueueError::AlreadyDecided(told)) => {
                        *self.told.entry("decided before").or_default() += 1;
                        ensure!(first.is_none_or(|first| first == told), "S-38: told wrong");
                        *first = Some(told);
                    }
                    Err(QueueError::NoSuchHalf) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            (Asked::Forged, QueueReply::Resolve(result)) => {
                let refused = result == Err(QueueError::ForgedHandle);
                ensure!(refused, "S-26: a decision on another transaction");
                self.count("forged handle refused", true);
            }
            (Asked::Checks, QueueReply::AwaitChecks(checks)) => {
                for check in checks {
                    let asked = self.checks.entry(check.handle).or_default();
                    ensure!(check.check > *asked, "T7: a check was not counted");
                    ensure!(check.check <= options.checks_max, "T7: asked too often");
                    *asked = check.check;
                    let decided = self.halves.get(&check.handle).copied().flatten();
                    ensure!(decided.is_none(), "T6: asked about what was decided");
                }
            }
            (Asked::Seek(kind, to), QueueReply::Seek(Ok(()))) => {
                self.went_back = true;
                let group = &mut self.groups[kind];
                group.acked.split_off(&to);
                group.dead.split_off(&to);
                group.sought = (0..to).collect();
                let kept = std::mem::take(group);
                *group = Group {
                    acked: kept.acked,
                    dead: kept.dead,
                    sought: kept.sought,
                    ..Group::default()
                };
            }
            (Asked::Trim(end), QueueReply::Trim(_)) => {
                let old = 0..self.room_from(end);
                let group = &mut self.groups[4];
                let old = old.filter(|o| !group.is_final(*o) && !group.leases.contains_key(o));
                let old: Vec<u64> = old.collect();
                group.dropped.extend(old);
            }
            (Asked::Replays, QueueReply::Replay(Ok(report))) => self.report = report,
            (
                Asked::Receive(..)
                | Asked::Ack(..)
                | Asked::Nack(..)
                | Asked::Renew(..)
                | Asked::DeadLetter(..)
                | Asked::Forward(..)
                | Asked::Schedule(..)
                | Asked::Cancel(_)
                | Asked::Prepare(_)
                | Asked::Seek(..)
                | Asked::Other,
                _,
            ) => {}
            (asked, reply) => return Err(format!("{asked:?} was answered {reply:?}")),
        }
        Ok(())
    }
}
