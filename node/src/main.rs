//! `weir`: the broker, a development cluster, and the operator's commands, in one
//! binary.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// One clustered message broker: Kafka clients over one replicated log
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster on this machine
    Dev(weir::dev::DevArgs),
    /// Run one node
    Serve(weir::serve::ServeArgs),
    /// Check a configuration file, or print the reference of all options
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    Operate(Box<weir_cli::Command>),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether a file, with the environment, is a right configuration
    Check {
        /// The file (TOML)
        #[arg(env = "WEIR_CONFIG")]
        file: PathBuf,
    },
    /// Print the reference of all options (node/CONFIG.md)
    Docs,
}

fn main() -> ExitCode {
    weir_os::memory::keep_small();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain in one line; nobody may be reading it.
            drop(writeln!(std::io::stderr(), "weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Dev(args) => weir::dev::run(&args),
        Command::Serve(args) => weir::serve::run(&args),
        Command::Operate(command) => weir_cli::run(&command, &mut std::io::stdout()),
        Command::Config(ConfigCommand::Check { file }) => {
            let loaded = weir::serve::read_options(Some(&file))?;
            let mut out = std::io::stdout();
            for warning in loaded.warnings {
                writeln!(out, "warning: {warning}")?;
            }
            writeln!(out, "{}: ok", file.display())?;
            Ok(())
        }
        Command::Config(ConfigCommand::Docs) => {
            write!(std::io::stdout(), "{}", weir::options::reference())?;
            Ok(())
        }
    }
}
