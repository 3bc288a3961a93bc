//! The directory of a development cluster: its lock, what is remembered of it, each
//! node's files, and `cluster.json` for whoever wants to talk to the cluster.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::certificates;

use super::plan::{CLUSTER, DECIDED, Founded, NodeCertificates, Plan};

/// An open directory, which no other `weir dev` can use meanwhile.
pub struct Directory {
    path: PathBuf,
    // Held, not used: the kernel releases the lock with the last descriptor, however
    // the process ends.
    _lock: File,
}

/// `cluster.json`: the cluster as it runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFile {
    /// Its nodes, by id.
    pub nodes: Vec<ClusterFileNode>,
}

/// A node in `cluster.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFileNode {
    /// Its id.
    pub id: u32,
    /// Its process; `null` while it does not run.
    pub pid: Option<u32>,
    /// Where Kafka clients connect.
    pub kafka: String,
    /// Where RocketMQ clients connect. (A file of an older `weir dev` lacks it.)
    #[serde(default)]
    pub rocketmq: String,
    /// Where its admin API listens.
    pub admin: String,
    /// Where other nodes connect (UDP).
    pub peer: String,
    /// Its data directory.
    pub data: String,
    /// Its log.
    pub log: String,
}

impl Directory {
    /// Opens, making it if there is none.
    ///
    /// # Errors
    /// If another `weir dev` uses it, or it cannot be made.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("--data {}", path.display()))?;
        let lock_path = path.join("dev.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .with_context(|| format!("--data {}: cannot write there", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&lock_path).unwrap_or_default();
                bail!(
                    "--data {}: another weir dev (pid {}) runs there; stop it, or choose another --data",
                    path.display(),
                    holder.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// What is remembered of an earlier run.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn founded(&self) -> Result<Option<Founded>> {
        let path = self.path.join("dev.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged", path.display()))
    }

    /// Processes that an earlier run left behind when it was killed.
    #[must_use]
    pub fn left_behind(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join("cluster.json")).unwrap_or_default();
        serde_json::from_str::<ClusterFile>(&text)
            .map(|cluster| cluster.nodes.iter().filter_map(|node| node.pid).collect())
            .unwrap_or_default()
    }

    /// Makes every node's directory, certificate and configuration file.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn prepare(&self, plan: &Plan) -> Result<()> {
        for node in &plan.nodes {
            fs::create_dir_all(node.data()).with_context(|| node.data().display().to_string())?;
        }
        let authority =
            certificates::Authority::open(&self.path, CLUSTER).context("certificates")?;
        for node in &plan.nodes {
            let files = NodeCertificates::of(&self.path, node);
            authority
                .ensure_node(node.id, &files.certificate, &files.key)
                .context("certificates")?;
        }
        // Remembered before a voter can start: founding voters must never change.
        self.write("dev.json", &serde_json::to_string(&plan.founded)?)?;
        for node in &plan.nodes {
            let options = plan.options(node, &NodeCertificates::of(&self.path, node));
            let text = format!(
                "# Written by `weir dev` at every start; set options of its nodes by environment variables.\n{}",
                options.to_toml(DECIDED)
            );
            fs::write(node.config_file(), text)
                .with_context(|| node.config_file().display().to_string())?;
        }
        Ok(())
    }

    /// Says how the cluster runs now. Readers see the old file or the new one, whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn publish(&self, cluster: &ClusterFile) -> Result<()> {
        self.write("cluster.json", &serde_json::to_string_pretty(cluster)?)
    }

    /// Says that it does not run.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn unpublish(&self) -> Result<()> {
        match fs::remove_file(self.path.join("cluster.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        let unfinished = self.path.join(format!("{name}.unfinished"));
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&unfinished, &path).with_context(|| path.display().to_string())
    }
}
