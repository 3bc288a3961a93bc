//! rdkafka (librdkafka) for Rust: `weir-client-rust BOOTSTRAP`. Result lines and environment as in `../README.md`.

// Weir's own code takes its clock from `Env`; this is an application like any other.
#![allow(clippy::disallowed_methods)]

mod checks;
mod delayed;
mod report;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(bootstrap) = std::env::args().nth(1) else {
        eprintln!("usage: weir-client-rust BOOTSTRAP");
        return ExitCode::from(2);
    };
    let mut report = report::Report::new();
    let checks = checks::Checks::new(bootstrap);
    report.check("create-topic", || checks.create_topic());
    for codec in checks::CODECS {
        report.check(&format!("codec-{codec}"), || checks.codec(codec));
    }
    report.check("group-rebalance", || checks.group());
    if let Some(topic) = delayed::topic() {
        report.check("delayed", || delayed::check(&checks, &topic));
    } else {
        report.line("delayed", "SKIP", "needs a cluster that `run` starts");
    }
    if report::kill_command().is_some() {
        report.check("leader-kill", || checks.leader_kill());
    } else {
        report.line("leader-kill", "SKIP", "no kill command");
    }
    ExitCode::from(u8::from(report.failed))
}
