//! Random histories of a perfect log pass every checker; one fault planted in the log never does.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_checkers::{
    Action, Checker, History, Key, Kind, Op, Process, Read, Report, Send, Value, Verdict,
};

const KEYS: u32 = 2;
const WRITERS: u32 = 4;

/// What goes wrong with one acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Planted {
    Nothing,
    /// A failover forgets it; its offset is given away again.
    Forgotten,
    /// It is appended again.
    Repeated,
    /// It is answered with the offset of the record before it.
    WrongOffset,
}

/// One writer slot; `process` is a new one after each unknown outcome.
#[derive(Clone, Copy)]
struct Writer {
    process: u32,
    counter: u64,
    /// What is outstanding, with its offset once it is in the log.
    sending: Option<(Send, Option<u64>)>,
}

/// A log with clients whose sends and polls interleave as the script says.
#[derive(Default)]
struct Model {
    ops: Vec<Op>,
    logs: [Vec<Value>; KEYS as usize],
    writers: BTreeMap<u32, Writer>,
    positions: [usize; KEYS as usize],
    planted: bool,
}

impl Model {
    fn record(&mut self, process: u32, kind: Kind, action: Action) {
        let index = self.ops.len() as u64;
        self.ops.push(Op {
            index,
            process: Process(process),
            kind,
            action,
            t_ns: index,
            node: None,
            rebalanced: Vec::new(),
        });
    }

    fn step(&mut self, choice: u8, slot: u32, fault: Planted) {
        let new = Writer {
            process: slot,
            counter: 0,
            sending: None,
        };
        let mut writer = *self.writers.get(&slot).unwrap_or(&new);
        let process = writer.process;
        match (choice % 8, writer.sending) {
            (0..=3, None) => {
                let send = Send {
                    key: Key(slot % KEYS),
                    value: Value(u64::from(process) << 32 | writer.counter),
                    offset: None,
                };
                writer.counter += 1;
                writer.sending = Some((send, None));
                self.record(process, Kind::Invoke, Action::Send(vec![send]));
            }
            (0..=2, Some((send, None))) => {
                let log = &mut self.logs[send.key.0 as usize];
                log.push(send.value);
                writer.sending = Some((send, Some(log.len() as u64 - 1)));
            }
            (0..=2, Some((mut send, Some(offset)))) => {
                send.offset = Some(offset);
                self.plant(fault, &mut send);
                writer.sending = None;
                self.record(process, Kind::Ok, Action::Send(vec![send]));
            }
            (3, Some((send, offset))) => {
                // No answer; the record may be there or not. Not there is also a definite failure.
                let kind = if offset.is_none() && writer.counter.is_multiple_of(2) {
                    Kind::Fail
                } else {
                    Kind::Info
                };
                writer = Writer {
                    process: process + WRITERS,
                    counter: 0,
                    sending: None,
                };
                self.record(process, kind, Action::Send(vec![send]));
            }
            _ => self.poll(slot % KEYS),
        }
        self.writers.insert(slot, writer);
    }

    fn plant(&mut self, fault: Planted, send: &mut Send) {
        let log = &mut self.logs[send.key.0 as usize];
        let offset = log
            .iter()
            .position(|v| *v == send.value)
            .expect("it was appended");
        let unread = offset >= self.positions[send.key.0 as usize];
        match fault {
            _ if self.planted => return,
            Planted::Forgotten if unread && offset + 1 == log.len() => drop(log.pop()),
            Planted::Repeated => log.push(send.value),
            Planted::WrongOffset if offset > 0 => send.offset = Some(offset as u64 - 1),
            Planted::Nothing | Planted::Forgotten | Planted::WrongOffset => return,
        }
        self.planted = true;
    }

    /// One reader a key reads up to three records.
    fn poll(&mut self, key: u32) {
        let (process, at) = (1_000_000 + key, key as usize);
        self.record(process, Kind::Invoke, Action::Poll(Vec::new()));
        let from = self.positions[at];
        let read: Vec<Read> = self.logs[at]
            .iter()
            .enumerate()
            .skip(from)
            .take(3)
            .map(|(offset, &value)| Read {
                key: Key(key),
                offset: offset as u64,
                value,
            })
            .collect();
        self.positions[at] += read.len();
        self.record(process, Kind::Ok, Action::Poll(read));
    }

    fn run(script: &[(u8, u8)], fault: Planted) -> (Report, bool) {
        let mut model = Self::default();
        for &(choice, slot) in script {
            model.step(choice, u32::from(slot) % WRITERS, fault);
        }
        for key in 0..KEYS {
            while model.positions[key as usize] < model.logs[key as usize].len() {
                model.poll(key);
            }
        }
        let history = History::new(model.ops).expect("a history");
        (
            Report::new(
                &history,
                Verdict {
                    idempotent: true,
                    drained: true,
                    settled: None,
                },
            ),
            model.planted,
        )
    }
}

proptest! {
    #[test]
    fn a_perfect_log_passes_and_a_planted_fault_is_found(script in prop::collection::vec((any::<u8>(), any::<u8>()), 0..300)) {
        let (report, _) = Model::run(&script, Planted::Nothing);
        prop_assert_eq!(&report.anomalies, &[]);
        for (fault, finder) in [(Planted::Forgotten, Checker::C6), (Planted::Repeated, Checker::C2), (Planted::WrongOffset, Checker::C1)] {
            let (report, planted) = Model::run(&script, fault);
            prop_assert_eq!(report.counts().contains_key(&finder), planted, "{:?}: {}", fault, report);
        }
    }
}

#[test]
fn each_fault_is_planted_by_a_plain_script() {
    let script: Vec<(u8, u8)> = (0..40).map(|i| (0, i / 20)).collect();
    for fault in [Planted::Forgotten, Planted::Repeated, Planted::WrongOffset] {
        assert!(Model::run(&script, fault).1, "{fault:?}");
    }
}
