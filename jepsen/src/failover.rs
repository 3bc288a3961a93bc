//! `weir-soak failover`: the leader of one partition is killed again and again, while producers of several
//! makes write to it at a steady rate; how long each of them goes without an acknowledgement is the number
//! that counts. Afterwards all they were told is held against what is in the log.

use crate::clients::Clients;
use crate::clock;
use crate::cluster::Cluster;
use crate::gaps::Gaps;
use crate::soak::{DRAIN, nanos};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use weir_checkers::availability::{self, Fault};
use weir_checkers::history::Offset;
use weir_checkers::{
    Action, Evidence, History, Key, Kind, Op, Process, Read, Report, Send, Value, Verdict,
};

/// Before the first kill, so that every producer runs, the Java one's compiler too.
const WARM_UP: Duration = Duration::from_secs(8);
/// The one partition.
const KEY: Key = Key(0);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often to kill the leader.
    pub kills: u32,
    /// From one kill to the next; longer when a node takes longer to come back.
    pub every: Duration,
    /// Records per second and producer: the pauses are exact to its reciprocal.
    pub rate: u32,
    /// Names of clients that have a `load` mode.
    pub producers: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    report: Report,
    gaps: Vec<Gaps>,
    availability: Vec<String>,
}

impl Outcome {
    /// Nothing wrong was found.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.report.anomalies.is_empty() && self.availability.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for gaps in &self.gaps {
            writeln!(f, "{gaps}")?;
        }
        for line in self.availability.iter().take(10) {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}", self.report)
    }
}

/// One line of a client's `load` mode.
#[derive(Debug, Deserialize)]
struct Fate {
    value: Value,
    sent_ns: u64,
    t_ns: u64,
    offset: Option<Offset>,
    #[serde(default)]
    error: Option<String>,
}

/// Loads and kills, then judges. Files go to `directory`; `say` gets a line for each kill.
///
/// # Errors
/// When the run cannot be made.
pub fn run(
    cluster: &Cluster,
    clients: &Clients,
    options: &Options,
    directory: &Path,
    say: &dyn Fn(&str),
) -> Result<Outcome> {
    let topic = format!("failover-{:x}", clock::now_ns());
    let mut names: Vec<&str> = vec!["franz-go"];
    names.extend(options.producers.iter().map(String::as_str));
    clients.install(&names)?;
    clients.output("franz-go", &["create", &cluster.bootstrap, &topic, "1"])?;
    let length = (WARM_UP + options.every * (options.kills + 1))
        .as_secs()
        .to_string();
    let mut producers = Vec::new();
    for (process, name) in options.producers.iter().enumerate() {
        let (process, rate) = (process.to_string(), options.rate.to_string());
        let path = directory.join(format!("{name}.jsonl"));
        producers.push(clients.start(
            name,
            &["load", &cluster.bootstrap, &topic, &length, &rate, &process],
            &path,
        )?);
    }
    let kills = kill_leaders(cluster, clients, options, &topic, say)?;
    let deadline = clock::now_ns() + nanos(options.every + DRAIN)?;
    for producer in &mut producers {
        producer.finish(deadline)?;
    }
    cluster.wait_until_up()?;
    let log = clients.output("franz-go", &["read", &cluster.bootstrap, &topic, "0"])?;
    std::fs::write(directory.join("log.txt"), &log)?;
    let fates = options
        .producers
        .iter()
        .map(|name| {
            Ok((
                name.clone(),
                std::fs::read_to_string(directory.join(format!("{name}.jsonl")))?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    judge(&fates, &log, &kills)
}

fn kill_leaders(
    cluster: &Cluster,
    clients: &Clients,
    options: &Options,
    topic: &str,
    say: &dyn Fn(&str),
) -> Result<Vec<u64>> {
    let began = clock::now_ns();
    let mut next = began + nanos(WARM_UP)?;
    let mut kills = Vec::new();
    for number in 1..=options.kills {
        clock::sleep_until(next);
        cluster.wait_until_up()?;
        clients.output("franz-go", &["whole", &cluster.bootstrap, topic])?;
        let leader: u32 = clients
            .output("franz-go", &["leader", &cluster.bootstrap, topic, "0"])?
            .trim()
            .parse()?;
        kills.push(cluster.kill(leader)?);
        say(&format!(
            "{} s: kill -9 of node {leader}, {number} of {}",
            (clock::now_ns() - began) / 1_000_000_000,
            options.kills
        ));
        next = clock::now_ns() + nanos(options.every)?;
    }
    Ok(kills)
}

/// `fates` are each producer's lines, `log` the lines of `franz-go read`.
fn judge(fates: &[(String, String)], log: &str, kills: &[u64]) -> Result<Outcome> {
    ensure!(
        !kills.is_empty(),
        "nothing was killed: the run proves nothing"
    );
    let faults: Vec<Fault> = kills
        .iter()
        .enumerate()
        .map(|(at, &from_ns)| Fault {
            from_ns,
            until_ns: kills.get(at + 1).copied().unwrap_or(u64::MAX),
        })
        .collect();
    let (mut all, mut gaps, mut availability) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (name, text)) in fates.iter().enumerate() {
        let ops = sends(Process(u32::try_from(number)?), text).with_context(|| name.clone())?;
        ensure!(
            ops.iter().any(|op| op.kind == Kind::Ok),
            "{name} had nothing acknowledged: the run proves nothing"
        );
        let history = numbered(ops.clone())?;
        let seen = availability::check(&Evidence::new(&history), &faults);
        gaps.push(Gaps::new(
            name.clone(),
            seen.gaps.iter().map(|gap| gap.gap_ns).collect(),
        ));
        availability.extend(
            seen.anomalies
                .iter()
                .map(|anomaly| format!("{name}: {anomaly}")),
        );
        all.extend(ops);
    }
    let reader = Process(u32::try_from(fates.len())?);
    let end = all.iter().map(|op| op.t_ns).max().unwrap_or(0);
    all.push(op(reader, Kind::Invoke, Action::Poll(Vec::new()), end + 1));
    all.push(op(reader, Kind::Ok, Action::Poll(read_log(log)?), end + 2));
    let report = Report::new(
        &numbered(all)?,
        Verdict {
            idempotent: true,
            drained: true,
            settled: None,
        },
    );
    Ok(Outcome {
        report,
        gaps,
        availability,
    })
}

fn op(process: Process, kind: Kind, action: Action, t_ns: u64) -> Op {
    Op {
        index: 0,
        process,
        kind,
        action,
        t_ns,
        node: None,
        rebalanced: Vec::new(),
    }
}

/// An invocation and an end for each line. A producer that gives a record up does not know its fate.
fn sends(process: Process, text: &str) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    for line in text.lines() {
        let fate: Fate = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let kind = if fate.error.is_some() {
            Kind::Info
        } else {
            Kind::Ok
        };
        let send = |offset| {
            Action::Send(vec![Send {
                key: KEY,
                value: fate.value,
                offset,
            }])
        };
        ops.push(op(process, Kind::Invoke, send(None), fate.sent_ns));
        ops.push(op(
            process,
            kind,
            send(fate.offset.filter(|_| kind == Kind::Ok)),
            fate.t_ns.max(fate.sent_ns),
        ));
    }
    Ok(ops)
}

/// Merges by time. At one instant invocations come first: taking things for concurrent accuses nobody.
fn numbered(mut ops: Vec<Op>) -> Result<History> {
    ops.sort_by_key(|op| {
        (
            op.t_ns,
            op.kind != Kind::Invoke,
            op.sends().next().map(|send| send.value),
        )
    });
    for (index, op) in ops.iter_mut().enumerate() {
        op.index = u64::try_from(index)?;
    }
    Ok(History::new(ops)?)
}

/// Lines of `offset value`.
fn read_log(text: &str) -> Result<Vec<Read>> {
    text.lines()
        .map(|line| {
            let (offset, value) = line.split_once(' ').with_context(|| line.to_owned())?;
            Ok(Read {
                key: KEY,
                offset: offset.parse()?,
                value: Value(value.parse()?),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRANZ: &str = r#"{"value":1,"sent_ns":1000000,"t_ns":2000000,"offset":0}
{"value":2,"sent_ns":3000000,"t_ns":504000000,"offset":2}
{"value":3,"sent_ns":3000000,"t_ns":504000000,"offset":3}"#;
    const JAVA: &str = r#"{"value":4294967297,"sent_ns":1000000,"t_ns":2500000,"offset":1}
{"value":4294967298,"sent_ns":3000000,"t_ns":304000000,"offset":4}"#;

    fn judged(log: &str) -> Outcome {
        let fates = [
            ("franz-go".to_owned(), FRANZ.to_owned()),
            ("java-4".to_owned(), JAVA.to_owned()),
        ];
        judge(&fates, log, &[2_900_000]).unwrap()
    }

    #[test]
    fn each_producer_has_its_own_gap_and_a_whole_log_is_good() {
        let outcome = judged("0 1\n1 4294967297\n2 2\n3 3\n4 4294967298\n");
        assert!(outcome.is_good(), "{outcome}");
        assert_eq!(
            outcome.gaps,
            [
                Gaps::new("franz-go", vec![502_000_000]),
                Gaps::new("java-4", vec![301_500_000])
            ]
        );
    }

    #[test]
    fn a_lost_a_doubled_and_a_swapped_record_are_found() {
        for (log, checker) in [
            ("0 1\n1 4294967297\n3 3\n4 4294967298\n", "C5"),
            ("0 1\n1 4294967297\n2 2\n3 3\n4 4294967298\n5 2\n", "C2"),
            ("0 1\n1 4294967297\n2 3\n3 2\n4 4294967298\n", "C1"),
            ("0 1\n1 4294967297\n2 2\n3 3\n", "C6"),
        ] {
            let outcome = judged(log);
            assert!(
                !outcome.is_good() && outcome.to_string().contains(checker),
                "{checker}: {outcome}"
            );
        }
    }
}
