//! A network in memory: links that can be cut, 1 ms of delay, and TCP ports that
//! answer "refused" when their process is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use weir_base::{BoxFuture, ByteStream, Listener, Net, NodeId};
use weir_peer::{FrameSink, FrameSource, FrameStream, PeerClient, PeerError, PeerService, Service};

const DELAY: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Switch {
    services: BTreeMap<(NodeId, Service), Arc<dyn PeerService>>,
    /// Directed pairs that hear nothing of each other.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Listening TCP ports by node.
    ports: BTreeMap<u16, (NodeId, mpsc::UnboundedSender<Box<dyn ByteStream>>)>,
}

#[derive(Default, Clone)]
pub(crate) struct ToyNet(Arc<Mutex<Switch>>);

impl ToyNet {
    pub(crate) fn client(&self, me: u32) -> Arc<dyn PeerClient> {
        Arc::new(ToyClient {
            me: NodeId(me),
            net: self.clone(),
        })
    }

    pub(crate) fn tcp(&self, me: u32) -> ToyTcp {
        ToyTcp {
            me: NodeId(me),
            net: self.clone(),
        }
    }

    pub(crate) fn register(&self, node: u32, service: Service, by: Arc<dyn PeerService>) {
        let mut switch = self.0.lock().unwrap();
        switch.services.insert((NodeId(node), service), by);
    }

    /// The process is gone: nothing answers, its ports refuse.
    pub(crate) fn remove(&self, node: u32) {
        let mut switch = self.0.lock().unwrap();
        switch.services.retain(|(id, _), _| id.0 != node);
        switch.ports.retain(|_, (id, _)| id.0 != node);
    }

    /// Cuts both directions between every node of `side` and the others.
    pub(crate) fn isolate(&self, side: &[u32], all: &[u32]) {
        let mut switch = self.0.lock().unwrap();
        for a in side {
            for b in all.iter().filter(|b| !side.contains(b)) {
                switch.cut.insert((NodeId(*a), NodeId(*b)));
                switch.cut.insert((NodeId(*b), NodeId(*a)));
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.0.lock().unwrap().cut.contains(&(from, to))
    }

    fn service(&self, to: NodeId, service: Service) -> Option<Arc<dyn PeerService>> {
        let switch = self.0.lock().unwrap();
        switch.services.get(&(to, service)).cloned()
    }
}

struct ToyClient {
    me: NodeId,
    net: ToyNet,
}

fn lost(node: NodeId, why: &str) -> PeerError {
    PeerError::Lost {
        node,
        detail: why.to_owned(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's network")]
async fn delay() {
    tokio::time::sleep(DELAY).await;
}

impl PeerClient for ToyClient {
    fn request(
        &self,
        to: NodeId,
        service: Service,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (net, me) = (self.net.clone(), self.me);
        let exchange = async move {
            delay().await;
            if net.is_cut(me, to) {
                return std::future::pending().await;
            }
            let Some(by) = net.service(to, service) else {
                return Err(PeerError::Unreachable {
                    node: to,
                    detail: "no such process".to_owned(),
                });
            };
            let answer = by.on_request(me, body).await;
            delay().await;
            if net.is_cut(to, me) {
                return std::future::pending().await;
            }
            if net.service(to, service).is_none() {
                return Err(lost(to, "the process died"));
            }
            answer
        };
        #[expect(clippy::disallowed_methods, reason = "a test's network")]
        Box::pin(async move {
            tokio::time::timeout(deadline, exchange)
                .await
                .unwrap_or_else(|_| Err(lost(to, "deadline")))
        })
    }

    fn open_stream(
        &self,
        to: NodeId,
        service: Service,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<FrameStream, PeerError>> {
        let (net, me) = (self.net.clone(), self.me);
        #[expect(clippy::disallowed_methods, reason = "a test's network")]
        Box::pin(async move {
            delay().await;
            if net.is_cut(me, to) {
                tokio::time::sleep(deadline).await;
            }
            let by = net.service(to, service).filter(|_| !net.is_cut(me, to));
            let by = by.ok_or_else(|| PeerError::Unreachable {
                node: to,
                detail: "no link".to_owned(),
            })?;
            let (here, there) = pair(&net, me, to, service);
            tokio::spawn(by.on_stream(me, there));
            Ok(here)
        })
    }

    fn send_datagram(&self, to: NodeId, service: Service, body: Bytes) {
        if !self.net.is_cut(self.me, to)
            && let Some(by) = self.net.service(to, service)
        {
            by.on_datagram(self.me, body);
        }
    }

    fn set_address(&self, _: NodeId, _: SocketAddr) {}
}

fn pair(net: &ToyNet, a: NodeId, b: NodeId, service: Service) -> (FrameStream, FrameStream) {
    let half = |from: NodeId, to: NodeId| {
        let (tx, rx) = mpsc::channel(16);
        let sink = ToySink {
            net: net.clone(),
            from,
            to,
            serving: (b, service),
            tx,
        };
        (sink, ToySource(rx))
    };
    let (to_b, at_b) = half(a, b);
    let (to_a, at_a) = half(b, a);
    (
        FrameStream {
            sink: Box::new(to_b),
            source: Box::new(at_a),
        },
        FrameStream {
            sink: Box::new(to_a),
            source: Box::new(at_b),
        },
    )
}

struct ToySink {
    net: ToyNet,
    from: NodeId,
    to: NodeId,
    serving: (NodeId, Service),
    tx: mpsc::Sender<Bytes>,
}

impl FrameSink for ToySink {
    fn send(&mut self, chunks: Vec<Bytes>) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            delay().await;
            let dead = self.net.service(self.serving.0, self.serving.1).is_none();
            if dead || self.net.is_cut(self.from, self.to) {
                return Err(lost(self.to, "link lost"));
            }
            let frame: Vec<u8> = chunks.concat();
            let sent = self.tx.send(frame.into()).await;
            sent.map_err(|_| lost(self.to, "stream closed"))
        })
    }
}

struct ToySource(mpsc::Receiver<Bytes>);

impl FrameSource for ToySource {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async move { Ok(self.0.recv().await) })
    }
}

#[derive(Clone)]
pub(crate) struct ToyTcp {
    me: NodeId,
    net: ToyNet,
}

struct ToyListener(
    tokio::sync::Mutex<mpsc::UnboundedReceiver<Box<dyn ByteStream>>>,
    SocketAddr,
);

impl Net for ToyTcp {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (tx, rx) = mpsc::unbounded_channel();
        let mut switch = self.net.0.lock().unwrap();
        switch.ports.insert(address.port(), (self.me, tx));
        let listener: Box<dyn Listener> =
            Box::new(ToyListener(tokio::sync::Mutex::new(rx), address));
        Box::pin(std::future::ready(Ok(listener)))
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let (net, me) = (self.net.clone(), self.me);
        Box::pin(async move {
            delay().await;
            // Where a port is known from its number even when nobody listens.
            let owner = NodeId(u32::from(address.port()) - 7000);
            if net.is_cut(me, owner) {
                return std::future::pending().await;
            }
            let switch = net.0.lock().unwrap();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (_, tx) = switch.ports.get(&address.port()).ok_or_else(refused)?;
            let (here, there) = tokio::io::duplex(64);
            tx.send(Box::new(there)).map_err(|_| refused())?;
            let here: Box<dyn ByteStream> = Box::new(here);
            Ok(here)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let address = format!("{host}:{port}").parse().map_err(io::Error::other);
        Box::pin(std::future::ready(address.map(|a| vec![a])))
    }
}

impl Listener for ToyListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        Box::pin(async move {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok((stream, self.1)),
                None => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            }
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.1)
    }
}
