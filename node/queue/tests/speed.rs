//! What a receive and an acknowledgement cost the machine, apply and encoding included.
//! Printed, not judged: `cargo test --release -p weir-queue --test speed -- --ignored --nocapture`.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement by the wall clock"
)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_base::machine::{Decision as Out, Machine, Token};
use weir_base::{Offset, Timestamp};
use weir_queue::*;

#[derive(Default)]
struct Host {
    state: QueueState,
    live: QueueLive,
    at: u64,
    journal_bytes: usize,
    encodes: bool,
    replies: Vec<QueueReply>,
    end: u64,
    keys: u64,
}

impl Host {
    fn send(&mut self, now: i64, command: QueueCommand) {
        let mut out = Out::default();
        let now = Timestamp(1_000_000 + now);
        QueueMachine::decide(
            &self.state,
            &mut self.live,
            now,
            Token(0),
            command,
            &mut out,
        );
        for record in &out.records {
            if self.encodes {
                let (key, value) = record.encode();
                self.journal_bytes += 8 + key.len() + value.map_or(0, |value| value.len());
            }
            QueueMachine::apply(&mut self.state, Offset(self.at), record);
            self.at += 1;
        }
        self.replies
            .extend(out.replies.into_iter().map(|(_, reply)| reply));
        for want in QueueMachine::wants(&self.state, &mut self.live) {
            let end = (want.from.0 + want.records_max as u64).min(self.end);
            let facts = (want.from.0..end).map(|offset| MessageFacts {
                key: Some(KeyHash(offset % self.keys)),
                ..support::plain(offset, now)
            });
            let feed = Feed {
                group: want.group,
                from: want.from,
                facts: facts.collect(),
                no_messages: Vec::new(),
                end: Offset(end),
            };
            self.send(now.0 - 1_000_000, QueueCommand::Feed(feed));
        }
    }
}

/// Receives and acknowledges `messages`, `batch` at a time, with `lag` batches in flight; in
/// order over as many message groups as `fifo` says.
fn run(depth: u64, messages: u64, batch: usize, lag: usize, fifo: Option<u64>, encodes: bool) {
    let mut host = Host {
        end: depth,
        keys: fifo.unwrap_or(1_000),
        encodes,
        ..Host::default()
    };
    let settings = GroupSettings {
        fifo: fifo.is_some(),
        ..GroupSettings::default()
    };
    let ensure = QueueCommand::EnsureGroup {
        group: "g".into(),
        settings,
        start: Offset(0),
        replace: false,
    };
    host.send(0, ensure);
    host.replies.clear();
    let mut in_flight = std::collections::VecDeque::new();
    let (mut received, mut calls, mut now) = (0, 0u64, 0);
    let begun = Instant::now();
    while received < messages {
        now += 1;
        let receive = Receive {
            group: "g".into(),
            member: "m".into(),
            batch_max: batch,
            invisible: None,
            wait: Duration::ZERO,
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        host.send(now, QueueCommand::Receive(receive));
        calls += 1;
        for reply in std::mem::take(&mut host.replies) {
            if let QueueReply::Receive(Ok(given)) = reply {
                received += given.len() as u64;
                in_flight.push_back(given.iter().map(|given| given.receipt).collect());
            }
        }
        if in_flight.len() > lag {
            let receipts = in_flight.pop_front().unwrap();
            let group = "g".into();
            host.send(now, QueueCommand::Ack { group, receipts });
        }
    }
    let took = begun.elapsed();
    println!(
        "depth {depth}, batch {batch}, {lag} in flight, fifo {fifo:?}: {:.0} receive+ack a second, {:.1} messages a receive, {:.1} journal bytes each",
        received as f64 / took.as_secs_f64(),
        received as f64 / calls as f64,
        host.journal_bytes as f64 / received as f64,
    );
}

#[test]
#[ignore = "a measurement"]
fn receive_and_ack() {
    for depth in [1_000_000, 100_000_000] {
        for batch in [1, 16, 32] {
            run(depth, 500_000, batch, 64, None, true);
        }
    }
    run(1_000_000, 500_000, 32, 16, Some(1_000), true);
    run(1_000_000, 500_000, 32, 0, Some(1), true);
    println!("without encoding:");
    for batch in [1, 32] {
        run(1_000_000, 500_000, batch, 64, None, false);
    }
}

/// Two messages of each of a million message groups; every hundredth group fails. What a
/// receive of 32 and its acknowledgement take, sorted.
fn a_million_groups(failing: bool) -> Vec<Duration> {
    const KEYS: u64 = 1_000_000;
    let mut host = Host {
        end: 2 * KEYS,
        keys: KEYS,
        encodes: true,
        ..Host::default()
    };
    let settings = GroupSettings {
        fifo: true,
        ..GroupSettings::default()
    };
    let group: std::sync::Arc<str> = "g".into();
    let ensure = QueueCommand::EnsureGroup {
        group: group.clone(),
        settings,
        start: Offset(0),
        replace: false,
    };
    host.send(0, ensure);
    let (mut rounds, mut settled) = (Vec::new(), 0);
    let all = if failing {
        KEYS * 2 / 100 * 99
    } else {
        KEYS * 2
    };
    while settled < all {
        host.replies.clear();
        let begun = Instant::now();
        let receive = Receive {
            group: group.clone(),
            member: "m".into(),
            batch_max: 32,
            invisible: None,
            wait: Duration::ZERO,
            filter: None,
            attempt_id: None,
            auto_renew: false,
        };
        host.send(1, QueueCommand::Receive(receive));
        let mut given = Vec::new();
        for reply in host.replies.drain(..) {
            if let QueueReply::Receive(Ok(some)) = reply {
                given = some;
            }
        }
        let fails = |given: &Delivery| failing && given.offset.0.is_multiple_of(100);
        let (failed, good): (Vec<_>, Vec<_>) = given.into_iter().partition(fails);
        let receipts: Vec<_> = good.iter().map(|given| given.receipt).collect();
        settled += receipts.len() as u64;
        let group = group.clone();
        host.send(1, QueueCommand::Ack { group, receipts });
        rounds.push(begun.elapsed());
        for given in failed {
            let nack = QueueCommand::Nack {
                group: "g".into(),
                receipt: given.receipt,
                delay: Some(Duration::from_secs(3_600)),
                cause: EndCause::Nack,
                note: None,
            };
            host.send(1, nack);
        }
    }
    rounds.sort();
    rounds
}

#[test]
#[ignore = "a measurement"]
fn failing_groups_do_not_slow_the_others() {
    for failing in [false, true, false, true] {
        let rounds = a_million_groups(failing);
        let mean = rounds.iter().sum::<Duration>() / u32::try_from(rounds.len()).unwrap();
        println!(
            "a million message groups, every hundredth failing: {failing}; 32 received and acknowledged: mean {mean:?}, p50 {:?}, p99 {:?}",
            rounds[rounds.len() / 2],
            rounds[rounds.len() * 99 / 100],
        );
    }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    pages * 4096
}

/// As many ids as one partition remembers, of messages that were sent and are in the log.
#[test]
#[ignore = "a measurement"]
fn all_the_ids() {
    let mut host = Host {
        encodes: true,
        ..Host::default()
    };
    let ids = QueueOptions::default().dedup_max as u64;
    let (before, begun) = (resident(), Instant::now());
    for id in 0..=ids {
        let wish = Dedup {
            id: Bytes::from(format!("01{id:030X}")),
            window: None,
            told: None,
        };
        let schedule = Schedule {
            deliver_at: Timestamp(1_000_000),
            payload: Bytes::from(vec![7; 100]),
            dedup: Some(wish),
            room: None,
        };
        host.send(0, QueueCommand::Schedule(schedule));
        let QueueReply::Schedule(taken) = host.replies.pop().unwrap() else {
            panic!("another answer");
        };
        assert_eq!(taken.is_ok(), id < ids, "{id}: {taken:?}");
        let now = Timestamp(1_000_000);
        let mut out = Out::default();
        QueueMachine::on_tick(&host.state, &mut host.live, now, &mut out);
        for record in &out.records {
            QueueMachine::apply(&mut host.state, Offset(host.at), record);
        }
        let going = host.state.outgoing();
        let going: Vec<_> = going.map(|(to, at, _)| (to.clone(), at)).collect();
        for (destination, sequence) in going {
            let done = QueueCommand::OutboxDone {
                destination,
                sequence,
            };
            host.send(0, done);
            host.replies.clear();
        }
    }
    println!(
        "{ids} ids: {:.0} a second, {:.1} resident bytes each, {:.1} journal bytes each",
        ids as f64 / begun.elapsed().as_secs_f64(),
        (resident() - before) as f64 / ids as f64,
        host.journal_bytes as f64 / ids as f64,
    );
    let bytes = postcard::to_stdvec(&host.state).unwrap();
    let begun = Instant::now();
    let copy: QueueState = postcard::from_bytes(&bytes).unwrap();
    println!(
        "snapshot: {:.1} bytes each, read back in {:?}",
        bytes.len() as f64 / ids as f64,
        begun.elapsed()
    );
    assert_eq!(copy, host.state);
}

#[test]
#[ignore = "a measurement"]
fn ten_million_delayed() {
    let mut host = Host::default();
    let (before, begun) = (resident(), Instant::now());
    let mut random = 1u64;
    let payload = Bytes::from(vec![7; 100]);
    for _ in 0..10_000_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let deliver_at = Timestamp(1_000_000 + i64::try_from(random >> 40).unwrap());
        let schedule = Schedule {
            deliver_at,
            payload: payload.clone(),
            dedup: None,
            room: None,
        };
        host.send(0, QueueCommand::Schedule(schedule));
        host.replies.clear();
    }
    let took = begun.elapsed();
    println!(
        "10 million delayed: {:.0} a second, {:.1} resident bytes each",
        1e7 / took.as_secs_f64(),
        (resident() - before) as f64 / 1e7,
    );
    let begun = Instant::now();
    let bytes = postcard::to_stdvec(&host.state).unwrap();
    println!(
        "snapshot: {} MiB in {:?}",
        bytes.len() >> 20,
        begun.elapsed()
    );
    let begun = Instant::now();
    let copy: QueueState = postcard::from_bytes(&bytes).unwrap();
    println!("read back in {:?}", begun.elapsed());
    assert_eq!(copy.scheduled(), 10_000_000);
    let begun = Instant::now();
    let (mut fired, mut now) = (0, Timestamp(0));
    while begun.elapsed() < Duration::from_secs(2) {
        now = now.max(QueueMachine::next_deadline(&host.state, &host.live).unwrap());
        let mut out = Out::default();
        QueueMachine::on_tick(&host.state, &mut host.live, now, &mut out);
        for record in &out.records {
            QueueMachine::apply(&mut host.state, Offset(host.at), record);
        }
        let going = host.state.outgoing();
        let going: Vec<_> = going
            .map(|(to, at, batch)| (to.clone(), at, batch.messages.len()))
            .collect();
        for (destination, sequence, messages) in going {
            fired += messages;
            let done = QueueCommand::OutboxDone {
                destination,
                sequence,
            };
            host.send(now.0, done);
        }
        now = Timestamp(now.0 + 100);
    }
    println!("released {fired} in {:?}", begun.elapsed());
}
