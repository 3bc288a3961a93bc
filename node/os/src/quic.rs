//! QUIC on the machine's UDP: large socket buffers and the kernel's segmentation
//! offload, which is worth a factor of three (see `replication/peer/README.md`).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use rustls::crypto::CryptoProvider;
use socket2::{Domain, Protocol, Socket, Type};
use weir_base::{BoxFuture, Tasks};
use weir_peer::QuicEnv;

/// Asked of the kernel for each direction, which may grant less: without it a burst of
/// two nodes on one machine loses a percent or two of its packets.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// QUIC's needs from the machine.
#[derive(Clone)]
pub struct OsQuic {
    tasks: Tasks,
    crypto: Arc<CryptoProvider>,
}

impl OsQuic {
    /// QUIC whose drivers run among `tasks`.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            crypto: Arc::new(rustls::crypto::ring::default_provider()),
        }
    }
}

impl QuicEnv for OsQuic {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Arc<dyn AsyncUdpSocket>>> {
        Box::pin(async move {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::DGRAM,
                Some(Protocol::UDP),
            )?;
            for granted in [
                socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES),
                socket.set_send_buffer_size(SOCKET_BUFFER_BYTES),
            ] {
                if let Err(error) = granted {
                    tracing::warn!(%error, "small UDP buffers: links will lose packets under load");
                }
            }
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            TokioRuntime.wrap_udp_socket(socket.into())
        })
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(SupervisedRuntime(self.tasks.clone()))
    }

    fn crypto(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.crypto)
    }
}

/// Tokio's timers and sockets, with quinn's drivers among the node's own tasks.
struct SupervisedRuntime(Tasks);

impl std::fmt::Debug for SupervisedRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SupervisedRuntime")
    }
}

impl Runtime for SupervisedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn("quic", future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
