//! `weir-soak`: kills nodes under load and checks that nothing acknowledged is lost, doubled or reordered.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use weir_checkers::{History, Report, Verdict};
use weir_jepsen::clients::Clients;
use weir_jepsen::cluster::Cluster;
use weir_jepsen::{clock, failover, soak};

/// Kills nodes under load and checks what clients saw. Exits with 1 when something was lost, doubled or out of order.
#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Random nodes, every partition written and read, every checker of a log.
    Soak {
        /// How long to write.
        #[arg(long, default_value_t = 1)]
        minutes: u64,
        /// Seconds from one kill to the next.
        #[arg(long, default_value_t = 20)]
        every: u64,
        /// Partitions of the topic.
        #[arg(long, default_value_t = 6)]
        partitions: u32,
        /// Chooses the nodes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        place: Place,
    },
    /// Judge a history that was written earlier, by any driver.
    Check {
        /// JSON lines as `weir-checkers` reads them.
        history: PathBuf,
        /// Producers were not idempotent: duplicates are counted, not errors.
        #[arg(long)]
        duplicates_allowed: bool,
        /// Readers may not have reached the end: what nobody read is no error.
        #[arg(long)]
        not_drained: bool,
    },
    /// The leader of one partition, and the pause each make of producer sees.
    Failover {
        /// How often.
        #[arg(long, default_value_t = 21)]
        kills: u32,
        /// Seconds from one kill to the next.
        #[arg(long, default_value_t = 10)]
        every: u64,
        /// Records per second and producer.
        #[arg(long, default_value_t = 200)]
        rate: u32,
        /// Clients with a `load` mode, by comma.
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "franz-go,confluent-kafka,java-4"
        )]
        producers: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
}

/// What to run against; without `--bootstrap`, a fresh `weir dev`.
#[derive(Debug, Args)]
struct Place {
    /// A cluster that is there already: host:port,host:port,...
    #[arg(long, requires = "kill")]
    bootstrap: Option<String>,
    /// kill -9 of a node of that cluster: a shell command whose $1 is the node id. Somebody else restarts it.
    #[arg(long)]
    kill: Option<String>,
    /// Node ids of that cluster.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    nodes: Vec<u32>,
    /// The `weir` binary; the one beside this program by default.
    #[arg(long)]
    weir: Option<PathBuf>,
    /// `jepsen/clients` of a checkout.
    #[arg(long, default_value = "jepsen/clients")]
    clients: PathBuf,
    /// Where histories, logs and the cluster's data go; a new directory by default, removed after a good run.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Place {
    /// Calls `run` with the cluster, the clients and the directory for its files.
    fn with(
        self,
        run: impl FnOnce(&Cluster, &Clients, &std::path::Path) -> Result<bool>,
    ) -> Result<bool> {
        let keep = self.out.is_some();
        let fresh = || std::env::temp_dir().join(format!("weir-soak-{}", clock::now_ns()));
        let directory = self.out.unwrap_or_else(fresh);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let clients = Clients::new(self.clients)?;
        let good = {
            let cluster = match (self.bootstrap, self.kill) {
                (Some(bootstrap), Some(kill)) => Cluster::external(bootstrap, self.nodes, kill),
                _ => {
                    let beside = std::env::current_exe()?.with_file_name("weir");
                    Cluster::start(&self.weir.unwrap_or(beside), &directory)?
                }
            };
            run(&cluster, &clients, &directory)
                .with_context(|| format!("files in {}", directory.display()))?
        };
        if good && !keep {
            std::fs::remove_dir_all(&directory)?;
        } else {
            say(&format!("files in {}", directory.display()));
        }
        Ok(good)
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a command line program reports on its standard output"
)]
fn say(line: &str) {
    println!("{line}");
}

fn run(mode: Mode) -> Result<bool> {
    match mode {
        Mode::Soak {
            minutes,
            every,
            partitions,
            seed,
            place,
        } => {
            let options = soak::Options {
                length: Duration::from_secs(60 * minutes),
                every: Duration::from_secs(every),
                partitions,
                seed,
            };
            place.with(|cluster, clients, directory| {
                let outcome = soak::run(cluster, clients, &options, directory, &say)?;
                say(&outcome.to_string());
                Ok(outcome.is_good())
            })
        }
        Mode::Check {
            history,
            duplicates_allowed,
            not_drained,
        } => {
            let file = File::open(&history).with_context(|| history.display().to_string())?;
            let history = History::read(BufReader::new(file))?;
            let verdict = Verdict {
                idempotent: !duplicates_allowed,
                drained: !not_drained,
                settled: None,
            };
            let report = Report::new(&history, verdict);
            say(&report.to_string());
            Ok(report.anomalies.is_empty())
        }
        Mode::Failover {
            kills,
            every,
            rate,
            producers,
            place,
        } => {
            let options = failover::Options {
                kills,
                every: Duration::from_secs(every),
                rate,
                producers,
            };
            place.with(|cluster, clients, directory| {
                let outcome = failover::run(cluster, clients, &options, directory, &say)?;
                say(&outcome.to_string());
                Ok(outcome.is_good())
            })
        }
    }
}

fn main() -> ExitCode {
    match run(Command::parse().mode) {
        Ok(true) => {
            say("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            say("0 passed, 1 failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("{error:#}\n0 passed, 1 failed"));
            ExitCode::FAILURE
        }
    }
}
