//! Notices within milliseconds that a peer's process died.
//!
//! QUIC says nothing when a process is killed: its peers wait for the idle timeout. A
//! kernel does say it for TCP. So each end of a link holds one silent TCP connection to
//! the other's port of the same number. When that ends, one more attempt to connect
//! tells the rest: refused means that the machine is up and nothing listens there, and
//! the link is given up at once; silence proves nothing and is left to the idle timeout.
//!
//! Nothing is ever read from or sent on a tether, and nobody authenticates it: the worst
//! that a stranger can do is to make a link be dialled again. A refusal counts only for
//! a link that held a tether before, because a firewall that lets UDP through alone
//! refuses as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use weir_base::{ByteStream, Listener};

use crate::link::{CLOSE_GONE, Link, Wire};
use crate::node::Shared;

/// Tethers held for others; more are dropped at once.
const TETHERS_MAX: usize = 1024;
/// A tether that lived this long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(1);
/// Pause after the first that was not; it doubles from there.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Holds the tethers of others until the node stops.
pub(crate) async fn hold(shared: Arc<Shared>, listener: Box<dyn Listener>) {
    let places = Arc::new(Semaphore::new(TETHERS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: let some be closed.
                tracing::warn!(%error, "tether not accepted");
                shared.env.sleep(shared.options.backoff_max).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            shared.env.tasks.spawn("peer tether", async move {
                ended(stream).await;
                drop(place);
            });
        }
    }
}

/// Completes when the other end has closed or broken `stream`, or says anything.
async fn ended(mut stream: Box<dyn ByteStream>) {
    let mut byte = [0];
    // Bytes, end and error all mean the same here.
    stream.read_exact(&mut byte).await.ok();
}

/// Whether nothing listens on `address` while its machine is up.
pub(crate) async fn is_refused(shared: &Shared, address: SocketAddr) -> bool {
    matches!(reach(shared, address).await, Reached::Refused)
}

enum Reached {
    Yes(Box<dyn ByteStream>),
    Refused,
    No,
}

async fn reach(shared: &Shared, address: SocketAddr) -> Reached {
    let connecting = shared.env.net.connect(address);
    let limit = shared.options.connect_timeout;
    match shared.env.timeout(limit, connecting).await {
        Some(Ok(stream)) => Reached::Yes(stream),
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Reached::Refused,
        Some(Err(_)) | None => Reached::No,
    }
}

/// Holds a tether to `address` for as long as `wire` is up; closes `wire` if the peer
/// turns out to be gone. Never completes.
pub(crate) async fn watch(shared: &Shared, link: &Link, wire: &Wire, address: SocketAddr) {
    let longest = shared.options.backoff_max;
    let mut pause = PAUSE_MIN;
    loop {
        match reach(shared, address).await {
            Reached::Yes(stream) => {
                link.set_tethered();
                let since = shared.env.clock.now();
                ended(stream).await;
                if shared.env.clock.now() - since >= GOOD_LIFE {
                    pause = PAUSE_MIN;
                    continue;
                }
            }
            Reached::Refused if link.is_tethered() => {
                wire.set_gone();
                wire.connection.close(CLOSE_GONE, b"connection refused");
                return std::future::pending().await;
            }
            Reached::Refused | Reached::No => {}
        }
        shared.env.sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}
