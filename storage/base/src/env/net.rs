//! TCP. (QUIC between nodes has its own seam in `replication/peer`.)

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::BoxFuture;

/// A connected byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Listening and connecting.
pub trait Net: Send + Sync {
    /// Listens on `address`; port 0 picks a free one. `AddrInUse` if it is taken.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// Connects. The caller sets the deadline; `ConnectionRefused` proves that
    /// nothing listens there.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>>;

    /// Looks up a host name or parses an address.
    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// A listening socket.
pub trait Listener: Send + Sync {
    /// The next connection and its remote address. Cancel-safe.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>>;

    /// Where it listens, with the port that was picked.
    fn local_address(&self) -> io::Result<SocketAddr>;
}
