//! A machine driven by words.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use weir_base::machine::{Decision as Out, Machine, Token};
use weir_base::{Offset, Timestamp};
use weir_queue::trace::{Subject, Trace};
use weir_queue::*;

const START: i64 = 3_600_000_000;

struct Stored {
    key: Option<KeyHash>,
    tag: Option<String>,
    version: Option<u64>,
    not_before: Option<Timestamp>,
    only: Option<KeyHash>,
    letter: Option<LetterFacts>,
    at: Timestamp,
}

pub(crate) struct Script {
    state: QueueState,
    live: QueueLive,
    options: QueueOptions,
    journal: Vec<QueueRecord>,
    now: Timestamp,
    log: Vec<Option<Stored>>,
    wants: Vec<Want>,
    /// Delayed messages below it were handed over.
    looked_at: Offset,
    tokens: u64,
    asked: BTreeMap<Token, String>,
    receipts: BTreeMap<(String, u64), Receipt>,
    handles: Vec<ScheduleHandle>,
    halves: Vec<HalfHandle>,
    replays: Vec<EntryNumber>,
    text: String,
}

/// The words of a line: plain ones, and `name=value`.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn at(&self, at: usize) -> &'a str {
        self.0
            .get(at)
            .copied()
            .unwrap_or_else(|| panic!("{:?}", self.0))
    }

    fn named(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.0.iter().filter_map(|word| word.split_once('='));
        pairs
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.named(name).map(|value| value.parse().unwrap())
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().unwrap()),
        None => Duration::from_secs(text.trim_end_matches('s').parse().unwrap()),
    }
}

fn shown(told: Option<&str>) -> String {
    told.map_or_else(String::new, |told| format!(", told {told}"))
}

/// `id=<id>`, or `id=<id>/<what repeats are told>`.
fn dedup(words: &str) -> Dedup {
    let (id, told) = words
        .split_once('/')
        .map_or((words, None), |(id, told)| (id, Some(told.into())));
    Dedup {
        id: id.to_owned().into(),
        window: None,
        told,
    }
}

impl Script {
    pub(crate) fn run(input: &str) -> String {
        let mut script = Self {
            state: QueueState::default(),
            live: QueueLive::new(QueueOptions::default(), 0, 1),
            options: QueueOptions::default(),
            journal: Vec::new(),
            now: Timestamp(START),
            log: Vec::new(),
            wants: Vec::new(),
            looked_at: Offset::ZERO,
            tokens: 0,
            asked: BTreeMap::new(),
            receipts: BTreeMap::new(),
            handles: Vec::new(),
            halves: Vec::new(),
            replays: Vec::new(),
            text: String::new(),
        };
        for line in input.lines().filter(|line| !line.starts_with('#')) {
            script.line(line.trim());
        }
        script.text
    }

    /// Other options from here on, as a leader has that begins now.
    fn bound(&mut self, words: &Words<'_>) {
        let ids = words.number("ids").unwrap();
        self.options.dedup_max = usize::try_from(ids).unwrap();
        self.live = QueueLive::new(self.options.clone(), 0, 1);
    }

    fn line(&mut self, line: &str) {
        let words = Words(line.split_whitespace().collect());
        let group = || -> GroupName { words.at(1).into() };
        let receipt = |script: &Self| {
            let place = (words.at(1).to_owned(), words.at(2).parse().unwrap());
            script.receipts[&place]
        };
        let wait = words.named("wait").map_or(Duration::ZERO, duration);
        let command = match words.at(0) {
            "produce" => return self.produce(&words),
            "bounds" => return self.bound(&words),
            "pass" => return self.pass(duration(words.at(1))),
            "failover" => return self.fail_over(),
            "outbox" => return self.outbox(),
            "done" => return self.done(),
            "refuse" => return self.refuse(line, &words),
            "story" => return self.story(&words),
            "admit" => {
                let end = Offset(self.log.len() as u64);
                let default = limit(&words);
                let gate = self.state.gate();
                let trims = gate.wants_trim(end, default.as_ref());
                let admission = gate.admission(end, default.as_ref());
                if trims {
                    return writeln!(self.text, "{admission:?}, a trim is due").unwrap();
                }
                return writeln!(self.text, "{admission:?}").unwrap();
            }
            "group" => QueueCommand::EnsureGroup {
                group: group(),
                settings: settings(&words),
                start: Offset(words.number("start").unwrap_or(0)),
                replace: words.has("replace"),
            },
            "receive" => QueueCommand::Receive(Receive {
                group: group(),
                member: words.at(2).into(),
                batch_max: usize::try_from(words.number("batch").unwrap_or(1)).unwrap(),
                invisible: words.named("lease").map(duration),
                wait,
                filter: words.named("tags").map(|tags| Filter::Tags(tags.into())),
                attempt_id: words.named("id").map(Into::into),
                auto_renew: words.has("auto"),
            }),
            "ack" => {
                let offsets = words.0[2..].iter().flat_map(|word| word.parse::<u64>());
                let place = |offset| {
                    let group = if words.has("of") { "g" } else { words.at(1) };
                    self.receipts[&(group.to_owned(), offset)]
                };
                QueueCommand::Ack {
                    group: group(),
                    receipts: offsets.map(place).collect(),
                }
            }
            "nack" => QueueCommand::Nack {
                group: group(),
                receipt: receipt(self),
                delay: words.named("delay").map(duration),
                cause: EndCause::Nack,
                note: words.named("note").map(Into::into),
            },
            "renew" => QueueCommand::Renew {
                group: group(),
                receipt: receipt(self),
                invisible: duration(words.at(3)),
            },
            "dead" => QueueCommand::DeadLetter {
                group: group(),
                receipt: receipt(self),
                attempts: u16::try_from(words.number("told").unwrap_or(0)).unwrap(),
                note: None,
            },
            "forward" => QueueCommand::Forward {
                group: group(),
                receipt: receipt(self),
                target: Target {
                    topic: words.at(3).into(),
                    partition: 2,
                },
            },
            "missing" => QueueCommand::Missing {
                group: group(),
                receipts: vec![receipt(self)],
            },
            "leave" => QueueCommand::Leave { member: group() },
            "schedule" => QueueCommand::Schedule(Schedule {
                deliver_at: self.now + duration(words.at(1)),
                payload: vec![1; 10].into(),
                dedup: words.named("id").map(dedup),
                room: self.room(&words),
            }),
            "cancel" => QueueCommand::Cancel {
                handle: self.handles[words.at(1).parse::<usize>().unwrap()],
            },
            "delayed" => QueueCommand::ListScheduled {
                after: None,
                limit: 10,
            },
            "prepare" => QueueCommand::Prepare(Prepare {
                payload: vec![2; 10].into(),
                producers: words.at(1).into(),
                check_after: None,
                room: self.room(&words),
                dedup: words.named("id").map(dedup),
            }),
            "missed" => QueueCommand::CheckMissed {
                handle: self.halves[words.at(1).parse::<usize>().unwrap()],
            },
            "commit" | "rollback" => QueueCommand::Resolve {
                handle: self.halves[words.at(1).parse::<usize>().unwrap()],
                decision: match words.at(0) {
                    "commit" => Decision::Commit,
                    _ => Decision::Rollback,
                },
                source: DecisionSource::Producer,
            },
            "asks" => QueueCommand::AwaitChecks {
                member: words.at(2).into(),
                producers: words.at(1).into(),
                batch_max: 10,
                wait,
            },
            "halves" => QueueCommand::ListHalf {
                after: None,
                limit: 10,
                parked: words.has("parked"),
            },
            "describe" => QueueCommand::Describe { group: group() },
            "groups" => QueueCommand::ListGroups,
            "measure" => QueueCommand::Measure,
            "gaps" => QueueCommand::Gaps { group: group() },
            "seek" => QueueCommand::Seek {
                group: group(),
                to: Offset(words.at(2).parse().unwrap()),
            },
            "delete" => QueueCommand::DeleteGroup { group: group() },
            "trim" => QueueCommand::Trim {
                end: Offset(self.log.len() as u64),
                default: limit(&words),
            },
            "partitions" => QueueCommand::Partitions {
                count: words.at(1).parse().unwrap(),
            },
            "trace" => QueueCommand::TraceOf {
                offset: Offset(words.at(1).parse().unwrap()),
            },
            "replay" => QueueCommand::Replay(ReplayCommand::Start(StartReplay {
                begin: Offset(words.number("begin").unwrap_or(0)),
                end: Offset(self.log.len() as u64),
                filter: ReplayFilter {
                    since: words.named("since").map(|s| Timestamp(START) + duration(s)),
                    until: words.named("until").map(|s| Timestamp(START) + duration(s)),
                    cause: words.named("cause").map(Into::into),
                    key: words.named("key").map(Into::into),
                    tag: words.named("tag").map(Into::into),
                    group: words.named("of").map(Into::into),
                },
                rate: words.number("rate").map(|n| u32::try_from(n).unwrap()),
                dry_run: words.has("dry"),
                by: words.at(1).into(),
            })),
            "pause" | "resume" | "stop" => QueueCommand::Replay(ReplayCommand::Change {
                replay: self.replays[words.at(1).parse::<usize>().unwrap()],
                change: match words.at(0) {
                    "pause" => ReplayChange::Pause,
                    "resume" => ReplayChange::Resume,
                    _ => ReplayChange::Cancel,
                },
                by: words.at(2).into(),
            }),
            "replays" => QueueCommand::Replay(ReplayCommand::List {
                start: Offset(words.number("start").unwrap_or(0)),
                of: (0..self.log.len() as u64).map(Offset).collect(),
            }),
            "asides" => QueueCommand::ListAside {
                after: None,
                limit: 10,
            },
            "send" => QueueCommand::SendAside {
                numbers: Vec::new(),
                to: words.named("to").map(|topic| Target {
                    topic: topic.into(),
                    partition: 0,
                }),
            },
            "ledger" => QueueCommand::Ledger {
                group: group(),
                below: words
                    .named("below")
                    .map(|list| {
                        list.split(',')
                            .map(|at| Offset(at.parse().unwrap()))
                            .collect()
                    })
                    .unwrap_or_default(),
            },
            "take" => self.take_in(),
            "delays" => {
                let (delays, _) = self.state.delays();
                let (kept, released) = (delays.kept, delays.released);
                let cancelled = delays.cancelled;
                let text = format!("  {kept} kept, {released} released, {cancelled} cancelled\n");
                return self.text.push_str(&text);
            }
            other => panic!("no verb {other}"),
        };
        self.send(line.to_owned(), command);
        self.feed();
    }

    fn room(&self, words: &Words<'_>) -> Option<Room> {
        Some(Room {
            end: Offset(self.log.len() as u64),
            default: limit(words),
        })
    }

    fn produce(&mut self, words: &Words<'_>) {
        for _ in 0..words.at(1).parse::<u64>().unwrap() {
            let stored = Stored {
                key: words.named("key").map(|key| KeyHash::of(key.as_bytes())),
                tag: words.named("tag").map(str::to_owned),
                version: words.number("version"),
                not_before: words.named("due").map(|due| self.now + duration(due)),
                only: words.named("only").map(|only| KeyHash::of(only.as_bytes())),
                letter: words.named("letter").map(|home| letter(words, home)),
                at: self.now,
            };
            self.log.push((!words.has("hole")).then_some(stored));
        }
        self.feed();
    }

    fn send(&mut self, line: String, command: QueueCommand) {
        let token = Token(self.tokens);
        self.tokens += 1;
        self.asked.insert(token, line);
        let mut out = Out::default();
        QueueMachine::decide(
            &self.state,
            &mut self.live,
            self.now,
            token,
            command,
            &mut out,
        );
        self.take(out);
    }

    fn take(&mut self, out: Out<QueueRecord, QueueReply>) {
        for record in out.records {
            let at = Offset(self.journal.len() as u64);
            QueueMachine::apply(&mut self.state, at, &record);
            self.journal.push(record);
        }
        for (group, finished, counted) in self.state.conservation() {
            assert_eq!(finished, counted, "the ledger of {group}");
        }
        let (delays, counted) = self.state.delays();
        assert_eq!(delays.kept, counted, "delayed messages");
        for (token, reply) in out.replies {
            let line = self.asked.remove(&token).unwrap();
            self.print(&line, reply);
        }
        self.wants
            .extend(QueueMachine::wants(&self.state, &mut self.live));
    }

    fn feed(&mut self) {
        let end = self.log.len() as u64;
        loop {
            let ready = self.wants.iter().position(|want| want.from.0 < end);
            let Some(want) = ready.map(|at| self.wants.remove(at)) else {
                return;
            };
            let facts = (want.from.0..end).filter_map(|offset| {
                let stored = self.log[usize::try_from(offset).unwrap()].as_ref()?;
                Some(MessageFacts {
                    offset: Offset(offset),
                    stored_at: stored.at,
                    bytes: 1,
                    key: stored.key,
                    version: stored.version,
                    tag: stored.tag.as_deref().map(Into::into),
                    properties: Vec::new(),
                    not_before: stored.not_before,
                    only: stored.only,
                    letter: stored.letter.clone().map(Box::new),
                })
            });
            let feed = Feed {
                group: want.group,
                from: want.from,
                facts: facts.collect(),
                no_messages: Vec::new(),
                end: Offset(end),
            };
            self.send(String::new(), QueueCommand::Feed(feed));
        }
    }

    /// Hands over what asks to come later and was not handed over before.
    fn take_in(&self) -> QueueCommand {
        let from = usize::try_from(self.looked_at.0).unwrap();
        let log = (self.looked_at.0..).zip(self.log.iter().skip(from));
        let found = log.filter_map(|(offset, stored)| {
            Some(Found {
                offset: Offset(offset),
                deliver_at: stored.as_ref()?.not_before?,
                payload: vec![1; 30].into(),
            })
        });
        QueueCommand::TakeIn(TakeIn {
            from: self.looked_at,
            end: Offset(self.log.len() as u64),
            found: found.collect(),
        })
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = QueueMachine::next_deadline(&self.state, &self.live)
            && due <= end
        {
            self.now = self.now.max(due);
            let mut out = Out::default();
            QueueMachine::on_tick(&self.state, &mut self.live, self.now, &mut out);
            self.take(out);
            self.feed();
        }
        self.now = end;
    }

    fn fail_over(&mut self) {
        self.live = QueueLive::new(self.options.clone(), 0, 2);
        self.asked.clear();
        self.wants.clear();
        self.looked_at = Offset::ZERO;
        self.pass(Duration::ZERO);
    }

    fn outbox(&mut self) {
        self.pass(Duration::ZERO);
        let mut text = String::new();
        for (to, sequence, batch) in self.state.outgoing() {
            let to = match to {
                Destination::Here => "here".to_owned(),
                Destination::Copies => "queues".to_owned(),
                Destination::There(target) => format!("{}-{}", target.topic, target.partition),
            };
            for message in &batch.messages {
                let what = match message {
                    OutgoingMessage::Released { payload_at, .. } => {
                        format!("released @{payload_at}")
                    }
                    OutgoingMessage::Committed { payload_at, .. } => {
                        format!("committed @{payload_at}")
                    }
                    OutgoingMessage::Forwarded { offset } => format!("forwarded {offset}"),
                    OutgoingMessage::Aside { payload_at, .. } => format!("aside @{payload_at}"),
                    OutgoingMessage::Replayed { offset, group } => {
                        let group = group.as_deref().unwrap_or("all");
                        format!("replayed {offset} for {group}")
                    }
                    OutgoingMessage::DeadLetter { offset, facts } => {
                        let headers = envelope::dead_letter_headers(facts, "t", 0, *offset);
                        let headers = headers.iter().filter(|(name, _)| {
                            ["weir.dlq.cause", "weir.dlq.attempts"].contains(name)
                        });
                        let headers: Vec<String> =
                            headers.map(|(_, value)| value.clone()).collect();
                        format!("dead letter {offset}: {}", headers.join(", "))
                    }
                };
                writeln!(text, "  to {to} at {sequence}: {what}").unwrap();
            }
        }
        self.text += if text.is_empty() {
            "  nothing\n"
        } else {
            &text
        };
    }

    /// What the journal tells of a message, or of what a handle names.
    fn story(&mut self, words: &Words<'_>) {
        let nth = |at| words.at(at).parse::<usize>().unwrap();
        let subject = match words.at(1) {
            "delayed" => Subject::Entry(self.handles[nth(2)].number),
            "half" => Subject::Entry(self.halves[nth(2)].number),
            offset => Subject::Message(Offset(offset.parse().unwrap())),
        };
        let mut trace = Trace::new(subject);
        for fact in self.journal.iter().flat_map(|record| trace.read(record)) {
            writeln!(self.text, "  {fact:?}").unwrap();
        }
    }

    fn done(&mut self) {
        self.pass(Duration::ZERO);
        let outgoing = self.state.outgoing();
        let outgoing: Vec<_> = outgoing.map(|(to, at, _)| (to.clone(), at)).collect();
        for (destination, sequence) in outgoing {
            let command = QueueCommand::OutboxDone {
                destination,
                sequence,
            };
            self.send(String::new(), command);
        }
    }

    /// The first batch of a destination that is not the partition itself is refused.
    fn refuse(&mut self, line: &str, words: &Words<'_>) {
        self.pass(Duration::ZERO);
        let head = {
            let outgoing = self.state.outgoing();
            let mut outgoing = outgoing.filter(|(to, ..)| matches!(to, Destination::There(_)));
            outgoing
                .next()
                .map(|(to, sequence, batch)| (to.clone(), sequence, batch.messages.len()))
        };
        let Some((destination, sequence, messages)) = head else {
            return;
        };
        let messages = if words.has("short") { 0 } else { messages };
        let command = QueueCommand::OutboxRefused {
            destination,
            sequence,
            reason: "gone".into(),
            payloads: vec![vec![3; 10].into(); messages],
        };
        self.send(line.to_owned(), command);
    }

    fn after(&self, at: Timestamp) -> String {
        let millis = at.0 - self.now.0;
        if millis % 1_000 == 0 {
            format!("in {}s", millis / 1_000)
        } else {
            format!("in {millis}ms")
        }
    }

    /// A line a reply; what went well without a word to say is silent.
    fn print(&mut self, line: &str, reply: QueueReply) {
        let words = Words(line.split_whitespace().collect());
        let said = match reply {
            QueueReply::Feed(_) | QueueReply::Leave | QueueReply::Partitions => return,
            QueueReply::EnsureGroup(Ok(_))
            | QueueReply::OutboxDone(Ok(()))
            | QueueReply::OutboxRefused(Ok(()))
            | QueueReply::Seek(Ok(()))
            | QueueReply::DeleteGroup(Ok(()))
            | QueueReply::DeadLetter(Ok(()))
            | QueueReply::Forward(Ok(()))
            | QueueReply::Missing(Ok(()))
            | QueueReply::Resolve(Ok(())) => "ok".to_owned(),
            QueueReply::Receive(Ok(given)) => {
                for delivery in &given {
                    let place = (words.at(1).to_owned(), delivery.offset.0);
                    self.receipts.insert(place, delivery.receipt);
                }
                let given = given.iter();
                let given: Vec<String> = given
                    .map(|d| match d.attempt {
                        1 => d.offset.to_string(),
                        attempt => format!("{}(attempt {attempt})", d.offset),
                    })
                    .collect();
                if given.is_empty() {
                    "nothing".to_owned()
                } else {
                    given.join(" ")
                }
            }
            QueueReply::Ack(Ok(results)) => {
                let results = results.iter();
                let results: Vec<String> = results
                    .map(|r| {
                        r.as_ref()
                            .map_or_else(ToString::to_string, |()| "ok".to_owned())
                    })
                    .collect();
                results.join("; ")
            }
            QueueReply::Nack(Ok(Returned::Retry(at))) => format!("again {}", self.after(at)),
            QueueReply::Nack(Ok(Returned::DeadLettered)) => "dead-lettered".to_owned(),
            QueueReply::Renew(Ok(until)) => format!("ends {}", self.after(until)),
            QueueReply::Schedule(Ok(Scheduled::Kept(handle))) => {
                self.handles.push(handle);
                format!("kept as {}", self.handles.len() - 1)
            }
            QueueReply::Schedule(Ok(Scheduled::Duplicate { handle, told })) => {
                let first = handle.map(|first| self.handles.iter().position(|h| *h == first));
                let first = first
                    .flatten()
                    .map_or_else(|| "a half".to_owned(), |at| at.to_string());
                format!("duplicate of {first}{}", shown(told.as_deref()))
            }
            QueueReply::Cancel(Ok(answer)) => format!("{answer:?}"),
            QueueReply::TakeIn(next) => {
                self.looked_at = next;
                format!("up to {next}")
            }
            QueueReply::ListScheduled(lines) => {
                for line in &lines {
                    if !self.handles.contains(&line.handle) {
                        self.handles.push(line.handle);
                    }
                }
                let lines = lines.iter().map(|line| self.after(line.handle.deliver_at));
                lines.collect::<Vec<_>>().join(", ")
            }
            QueueReply::Prepare(Ok(Prepared::Kept(handle))) => {
                self.halves.push(handle);
                format!("kept as {}", self.halves.len() - 1)
            }
            QueueReply::Prepare(Ok(Prepared::Duplicate { handle, told })) => {
                let first = self.halves.iter().position(|half| *half == handle).unwrap();
                format!("duplicate of {first}{}", shown(told.as_deref()))
            }
            QueueReply::CheckMissed(Ok(())) => "not counted".to_owned(),
            QueueReply::AwaitChecks(checks) => {
                let name = |handle| self.halves.iter().position(|half| *half == handle).unwrap();
                let checks = checks.iter();
                let checks: Vec<String> = checks
                    .map(|c| format!("what of {} (check {})?", name(c.handle), c.check))
                    .collect();
                if checks.is_empty() {
                    "nothing".to_owned()
                } else {
                    checks.join(" ")
                }
            }
            QueueReply::ListHalf(lines) => {
                let name = |handle| self.halves.iter().position(|half| *half == handle).unwrap();
                let lines = lines.iter().map(|line| {
                    let parked = if line.parked { ", parked" } else { "" };
                    format!(
                        "{} of {}: {} checks{parked}",
                        name(line.handle),
                        line.producers,
                        line.checks
                    )
                });
                lines.collect::<Vec<_>>().join("; ")
            }
            QueueReply::Describe(Ok(view)) => describe(&view),
            QueueReply::ListGroups(views) => {
                let views = views.iter();
                let views = views.map(|view| format!("{}: {}", view.group, describe(view)));
                views.collect::<Vec<_>>().join("; ")
            }
            QueueReply::Gaps(Ok(gaps)) => {
                let gaps = gaps
                    .iter()
                    .map(|(from, many)| format!("{many} from {from}"));
                gaps.collect::<Vec<_>>().join(", ")
            }
            QueueReply::Measure(measure) => {
                let groups = measure.groups.iter();
                let groups = groups
                    .map(|g| format!("{} at {} (+{})", g.group, g.position, g.finished_above));
                let groups = groups.collect::<Vec<_>>().join(", ");
                let (halves, parked) = (measure.halves, measure.halves_parked);
                format!(
                    "{groups}; {} delayed, {halves} halves, {parked} parked, {} outgoing, {} aside",
                    measure.scheduled, measure.outgoing, measure.aside
                )
            }
            QueueReply::ListAside(lines) => {
                let lines = lines.iter().map(|line| {
                    let to = match &line.destination {
                        Destination::Here | Destination::Copies => "here".to_owned(),
                        Destination::There(to) => format!("{}-{}", to.topic, to.partition),
                    };
                    format!("to {to}: {}", line.reason)
                });
                lines.collect::<Vec<_>>().join("; ")
            }
            QueueReply::SendAside(Ok(sent)) => format!("{sent} sent"),
            QueueReply::Replay(Ok(report)) => self.replayed(&words, &report),
            QueueReply::Trim(dropped) => format!("{dropped} dropped"),
            QueueReply::TraceOf(standings) => standings
                .iter()
                .map(|(group, standing)| format!("{group}: {}", self.standing(standing)))
                .collect::<Vec<_>>()
                .join("; "),
            QueueReply::Ledger(Ok(books)) => {
                let hours = books.hours.iter();
                let counted: i64 = hours.clone().map(|(_, counts)| counts.total()).sum();
                assert_eq!(counted, books.finished.cast_signed());
                let hours = hours.map(|(hour, counts)| format!("hour {hour}: {}", count(counts)));
                let below = books.finished_below.iter().map(|n| format!("below: {n}"));
                hours.chain(below).collect::<Vec<_>>().join("; ")
            }
            QueueReply::EnsureGroup(Err(error))
            | QueueReply::Receive(Err(error))
            | QueueReply::Ack(Err(error))
            | QueueReply::Nack(Err(error))
            | QueueReply::Renew(Err(error))
            | QueueReply::DeadLetter(Err(error))
            | QueueReply::Forward(Err(error))
            | QueueReply::Missing(Err(error))
            | QueueReply::Schedule(Err(error))
            | QueueReply::Cancel(Err(error))
            | QueueReply::Prepare(Err(error))
            | QueueReply::CheckMissed(Err(error))
            | QueueReply::Resolve(Err(error))
            | QueueReply::OutboxDone(Err(error))
            | QueueReply::Replay(Err(error))
            | QueueReply::Gaps(Err(error))
            | QueueReply::OutboxRefused(Err(error))
            | QueueReply::SendAside(Err(error))
            | QueueReply::Describe(Err(error))
            | QueueReply::Seek(Err(error))
            | QueueReply::DeleteGroup(Err(error))
            | QueueReply::Ledger(Err(error)) => format!("error: {error}"),
        };
        let late = (self.now.0 - START) as f64 / 1_000.0;
        if said != "ok" {
            writeln!(self.text, "{late:>7}s {line}: {said}").unwrap();
        }
    }

    fn replayed(&mut self, words: &Words<'_>, report: &ReplayReport) -> String {
        let mut lines = Vec::new();
        for view in &report.replays {
            let known = self.replays.iter().position(|known| *known == view.number);
            let name = known.unwrap_or_else(|| {
                self.replays.push(view.number);
                self.replays.len() - 1
            });
            let replay = &view.replay;
            let dry = if replay.dry_run { ", dry" } else { "" };
            let mut line = format!(
                "{name} {} at {}, {} moved, {} passed over, {} homeless{dry}",
                replay.state.name(),
                replay.position,
                replay.moved,
                replay.passed_over,
                replay.homeless
            );
            if words.at(0) == "replays" {
                for step in &replay.audit {
                    let late = (step.at.0 - START) as f64 / 1_000.0;
                    let by = if step.by.is_empty() {
                        "itself"
                    } else {
                        &step.by
                    };
                    let (state, moved) = (step.state.name(), step.moved);
                    write!(line, "\n    {late}s {state} by {by}, {moved} moved").unwrap();
                }
            }
            lines.push(line);
        }
        if words.at(0) == "replays" {
            let among = ranges(&report.among);
            let (back, going) = (report.moved_back, report.on_the_way);
            lines.push(format!("{back} back ({among}), {going} on the way"));
        }
        lines.join("\n  ")
    }

    fn standing(&self, standing: &Standing) -> String {
        match standing {
            Standing::InFlight {
                member,
                attempt,
                until,
            } => format!(
                "attempt {attempt} with {member}, ends {}",
                self.after(*until)
            ),
            Standing::Retrying(attempts) => {
                let next = self.after(attempts.next_at);
                format!("{} attempts ended, next {next}", attempts.ended)
            }
            Standing::NotReached => "not reached".to_owned(),
            Standing::Final => "final".to_owned(),
            Standing::Ready => "ready".to_owned(),
            Standing::Queued => "behind another".to_owned(),
        }
    }
}

fn describe(view: &GroupView) -> String {
    let text = format!(
        "cursor {} (+{}), ready {}, in flight {}, retrying {}, waiting {}; {}",
        view.cursor,
        view.finished_above,
        view.ready,
        view.in_flight,
        view.retrying,
        view.waiting,
        count(&view.counts),
    );
    text.trim_end_matches("; ").to_owned()
}

fn count(counts: &Counts) -> String {
    let all = [
        ("acked", counts.acked.cast_signed()),
        ("dead", counts.dead_lettered.cast_signed()),
        ("forwarded", counts.forwarded.cast_signed()),
        ("filtered", counts.filtered.cast_signed()),
        ("superseded", counts.superseded.cast_signed()),
        ("dropped", counts.dropped.cast_signed()),
        ("missing", counts.missing.cast_signed()),
        ("delayed", counts.delayed.cast_signed()),
        ("sought", counts.sought),
    ];
    let some = all.iter().filter(|(_, count)| *count != 0);
    let some: Vec<String> = some
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    some.join(", ")
}

/// Offsets in order, neighbours as one.
fn ranges(offsets: &[Offset]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == offset.0 => *last = offset.0,
            _ => ranges.push((offset.0, offset.0)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    ranges.collect::<Vec<_>>().join(" ")
}

/// A dead letter: `letter=<topic>`, or `letter=-` for one that tells of none.
fn letter(words: &Words<'_>, home: &str) -> LetterFacts {
    LetterFacts {
        origin: (home != "-").then(|| Target {
            topic: home.into(),
            partition: 1,
        }),
        group: words.named("group").map(Into::into),
        cause: words.named("cause").unwrap_or("nack").into(),
        keys: words.named("key").into_iter().map(Into::into).collect(),
    }
}

/// A limit: `drop=<messages>`, `reject=<messages>` or `redirect=<messages>`.
fn limit(words: &Words<'_>) -> Option<Capacity> {
    let capacity = |name, on_full| {
        let messages_max = words.number(name)?;
        Some(Capacity {
            messages_max,
            on_full,
        })
    };
    let overflow = Target {
        topic: "overflow".into(),
        partition: 0,
    };
    capacity("drop", OnFull::DropOldest)
        .or_else(|| capacity("reject", OnFull::Reject))
        .or_else(|| capacity("redirect", OnFull::Redirect(overflow)))
}

fn settings(words: &Words<'_>) -> GroupSettings {
    let small = |name| words.number(name).map(|n| u32::try_from(n).unwrap());
    let list = words.named("backoff").unwrap_or("1s");
    GroupSettings {
        attempts_max: u16::try_from(words.number("attempts").unwrap_or(16)).unwrap(),
        backoff: match list {
            "ladder" => Backoff::Ladder,
            list => Backoff::List(list.split(',').map(duration).collect()),
        },
        fifo: words.has("fifo"),
        filter: words
            .named("tags")
            .map_or(Filter::All, |tags| Filter::Tags(tags.into())),
        pacing: Pacing {
            rate: match (small("rate"), small("all")) {
                (Some(rate), _) => Rate::Partition(rate),
                (None, Some(rate)) => Rate::Topic(rate),
                (None, None) => Rate::Unlimited,
            },
            concurrency: small("concurrency"),
            key_concurrency: small("keys"),
        },
        capacity: limit(words),
        expires_after: words.named("expires").map(duration),
        broadcast: words.named("broadcast").map(Into::into),
        versioned: words.has("versioned"),
        ..GroupSettings::default()
    }
}
