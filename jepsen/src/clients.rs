//! Stock-client programs, through `jepsen/clients/run exec CLIENT ARGUMENTS`.

use crate::clock;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where the client programs are.
#[derive(Debug, Clone)]
pub struct Clients {
    directory: PathBuf,
}

impl Clients {
    /// `directory` is `jepsen/clients` of a checkout.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(directory: PathBuf) -> Result<Self> {
        ensure!(
            directory.join("run").is_file(),
            "{} has no file `run`",
            directory.display()
        );
        Ok(Self { directory })
    }

    fn command(&self, client: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join("run"));
        command
            .arg("exec")
            .arg(client)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Installs clients, so that starting one later takes no time.
    ///
    /// # Errors
    /// When one cannot be installed.
    pub fn install(&self, names: &[&str]) -> Result<()> {
        let status = Command::new(self.directory.join("run"))
            .arg("--install-only")
            .args(names)
            .status()?;
        ensure!(status.success(), "installing {names:?} failed");
        Ok(())
    }

    /// Runs a client to its end and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn output(&self, client: &str, arguments: &[&str]) -> Result<String> {
        let done = self
            .command(client, arguments)
            .stderr(Stdio::piped())
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(
            done.status.success(),
            "{client} {arguments:?} ended with {}: {said}",
            done.status
        );
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Starts a client that prints to `path`, and its complaints beside it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, client: &str, arguments: &[&str], path: &Path) -> Result<Program> {
        let child = self
            .command(client, arguments)
            .stdout(File::create(path)?)
            .stderr(File::create(path.with_extension("err"))?)
            .spawn()
            .with_context(|| client.to_owned())?;
        Ok(Program {
            child,
            errors: path.with_extension("err"),
        })
    }
}

/// A client that runs; dropped, it is killed.
#[derive(Debug)]
pub struct Program {
    child: Child,
    errors: PathBuf,
}

impl Program {
    /// Waits for a good end until `deadline_ns` of the machine's monotonic clock.
    ///
    /// # Errors
    /// When it fails, or is still running then.
    pub fn finish(&mut self, deadline_ns: u64) -> Result<()> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                clock::now_ns() < deadline_ns,
                "a client does not end, see {}",
                self.errors.display()
            );
            clock::sleep(Duration::from_millis(50));
        };
        ensure!(
            status.success(),
            "a client ended with {status}, see {}",
            self.errors.display()
        );
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
