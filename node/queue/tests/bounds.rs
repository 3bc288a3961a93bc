//! A queue's capacity holds whatever is sent to it: plain counters beside random clients.
//!
//! The host in miniature appends what the gate admits, and what the queue itself sends; the
//! counters know what waits in the log and what is kept. Always: as long as the group refuses
//! or redirects, all of it together is at most its capacity; if it drops its oldest, what is
//! kept is. And nobody is refused while there is room.
#![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_base::machine::{Decision as Out, Machine, Token};
use weir_base::{Offset, Timestamp};
use weir_queue::*;

const MAX: u64 = 8;

struct Queue {
    state: QueueState,
    live: QueueLive,
    records: u64,
    now: Timestamp,
    tokens: u64,
    replies: BTreeMap<Token, QueueReply>,
    wants: Vec<Want>,
    /// Messages of the log.
    end: u64,
    settled: u64,
    delayed: BTreeSet<ScheduleHandle>,
    halves: BTreeSet<HalfHandle>,
    /// Whether the limit is the topic's.
    by_default: bool,
    capacity: Capacity,
    refusals: u32,
}

impl Queue {
    fn new(on_full: OnFull, by_default: bool) -> Self {
        let capacity = Capacity {
            messages_max: MAX,
            on_full,
        };
        let mut queue = Self {
            state: QueueState::default(),
            live: QueueLive::new(QueueOptions::default(), 0, 1),
            records: 0,
            now: Timestamp(1_000_000),
            tokens: 0,
            replies: BTreeMap::new(),
            wants: Vec::new(),
            end: 0,
            settled: 0,
            delayed: BTreeSet::new(),
            halves: BTreeSet::new(),
            by_default,
            capacity,
            refusals: 0,
        };
        let settings = GroupSettings {
            capacity: (!by_default).then(|| queue.capacity.clone()),
            ..GroupSettings::default()
        };
        queue.ask(QueueCommand::EnsureGroup {
            group: "g".into(),
            settings,
            start: Offset(0),
            replace: false,
        });
        queue
    }

    fn default(&self) -> Option<Capacity> {
        self.by_default.then(|| self.capacity.clone())
    }

    fn room(&self) -> Option<Room> {
        Some(Room {
            end: Offset(self.end),
            default: self.default(),
        })
    }

    fn ask(&mut self, command: QueueCommand) -> Option<QueueReply> {
        self.tokens += 1;
        let mut out = Out::default();
        let (token, now) = (Token(self.tokens), self.now);
        QueueMachine::decide(&self.state, &mut self.live, now, token, command, &mut out);
        self.take(out);
        self.replies.remove(&token)
    }

    fn take(&mut self, out: Out<QueueRecord, QueueReply>) {
        for record in out.records {
            QueueMachine::apply(&mut self.state, Offset(self.records), &record);
            self.records += 1;
        }
        self.replies.extend(out.replies);
        self.wants
            .extend(QueueMachine::wants(&self.state, &mut self.live));
    }

    /// Feeds what it wants, and appends what it sends, which nobody may refuse.
    fn settle(&mut self) {
        loop {
            let sent = self.state.outgoing().next();
            let sent = sent.map(|(to, sequence, batch)| (to.clone(), sequence, batch.clone()));
            if let Some((destination, sequence, batch)) = sent {
                assert_eq!(destination, Destination::Here);
                self.end += batch.messages.len() as u64;
                self.ask(QueueCommand::OutboxDone {
                    destination,
                    sequence,
                });
                continue;
            }
            let due = QueueMachine::next_deadline(&self.state, &self.live);
            if due.is_some_and(|due| due <= self.now) {
                let mut out = Out::default();
                QueueMachine::on_tick(&self.state, &mut self.live, self.now, &mut out);
                self.take(out);
                continue;
            }
            let ready = self.wants.iter().position(|want| want.from.0 < self.end);
            let Some(want) = ready.map(|at| self.wants.remove(at)) else {
                break;
            };
            let facts = (want.from.0..self.end).map(|offset| MessageFacts {
                bytes: 1,
                ..support::plain(offset, self.now)
            });
            let feed = Feed {
                group: want.group,
                from: want.from,
                facts: facts.collect(),
                no_messages: Vec::new(),
                end: Offset(self.end),
            };
            self.ask(QueueCommand::Feed(feed));
        }
        if self.capacity.on_full == OnFull::DropOldest {
            let (end, default) = (Offset(self.end), self.default());
            if self.state.gate().wants_trim(end, default.as_ref()) {
                let trimmed = self.ask(QueueCommand::Trim { end, default });
                let Some(QueueReply::Trim(dropped)) = trimmed else {
                    panic!("{trimmed:?}");
                };
                self.settled += dropped;
            }
        }
    }

    fn kept(&self) -> u64 {
        (self.delayed.len() + self.halves.len()) as u64
    }

    fn has_room(&self) -> bool {
        match self.capacity.on_full {
            OnFull::DropOldest => self.kept() < MAX,
            OnFull::Reject | OnFull::Redirect(_) => self.end - self.settled + self.kept() < MAX,
        }
    }

    /// A message was kept, or the refusal is due and says why.
    fn kept_or_full<T>(&mut self, kept: Result<T, QueueError>, had_room: bool) -> Option<T> {
        match kept {
            Ok(kept) => {
                assert!(had_room, "a full queue keeps one more");
                Some(kept)
            }
            Err(error) => {
                let full = QueueError::Full {
                    group: "g".into(),
                    messages_max: MAX,
                };
                assert_eq!(error, full);
                assert!(!had_room, "a queue with room refuses");
                self.refusals += 1;
                None
            }
        }
    }

    /// Waits for messages as long as a receive waits.
    fn receive(&mut self) -> Vec<Delivery> {
        let asked = self.ask(QueueCommand::Receive(Receive {
            group: "g".into(),
            member: "m".into(),
            batch_max: 3,
            invisible: None,
            wait: Duration::ZERO,
            filter: None,
            attempt_id: None,
            auto_renew: false,
        }));
        let token = Token(self.tokens);
        self.settle();
        let mut answer = asked.or_else(|| self.replies.remove(&token));
        if answer.is_none() {
            self.now = self.now + QueueOptions::default().wait_min;
            self.settle();
            answer = self.replies.remove(&token);
        }
        match answer {
            Some(QueueReply::Receive(Ok(given))) => given,
            other => panic!("{other:?}"),
        }
    }

    fn step(&mut self, verb: u64, dice: u64) {
        let (had_room, room) = (self.has_room(), self.room());
        match verb {
            0 | 1 => {
                let gate = self.state.gate();
                let admission = gate.admission(Offset(self.end), self.default().as_ref());
                let drops = self.capacity.on_full == OnFull::DropOldest;
                assert_eq!(admission == Admission::Accept, had_room || drops);
                self.end += u64::from(admission == Admission::Accept);
            }
            2 | 3 => {
                let asked = self.ask(QueueCommand::Schedule(Schedule {
                    deliver_at: Timestamp(self.now.0 + (dice % 3_000).cast_signed()),
                    payload: vec![1].into(),
                    dedup: None,
                    room,
                }));
                let Some(QueueReply::Schedule(kept)) = asked else {
                    panic!("{asked:?}");
                };
                match self.kept_or_full(kept, had_room) {
                    Some(Scheduled::Kept(handle)) => assert!(self.delayed.insert(handle)),
                    Some(Scheduled::Duplicate { .. }) => panic!("no id was given"),
                    None => {}
                }
            }
            4 => {
                let asked = self.ask(QueueCommand::Prepare(Prepare {
                    payload: vec![1].into(),
                    producers: "p".into(),
                    check_after: None,
                    dedup: None,
                    room,
                }));
                let Some(QueueReply::Prepare(kept)) = asked else {
                    panic!("{asked:?}");
                };
                match self.kept_or_full(kept, had_room) {
                    Some(Prepared::Kept(handle)) => assert!(self.halves.insert(handle)),
                    Some(Prepared::Duplicate { .. }) => panic!("no id was given"),
                    None => {}
                }
            }
            5 => {
                let pick = usize::try_from(dice).unwrap() % self.halves.len().max(1);
                let Some(handle) = self.halves.iter().nth(pick).copied() else {
                    return;
                };
                self.halves.remove(&handle);
                let decision = match dice % 2 {
                    0 => Decision::Commit,
                    _ => Decision::Rollback,
                };
                let source = DecisionSource::Producer;
                self.ask(QueueCommand::Resolve {
                    handle,
                    decision,
                    source,
                });
            }
            6 => {
                let given = self.receive();
                self.settled += given.len() as u64;
                self.ask(QueueCommand::Ack {
                    group: "g".into(),
                    receipts: given.iter().map(|given| given.receipt).collect(),
                });
            }
            _ => {
                self.now = Timestamp(self.now.0 + (dice % 400).cast_signed());
            }
        }
        self.settle();
        let now = self.now;
        self.delayed.retain(|handle| handle.deliver_at > now);
        let waiting = self.end - self.settled;
        match self.capacity.on_full {
            OnFull::DropOldest => assert!(self.kept() <= MAX, "{} kept", self.kept()),
            OnFull::Reject | OnFull::Redirect(_) => {
                let held = waiting + self.kept();
                assert!(held <= MAX, "{waiting} wait and {} are kept", self.kept());
            }
        }
    }
}

#[test]
fn a_limit_holds_for_what_waits_and_what_is_kept() {
    let overflow = Target {
        topic: "overflow".into(),
        partition: 0,
    };
    for on_full in [
        OnFull::Reject,
        OnFull::Redirect(overflow),
        OnFull::DropOldest,
    ] {
        for by_default in [false, true] {
            let mut queue = Queue::new(on_full.clone(), by_default);
            let mut random = 7u64;
            for _ in 0..20_000 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                queue.step((random >> 60) % 8, random >> 20 & 0xffff);
            }
            assert!(queue.refusals > 100, "{on_full:?}: {}", queue.refusals);
            assert!(queue.settled > 1_000, "{on_full:?}: {}", queue.settled);
        }
    }
}
