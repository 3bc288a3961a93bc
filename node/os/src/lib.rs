//! The machine: the only crate that names a clock, a socket, a thread, a file or a
//! source of entropy. Everything else asks [`Env`].
//!
//! Owns: [`OsClock`], [`OsNet`], [`OsSpawner`], [`OsQuic`], [`os_entropy`] and
//! [`shutdown_requested`]. Called by the composition root (`node`), by `jepsen`, and by
//! tests that need real sockets. Holds no invariant of its own: its duty is to add
//! nothing to what the seams of `weir-base` promise. On a panic in a task the process
//! aborts, because what the task guarded is in an unknown state; files and kernel
//! buffers outlive that (a process crash is no power loss).

mod clock;
pub mod disk;
mod entropy;
pub mod memory;
mod net;
pub mod process;
mod quic;
mod signal;
mod tasks;

use std::sync::Arc;

use weir_base::{Disk, Env, Tasks};

pub use clock::OsClock;
pub use disk::OsDisk;
pub use entropy::os_entropy;
pub use net::OsNet;
pub use quic::OsQuic;
pub use signal::{Shutdown, shutdown_requested};
pub use tasks::{OsSpawner, PanicHook};

/// The real world around `disk`. A panicking task aborts the process.
///
/// # Panics
/// If called outside a tokio runtime, or if the machine has no entropy.
#[must_use]
pub fn os_env(disk: Arc<dyn Disk>) -> Env {
    os_env_with(disk, Arc::new(OsSpawner::aborting()))
}

/// As [`os_env`], with a spawner that the caller keeps in order to shut it down.
///
/// # Panics
/// If the machine has no entropy.
#[must_use]
pub fn os_env_with(disk: Arc<dyn Disk>, spawner: Arc<OsSpawner>) -> Env {
    Env {
        clock: Arc::new(OsClock::new()),
        entropy: os_entropy(),
        disk,
        net: Arc::new(OsNet),
        tasks: Tasks::new(spawner),
    }
}
