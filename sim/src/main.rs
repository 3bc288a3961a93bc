//! `weir-sim`: see `weir_sim::command`.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    weir_sim::command::main()
}
