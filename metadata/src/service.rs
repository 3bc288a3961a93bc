//! `Service::Controller` on every node: requests to the controller, second opinions for
//! it, and the feed for observers.

use bytes::Bytes;
use weir_base::{BoxFuture, NodeId};
use weir_peer::{FrameStream, PeerError, PeerService};

use crate::ask::{Answer, Ask};
use crate::client::Metadata;
use crate::{feed, probe};

/// See the module.
pub(crate) struct ControllerService(pub(crate) Metadata);

impl PeerService for ControllerService {
    fn on_request(
        &self,
        from: NodeId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let metadata = self.0.clone();
        Box::pin(async move {
            let node = metadata.inner().me.id;
            let refuse = |error: postcard::Error| PeerError::Refused {
                node,
                detail: error.to_string(),
            };
            let ask: Ask = postcard::from_bytes(&body).map_err(refuse)?;
            let answer = answer(&metadata, from, ask).await;
            postcard::to_stdvec(&answer)
                .map(Bytes::from)
                .map_err(refuse)
        })
    }

    fn on_stream(&self, _: NodeId, stream: FrameStream) -> BoxFuture<'static, ()> {
        let inner = self.0.inner();
        match &inner.group {
            Some(group) => Box::pin(feed::serve(
                inner.env.clone(),
                group.clone(),
                inner.store.clone(),
                inner.options.clone(),
                stream,
            )),
            // No voter: the observer tries another.
            None => Box::pin(async move { drop(stream) }),
        }
    }

    fn on_datagram(&self, _: NodeId, _: Bytes) {}
}

async fn answer(metadata: &Metadata, from: NodeId, ask: Ask) -> Answer {
    let inner = metadata.inner();
    if let Ask::Probe(suspect) = ask {
        let image = metadata.image();
        let Some(record) = image.nodes.get(&suspect) else {
            return Answer::Probed(false);
        };
        let limit = inner.options.probe_deadline;
        let refused = probe::is_refused(&inner.env, &record.peer_address, limit).await;
        return Answer::Probed(refused);
    }
    match inner.controller.clone() {
        Some(controller) => controller.handle(from, ask).await,
        None => Answer::NotController(metadata.controller()),
    }
}
