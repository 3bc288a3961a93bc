//! The cluster under test: `weir dev`, started here, or any other that is there already.
//!
//! `weir dev --data DIR --port-base N` prints `weir: ready`, describes its nodes in `DIR/cluster.json` and
//! restarts a node that died. A cluster of another make is given by its bootstrap list, a command that
//! kills a node, and somebody who restarts it.

use crate::clock;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a cluster may take to start, and a killed node to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// One node of `cluster.json`.
#[derive(Debug, Deserialize)]
struct Node {
    id: u32,
    /// Absent while the node is down.
    pid: Option<i32>,
    kafka: String,
}

#[derive(Debug, Deserialize)]
struct Description {
    nodes: Vec<Node>,
}

fn describe(data: &Path) -> Result<Description> {
    let path = data.join("cluster.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// How a node dies.
#[derive(Debug)]
enum Kill {
    /// By the pid that `cluster.json` in this directory says now.
    Pid(PathBuf),
    /// By a shell command whose `$1` is the node id.
    Command(String),
}

/// Nodes to load and to kill.
#[derive(Debug)]
pub struct Cluster {
    /// `host:port,host:port,...` of the Kafka listeners.
    pub bootstrap: String,
    /// Node ids.
    pub nodes: Vec<u32>,
    kill: Kill,
    process: Option<Child>,
}

impl Cluster {
    /// Starts `weir dev` on an empty directory below `directory`.
    ///
    /// # Errors
    /// When the binary does not start or is not ready in a minute.
    pub fn start(binary: &Path, directory: &Path) -> Result<Self> {
        let data = directory.join("data");
        let port = free_port_base()?;
        let mut process = Command::new(binary)
            .arg("dev")
            .arg("--data")
            .arg(&data)
            .args([
                "--port-base",
                &port.to_string(),
                "--admin-port-base",
                &(port + 50).to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.join("weir-dev.err"))?)
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let output = process.stdout.take().context("no output")?;
        // The reader goes on after the word, so that a full pipe never stops the cluster.
        let (ready, word) = std::sync::mpsc::channel();
        let mut log = File::create(directory.join("weir-dev.out"))?;
        std::thread::Builder::new()
            .name("weir-dev output".to_owned())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    drop(std::io::Write::write_all(
                        &mut log,
                        format!("{line}\n").as_bytes(),
                    ));
                    if line.starts_with("weir: ready") {
                        let _ = ready.send(());
                    }
                }
            })?;
        if word.recv_timeout(PATIENCE).is_err() {
            drop(process.kill());
            bail!("weir dev did not become ready, see {}", directory.display());
        }
        let nodes = describe(&data)?.nodes;
        Ok(Self {
            bootstrap: nodes
                .iter()
                .map(|node| node.kafka.as_str())
                .collect::<Vec<_>>()
                .join(","),
            nodes: nodes.iter().map(|node| node.id).collect(),
            kill: Kill::Pid(data),
            process: Some(process),
        })
    }

    /// A cluster that is there already.
    #[must_use]
    pub fn external(bootstrap: String, nodes: Vec<u32>, kill: String) -> Self {
        Self {
            bootstrap,
            nodes,
            kill: Kill::Command(kill),
            process: None,
        }
    }

    /// kill -9, and the time just before it.
    ///
    /// # Errors
    /// When there is no such node, or it cannot be killed.
    pub fn kill(&self, node: u32) -> Result<u64> {
        match &self.kill {
            Kill::Pid(data) => {
                let nodes = describe(data)?.nodes;
                let found = nodes
                    .iter()
                    .find(|candidate| candidate.id == node)
                    .context("no such node")?;
                let pid = found
                    .pid
                    .filter(|&pid| pid > 1)
                    .and_then(Pid::from_raw)
                    .with_context(|| format!("node {node} does not run"))?;
                let at = clock::now_ns();
                kill_process(pid, Signal::KILL)
                    .with_context(|| format!("kill -9 of node {node}"))?;
                Ok(at)
            }
            Kill::Command(command) => {
                let at = clock::now_ns();
                let status = Command::new("sh")
                    .args(["-c", command, "kill", &node.to_string()])
                    .status()?;
                ensure!(status.success(), "the kill command ended with {status}");
                Ok(at)
            }
        }
    }

    /// Waits until every node accepts connections.
    ///
    /// # Errors
    /// When one does not for a minute.
    pub fn wait_until_up(&self) -> Result<()> {
        let deadline = clock::now_ns() + u64::try_from(PATIENCE.as_nanos())?;
        for address in self.bootstrap.split(',') {
            let address: SocketAddr = address.parse().with_context(|| address.to_owned())?;
            while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
                ensure!(clock::now_ns() < deadline, "{address} does not come back");
                clock::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    /// Asks `weir dev` to stop, and kills it after half a minute.
    fn drop(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..300 {
            if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            clock::sleep(Duration::from_millis(100));
        }
        drop(process.kill());
        drop(process.wait());
    }
}

/// A port with room above it, free at this moment; `weir dev` takes others 10,000 above.
fn free_port_base() -> Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (12_000..22_000)
        .step_by(1000)
        .find(|&port| free(port) && free(port + 50))
        .context("no free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_killed_by_the_pid_of_the_moment() {
        let directory =
            std::env::temp_dir().join(format!("weir-cluster-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
        let json = format!(
            r#"{{"nodes":[{{"id":1,"pid":1,"kafka":"a:1","admin":"","data":""}},{{"id":2,"pid":{},"kafka":"a:2","admin":"","data":""}},{{"id":4,"pid":null,"kafka":"a:4","admin":"","data":""}}]}}"#,
            victim.id()
        );
        std::fs::write(directory.join("cluster.json"), json).unwrap();
        let cluster = Cluster {
            bootstrap: String::new(),
            nodes: vec![1, 2],
            kill: Kill::Pid(directory.clone()),
            process: None,
        };
        assert!(cluster.kill(3).is_err(), "there is no node 3");
        assert!(cluster.kill(4).is_err(), "node 4 is down");
        assert!(cluster.kill(1).is_err(), "pid 1 is nobody's node");
        cluster.kill(2).unwrap();
        assert!(!victim.wait().unwrap().success());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
