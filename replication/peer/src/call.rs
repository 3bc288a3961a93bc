//! The calling half: [`PeerClient`] over links.
//!
//! `Unreachable` is said only while no byte of the request has left, or when the peer
//! itself says that nobody saw it; from the first byte on a failure is `Lost`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, WriteError};
use weir_base::{BoxFuture, Monotonic, NodeId};

use crate::frames::{QuicSink, QuicSource, length_prefix, lost, write_error};
use crate::link::{Found, Wire, remaining};
use crate::node::Shared;
use crate::serve::{
    KIND_REQUEST, KIND_STREAM, STATUS_BUSY, STATUS_NO_SERVICE, STATUS_OK, STATUS_REFUSED,
};
use crate::{FrameStream, LinkEvent, PeerClient, PeerError, Service};

/// Longest datagram that every link carries.
const DATAGRAM_BYTES_MAX: usize = 1000;

/// What rooms call.
pub(crate) struct Caller(pub(crate) Arc<Shared>);

impl PeerClient for Caller {
    fn request(
        &self,
        to: NodeId,
        service: Service,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let prefix = length_prefix(body.len())?;
            let until = shared.env.clock.now() + deadline;
            let (wire, send, receive) = shared.open(to, service, until).await?;
            let [a, b, c, d] = prefix;
            let head = Bytes::copy_from_slice(&[KIND_REQUEST, service as u8, a, b, c, d]);
            let left = remaining(shared.env.clock.now(), until);
            let exchange = exchange(&wire, send, receive, [head, body]);
            match shared.env.timeout(left, exchange).await {
                Some(answer) => answer,
                None => Err(lost(to, format!("no answer within {deadline:?}"))),
            }
        })
    }

    fn open_stream(
        &self,
        to: NodeId,
        service: Service,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<FrameStream, PeerError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let until = shared.env.clock.now() + deadline;
            let (wire, mut send, receive) = shared.open(to, service, until).await?;
            let left = remaining(shared.env.clock.now(), until);
            let head = [KIND_STREAM, service as u8];
            match shared.env.timeout(left, send.write_all(&head)).await {
                Some(Ok(())) => Ok(FrameStream {
                    sink: Box::new(QuicSink::new(to, send, Arc::clone(&wire.in_use))),
                    source: Box::new(QuicSource::new(to, receive, Arc::clone(&wire.in_use))),
                }),
                Some(Err(error)) => Err(write_error(to, &error)),
                None => Err(lost(to, "the link's window is full")),
            }
        })
    }

    fn send_datagram(&self, to: NodeId, service: Service, body: Bytes) {
        let Some(wire) = self.0.link(to).and_then(|link| link.wire()) else {
            return;
        };
        if body.len() > DATAGRAM_BYTES_MAX {
            tracing::warn!(%to, bytes = body.len(), "datagram over its limit dropped");
            return;
        }
        let mut datagram = BytesMut::with_capacity(1 + body.len());
        datagram.put_u8(service as u8);
        datagram.put_slice(&body);
        if let Err(error) = wire.connection.send_datagram(datagram.freeze()) {
            tracing::debug!(%to, %error, "datagram dropped");
        }
    }

    fn set_address(&self, node: NodeId, address: SocketAddr) {
        self.0.set_address(node, address);
    }

    fn link_events(&self) -> Option<tokio::sync::broadcast::Receiver<LinkEvent>> {
        Some(self.0.events.subscribe())
    }
}

impl Shared {
    /// A fresh stream to `to`; nothing was sent on it.
    async fn open(
        &self,
        to: NodeId,
        service: Service,
        until: Monotonic,
    ) -> Result<(Arc<Wire>, SendStream, RecvStream), PeerError> {
        let unreachable = |detail: String| PeerError::Unreachable { node: to, detail };
        let left = remaining(self.env.clock.now(), until);
        let opening = async {
            let wire = self.wire(to).await?;
            let (send, receive) = wire
                .connection
                .open_bi()
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            // Small and urgent before bulk; fails only on a closed stream.
            send.set_priority(priority(service)).ok();
            Ok((wire, send, receive))
        };
        match self.env.timeout(left, opening).await {
            Some(opened) => opened,
            None => Err(unreachable("no link or no free stream in time".to_owned())),
        }
    }

    /// The connection with `to`, waiting for an attempt that runs.
    async fn wire(&self, to: NodeId) -> Result<Arc<Wire>, PeerError> {
        let unreachable = |detail: &str| PeerError::Unreachable {
            node: to,
            detail: detail.to_owned(),
        };
        if to == self.me {
            return Err(unreachable("a node has no link to itself"));
        }
        let link = self
            .link(to)
            .ok_or_else(|| unreachable("no address is known"))?;
        let mut changed = link.subscribe();
        loop {
            match link.find() {
                Found::Up(wire) => return Ok(wire),
                Found::Down(error) => return Err(error),
                Found::Wait => {}
            }
            if changed.changed().await.is_err() {
                return Err(unreachable("stopping"));
            }
        }
    }
}

fn priority(service: Service) -> i32 {
    match service {
        Service::Raft | Service::Gossip | Service::Controller => 1,
        Service::Replication | Service::Broker => 0,
    }
}

/// Sends one request and reads its answer.
async fn exchange(
    wire: &Wire,
    mut send: SendStream,
    mut receive: RecvStream,
    mut request: [Bytes; 2],
) -> Result<Bytes, PeerError> {
    let node = wire.node;
    let in_use = Arc::clone(&wire.in_use);
    match send.write_all_chunks(&mut request).await {
        // The peer answered without reading it all.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(error) => return Err(lost(node, error)),
    }
    // Fails only if the peer stopped the stream, and then the answer says why.
    send.finish().ok();
    let mut status = [0];
    receive
        .read_exact(&mut status)
        .await
        .map_err(|error| lost(node, error))?;
    let body = QuicSource::new(node, receive, in_use)
        .next_frame()
        .await?
        .ok_or_else(|| PeerError::Frame("answer without a body".to_owned()))?;
    let unseen = |why: &str| {
        Err(PeerError::Unreachable {
            node,
            detail: why.to_owned(),
        })
    };
    match status {
        [STATUS_OK] => Ok(body),
        [STATUS_REFUSED] => Err(PeerError::Refused {
            node,
            detail: String::from_utf8_lossy(&body).into_owned(),
        }),
        [STATUS_NO_SERVICE] => unseen("no such service there"),
        [STATUS_BUSY] => unseen("too many requests run there"),
        [other] => Err(PeerError::Frame(format!("unknown status {other}"))),
    }
}
