//! QUIC on turmoil's UDP: the real protocol, real TLS, no real entropy and no real time.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use rustls::crypto::CryptoProvider;
use weir_base::{BoxFuture, Entropy, Tasks};
use weir_peer::QuicEnv;

use super::net::unspecified;
use super::weather::Fate;
use super::{SimSpawner, Weather, crypto_provider};
use crate::trace::Trace;

/// QUIC's needs, simulated for one run of one node.
#[derive(Clone)]
pub struct SimQuic {
    ip: std::net::IpAddr,
    spawner: Arc<SimSpawner>,
    crypto: Arc<CryptoProvider>,
    weather: Weather,
    entropy: Entropy,
    trace: Trace,
}

impl SimQuic {
    /// QUIC of the machine at `ip`.
    #[must_use]
    pub fn new(
        ip: std::net::IpAddr,
        spawner: Arc<SimSpawner>,
        entropy: &Entropy,
        weather: Weather,
        trace: Trace,
    ) -> Self {
        Self {
            ip,
            spawner,
            crypto: Arc::new(crypto_provider(entropy)),
            weather,
            entropy: entropy.fork("weather"),
            trace,
        }
    }
}

impl QuicEnv for SimQuic {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Arc<dyn AsyncUdpSocket>>> {
        let this = self.clone();
        Box::pin(async move {
            let socket = turmoil::net::UdpSocket::bind(unspecified(address)).await?;
            let local = SocketAddr::new(this.ip, socket.local_addr()?.port());
            let kernel = Arc::new(Kernel::new(socket));
            let closing = Arc::clone(&kernel);
            this.spawner.at_crash(move || closing.close());
            Ok(Arc::new(SimUdp {
                kernel,
                local,
                weather: this.weather,
                entropy: this.entropy,
                trace: this.trace,
            }) as Arc<dyn AsyncUdpSocket>)
        })
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(SimRuntime(Tasks::new(Arc::clone(&self.spawner) as _)))
    }

    fn crypto(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.crypto)
    }
}

/// Tokio's timers, which run on simulated time inside a host.
struct SimRuntime(Tasks);

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimRuntime")
    }
}

impl Runtime for SimRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn("quic", future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        // There is no real socket in a simulated run.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// The kernel's half of a socket, which goes with the process.
struct Kernel {
    socket: Mutex<Option<Arc<turmoil::net::UdpSocket>>>,
    /// A wait that holds turmoil's receive lock: while one is stored, trying to receive
    /// would find the socket taken.
    readable: Mutex<Option<Readable>>,
}

impl Kernel {
    fn new(socket: turmoil::net::UdpSocket) -> Self {
        Self {
            socket: Mutex::new(Some(Arc::new(socket))),
            readable: Mutex::new(None),
        }
    }

    fn socket(&self) -> io::Result<Arc<turmoil::net::UdpSocket>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket
            .clone()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn close(&self) {
        let take = |readable: &Mutex<Option<Readable>>| {
            let mut held = readable.lock().unwrap_or_else(PoisonError::into_inner);
            held.take()
        };
        drop(take(&self.readable));
        let mut held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = held.take();
        drop(held);
        drop(socket);
    }
}

struct SimUdp {
    kernel: Arc<Kernel>,
    local: SocketAddr,
    weather: Weather,
    entropy: Entropy,
    trace: Trace,
}

impl fmt::Debug for SimUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimUdp({})", self.local)
    }
}

impl SimUdp {
    fn receive(
        socket: &turmoil::net::UdpSocket,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Ok((len, addr)) = socket.try_recv_from(buffer) else {
                break;
            };
            *meta = RecvMeta::default();
            meta.addr = addr;
            meta.len = len;
            meta.stride = len;
            count += 1;
        }
        count
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let fate = self.weather.fate(self.local.ip(), to.ip(), &self.entropy);
        let (copies, word) = match fate {
            Fate::Sent => (1, "sent"),
            Fate::Lost => (0, "lost"),
            Fate::Doubled => (2, "doubled"),
        };
        self.trace.datagram(self.local, to, datagram, word);
        let socket = self.kernel.socket()?;
        for _ in 0..copies {
            socket.try_send_to(datagram, to)?;
        }
        Ok(())
    }
}

impl AsyncUdpSocket for SimUdp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        transmit
            .contents
            .chunks(segment.max(1))
            .try_for_each(|datagram| self.send(transmit.destination, datagram))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let socket = self.kernel.socket()?;
        let held = &self.kernel.readable;
        let mut readable = held.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waiting = match readable.as_mut() {
                Some(waiting) => waiting,
                None => {
                    let count = Self::receive(&socket, buffers, meta);
                    if count > 0 {
                        return Poll::Ready(Ok(count));
                    }
                    let socket = Arc::clone(&socket);
                    readable.insert(Box::pin(async move { socket.readable().await }))
                }
            };
            let woken = ready!(waiting.as_mut().poll(cx));
            *readable = None;
            woken?;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// turmoil's sockets have no send buffer to fill.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
