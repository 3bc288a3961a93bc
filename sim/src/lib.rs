//! The simulator: whole nodes in one thread, on simulated time, network and disks.
//!
//! Owns the simulated side of every seam ([`mod@env`]), the scaffolding that boots nodes
//! and breaks their machines ([`cluster`]), the record of a run ([`trace`]), and what a
//! seed does with all of it (`plan`, `nemesis`, `simulation`) on behalf of `weir-sim`
//! ([`command`]). The rule above all others: the same seed gives the same run, byte for
//! byte, in any process. A run draws nothing from the machine it runs on.

#[cfg(not(tokio_unstable))]
compile_error!(
    "without `--cfg tokio_unstable` tokio seeds itself, and the same seed gives different \
     runs; a RUSTFLAGS variable overrides .cargo/config.toml"
);

pub mod cluster;
pub mod command;
mod dice;
pub mod env;
mod focus;
pub mod fuzz;
mod hearsay;
mod invariants;
mod log_events;
mod nemesis;
mod oracle;
mod outcome;
mod plan;
mod points;
mod probe;
mod queue_steps;
#[cfg(test)]
mod scenarios;
mod simulation;
mod supervisor;
pub mod trace;
pub mod whole_node;
pub mod workload;
