//! What QUIC needs of the world beyond [`weir_base::Env`]: `node/os` gives the
//! machine's, `sim` a simulated one.
//!
//! Seeds, connection ids, reset and token keys come from `Env::entropy`, and the wall
//! clock of TLS and of tokens from `Env::clock`; with what is here that is every source
//! of time and randomness that quinn and rustls have, so that a simulated run repeats
//! bit for bit.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{AsyncUdpSocket, Runtime};
use rustls::crypto::CryptoProvider;
use weir_base::BoxFuture;

/// UDP, timers and cryptography for QUIC.
pub trait QuicEnv: Send + Sync {
    /// Opens a UDP socket on `address`; port 0 picks a free one.
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Arc<dyn AsyncUdpSocket>>>;

    /// Timers, the monotonic clock, and the tasks that drive connections.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Ciphers, key exchange and their randomness. Must offer AES-128-GCM.
    fn crypto(&self) -> Arc<CryptoProvider>;
}
