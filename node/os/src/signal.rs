//! What asks a node to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Why the node was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Ctrl-C at the terminal.
    Interrupt,
    /// SIGTERM, as service managers send it.
    Terminate,
}

/// Completes at the first Ctrl-C or SIGTERM after it was first polled. Called again it
/// waits for the next one, by which an impatient operator cuts a drain short.
///
/// # Errors
/// If the handlers cannot be installed.
pub async fn shutdown_requested() -> io::Result<Shutdown> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        biased;
        _ = interrupt.recv() => Shutdown::Interrupt,
        _ = terminate.recv() => Shutdown::Terminate,
    })
}
