//! TCP on turmoil.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_base::{BoxFuture, ByteStream, Listener, Net};

use super::Machines;
use crate::trace::sim_now;

/// How long a machine's refusal takes to come back.
const ROUND_TRIP: Duration = Duration::from_millis(2);

/// The TCP of the machine at one address.
#[derive(Debug, Clone)]
pub struct SimNet {
    ip: IpAddr,
    machines: Machines,
}

impl SimNet {
    /// The TCP of the machine at `ip`.
    #[must_use]
    pub fn new(ip: IpAddr, machines: Machines) -> Self {
        Self { ip, machines }
    }
}

/// turmoil binds to the host's only address, which it calls unspecified.
pub(crate) fn unspecified(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, address.port())
}

impl Net for SimNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (ip, machines) = (self.ip, self.machines.clone());
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(unspecified(address)).await?;
            let address = SocketAddr::new(ip, listener.local_addr()?.port());
            machines.set_listening(address, true);
            Ok(Box::new(SimListener {
                listener,
                address,
                machines,
            }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let machines = self.machines.clone();
        Box::pin(async move {
            let started = sim_now();
            let connecting = turmoil::net::TcpStream::connect(address);
            let connected = tokio::select! {
                biased;
                connected = connecting => connected,
                // The process is dead and turmoil is silent: its kernel answers.
                () = refusal(&machines, address) => Err(io::ErrorKind::ConnectionRefused.into()),
            };
            match connected {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn ByteStream>),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    // turmoil says refused as well when a partition swallowed the
                    // attempt, but then at once or for a port that listens.
                    if sim_now() == started || !machines.refuses(address) {
                        std::future::pending().await
                    }
                    Err(error)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let ip = host.parse().ok().or_else(|| self.machines.find(host));
        Box::pin(async move {
            let ip = ip.ok_or(io::ErrorKind::NotFound)?;
            Ok(vec![SocketAddr::new(ip, port)])
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's clock is the simulated one inside a host"
)]
async fn refusal(machines: &Machines, address: SocketAddr) {
    let refused = machines.refuses(address);
    tokio::time::sleep(ROUND_TRIP).await;
    if !refused || !machines.refuses(address) {
        std::future::pending().await
    }
}

struct SimListener {
    listener: turmoil::net::TcpListener,
    address: SocketAddr,
    machines: Machines,
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.machines.set_listening(self.address, false);
    }
}
