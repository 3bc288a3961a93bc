//! A group's pace over a topic's partitions, in simulated time: machines that are ticked late,
//! and members that come and go between nodes.
#![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use weir_base::machine::{Decision as Out, Machine, Token};
use weir_base::{Offset, Timestamp};
use weir_queue::*;

/// One partition's machine with more messages than it will deliver.
struct Partition {
    state: QueueState,
    live: QueueLive,
    records: u64,
    /// Messages that it has.
    backlog: u64,
    wants: Vec<Want>,
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
            backlog: u64::MAX,
            wants: Vec::new(),
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
        self.wants
            .extend(QueueMachine::wants(&self.state, &mut self.live));
        self.feed(now);
    }

    fn feed(&mut self, now: i64) {
        let backlog = self.backlog;
        let ready = |want: &Want| want.from.0 < backlog;
        while let Some(at) = self.wants.iter().position(ready) {
            let want = self.wants.remove(at);
            let end = Offset(backlog.min(want.from.0 + want.records_max as u64));
            let facts = (want.from.0..end.0).map(|offset| support::plain(offset, Timestamp(0)));
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
            wait: Duration::from_secs(30),
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
    /// Whether members stay where they are: those that ask one partition after the other have
    /// no more than the slowest of them gives, as often as there are partitions.
    are_pinned: bool,
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
            are_pinned: false,
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
                        if !self.are_pinned {
                            member.at = (member.at + 1) % count;
                        }
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

/// What a busy machine does: ticks 30 ms late, members that take up to 100 ms from one
/// receive to the next, or ask for few.
#[test]
fn a_rate_is_kept_though_all_are_late() {
    let even = vec![Rate::Topic(1_000); 3];
    let uneven = [700, 200, 99, 1].map(Rate::Partition).to_vec();
    let slow = vec![Rate::Topic(50); 3];
    for (rates, rate, members, batch) in [
        (&even, 1_000, 16, 32),
        (&even, 1_000, 48, 4),
        (&uneven, 1_000, 16, 64),
        (&slow, 50, 16, 32),
    ] {
        let mut topic = Topic::new(rates, members);
        (topic.late, topic.pause, topic.batch) = (30, 100, batch);
        topic.are_pinned = *rates == uneven;
        topic.run(4_000);
        let got = topic.run(60_000);
        assert_near(
            got,
            rate * 60,
            1,
            &format!("{rates:?}, {members} by {batch}"),
        );
    }
}

#[test]
fn members_in_wait_are_not_answered_message_by_message() {
    let mut topic = Topic::new(&[Rate::Topic(1_000); 3], 16);
    topic.run(4_000);
    let before: u64 = topic.partitions.iter().map(|p| p.answers).sum();
    topic.run(10_000);
    let answers: u64 = topic.partitions.iter().map(|p| p.answers).sum();
    // Three partitions, a stride of 50 ms.
    assert_near(answers - before, 10 * 20 * 3, 10, "answers in 10 s");
}

#[test]
fn who_comes_after_a_pause_is_given_little_more() {
    let mut topic = Topic::new(&[Rate::Partition(1_000)], 0);
    let now = 60_000;
    let partition = &mut topic.partitions[0];
    let first = partition.receive(now, 1_024);
    assert_eq!(partition.settle(now, first), Some(201));
    let second = partition.receive(now, 1_024);
    assert_eq!(partition.settle(now, second), None, "it waits");
}

/// Those who watch are told as there is something for them, and the next if nobody comes.
#[test]
fn not_all_who_watch_are_told_of_a_few_messages() {
    let mut topic = Topic::new(&[Rate::Unlimited], 0);
    let partition = &mut topic.partitions[0];
    partition.backlog = 0;
    let watches: Vec<Token> = (0..16).map(|_| partition.receive(1, 0)).collect();
    let told = |partition: &Partition| {
        let told = watches.iter();
        told.filter(|watch| partition.replies.contains_key(watch))
            .count()
    };
    partition.backlog = 40;
    partition.feed(1);
    assert_eq!(told(partition), 2, "one for 32 messages");
    for now in 2..=11 {
        partition.tick(now, 0);
    }
    assert_eq!(told(partition), 4, "nobody came");
    let taken = partition.receive(11, 40);
    assert_eq!(
        partition.settle(11, taken),
        Some(40),
        "whoever comes is served"
    );
    let then = told(partition);
    assert!(then < 8, "{then} of 16");
    for now in 12..100 {
        partition.tick(now, 0);
    }
    assert_eq!(told(partition), then, "nothing is left");
}
