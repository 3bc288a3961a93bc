//! The link with one other node: at most one connection in use, and the task that keeps
//! it up.
//!
//! Owns the choice among connections ([`tie`]), the state that callers wait on, and the
//! pauses between attempts. A caller waits while an attempt runs and fails at once in
//! the pause after a failed one, so a dead node costs it no time.

mod tie;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::watch;
use weir_base::env::TaskHandle;
use weir_base::{Entropy, Monotonic, NodeId};

use crate::PeerError;
pub(crate) use tie::{Facts, Verdict};

/// Connection close codes. Append-only: numbers go over the wire.
pub(crate) const CLOSE_STOPPING: VarInt = VarInt::from_u32(0);
pub(crate) const CLOSE_REPLACED: VarInt = VarInt::from_u32(1);
pub(crate) const CLOSE_STRANGER: VarInt = VarInt::from_u32(2);
pub(crate) const CLOSE_MOVED: VarInt = VarInt::from_u32(3);
pub(crate) const CLOSE_GONE: VarInt = VarInt::from_u32(4);

/// An authenticated connection with a node.
pub(crate) struct Wire {
    pub(crate) node: NodeId,
    pub(crate) connection: Connection,
    pub(crate) facts: Facts,
    /// Cloned by every stream and request: tells when a retired connection ran dry.
    pub(crate) in_use: Arc<()>,
    /// Its machine said that the peer's process is no more.
    gone: AtomicBool,
}

impl Wire {
    pub(crate) fn new(node: NodeId, connection: Connection, facts: Facts) -> Self {
        Self {
            node,
            connection,
            facts,
            in_use: Arc::new(()),
            gone: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn is_alive(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Whether no stream or request is on it here.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.in_use) == 1
    }
}

/// A link as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The other node.
    pub node: NodeId,
    /// Where it listens, if that is known.
    pub address: Option<SocketAddr>,
    /// There is a connection.
    pub up: bool,
    /// The death of the other process would be noticed at once, not after the idle
    /// timeout only.
    pub watched: bool,
    /// Measured round trip; zero while down.
    pub round_trip: Duration,
    /// Bytes sent in UDP payloads over the current connection.
    pub bytes_sent: u64,
    /// Bytes received in UDP payloads over the current connection.
    pub bytes_received: u64,
    /// Packets lost on the current connection.
    pub packets_lost: u64,
}

/// One other node.
pub(crate) struct Link {
    pub(crate) node: NodeId,
    state: Mutex<State>,
    /// Marked at every change of the state.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    address: Option<SocketAddr>,
    wire: Option<Arc<Wire>>,
    phase: Phase,
    keeper: Option<TaskHandle>,
    /// A tether to `address` was held once, so that a refusal there means something.
    tethered: bool,
}

#[derive(Default)]
enum Phase {
    /// An attempt runs or is about to.
    #[default]
    Trying,
    /// The last attempt failed and the next is not due.
    Pausing { error: String },
}

/// What a caller that wants the link finds.
pub(crate) enum Found {
    Up(Arc<Wire>),
    Down(PeerError),
    Wait,
}

/// What the keeper has to do.
pub(crate) enum Duty {
    /// Nothing until something changes.
    Rest,
    /// Watch that the peer at this address lives.
    Watch(Arc<Wire>, SocketAddr),
    /// Connect to this address.
    Dial(SocketAddr),
}

/// What [`Link::install`] did.
pub(crate) struct Installed {
    /// The link was down before.
    pub(crate) came_up: bool,
    /// A live connection that is no longer used, to be closed when it ran dry by the
    /// end that dialled it.
    pub(crate) retired: Option<Arc<Wire>>,
}

impl Link {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The connection in use, if it is alive.
    pub(crate) fn wire(&self) -> Option<Arc<Wire>> {
        self.lock().wire.clone().filter(|wire| wire.is_alive())
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.lock().address
    }

    pub(crate) fn set_tethered(&self) {
        self.lock().tethered = true;
    }

    pub(crate) fn is_tethered(&self) -> bool {
        self.lock().tethered
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let state = self.lock();
        let wire = state.wire.clone().filter(|wire| wire.is_alive());
        let (address, tethered) = (state.address, state.tethered);
        drop(state);
        let stats = wire.as_ref().map(|wire| wire.connection.stats());
        LinkStatus {
            node: self.node,
            address,
            up: wire.is_some(),
            watched: wire.is_some() && tethered,
            round_trip: stats.map_or(Duration::ZERO, |stats| stats.path.rtt),
            bytes_sent: stats.map_or(0, |stats| stats.udp_tx.bytes),
            bytes_received: stats.map_or(0, |stats| stats.udp_rx.bytes),
            packets_lost: stats.map_or(0, |stats| stats.path.lost_packets),
        }
    }

    pub(crate) fn find(&self) -> Found {
        let state = self.lock();
        let down = |detail: &str| {
            Found::Down(PeerError::Unreachable {
                node: self.node,
                detail: detail.to_owned(),
            })
        };
        match (&state.wire, &state.phase, state.address) {
            (Some(wire), _, _) if wire.is_alive() => Found::Up(Arc::clone(wire)),
            (_, _, None) => down("no address is known"),
            (_, Phase::Pausing { error }, _) => down(error),
            (_, Phase::Trying, _) => Found::Wait,
        }
    }

    pub(crate) fn duty(&self) -> Duty {
        let state = self.lock();
        match (&state.wire, state.address) {
            (_, None) => Duty::Rest,
            (Some(wire), Some(address)) => Duty::Watch(Arc::clone(wire), address),
            (None, Some(address)) => Duty::Dial(address),
        }
    }

    /// Records where the node listens; whether the keeper must be started.
    pub(crate) fn set_address(&self, address: SocketAddr) -> bool {
        let mut state = self.lock();
        let old = state.address.replace(address);
        if old != Some(address) {
            state.phase = Phase::Trying;
            state.tethered = false;
        }
        if old.is_some_and(|old| old != address)
            && let Some(wire) = state.wire.take()
        {
            wire.connection.close(CLOSE_MOVED, b"address changed");
        }
        let needs_keeper = state.keeper.is_none();
        drop(state);
        self.changed.send_replace(());
        needs_keeper
    }

    /// Hands over the task that keeps the link up; it ends with the link.
    pub(crate) fn keep(&self, keeper: TaskHandle) {
        let mut state = self.lock();
        // Two racing `set_address`: the later keeper is dropped, and so aborted.
        if state.keeper.is_none() {
            state.keeper = Some(keeper);
        }
    }

    /// Stops keeping the link up.
    pub(crate) fn abandon(&self) {
        let keeper = self.lock().keeper.take();
        drop(keeper);
    }

    /// Takes a new connection into use, or not ([`tie::judge`]).
    pub(crate) fn install(&self, me: NodeId, crossing: Duration, wire: &Arc<Wire>) -> Installed {
        let mut state = self.lock();
        let old = state.wire.take().filter(|old| old.is_alive());
        let came_up = old.is_none();
        let verdict = old.as_ref().map(|old| {
            let verdict = tie::judge(me, self.node, crossing, old.facts, wire.facts);
            tracing::debug!(node = %self.node, ?verdict, "second connection");
            verdict
        });
        let retired = match (verdict, old) {
            (Some(Verdict::KeepOld), Some(old)) => {
                state.wire = Some(old);
                Some(Arc::clone(wire))
            }
            (Some(Verdict::Replace), Some(old)) => {
                old.connection.close(CLOSE_REPLACED, b"replaced");
                state.wire = Some(Arc::clone(wire));
                None
            }
            (_, old) => {
                state.wire = Some(Arc::clone(wire));
                old
            }
        };
        state.phase = Phase::Trying;
        drop(state);
        self.changed.send_replace(());
        Installed { came_up, retired }
    }

    /// A connection ended; whether it was the one in use.
    pub(crate) fn lost(&self, wire: &Arc<Wire>) -> bool {
        let mut state = self.lock();
        if !state
            .wire
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, wire))
        {
            return false;
        }
        state.wire = None;
        state.phase = Phase::Trying;
        drop(state);
        self.changed.send_replace(());
        true
    }

    /// An attempt failed: callers fail at once until [`Link::resume`].
    pub(crate) fn pause(&self, error: String) {
        self.lock().phase = Phase::Pausing { error };
        self.changed.send_replace(());
    }

    pub(crate) fn resume(&self) {
        self.lock().phase = Phase::Trying;
        self.changed.send_replace(());
    }
}

/// The pause after the `failures`-th failed attempt in a row: doubling, with up to a
/// quarter taken off at random so that nodes do not dial in step.
pub(crate) fn backoff(failures: u32, min: Duration, max: Duration, entropy: &Entropy) -> Duration {
    let full = min
        .saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(max);
    let quarter = u64::try_from(full.as_nanos() / 4).unwrap_or(u64::MAX);
    full.saturating_sub(Duration::from_nanos(entropy.below(quarter)))
}

/// What is left until `at`.
pub(crate) fn remaining(now: Monotonic, at: Monotonic) -> Duration {
    at.since(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(1));
        let entropy = Entropy::from_seed([3; 32]);
        let mut bound = min;
        for failures in 0..40 {
            let pause = backoff(failures, min, max, &entropy);
            assert!(pause <= bound && pause >= bound * 3 / 4, "{failures}");
            bound = (bound * 2).min(max);
        }
    }
}
