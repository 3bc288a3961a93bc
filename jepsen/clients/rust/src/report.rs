//! Result lines, waits and the kill command.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

pub type Result<T = String> = std::result::Result<T, Box<dyn Error>>;

/// Prints a line a check, as `../README.md` says.
pub struct Report {
    client: String,
    pub failed: bool,
}

impl Report {
    pub fn new() -> Self {
        let client = std::env::var("CLIENT").unwrap_or_else(|_| "rdkafka".to_owned());
        Self {
            client,
            failed: false,
        }
    }

    /// Runs `action`, whose text is the detail of the PASS line.
    pub fn check(&mut self, name: &str, action: impl FnOnce() -> Result) {
        match action() {
            Ok(detail) => self.line(name, "PASS", &detail),
            Err(error) => {
                self.failed = true;
                self.line(name, "FAIL", &error.to_string().replace('\n', " "));
            }
        }
    }

    pub fn line(&self, name: &str, result: &str, detail: &str) {
        println!("{} {name} {result} {detail}", self.client);
    }
}

/// The shell command that kills the nodes it is given, if there is one.
pub fn kill_command() -> Option<String> {
    std::env::var("KILL")
        .ok()
        .filter(|command| !command.is_empty())
}

pub fn kill(node: i32) -> Result<()> {
    let command = kill_command().ok_or("no kill command")?;
    let status = Command::new("sh")
        .args(["-c", &command, "kill", &node.to_string()])
        .status()?;
    if !status.success() {
        return Err(format!("the kill command ended with {status}").into());
    }
    Ok(())
}

/// Asks until it is so: longer than a session timeout, after which a lost member is given up.
pub fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let limit = Duration::from_secs(60);
    let began = Instant::now();
    while !condition()? {
        if began.elapsed() > limit {
            return Err(format!("{what}: not within {} s", limit.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
