//! A host in miniature, and its clients.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_base::machine::{Decision as Out, Machine, Token};
use weir_base::{Offset, Timestamp};
use weir_queue::*;

use crate::twin::{ATTEMPTS_MAX, Asked, BEGUN, GROUPS, Produced, RATE, SMALL, Twin, ensure};

/// Something that happened, visible once the journal is committed up to a place.
enum Event {
    Record(QueueRecord),
    Reply(Timestamp, Asked, Box<QueueReply>),
}

/// A partition that outgoing batches are appended to.
#[derive(Default)]
struct Appended {
    next: u64,
    batches: BTreeMap<u64, Outgoing>,
    /// Batches that it refused, and their sizes.
    refused: BTreeMap<u64, u64>,
}

/// What the twin counts.
const TOLD: [&str; 10] = [
    "decided before",
    "forged handle refused",
    "full",
    "id known again",
    "message group parked",
    "old receipt refused",
    "rate reached",
    "redirected",
    "refused",
    "renewed",
];

/// Counts by name.
pub(crate) type Coverage = BTreeMap<&'static str, usize>;

pub(crate) struct World {
    options: QueueOptions,
    state: QueueState,
    live: QueueLive,
    journal: Vec<QueueRecord>,
    committed: usize,
    /// Ends of decisions: a batch is committed as a whole.
    ends: VecDeque<usize>,
    /// The fold of what is committed.
    safe: QueueState,
    now: Timestamp,
    tokens: u64,
    asked: BTreeMap<Token, Asked>,
    events: VecDeque<(usize, Event)>,
    wants: Vec<Want>,
    targets: BTreeMap<Destination, Appended>,
    twin: Twin,
    /// Receipts that clients got, newest last.
    receipts: VecDeque<(usize, Receipt)>,
    done: Vec<(Destination, u64)>,
    /// Delayed messages of the log below it were handed over, if the machine was asked.
    looked_at: Option<Offset>,
    reigns: u64,
    attempt_ids: u32,
    sent_on: usize,
}

fn settings(kind: usize) -> GroupSettings {
    let seconds = |list: &[u64]| list.iter().copied().map(Duration::from_secs).collect();
    GroupSettings {
        attempts_max: ATTEMPTS_MAX,
        backoff: Backoff::List(seconds(&[1, 3])),
        fifo: kind == 1,
        invisible: Duration::from_secs(5),
        filter: match kind {
            2 => Filter::Tags("t0 || other".into()),
            _ => Filter::All,
        },
        versioned: kind == 3,
        pacing: Pacing {
            rate: if kind == 4 {
                Rate::Partition(RATE)
            } else {
                Rate::Unlimited
            },
            ..Pacing::default()
        },
        capacity: (kind == 4).then_some(Capacity {
            messages_max: SMALL,
            on_full: OnFull::DropOldest,
        }),
        ..GroupSettings::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let options = QueueOptions {
            ready_max: 16,
            batch_max: 64,
            check_interval: Duration::from_secs(5),
            checks_max: 3,
            remembered: Duration::from_secs(60),
            dedup_window: Duration::from_secs(20),
            release_records_max: 3,
            ..QueueOptions::default()
        };
        let mut world = Self {
            live: QueueLive::new(options.clone(), 7, 42),
            options,
            state: QueueState::default(),
            journal: Vec::new(),
            committed: 0,
            ends: VecDeque::new(),
            safe: QueueState::default(),
            now: BEGUN,
            tokens: 0,
            asked: BTreeMap::new(),
            events: VecDeque::new(),
            wants: Vec::new(),
            targets: BTreeMap::new(),
            twin: Twin::default(),
            receipts: VecDeque::new(),
            done: Vec::new(),
            looked_at: None,
            reigns: 0,
            attempt_ids: 0,
            sent_on: 0,
        };
        world.ensure_groups().unwrap();
        world.commit(usize::MAX).unwrap();
        world
    }

    fn ensure_groups(&mut self) -> Result<(), String> {
        for (kind, group) in GROUPS.into_iter().enumerate() {
            let command = QueueCommand::EnsureGroup {
                group: group.into(),
                settings: settings(kind),
                start: Offset(0),
                replace: false,
            };
            self.send(Asked::Other, command)?;
        }
        Ok(())
    }

    fn send(&mut self, asked: Asked, command: QueueCommand) -> Result<(), String> {
        let token = Token(self.tokens);
        self.tokens += 1;
        self.asked.insert(token, asked);
        let mut out = Out::default();
        QueueMachine::decide(
            &self.state,
            &mut self.live,
            self.now,
            token,
            command,
            &mut out,
        );
        self.take(out)
    }

    fn take(&mut self, out: Out<QueueRecord, QueueReply>) -> Result<(), String> {
        for record in out.records {
            let at = Offset(self.journal.len() as u64);
            let (key, value) = record.encode();
            let copy = QueueRecord::decode(Some(&key), value.as_deref());
            ensure!(
                copy.as_ref() == Ok(&record),
                "{record:?} is read as {copy:?}"
            );
            QueueMachine::apply(&mut self.state, at, &record);
            self.journal.push(record.clone());
            self.events
                .push_back((self.journal.len(), Event::Record(record)));
        }
        for (token, reply) in out.replies {
            let asked = self.asked.remove(&token);
            ensure!(asked.is_some(), "{token:?} was answered twice: {reply:?}");
            let event = Event::Reply(self.now, asked.unwrap(), Box::new(reply));
            self.events.push_back((self.journal.len(), event));
        }
        self.ends.push_back(self.journal.len());
        let wants = QueueMachine::wants(&self.state, &mut self.live);
        self.wants.extend(wants);
        let (delays, counted) = self.state.delays();
        ensure!(
            delays.kept == counted,
            "{} delayed messages were kept, {counted} are accounted for",
            delays.kept
        );
        for (group, finished, counted) in self.state.conservation() {
            ensure!(
                finished == counted,
                "the ledger of {group} counts {counted} of {finished}"
            );
        }
        Ok(())
    }

    fn commit(&mut self, records: usize) -> Result<(), String> {
        let most = self.committed.saturating_add(records);
        let mut end = self.committed;
        while self.ends.front().is_some_and(|next| *next <= most) {
            end = self.ends.pop_front().unwrap();
        }
        for at in self.committed..end {
            QueueMachine::apply(&mut self.safe, Offset(at as u64), &self.journal[at]);
        }
        self.committed = end;
        while self.events.front().is_some_and(|(at, _)| *at <= end) {
            match self.events.pop_front().unwrap().1 {
                Event::Record(record) => self.twin.on_record(&record)?,
                Event::Reply(at, asked, reply) => {
                    if let (Asked::Receive(kind, _), QueueReply::Receive(Ok(given))) =
                        (&asked, &*reply)
                    {
                        let receipts = given.iter().map(|given| (*kind, given.receipt));
                        self.receipts.extend(receipts);
                    }
                    if let QueueReply::TakeIn(next) = &*reply {
                        self.looked_at = Some(*next);
                    }
                    self.twin.on_reply(at, &self.options, asked, *reply)?;
                }
            }
        }
        Ok(())
    }

    /// Another node leads: it has what is committed, by whichever way.
    fn fail_over(&mut self, dice: u32) -> Result<(), String> {
        self.journal.truncate(self.committed);
        let fold = |from: QueueState, records: &[(usize, &QueueRecord)]| {
            let mut state = from;
            for (at, record) in records {
                QueueMachine::apply(&mut state, Offset(*at as u64), record);
            }
            state
        };
        let all: Vec<(usize, &QueueRecord)> = self.journal.iter().enumerate().collect();
        let replayed = fold(QueueState::default(), &all);
        ensure!(replayed == self.safe, "Q5: replay from the start differs");
        let mut newest = BTreeMap::new();
        for (at, record) in &all {
            newest.insert(record.encode().0, *at);
        }
        let kept = all.iter().filter(|(at, record)| {
            let (key, value) = record.encode();
            newest[&key] == *at && value.is_some()
        });
        let compacted: Vec<_> = kept.copied().collect();
        let replayed = fold(QueueState::default(), &compacted);
        ensure!(
            replayed == self.safe,
            "Q5: replay from a compacted journal differs"
        );
        let cut = dice as usize % (all.len() + 1);
        let early = fold(QueueState::default(), &all[..cut]);
        let bytes = postcard::to_stdvec(&early).unwrap();
        let early: QueueState = postcard::from_bytes(&bytes).unwrap();
        let replayed = fold(early, &all[cut..]);
        ensure!(replayed == self.safe, "Q5: replay from a snapshot differs");
        self.state = replayed;
        self.reigns += 1;
        self.live = QueueLive::new(self.options.clone(), 7, 42 + self.reigns);
        self.asked.clear();
        self.ends.clear();
        self.events.clear();
        self.wants.clear();
        self.done.clear();
        self.looked_at = None;
        self.twin.fail_over();
        Ok(())
    }

    fn pass(&mut self, millis: i64) -> Result<(), String> {
        let end = Timestamp(self.now.0 + millis);
        for _ in 0..2_000 {
            let due = QueueMachine::next_deadline(&self.state, &self.live);
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return Ok(());
            };
            self.now = self.now.max(due);
            let mut out = Out::default();
            QueueMachine::on_tick(&self.state, &mut self.live, self.now, &mut out);
            self.take(out)?;
        }
        Err("the machine ticks without end".to_owned())
    }

    fn produce(&mut self, count: u32, dice: u32) {
        self.produce_with(count, dice, true);
    }

    fn produce_with(&mut self, count: u32, dice: u32, by_clients: bool) {
        for n in 0..count {
            let dice = dice.rotate_left(n % 32) ^ n.wrapping_mul(0x9e37_79b9);
            self.twin.log.push(Produced {
                key: (dice % 5) as u8,
                tag: (dice >> 3 & 1) as u8,
                version: u64::from(dice >> 4 & 15),
                not_before: (by_clients && (dice >> 8).is_multiple_of(8))
                    .then(|| Timestamp(self.now.0 + i64::from(dice >> 11 & 0xfff))),
                at: self.now,
            });
        }
    }

    /// Reads up to `records` for each want that has any.
    fn feed(&mut self, records: usize) -> Result<(), String> {
        let end = self.twin.log.len() as u64;
        for want in std::mem::take(&mut self.wants) {
            let from = want.from.0;
            if from >= end {
                self.wants.push(want);
                continue;
            }
            let to = end.min(from + records as u64);
            let facts = (from..to).map(|offset| {
                let message = &self.twin.log[offset as usize];
                MessageFacts {
                    offset: Offset(offset),
                    stored_at: message.at,
                    bytes: 100,
                    key: Some(KeyHash::of(&[message.key])),
                    version: Some(message.version),
                    tag: want.needs.tag.then(|| format!("t{}", message.tag).into()),
                    properties: Vec::new(),
                    not_before: message.not_before,
                    only: None,
                    letter: want.needs.letter.then(|| Box::new(message.letter())),
                }
            });
            let feed = Feed {
                group: want.group,
                from: want.from,
                facts: facts.collect(),
                no_messages: Vec::new(),
                end: Offset(to),
            };
            self.send(Asked::Other, QueueCommand::Feed(feed))?;
        }
        Ok(())
    }

    /// Hands over delayed messages among the next `records` of the log; sometimes from too
    /// far back, as a host does that does not know what came of it.
    fn take_in(&mut self, records: usize, dice: u32) -> Result<(), String> {
        let asked = self.looked_at.unwrap_or_default().0;
        let from = asked.saturating_sub(u64::from(dice % 8 / 7) * 10);
        let end = (self.twin.log.len() as u64).min(asked + records as u64);
        let end = self.looked_at.map_or(0, |_| end).max(from);
        let found = (from..end).filter_map(|offset| {
            Some(Found {
                offset: Offset(offset),
                deliver_at: self.twin.log[offset as usize].not_before?,
                payload: Bytes::from_static(b"logged"),
            })
        });
        let take = TakeIn {
            from: Offset(from),
            end: Offset(end),
            found: found.collect(),
        };
        self.send(Asked::Other, QueueCommand::TakeIn(take))
    }

    fn list_delayed(&mut self) -> Result<(), String> {
        let (after, limit) = (None, 1_000);
        self.send(Asked::Delayed, QueueCommand::ListScheduled { after, limit })
    }

    /// Appends what is committed in the outbox; an append that was made is not repeated.
    fn drain(&mut self, batches: usize) -> Result<(), String> {
        let outgoing = self.safe.outgoing().take(batches);
        let outgoing: Vec<_> = outgoing
            .map(|(to, sequence, batch)| (to.clone(), sequence, batch.clone()))
            .collect();
        for (to, sequence, batch) in outgoing {
            let target = self.targets.entry(to.clone()).or_default();
            if sequence < target.next {
                let same = target.batches.get(&sequence) == Some(&batch);
                ensure!(same, "I11: another batch at sequence {sequence} of {to:?}");
            } else {
                // A refusal that nobody has on record was none.
                target.refused.remove(&sequence);
                while let Some(refused) = target.refused.get(&target.next) {
                    target.next += refused;
                }
                ensure!(
                    sequence == target.next,
                    "I11: a gap before {sequence} of {to:?}"
                );
                target.next += batch.messages.len() as u64;
                target.batches.insert(sequence, batch.clone());
                for message in &batch.messages {
                    self.append(&to, message)?;
                }
            }
            self.done.push((to, sequence));
        }
        Ok(())
    }

    /// A destination refuses its first batch for good, or what is aside is sent on.
    fn refuse(&mut self, dice: u32) -> Result<(), String> {
        if dice.is_multiple_of(2) {
            return self.send_on();
        }
        let head = {
            let outgoing = self.safe.outgoing();
            let mut outgoing = outgoing.filter(|(to, ..)| matches!(to, Destination::There(_)));
            outgoing
                .next()
                .map(|(to, sequence, batch)| (to.clone(), sequence, batch.clone()))
        };
        let Some((to, sequence, batch)) = head else {
            return Ok(());
        };
        // What it took before it cannot refuse.
        let target = self.targets.entry(to.clone()).or_default();
        if sequence < target.next {
            return Ok(());
        }
        target.refused.insert(sequence, batch.messages.len() as u64);
        let payloads = batch.messages.iter().map(|message| {
            if let OutgoingMessage::Aside { payload_at, .. } = message {
                let kept = self.journal[payload_at.0 as usize].payload();
                return kept.unwrap().clone();
            }
            postcard::to_stdvec(&(&to, message)).unwrap().into()
        });
        let command = QueueCommand::OutboxRefused {
            destination: to.clone(),
            sequence,
            reason: "gone".into(),
            payloads: payloads.collect(),
        };
        self.send(Asked::Other, command)?;
        // Its lane carries nothing before it knows, unless all of it dies.
        if dice.is_multiple_of(3) {
            self.fail_over(dice)
        } else {
            self.commit(usize::MAX)
        }
    }

    fn send_on(&mut self) -> Result<(), String> {
        let (numbers, to) = (Vec::new(), None);
        self.send(Asked::Other, QueueCommand::SendAside { numbers, to })
    }

    /// What becomes of messages from outside, with so many allowed to wait: of what is
    /// committed the twin knows how many do, at least.
    fn admit(&mut self, messages_max: u64) -> Result<(), String> {
        self.commit(usize::MAX)?;
        let end = self.twin.log.len() as u64;
        let target = Target {
            topic: "elsewhere".into(),
            partition: 0,
        };
        let must = self.twin.waiting(end) >= messages_max;
        let gate = self.safe.gate();
        for on_full in [OnFull::Reject, OnFull::Redirect(target)] {
            let what = ["refused", "redirected"][usize::from(on_full != OnFull::Reject)];
            let default = Capacity {
                messages_max,
                on_full,
            };
            let is_taken = match gate.admission(Offset(end), Some(&default)) {
                Admission::Accept => true,
                Admission::Full { .. } => {
                    ensure!(what == "refused", "refused, not redirected");
                    false
                }
                Admission::Redirect { .. } => {
                    ensure!(what == "redirected", "redirected, not refused");
                    false
                }
            };
            ensure!(!is_taken || !must, "taken though {messages_max} wait");
            let most = self.twin.waiting_at_most(end);
            ensure!(
                is_taken || most >= messages_max,
                "{what} with room: {most} of {messages_max} wait"
            );
            *self.twin.told.entry(what).or_default() += usize::from(!is_taken);
        }
        Ok(())
    }

    fn append(&mut self, to: &Destination, message: &OutgoingMessage) -> Result<(), String> {
        let (number, payload_at) = match message {
            OutgoingMessage::Released {
                deliver_at,
                number,
                payload_at,
            } => {
                ensure!(*deliver_at <= self.now, "Q4: released early");
                (number, payload_at)
            }
            OutgoingMessage::Committed { number, payload_at } => (number, payload_at),
            OutgoingMessage::DeadLetter { offset, facts } => {
                let place = (facts.group.clone(), offset.0);
                *self.twin.dead_letters.entry(place).or_default() += 1;
                let ended = facts.attempts.ended;
                ensure!(ended <= ATTEMPTS_MAX, "Q2: {ended} attempts");
                ensure!(!facts.attempts.history.is_empty(), "no history");
                return Ok(());
            }
            OutgoingMessage::Forwarded { offset } => {
                if let Destination::There(target) = to {
                    let place = (target.partition as usize, offset.0);
                    self.twin.forwards.entry(place).or_default().1 += 1;
                }
                return Ok(());
            }
            OutgoingMessage::Aside { payload_at, .. } => {
                // What was set aside says what it was, and where it was to go.
                let kept = self.journal[payload_at.0 as usize].payload();
                ensure!(kept.is_some(), "S-36: no payload at {payload_at}");
                let (first, message): (Destination, OutgoingMessage) =
                    postcard::from_bytes(kept.unwrap()).unwrap();
                ensure!(first == *to, "{message:?} came to {to:?}");
                self.sent_on += 1;
                return self.append(to, &message);
            }
            OutgoingMessage::Replayed { offset, group } => {
                let letter = self.twin.log[offset.0 as usize].letter();
                ensure!(*group == letter.group, "{offset} replayed for {group:?}");
                let home = letter.origin.map(Destination::There);
                ensure!(home.as_ref() == Some(to), "{offset} replayed to {to:?}");
                *self.twin.replayed.entry(offset.0).or_default() += 1;
                return Ok(());
            }
        };
        *self.twin.appended.entry(*number).or_default() += 1;
        let payload = &self.journal[payload_at.0 as usize];
        let there = if let QueueRecord::Scheduled {
            number: n, payload, ..
        } = payload
        {
            n == number && payload.is_some()
        } else if let QueueRecord::Half { number: n, value } = payload {
            n == number && value.is_some()
        } else {
            false
        };
        ensure!(there, "S-36: {payload:?} is not the payload of {number:?}");
        let is_copy = matches!(
            payload,
            QueueRecord::Scheduled {
                logged: Some(_),
                ..
            }
        );
        ensure!(
            is_copy == (*to == Destination::Copies),
            "{number:?} goes to {to:?}"
        );
        self.produce_with(1, payload_at.0 as u32, false);
        Ok(())
    }

    pub(crate) fn step(&mut self, step: u8, dice: u32) -> Result<(), String> {
        let kind = dice as usize % GROUPS.len();
        let pick = (dice >> 2) as usize;
        let member = |n: u32| -> MemberName { format!("m{}", n % 3).into() };
        match step % 64 {
            0..6 => self.produce(1 + dice % 40, dice >> 6),
            6..20 => {
                self.attempt_ids += u32::from(dice >> 30 != 0);
                let member = member(dice >> 4);
                let receive = Receive {
                    group: GROUPS[kind].into(),
                    member: member.clone(),
                    batch_max: 1 + pick % 40,
                    invisible: None,
                    wait: Duration::from_millis(u64::from(dice >> 20)),
                    filter: None,
                    attempt_id: (dice >> 29 & 1 == 1)
                        .then(|| Arc::from(format!("a{}", self.attempt_ids))),
                    auto_renew: false,
                };
                self.send(Asked::Receive(kind, member), QueueCommand::Receive(receive))?;
            }
            20..30 => {
                let mut chosen: Vec<Receipt> = Vec::new();
                self.receipts.retain(|(of, receipt)| {
                    let take = *of == kind && (receipt.offset.0 ^ u64::from(dice >> 8)) % 8 != 0;
                    if take {
                        chosen.push(*receipt);
                    }
                    !take || dice >> 31 == 1
                });
                let (group, receipts) = (GROUPS[kind].into(), chosen.clone());
                let command = QueueCommand::Ack { group, receipts };
                self.send(Asked::Ack(kind, chosen), command)?;
            }
            30..34 => {
                if let Some((kind, receipt)) = self.pick_receipt(pick) {
                    let command = QueueCommand::Nack {
                        group: GROUPS[kind].into(),
                        receipt,
                        delay: (dice >> 31 == 1)
                            .then(|| Duration::from_millis(u64::from(dice % 900))),
                        cause: EndCause::Nack,
                        note: Some("because".into()),
                    };
                    self.send(Asked::Nack(kind, receipt), command)?;
                }
            }
            34 => {
                if let Some((kind, receipt)) = self.pick_receipt(pick) {
                    let command = QueueCommand::Renew {
                        group: GROUPS[kind].into(),
                        receipt,
                        invisible: Duration::from_secs(3),
                    };
                    self.send(Asked::Renew(kind, receipt), command)?;
                }
            }
            35 if dice >> 31 == 1 => {
                if let Some((kind, receipt)) = self.pick_receipt(pick) {
                    let command = QueueCommand::Forward {
                        group: GROUPS[kind].into(),
                        receipt,
                        target: Target {
                            topic: "elsewhere".into(),
                            partition: kind as u32,
                        },
                    };
                    self.send(Asked::Forward(kind, receipt), command)?;
                }
            }
            35 => {
                if let Some((kind, receipt)) = self.pick_receipt(pick) {
                    let command = QueueCommand::DeadLetter {
                        group: GROUPS[kind].into(),
                        receipt,
                        attempts: 0,
                        note: None,
                    };
                    self.send(Asked::DeadLetter(kind, receipt), command)?;
                }
            }
            36 if dice >> 31 == 1 => {
                let end = self.twin.log.len() as u64;
                let command = QueueCommand::Trim {
                    end: Offset(end),
                    default: None,
                };
                self.send(Asked::Trim(end), command)?;
                self.admit(1 + u64::from(dice >> 8 & 0x7f))?;
            }
            36 => {
                let member = member(dice);
                let asked = Asked::Leave(member.clone());
                self.send(asked, QueueCommand::Leave { member })?;
            }
            37..41 => {
                let id = (dice >> 31 == 1).then_some(dice % 5);
                let end = self.twin.log.len() as u64;
                let most = (dice >> 28)
                    .is_multiple_of(4)
                    .then_some(1 + u64::from(dice >> 4 & 0x7f));
                let room = most.map(|messages_max| Room {
                    end: Offset(end),
                    default: Some(Capacity {
                        messages_max,
                        on_full: OnFull::Reject,
                    }),
                });
                let command = QueueCommand::Schedule(Schedule {
                    deliver_at: Timestamp(self.now.0 - 500 + i64::from(dice >> 8) % 20_000),
                    payload: Bytes::from(vec![7; (dice % 50) as usize]),
                    dedup: id.map(|id| Dedup {
                        id: Bytes::from(id.to_string()),
                        window: None,
                        told: None,
                    }),
                    room,
                });
                let room = most.map(|most| (end, most));
                self.send(Asked::Schedule(id, room), command)?;
            }
            41..43 => {
                let count = self.twin.delayed.len().max(1);
                let handle = self.twin.delayed.keys().nth(pick % count).copied();
                if let Some(handle) = handle {
                    self.twin.delayed.get_mut(&handle).unwrap().asked = true;
                    self.send(Asked::Cancel(handle), QueueCommand::Cancel { handle })?;
                }
            }
            43..45 => {
                let producers = ["p", "q"][(dice % 8 / 7) as usize];
                let command = QueueCommand::Prepare(Prepare {
                    payload: Bytes::from_static(b"half"),
                    producers: producers.into(),
                    check_after: None,
                    room: None,
                    dedup: None,
                });
                self.send(Asked::Prepare(producers), command)?;
            }
            45..48 => self.resolve(dice)?,
            48 => {
                let command = QueueCommand::AwaitChecks {
                    member: member(dice),
                    producers: "p".into(),
                    batch_max: 1 + pick % 3,
                    wait: Duration::from_secs(10),
                };
                self.send(Asked::Checks, command)?;
            }
            49 if dice.is_multiple_of(4) => self.refuse(dice >> 3)?,
            49..51 => self.drain(1 + pick % 4)?,
            51..53 => {
                for (destination, sequence) in std::mem::take(&mut self.done) {
                    let command = QueueCommand::OutboxDone {
                        destination,
                        sequence,
                    };
                    self.send(Asked::Other, command)?;
                }
            }
            53..59 => self.pass(i64::from(dice % 2_500))?,
            59 => {
                if dice.is_multiple_of(4) {
                    let to = u64::from(dice >> 8) % (self.twin.log.len() as u64 + 1);
                    let command = QueueCommand::Seek {
                        group: GROUPS[0].into(),
                        to: Offset(to),
                    };
                    self.send(Asked::Seek(0, to), command)?;
                    self.commit(usize::MAX)?;
                } else {
                    self.replay(dice >> 2)?;
                }
            }
            60 => self.fail_over(dice)?,
            61 if dice.is_multiple_of(4) => self.set(dice >> 2)?,
            _ => self.commit(pick % 30)?,
        }
        if dice.is_multiple_of(3) {
            self.take_in(pick % 30, dice >> 5)?;
        }
        if dice.is_multiple_of(16) {
            self.list_delayed()?;
        }
        self.feed(1 + dice as usize % 50)?;
        if step >= 64 {
            self.commit(usize::MAX)?;
        }
        Ok(())
    }

    /// Changes what is delivered beside what, and a filter: what is in flight stays so.
    fn set(&mut self, dice: u32) -> Result<(), String> {
        let kind = (dice % 3) as usize;
        let mut settings = settings(kind);
        settings.pacing.key_concurrency = (dice >> 3 & 1 == 1).then_some(2);
        if kind == 2 && dice >> 4 & 1 == 1 {
            settings.filter = Filter::Tags("t0".into());
        }
        let command = QueueCommand::EnsureGroup {
            group: GROUPS[kind].into(),
            settings,
            start: Offset(0),
            replace: true,
        };
        self.send(Asked::Other, command)
    }

    /// Begins a replay of the log as dead letters, or changes the newest.
    fn replay(&mut self, dice: u32) -> Result<(), String> {
        let text = |text: String| Some(Arc::from(text));
        let pick = dice >> 8;
        let filter = match (dice >> 3) % 7 {
            0 => ReplayFilter {
                key: text((pick % 5).to_string()),
                ..ReplayFilter::default()
            },
            1 => ReplayFilter {
                tag: text(format!("t{}", pick % 2)),
                ..ReplayFilter::default()
            },
            2 => ReplayFilter {
                cause: text("nack".to_owned()),
                ..ReplayFilter::default()
            },
            3 => ReplayFilter {
                since: Some(Timestamp(self.now.0 - i64::from(pick % 9_000))),
                ..ReplayFilter::default()
            },
            4 => ReplayFilter {
                until: Some(Timestamp(self.now.0 - i64::from(pick % 3_000))),
                ..ReplayFilter::default()
            },
            5 => ReplayFilter {
                group: Some(GROUPS[(pick % 2) as usize].into()),
                ..ReplayFilter::default()
            },
            _ => ReplayFilter::default(),
        };
        let newest = self.twin.replays.keys().next_back().copied();
        let newest = newest.unwrap_or_default();
        let change = match dice % 8 {
            0..3 => {
                let dry_run = (dice >> 12).is_multiple_of(2);
                let rate = (dice >> 16).is_multiple_of(2).then_some(20 + pick % 200);
                self.start_replay(filter, rate, dry_run)?;
                if !(dice >> 20).is_multiple_of(3) {
                    return Ok(());
                }
                self.commit(usize::MAX)?;
                let begun = self.twin.replays.keys().next_back().copied();
                return self.change_replay(begun.unwrap_or_default(), ReplayChange::Pause);
            }
            3..5 => ReplayChange::Pause,
            5 | 6 => ReplayChange::Resume,
            _ => ReplayChange::Cancel,
        };
        self.change_replay(newest, change)
    }

    fn start_replay(
        &mut self,
        filter: ReplayFilter,
        rate: Option<u32>,
        dry_run: bool,
    ) -> Result<(), String> {
        let start = StartReplay {
            begin: Offset(0),
            end: Offset(self.twin.log.len() as u64),
            filter,
            rate,
            dry_run,
            by: "operator".into(),
        };
        let command = QueueCommand::Replay(ReplayCommand::Start(start));
        self.send(Asked::Other, command)
    }

    fn change_replay(&mut self, replay: EntryNumber, change: ReplayChange) -> Result<(), String> {
        let by = "operator".into();
        let command = ReplayCommand::Change { replay, change, by };
        self.send(Asked::Other, QueueCommand::Replay(command))
    }

    fn list_replays(&mut self) -> Result<(), String> {
        let all = 0..self.twin.log.len() as u64;
        let command = ReplayCommand::List {
            start: Offset(0),
            of: all.map(Offset).collect(),
        };
        self.send(Asked::Replays, QueueCommand::Replay(command))?;
        self.commit(usize::MAX)
    }

    fn pick_receipt(&mut self, pick: usize) -> Option<(usize, Receipt)> {
        let count = self.receipts.len().max(1);
        self.receipts.get(pick % count).copied()
    }

    fn resolve(&mut self, dice: u32) -> Result<(), String> {
        let count = self.twin.halves.len().max(1);
        let nth = (dice >> 4) as usize % count;
        let Some(mut handle) = self.twin.halves.keys().nth(nth).copied() else {
            return Ok(());
        };
        let decision = [Decision::Commit, Decision::Rollback][(dice % 2) as usize];
        let source = DecisionSource::Producer;
        let mut asked = Asked::Resolve(handle, decision);
        if dice >> 29 == 0 {
            let forged = format!("7.{:x}.{:016x}", handle.number.0, dice);
            handle = HalfHandle::parse(&forged).unwrap();
            asked = Asked::Forged;
        }
        let command = QueueCommand::Resolve {
            handle,
            decision,
            source,
        };
        self.send(asked, command)
    }

    /// No more faults: everything must come to its end.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.commit(usize::MAX)?;
        self.fail_over(0)?;
        self.ensure_groups()?;
        if let Some(newest) = self.twin.replays.keys().next_back().copied() {
            self.change_replay(newest, ReplayChange::Resume)?;
        }
        let mut is_last_replay = false;
        for round in 0..2_000 {
            for (kind, group) in GROUPS.into_iter().enumerate() {
                let receive = Receive {
                    group: group.into(),
                    member: "last".into(),
                    batch_max: 64,
                    invisible: None,
                    wait: Duration::from_millis(200),
                    filter: None,
                    attempt_id: None,
                    auto_renew: false,
                };
                self.send(
                    Asked::Receive(kind, "last".into()),
                    QueueCommand::Receive(receive),
                )?;
            }
            let command = QueueCommand::AwaitChecks {
                member: "last".into(),
                producers: "p".into(),
                batch_max: 100,
                wait: Duration::from_millis(200),
            };
            self.send(Asked::Checks, command)?;
            self.take_in(50, 0)?;
            self.feed(50)?;
            self.commit(usize::MAX)?;
            for (kind, group) in GROUPS.into_iter().enumerate() {
                let held = self.twin.groups[kind].leases.values();
                let receipts: Vec<Receipt> = held.map(|lease| lease.delivery.receipt).collect();
                let command = QueueCommand::Ack {
                    group: group.into(),
                    receipts: receipts.clone(),
                };
                self.send(Asked::Ack(kind, receipts), command)?;
            }
            self.commit(usize::MAX)?;
            self.drain(usize::MAX)?;
            for (destination, sequence) in std::mem::take(&mut self.done) {
                let command = QueueCommand::OutboxDone {
                    destination,
                    sequence,
                };
                self.send(Asked::Other, command)?;
            }
            self.pass(300)?;
            self.commit(usize::MAX)?;
            let going = self.safe.outgoing().next().is_some() || self.safe.departing() > 0;
            let looked_at = self.looked_at.unwrap_or_default().0;
            let unseen = looked_at < self.twin.log.len() as u64;
            let waits = going || unseen || self.safe.scheduled() > 0;
            self.send_on()?;
            self.commit(usize::MAX)?;
            let waits = waits || self.safe.aside() > 0;
            let mut replays = self.twin.replays.values();
            let waits = waits || replays.any(|replay| !replay.state.is_over());
            if !waits && round > 100 && self.is_drained() {
                if is_last_replay {
                    self.list_replays()?;
                    return self.verdict();
                }
                // Before the last one makes up for what they left behind.
                self.list_replays()?;
                self.replays_verdict()?;
                is_last_replay = true;
                self.start_replay(ReplayFilter::default(), None, false)?;
            }
        }
        self.verdict()
    }

    /// How often what matters happened: a history in which nothing does proves nothing.
    pub(crate) fn coverage(&self) -> Coverage {
        let twin = &self.twin;
        let is = |decision| move |d: &&Option<Decision>| **d == Some(decision);
        let seen =
            |wanted: fn(&QueueRecord) -> bool| self.journal.iter().filter(|r| wanted(r)).count();
        let ended = |cause: EndCause| {
            let is_so = |attempts: &StoredAttempts| {
                attempts
                    .history
                    .last()
                    .is_some_and(|end| end.cause == cause)
            };
            let such = self.journal.iter().filter(|record| {
                if let QueueRecord::Attempts {
                    value: Some(attempts),
                    ..
                } = record
                {
                    return is_so(attempts);
                }
                let QueueRecord::Departing {
                    value: Some(going), ..
                } = record
                else {
                    return false;
                };
                let OutgoingMessage::DeadLetter { facts, .. } = &going.message else {
                    return false;
                };
                is_so(&facts.attempts)
            });
            such.count()
        };
        let finished = |of: fn(&Counts) -> u64| {
            let blocks = self.journal.iter().filter(|record| {
                let QueueRecord::Block {
                    value: Some(block), ..
                } = record
                else {
                    return false;
                };
                block.counts.iter().any(|(_, counts)| of(counts) > 0)
            });
            blocks.count()
        };
        // What a history did not come to counts as never.
        let mut coverage = BTreeMap::from(TOLD.map(|what| (what, 0)));
        coverage.extend(&twin.told);
        coverage.extend([
            ("nack", ended(EndCause::Nack)),
            ("rejected", ended(EndCause::Rejected)),
            ("lease timeout", ended(EndCause::LeaseTimeout)),
            ("disconnected", ended(EndCause::Disconnected)),
            ("filtered", finished(|counts| counts.filtered)),
            ("superseded", finished(|counts| counts.superseded)),
            ("dropped", finished(|counts| counts.dropped)),
            (
                "set aside",
                seen(|r| matches!(r, QueueRecord::Aside { value: Some(_), .. })),
            ),
            ("fail-overs", self.reigns as usize),
            (
                "acknowledged",
                twin.groups.iter().map(|g| g.acked.len()).sum(),
            ),
            ("dead letters", twin.dead_letters.len()),
            ("forwarded", twin.forwards.len()),
            ("sought", twin.groups[0].sought.len()),
            (
                "released",
                twin.delayed
                    .keys()
                    .filter(|h| twin.appended.contains_key(&h.number))
                    .count(),
            ),
            (
                "cancelled",
                twin.delayed.values().filter(|d| d.cancelled).count(),
            ),
            (
                "too late to cancel",
                twin.delayed.values().filter(|d| d.fired).count(),
            ),
            (
                "committed",
                twin.halves.values().filter(is(Decision::Commit)).count(),
            ),
            (
                "rolled back",
                twin.halves.values().filter(is(Decision::Rollback)).count(),
            ),
            ("asked about", twin.checks.len()),
            ("given behind another", twin.groups[1].followed),
            ("called back", twin.groups[1].called_back),
            ("settled ahead", twin.groups[1].settled_ahead),
            (
                "parked",
                seen(
                    |r| matches!(r, QueueRecord::HalfChecks { value: Some(checks), .. } if checks.parked),
                ),
            ),
            (
                "retries",
                seen(|r| matches!(r, QueueRecord::Attempts { value: Some(_), .. })),
            ),
            (
                "cursor moves",
                seen(|r| matches!(r, QueueRecord::Cursor { .. })),
            ),
            (
                "remembered ids",
                seen(|r| matches!(r, QueueRecord::Dedup { value: Some(_), .. })),
            ),
            (
                "forgotten ids",
                seen(|r| matches!(r, QueueRecord::Dedup { value: None, .. })),
            ),
            ("sent on", self.sent_on),
            ("taken in", twin.taken_in.len()),
            (
                "copied",
                twin.taken_in
                    .values()
                    .flatten()
                    .filter(|number| twin.appended.contains_key(number))
                    .count(),
            ),
            (
                "taken in and cancelled",
                twin.delayed
                    .iter()
                    .filter(|(handle, delayed)| {
                        let mut taken = twin.taken_in.values().flatten();
                        delayed.cancelled && taken.any(|number| *number == handle.number)
                    })
                    .count(),
            ),
            ("replayed", twin.replayed.len()),
            (
                "replays done",
                twin.replays
                    .values()
                    .filter(|r| r.position == r.end)
                    .count(),
            ),
            (
                "replays paused",
                seen(
                    |r| matches!(r, QueueRecord::Replay { value: Some(r), .. } if r.state == ReplayState::Paused),
                ),
            ),
            (
                "replays at a rate",
                seen(
                    |r| matches!(r, QueueRecord::Replay { value: Some(r), .. } if r.rate.is_some() && r.moved > 0),
                ),
            ),
            (
                "dry runs",
                twin.replays
                    .values()
                    .filter(|r| r.dry_run && r.moved > 0)
                    .count(),
            ),
            (
                "versions",
                seen(|r| matches!(r, QueueRecord::Version { .. })),
            ),
        ]);
        coverage
    }

    fn is_drained(&self) -> bool {
        let end = self.twin.log.len() as u64;
        let log = &self.twin.log;
        let is_over =
            |kind: usize, o| self.twin.groups[kind].is_final(o) || log[o as usize].comes_later();
        let group = |kind: usize| (0..end).all(|o| is_over(kind, o));
        group(0) && group(1)
    }

    /// A letter is moved back once if any replay wanted it, and the list says so.
    fn replays_verdict(&self) -> Result<(), String> {
        let twin = &self.twin;
        let moved = |replay: &&StoredReplay| !replay.dry_run;
        let counted: u64 = twin.replays.values().filter(moved).map(|r| r.moved).sum();
        let made: u32 = twin.replayed.values().sum();
        ensure!(counted == u64::from(made), "{made} of {counted} replayed");
        for (offset, message) in (0..).zip(&twin.log) {
            let copies = twin.replayed.get(&offset).copied().unwrap_or(0);
            let is_due = twin.replays.values().filter(moved).any(|replay| {
                let is_seen = offset < replay.position.0 && replay.state == ReplayState::Done;
                is_seen && message.is_wanted(&replay.filter)
            });
            ensure!(copies == 1 || !is_due, "{copies} replays of {offset}");
            ensure!(copies == 0 || message.key != 4, "{offset} had no home");
            let is_listed = !twin.report.among.contains(&Offset(offset));
            ensure!(
                is_listed == (copies == 0),
                "{offset} is listed: {is_listed}, with {copies} replays"
            );
        }
        let told = twin.report.moved_back;
        ensure!(told == twin.replayed.len() as u64, "{told} told");
        ensure!(twin.report.on_the_way == 0, "on the way for ever");
        Ok(())
    }

    fn verdict(&mut self) -> Result<(), String> {
        let twin = &self.twin;
        let end = twin.log.len() as u64;
        for (kind, group) in twin.groups.iter().enumerate() {
            let name: GroupName = GROUPS[kind].into();
            for offset in 0..end {
                let message = &twin.log[offset as usize];
                let wanted = (kind != 2 || message.tag == 0) && kind < 3;
                let settled = group.is_final(offset);
                let passed_over = message.comes_later();
                let over = settled || passed_over;
                ensure!(over || !wanted, "C14: {offset} is lost to {name}");
                let copies = twin.dead_letters.get(&(name.clone(), offset));
                let copies = copies.copied().unwrap_or(0);
                let dead = group.dead.contains(&offset);
                ensure!(
                    copies == u32::from(dead) || kind == 0,
                    "C20: {copies} dead letters of {offset} of {name}"
                );
                ensure!(copies > 0 || !dead, "C20: no dead letter of {offset}");
            }
        }
        for key in 0..5 {
            let is_ours = |o: &u64| {
                let message = &twin.log[*o as usize];
                message.key == key && !message.comes_later()
            };
            let ours = (0..end).filter(is_ours);
            let newest = ours.max_by_key(|o| twin.log[*o as usize].version);
            let version = newest.map(|o| twin.log[o as usize].version);
            let mut ours = (0..end).filter(is_ours);
            let settled = ours.any(|o| {
                Some(twin.log[o as usize].version) == version && twin.groups[3].is_final(o)
            });
            ensure!(
                version.is_none() || settled,
                "C21: the newest version is lost"
            );
        }
        for ((kind, offset), (told, made)) in &twin.forwards {
            ensure!(
                told == made,
                "{made} of {told} copies of {offset} of group {kind}"
            );
        }
        self.replays_verdict()?;
        let twin = &self.twin;
        for (handle, delayed) in &twin.delayed {
            let copies = twin.appended.get(&handle.number).copied().unwrap_or(0);
            ensure!(copies <= 1, "C17: doubled");
            ensure!(
                copies == 0 || !delayed.cancelled,
                "C17: cancelled and delivered"
            );
            ensure!(
                copies == 1 || !delayed.fired,
                "C17: said to be fired, and lost"
            );
            ensure!(copies == 1 || delayed.cancelled, "C17: lost");
        }
        for (offset, message) in (0..).zip(&twin.log) {
            let taken = twin.taken_in.get(&offset).map_or(&[][..], |taken| taken);
            ensure!(
                taken.len() == usize::from(message.comes_later()),
                "C17: {offset} was taken in as {taken:?}"
            );
            let mut handles = twin.delayed.iter();
            let [number] = taken else { continue };
            let cancelled = handles.any(|(h, delayed)| h.number == *number && delayed.cancelled);
            let copies = twin.appended.get(number).copied().unwrap_or(0);
            // Whether a cancellation that nobody heard of took place is not known.
            let asked = twin
                .delayed
                .iter()
                .any(|(h, d)| h.number == *number && d.asked);
            ensure!(copies <= 1, "C17: {offset} doubled");
            ensure!(
                copies == 0 || !cancelled,
                "C17: {offset} cancelled and sent"
            );
            ensure!(copies == 1 || cancelled || asked, "C17: {offset} lost");
        }
        for (handle, decision) in &twin.halves {
            let copies = twin.appended.get(&handle.number).copied().unwrap_or(0);
            match decision {
                Some(Decision::Commit) => ensure!(copies == 1, "C18: {copies} of a commit"),
                Some(Decision::Rollback) => ensure!(copies == 0, "C18: rolled back, visible"),
                None => {
                    ensure!(copies == 0, "C18: undecided, visible");
                    let asked = twin.checks.contains_key(handle) || twin.producers[handle] != "p";
                    ensure!(asked, "T7: never asked about");
                }
            }
        }
        Ok(())
    }
}
