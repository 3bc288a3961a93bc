//! One node's process.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::plan::{DECIDED, NodePlan};
use crate::options::variable;

/// How long the nodes of a killed supervisor are waited for.
const LEFT_BEHIND_PATIENCE: Duration = Duration::from_secs(15);

/// A running node.
pub(super) struct Child {
    process: process::Child,
}

impl Child {
    /// Starts a node as `weir serve`.
    pub(super) fn start(node: &NodePlan) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find my own program")?;
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg("--config")
            .arg(node.config_file())
            // It stops when its standard input ends: when we say so, or are no more.
            .arg("--supervised")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C at the terminal is for the supervisor, which stops the nodes in order.
            .process_group(0);
        for (section, key) in DECIDED.iter().filter_map(|path| path.split_once('.')) {
            command.env_remove(variable(section, key));
        }
        let process = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { process })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // An error means that there is no such child: it will never be heard of again.
        self.process.try_wait().unwrap_or_default()
    }

    pub(super) fn ask_to_stop(&mut self) {
        drop(self.process.stdin.take());
    }

    pub(super) fn kill(&mut self) {
        // It may have ended meanwhile, which is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Waits for the nodes of a supervisor that was killed: they stop by themselves.
pub(super) async fn wait_for_left_behind(pids: &[u32]) -> Result<()> {
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while let Some(pid) = pids.iter().find(|pid| is_weir(**pid)) {
        if waited >= LEFT_BEHIND_PATIENCE {
            bail!("a node of an earlier run (pid {pid}) still runs and does not stop: kill it");
        }
        super::pause(step).await;
        waited += step;
    }
    Ok(())
}

/// Whether a process is a node of weir: its number may have gone to something else.
fn is_weir(pid: u32) -> bool {
    let command = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    command.is_ok_and(|line| {
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == b"--supervised")
    })
}
