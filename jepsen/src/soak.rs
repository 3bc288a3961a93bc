//! `weir-soak soak`: writers and readers on every partition while random nodes are killed.
//!
//! The load is `franz-go soak`; its history goes through every checker of a log. A kill comes only when
//! every replica is in sync again, so each one is survivable and nothing may be lost, doubled or out of order.

use crate::clients::Clients;
use crate::clock;
use crate::cluster::Cluster;
use crate::gaps::Gaps;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;
use weir_checkers::availability::{self, Fault};
use weir_checkers::{Evidence, History, Report, Verdict};

/// How long after a kill a failed send may be put down to it. Clients retry for a minute before they fail one.
const EFFECT: Duration = Duration::from_secs(60);
/// How long a client may take to deliver and to read everything after its time is up.
pub(crate) const DRAIN: Duration = Duration::from_secs(150);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to write.
    pub length: Duration,
    /// From one kill to the next; longer when a node takes longer to come back.
    pub every: Duration,
    /// Of the one topic.
    pub partitions: u32,
    /// Chooses the nodes.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    report: Report,
    /// For each kill the worst gap of any partition, and all gaps of all partitions.
    worst: Gaps,
    every: Gaps,
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
        writeln!(f, "{}", self.worst)?;
        writeln!(f, "{}", self.every)?;
        for line in self.availability.iter().take(10) {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}", self.report)
    }
}

/// Loads and kills, then judges. Files go to `directory`; `say` gets a line for each kill.
///
/// # Errors
/// When the run cannot be made, or did not contain what it must: a kill and acknowledged values.
pub fn run(
    cluster: &Cluster,
    clients: &Clients,
    options: &Options,
    directory: &Path,
    say: &dyn Fn(&str),
) -> Result<Outcome> {
    let topic = format!("soak-{:x}", clock::now_ns());
    let (partitions, seconds) = (
        options.partitions.to_string(),
        options.length.as_secs().to_string(),
    );
    clients.install(&["franz-go"])?;
    clients.output(
        "franz-go",
        &["create", &cluster.bootstrap, &topic, &partitions],
    )?;
    let path = directory.join("history.jsonl");
    let mut load = clients.start(
        "franz-go",
        &["soak", &cluster.bootstrap, &topic, &partitions, &seconds],
        &path,
    )?;
    let began = clock::now_ns();
    let end = began + nanos(options.length)?;
    let mut kills: Vec<u64> = Vec::new();
    let mut dice = options.seed;
    let mut next = began + nanos(options.every)? / 2;
    // The last kill leaves the load time to notice it.
    while next + nanos(options.every)? / 2 <= end {
        clock::sleep_until(next);
        cluster.wait_until_up()?;
        clients.output("franz-go", &["whole", &cluster.bootstrap, &topic])?;
        let node = cluster.nodes[roll(&mut dice, cluster.nodes.len())];
        kills.push(cluster.kill(node)?);
        say(&format!(
            "{} s: kill -9 of node {node}",
            (clock::now_ns() - began) / 1_000_000_000
        ));
        next = clock::now_ns() + nanos(options.every)?;
    }
    load.finish(end + nanos(DRAIN)?)?;
    judge(&path, &kills)
}

fn judge(path: &Path, kills: &[u64]) -> Result<Outcome> {
    let history = History::read(BufReader::new(File::open(path)?))
        .with_context(|| path.display().to_string())?;
    let report = Report::new(
        &history,
        Verdict {
            idempotent: true,
            drained: true,
            settled: None,
        },
    );
    ensure!(
        report.values > 0,
        "nothing was acknowledged: the run proves nothing"
    );
    ensure!(
        !kills.is_empty(),
        "nothing was killed: the run proves nothing"
    );
    let effect = nanos(EFFECT)?;
    // A kill's effects end where the next one's begin.
    let faults: Vec<Fault> = kills
        .iter()
        .enumerate()
        .map(|(at, &from_ns)| Fault {
            from_ns,
            until_ns: kills.get(at + 1).copied().unwrap_or(from_ns + effect),
        })
        .collect();
    let availability = availability::check(&Evidence::new(&history), &faults);
    let worst = (0..faults.len())
        .filter_map(|fault| {
            availability
                .gaps
                .iter()
                .filter(|gap| gap.fault == fault)
                .map(|gap| gap.gap_ns)
                .max()
        })
        .collect();
    let every = availability.gaps.iter().map(|gap| gap.gap_ns).collect();
    Ok(Outcome {
        report,
        worst: Gaps::new("worst partition", worst),
        every: Gaps::new("all partitions", every),
        availability: availability
            .anomalies
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
}

/// A whole number of nanoseconds.
///
/// # Errors
/// When the duration is longer than 584 years.
pub fn nanos(length: Duration) -> Result<u64> {
    Ok(u64::try_from(length.as_nanos())?)
}

/// A number below `bound` from a splitmix64 stream.
fn roll(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bound = u64::try_from(bound).unwrap_or(1);
    usize::try_from((mixed ^ (mixed >> 31)) % bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str], kills: &[u64]) -> Result<Outcome> {
        let path = std::env::temp_dir().join(format!(
            "weir-soak-test-{}-{}",
            std::process::id(),
            clock::now_ns()
        ));
        std::fs::write(&path, lines.join("\n")).unwrap();
        let outcome = judge(&path, kills);
        std::fs::remove_file(path).unwrap();
        outcome
    }

    const SENT: [&str; 4] = [
        r#"{"f":"send","index":0,"process":0,"t_ns":1000000,"type":"invoke","value":[[0,0,null],[0,1,null]]}"#,
        r#"{"f":"send","index":1,"process":0,"t_ns":2000000,"type":"ok","value":[[0,0,0],[0,1,1]]}"#,
        r#"{"f":"send","index":2,"process":0,"t_ns":3000000,"type":"invoke","value":[[0,2,null]]}"#,
        r#"{"f":"send","index":3,"process":0,"t_ns":900000000,"type":"ok","value":[[0,2,2]]}"#,
    ];

    #[test]
    fn a_history_as_the_load_writes_it_is_judged() {
        let poll = r#"{"f":"poll","index":5,"process":6,"t_ns":900000002,"type":"ok","value":[[0,0,0],[0,1,1],[0,2,2]]}"#;
        let begin =
            r#"{"f":"poll","index":4,"process":6,"t_ns":900000001,"type":"invoke","value":[]}"#;
        let good = judged(&[&SENT[..], &[begin, poll]].concat(), &[2_500_000]).unwrap();
        assert!(good.is_good(), "{good}");
        assert_eq!(good.worst, Gaps::new("worst partition", vec![898_000_000]));
        let lossy = poll.replace("[0,1,1],", "");
        let bad = judged(&[&SENT[..], &[begin, &lossy]].concat(), &[2_500_000]).unwrap();
        assert!(!bad.is_good());
        assert!(bad.to_string().contains("C5: value 1 of key 0"), "{bad}");
    }

    #[test]
    fn a_run_without_faults_or_values_proves_nothing() {
        assert!(judged(&SENT, &[]).is_err());
        assert!(judged(&[], &[1]).is_err());
    }

    #[test]
    fn every_node_is_chosen_in_the_end() {
        let mut state = 1;
        let chosen: std::collections::BTreeSet<usize> =
            (0..50).map(|_| roll(&mut state, 3)).collect();
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
