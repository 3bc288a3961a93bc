//! Whether the planned ports are free, before anything is started.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::{Result, bail};

use super::plan::Plan;

/// Tries every port.
///
/// # Errors
/// The first that is taken, with the option that moves it.
pub(super) fn check(plan: &Plan) -> Result<()> {
    for node in &plan.nodes {
        let options = [
            "--port-base",
            "--rocketmq-port-base",
            "--admin-port-base",
            "--port-base",
        ];
        for ((what, address), option) in node.listeners().into_iter().zip(options) {
            // Peers use both: TCP to prove that the process lives.
            let udp = || if what == "peer" { udp(address) } else { Ok(()) };
            let tried = tcp(address).and_then(|()| udp());
            if let Err(error) = tried {
                bail!(
                    "node {}'s {what} address {address} cannot be used ({error}): stop what uses it, or choose another {option}",
                    node.id
                );
            }
        }
    }
    Ok(())
}

fn tcp(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(drop)
}

fn udp(address: SocketAddr) -> io::Result<()> {
    UdpSocket::bind(address).map(drop)
}
