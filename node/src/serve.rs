//! `weir serve`: the process around one node. Options, the lock on its data, the log,
//! the runtime, the signals, and the limit on how long stopping may take.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use weir_os::{OsDisk, OsQuic, OsSpawner, os_env_with, shutdown_requested};

use crate::options::{Environment, Loaded, NodeOptions, load};
use crate::{certificates, logging, wire_up};

/// What `weir serve` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// The configuration file (TOML); see `weir config docs`
    #[arg(long, env = "WEIR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen beyond loopback although clients are neither encrypted nor authenticated
    #[arg(long, env = "WEIR_INSECURE")]
    pub insecure: bool,
    /// Stop when standard input ends (for a supervisor that may be killed)
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// Runs a node until asked to stop.
///
/// # Errors
/// What keeps it from starting, as one line.
pub fn run(args: &ServeArgs) -> Result<()> {
    let loaded = read_options(args.config.as_deref())?;
    for warning in &loaded.warnings {
        drop(writeln!(std::io::stderr(), "weir: {warning}"));
    }
    let options = loaded.options;
    if let Some((key, address)) = options.beyond_loopback().first()
        && !args.insecure
    {
        bail!(
            "{key} = \"{address}\" can be reached from other machines, and client TLS and authentication do not exist yet: listen on 127.0.0.1, or accept it with --insecure"
        );
    }
    let _lock = lock_data(&options.node.data)?;
    logging::start(&options).context("log.file")?;
    let threads = usize::try_from(options.node.worker_threads)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("weir")
        .enable_all()
        .build()?
        .block_on(serve(&options, args.supervised))
}

/// Reads a configuration file and the environment.
///
/// # Errors
/// What is wrong with them, as one line.
pub fn read_options(file: Option<&Path>) -> Result<Loaded> {
    let mut environment = Environment::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue; // no name of ours
        };
        match value.into_string() {
            Ok(value) => drop(environment.insert(name, value)),
            // Left out, it would silently leave a default in force.
            Err(_) if name.starts_with("WEIR_") => {
                bail!("environment variable {name}: not UTF-8; write it anew")
            }
            Err(_) => {}
        }
    }
    let text = match file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| anyhow!("--config {}: {error}", path.display()))?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let file = text
        .as_ref()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    Ok(load(file, &environment)?)
}

async fn serve(options: &NodeOptions, supervised: bool) -> Result<()> {
    let disk = OsDisk::open(&options.node.data)
        .with_context(|| format!("node.data = {:?}", options.node.data.display().to_string()))?;
    let spawner = Arc::new(OsSpawner::aborting());
    let env = os_env_with(Arc::new(disk), Arc::clone(&spawner));
    let quic = Arc::new(OsQuic::new(env.tasks.clone()));
    let identity = certificates::identity(options)?;
    let tls = certificates::client_tls(options)?;
    let node = wire_up::start_node(options, &env, quic, identity, Some(tls)).await?;
    tracing::info!(
        node = options.node.id,
        name = options.display_name(),
        "started"
    );
    stop_requested(supervised).await?;

    let draining = async {
        node.drain_and_stop().await;
        spawner.shutdown().await;
    };
    tokio::select! {
        biased;
        done = env.timeout(options.node.stop_timeout, draining) => match done {
            Some(()) => tracing::info!("stopped"),
            // What was acknowledged is safe: the next start recovers as after a crash.
            None => bail!(
                "not stopped within node.stop_timeout = {:?}; still running: {}",
                options.node.stop_timeout,
                spawner.running().join(", ")
            ),
        },
        again = shutdown_requested() => {
            again?;
            bail!("asked to stop again: gave up draining");
        }
    }
    Ok(())
}

async fn stop_requested(supervised: bool) -> Result<()> {
    tokio::select! {
        biased;
        asked = shutdown_requested() => tracing::info!(by = ?asked?, "stopping"),
        () = standard_input_ended(), if supervised => {
            tracing::info!("stopping: the supervisor asks for it or is gone");
        }
    }
    Ok(())
}

/// Completes when standard input, a pipe that the supervisor holds, is closed.
async fn standard_input_ended() {
    let pipe = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(pipe::Receiver::from_owned_fd);
    let mut pipe = match pipe {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::error!(%error, "--supervised needs a pipe as standard input: ignored");
            return std::future::pending().await;
        }
    };
    let mut bytes = [0; 64];
    while matches!(pipe.read(&mut bytes).await, Ok(1..)) {}
}

/// Holds the data directory for this process.
fn lock_data(data: &Path) -> Result<File> {
    let key = || format!("node.data = {:?}", data.display().to_string());
    fs::create_dir_all(data).with_context(key)?;
    let path = data.join("node.lock");
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(key)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "{}: another node (pid {}) uses it; stop it, or choose another directory",
                key(),
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(key),
    }
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}
