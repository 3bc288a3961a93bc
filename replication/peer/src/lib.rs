//! Node-to-node QUIC links: requests, framed streams and datagrams under mutual TLS.
//!
//! One connection between each pair of nodes carries Raft, gossip, replication and
//! forwarded requests. Nothing may rely on an order between two streams or requests.
//!
//! Rooms see [`PeerClient`] and [`PeerService`]; the composition root sees [`PeerNode`].
//! A crash leaves nothing to recover. The failure table is in this room's README.

mod call;
mod endpoint;
mod frames;
mod identity;
mod link;
mod node;
mod options;
mod quic_env;
mod serve;
mod tether;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::broadcast;
use weir_base::{BoxFuture, NodeId};

pub use identity::{IdentityError, NodeIdentity, node_name};
pub use link::LinkStatus;
pub use node::{PeerNode, StartError};
pub use options::{Options, OptionsError};
pub use quic_env::QuicEnv;

/// Who serves what on a link. Append-only: numbers go over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Service {
    Raft = 1,
    Gossip = 2,
    Replication = 3,
    Controller = 4,
    Broker = 5,
}

/// The receiving side of one service on one node. `from` is proven by certificate.
pub trait PeerService: Send + Sync {
    /// Answers one request. The caller has a deadline; late answers are dropped.
    fn on_request(&self, from: NodeId, body: Bytes)
    -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// Owns a stream that `from` opened, until it returns.
    fn on_stream(&self, from: NodeId, stream: FrameStream) -> BoxFuture<'static, ()>;

    /// Takes a datagram; it may be lost, doubled or late.
    fn on_datagram(&self, from: NodeId, body: Bytes);
}

/// A bidirectional stream of frames.
pub struct FrameStream {
    /// The sending half.
    pub sink: Box<dyn FrameSink>,
    /// The receiving half.
    pub source: Box<dyn FrameSource>,
}

/// Sends frames. Dropping it finishes the stream; dropping it while a frame is half
/// sent breaks the stream, and the peer may then lose earlier frames it had not read.
pub trait FrameSink: Send {
    /// Sends one frame made of `chunks`, which are not copied before encryption.
    /// Completes when flow control took it: this is where a slow peer pushes back. Not
    /// cancel-safe: a frame given up half sent makes every later one fail.
    fn send(&mut self, chunks: Vec<Bytes>) -> BoxFuture<'_, Result<(), PeerError>>;
}

/// Receives frames. Dropping it tells the peer to stop.
pub trait FrameSource: Send {
    /// The next frame, or `None` when the peer finished the stream. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>>;
}

/// The calling side: how a room reaches other nodes. Real over QUIC ([`crate`]), and a
/// toy one in core simulations.
pub trait PeerClient: Send + Sync {
    /// Asks and waits at most `deadline`. Connects if there is no link.
    fn request(
        &self,
        to: NodeId,
        service: Service,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// Opens a stream, waiting at most `deadline` for the link.
    fn open_stream(
        &self,
        to: NodeId,
        service: Service,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<FrameStream, PeerError>>;

    /// Sends a datagram of at most 1,000 bytes if there is a link; else it is lost.
    fn send_datagram(&self, to: NodeId, service: Service, body: Bytes);

    /// Tells where a node listens. A changed address drops the link.
    fn set_address(&self, node: NodeId, address: SocketAddr);

    /// Links that come up or go down from now on, if this client tells. A reader that
    /// lags far behind loses the oldest events.
    fn link_events(&self) -> Option<broadcast::Receiver<LinkEvent>> {
        None
    }
}

/// What happened to a link. A hint: it proves nothing about the other node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// There is a connection with the node.
    Up(NodeId),
    /// There is none any more.
    Down {
        /// The node.
        node: NodeId,
        /// Its machine answers, and says that nothing listens there any more.
        refused: bool,
        /// Why.
        detail: String,
    },
}

/// Why a node could not be reached or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// No address is known, or no link could be made. Definitely not delivered.
    #[error("node {node} is unreachable: {detail}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// Why.
        detail: String,
    },
    /// Sent, but no answer came in time or the link broke: the outcome is unknown.
    #[error("node {node} did not answer: {detail}")]
    Lost {
        /// The node.
        node: NodeId,
        /// Why.
        detail: String,
    },
    /// The other node's service refused.
    #[error("node {node} refused: {detail}")]
    Refused {
        /// The node.
        node: NodeId,
        /// Its words.
        detail: String,
    },
    /// A frame or datagram over its limit, or bytes that are no frame.
    #[error("bad frame: {0}")]
    Frame(String),
}

/// Shared ownership of the calling side.
pub type Peers = Arc<dyn PeerClient>;
