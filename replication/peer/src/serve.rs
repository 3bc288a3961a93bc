//! The inbound half of a connection: hands streams, requests and datagrams to services.
//!
//! Every stream starts with two bytes, its kind and its service. A request is one frame
//! and the end of the stream; its answer is a status byte and one frame. A request over
//! the limit of those that run is turned away at once rather than queued, because its
//! body would hold the link's window against replication.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::sync::Semaphore;
use weir_base::NodeId;

use crate::frames::{CODE_NO_SERVICE, QuicSink, QuicSource, length_prefix};
use crate::link::Wire;
use crate::node::Shared;
use crate::{FrameStream, PeerError, PeerService, Service};

/// Kinds of streams. Append-only: numbers go over the wire.
pub(crate) const KIND_REQUEST: u8 = 1;
pub(crate) const KIND_STREAM: u8 = 2;

/// Statuses of answers. Append-only: numbers go over the wire.
pub(crate) const STATUS_OK: u8 = 0;
pub(crate) const STATUS_REFUSED: u8 = 1;
/// Nobody saw the request.
pub(crate) const STATUS_NO_SERVICE: u8 = 2;
/// Nobody saw the request: too many run.
pub(crate) const STATUS_BUSY: u8 = 3;

/// Serves `wire` until it closes; returns why.
pub(crate) async fn serve(shared: &Arc<Shared>, wire: &Arc<Wire>) -> quinn::ConnectionError {
    let requests_max = usize::try_from(shared.options.requests_max).unwrap_or(usize::MAX);
    let running = Arc::new(Semaphore::new(requests_max));
    loop {
        tokio::select! {
            biased;
            datagram = wire.connection.read_datagram() => match datagram {
                Ok(datagram) => on_datagram(shared, wire.node, datagram),
                Err(error) => return error,
            },
            stream = wire.connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    let inbound = Inbound {
                        shared: Arc::clone(shared),
                        from: wire.node,
                        in_use: Arc::clone(&wire.in_use),
                        running: Arc::clone(&running),
                    };
                    shared.env.tasks.spawn("peer stream", inbound.run(send, receive));
                }
                Err(error) => return error,
            },
        }
    }
}

fn on_datagram(shared: &Shared, from: NodeId, mut datagram: Bytes) {
    if datagram.is_empty() {
        return;
    }
    let service = datagram.split_to(1);
    if let Some(service) = service.first().and_then(|byte| shared.service(*byte)) {
        service.on_datagram(from, datagram);
    }
}

/// One stream that the peer opened.
struct Inbound {
    shared: Arc<Shared>,
    from: NodeId,
    in_use: Arc<()>,
    running: Arc<Semaphore>,
}

impl Inbound {
    async fn run(self, send: SendStream, mut receive: RecvStream) {
        let mut head = [0; 2];
        if receive.read_exact(&mut head).await.is_err() {
            return;
        }
        let [kind, service] = head;
        let service = self.shared.service(service);
        match kind {
            KIND_REQUEST => self.request(service, send, receive).await,
            KIND_STREAM => self.stream(service, send, receive).await,
            // A later version's kind: the peer learns that nobody serves it.
            _ => turn_away(send, receive),
        }
    }

    async fn stream(
        self,
        service: Option<Arc<dyn PeerService>>,
        send: SendStream,
        receive: RecvStream,
    ) {
        let Some(service) = service else {
            return turn_away(send, receive);
        };
        let stream = FrameStream {
            sink: Box::new(QuicSink::new(self.from, send, Arc::clone(&self.in_use))),
            source: Box::new(QuicSource::new(self.from, receive, self.in_use)),
        };
        let serving = service.on_stream(self.from, stream);
        drop(service);
        serving.await;
    }

    async fn request(
        self,
        service: Option<Arc<dyn PeerService>>,
        send: SendStream,
        receive: RecvStream,
    ) {
        let Some(service) = service else {
            return answer(send, STATUS_NO_SERVICE, Bytes::new()).await;
        };
        let Ok(_permit) = self.running.try_acquire() else {
            return answer(send, STATUS_BUSY, Bytes::new()).await;
        };
        let mut source = QuicSource::new(self.from, receive, Arc::clone(&self.in_use));
        // A request cut short was given up by its caller.
        let Ok(Some(body)) = source.next_frame().await else {
            return;
        };
        let answering = service.on_request(self.from, body);
        drop(service);
        match answering.await {
            Ok(body) => answer(send, STATUS_OK, body).await,
            Err(error) => answer(send, STATUS_REFUSED, refusal(&error)).await,
        }
    }
}

fn refusal(error: &PeerError) -> Bytes {
    match error {
        PeerError::Refused { detail, .. } => Bytes::from(detail.clone()),
        PeerError::Unreachable { .. } | PeerError::Lost { .. } | PeerError::Frame(_) => {
            Bytes::from(error.to_string())
        }
    }
}

async fn answer(mut send: SendStream, status: u8, body: Bytes) {
    let (status, body, prefix) = match length_prefix(body.len()) {
        Ok(prefix) => (status, body, prefix),
        Err(error) => {
            let words = Bytes::from(error.to_string());
            let prefix = length_prefix(words.len()).unwrap_or_default();
            (STATUS_REFUSED, words, prefix)
        }
    };
    let [a, b, c, d] = prefix;
    let head = Bytes::copy_from_slice(&[status, a, b, c, d]);
    // An error means that the caller has gone.
    send.write_all_chunks(&mut [head, body]).await.ok();
}

fn turn_away(mut send: SendStream, mut receive: RecvStream) {
    // Errors mean that the stream is closed already.
    send.reset(CODE_NO_SERVICE).ok();
    receive.stop(CODE_NO_SERVICE).ok();
}

/// The service of a number on the wire.
pub(crate) fn service_of(number: u8) -> Option<Service> {
    [
        Service::Raft,
        Service::Gossip,
        Service::Replication,
        Service::Controller,
        Service::Broker,
    ]
    .into_iter()
    .find(|service| *service as u8 == number)
}
