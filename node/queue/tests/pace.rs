//! A group's pace over a topic's partitions, in simulated time: machines that are ticked late,
//! and members that come and go between nodes.
#![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

use std::collections::BTreeMap;

use weir_base::machine::{Decision as Out, Machine, Token};
use weir_base::{Offset, Timestamp};
use weir_queue::*;

/// More than anybody delivers in a run.
const BACKLOG: u64 = 1_000_000;

/// One partition's machine with more messages than it will deliver.
struct Partition {
    state: QueueState,
    live: QueueLive,
    records: u64,
    tokens: u64,
    replies: BTreeMap<Token, QueueReply>,
    delivered: u64,
    /// Receives that were answered with something.
    answers: u64,
    /// When its host comes round to a tick that is due.
    late_until: Option<i64>,
}

impl Partition {
    fn new(index: u32, partitions: u32, rate: Rate) -> Self {
        let live = QueueLive::new(QueueOptions::default(), index, 1);
        let mut partition = Self {
            state: QueueState::default(),
            live: live.with_partitions(partitions),
            records: 0,
            tokens: 0,
            replies: BTreeMap::new(),
            delivered: 0,
            answers: 0,
            late_until: None,
        };
        let pacing = Pacing {
            rate,
            ..Pacing::default()
        };
        let made = QueueCommand::EnsureGroup {
            group: "g".into(),
            settings: GroupSettings {
                pacing,
                ..GroupSettings::default()
            },
            start: Offset(0),
            replace: false,
        };
        partition.ask(0, made);
        partition
    }

    fn ask(&mut self, now: i64, command: QueueCommand) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        let mut out = Out::default();
        QueueMachine::decide(
            &self.state,
            &mut self.live,
            Timestamp(now),
            token,
            command,
            &mut out,
        );
        self.take(now, out);
        token
    }

    fn take(&mut self, now: i64, out: Out<QueueRecord, QueueReply>) {
        for record in out.records {
            QueueMachine::apply(&mut self.state, Offset(self.records), &record);
            self.records += 1;
        }
        self.replies.extend(out.replies);
        for want in QueueMachine::wants(&self.state, &mut self.live) {
            let end = Offset(BACKLOG.min(want.from.0 + want.records_max as u64));
            let facts = (want.from.0..end.0).map(|offset| MessageFacts {
                offset: Offset(offset),
                stored_at: Timestamp(0),
                bytes: 100,
                key: None,
                version: None,
                tag: None,
                properties: Vec::new(),
                not_before: None,
                only: None,
                letter: None,
            });
            let feed = Feed {
                group: want.group,
                from: want.from,
                facts: facts.collect(),
                no_messages: Vec::new(),
                end,
            };
            self.ask(now, QueueCommand::Feed(feed));
        }
    }

    /// Ticks it if it is due, or was up to `late` ms ago.
    fn tick(&mut self, now: i64, late: i64) {
        let due = QueueMachine::next_deadline(&self.state, &self.live);
        if due.is_none_or(|due| due.0 > now) {
            return;
        }
        if now >= *self.late_until.get_or_insert(now + late) {
            self.late_until = None;
            let mut out = Out::default();
            let now_then = Timestamp(now);
            QueueMachine::on_tick(&self.state, &mut self.live, now_then, &mut out);
            self.take(now, out);
        }
    }

    fn receive(&mut self, now: i64, batch_max: usize) -> Token {
        let receive = Receive {
            group: "g".into(),
            member: "m".into(),
            batch_max,
            invisible: None,
            wait_until: Timestamp(now + 30_000),
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        self.ask(now, QueueCommand::Receive(receive))
    }

    /// Settles what a receive was given, if it was answered.
    fn settle(&mut self, now: i64, asked: Token) -> Option<usize> {
        let Some(QueueReply::Receive(Ok(given))) = self.replies.remove(&asked) else {
            return None;
        };
        self.delivered += given.len() as u64;
        self.answers += u64::from(!given.is_empty());
        let receipts = given.iter().map(|given| given.receipt).collect();
        let group = "g".into();
        self.ask(now, QueueCommand::Ack { group, receipts });
        Some(given.len())
    }
}

/// A member that asks one partition after the other, and pauses between.
struct Member {
    at: usize,
    asked: Option<Token>,
    next: i64,
}

/// A run of a topic.
struct Topic {
    partitions: Vec<Partition>,
    members: Vec<Member>,
    now: i64,
    random: u64,
    /// How late ticks are at most, and how long members pause at most, in ms.
    late: i64,
    pause: i64,
    batch: usize,
}

impl Topic {
    fn new(rates: &[Rate], members: usize) -> Self {
        let count = u32::try_from(rates.len()).unwrap();
        let partitions = (0..count).zip(rates);
        Self {
            partitions: partitions
                .map(|(index, rate)| Partition::new(index, count, *rate))
                .collect(),
            members: (0..members)
                .map(|at| Member {
                    at: at % rates.len(),
                    asked: None,
                    next: 0,
                })
                .collect(),
            now: 0,
            random: 1,
            late: 0,
            pause: 0,
            batch: 32,
        }
    }

    fn draw(&mut self, most: i64) -> i64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.random >> 33) % (most.unsigned_abs() + 1)).cast_signed()
    }

    /// Lets time pass; gives how many messages were delivered in it.
    fn run(&mut self, millis: i64) -> u64 {
        let before = self.delivered();
        for _ in 0..millis {
            self.now += 1;
            let now = self.now;
            for index in 0..self.partitions.len() {
                let late = self.draw(self.late);
                self.partitions[index].tick(now, late);
            }
            for index in 0..self.members.len() {
                let pause = self.draw(self.pause);
                let count = self.partitions.len();
                let member = &mut self.members[index];
                let partition = &mut self.partitions[member.at];
                match member.asked {
                    Some(asked) if partition.settle(now, asked).is_some() => {
                        (member.asked, member.next) = (None, now + pause);
                        member.at = (member.at + 1) % count;
                    }
                    Some(_) => {}
                    None if member.next <= now => {
                        member.asked = Some(partition.receive(now, self.batch));
                    }
                    None => {}
                }
            }
        }
        self.delivered() - before
    }

    fn delivered(&self) -> u64 {
        self.partitions.iter().map(|p| p.delivered).sum()
    }
}

fn assert_near(got: u64, wanted: u64, percent: u64, what: &str) {
    let off = got.abs_diff(wanted) * 100;
    assert!(off <= wanted * percent, "{what}: {got}, not {wanted}");
}

#[test]
fn a_rate_of_the_topic_stays_when_it_grows() {
    for (before, after) in [(1u32, 2u32), (2, 3), (3, 7)] {
        let rates = vec![Rate::Topic(1_000); before as usize];
        let mut topic = Topic::new(&rates, 16);
        topic.run(2_000);
        assert_near(topic.run(10_000), 10_000, 1, "before");
        // Groups on new partitions are made as they are on the others.
        for index in before..after {
            let made = Partition::new(index, after, Rate::Topic(1_000));
            topic.partitions.push(made);
        }
        let now = topic.now;
        for partition in &mut topic.partitions {
            partition.ask(now, QueueCommand::Partitions { count: after });
        }
        topic.run(2_000);
        assert_near(topic.run(10_000), 10_000, 1, "after");
    }
}

#[test]
fn a_rate_below_the_number_of_partitions_is_kept() {
    let mut topic = Topic::new(&[Rate::Topic(2); 5], 16);
    topic.run(10_000);
    assert_near(topic.run(60_000), 120, 5, "2 a second over 5 partitions");
}
